"""The connections of `tusasgi serve`: none waits for ever, and too many are logged."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import time
from typing import Any

import anyio
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from tusasgi.server.interim import InterimResponses

logger = logging.getLogger("tusasgi.cli")

_UNTAKEN_SECONDS = 60  # that a client may leave what it is sent where it is
_LOOK_SECONDS = 1.0
_LOG_SECONDS = 60.0
_RESERVE = 0.1  # of the descriptors: an upload takes more than that of its connection


class Connection(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """A connection of uvicorn that ends if no request comes, or if nothing is taken from it.

    The head of a request has to be there so many seconds after the connection began, or after
    the first byte that came once the request before it was answered. Until that first byte the
    connection is idle, which uvicorn itself limits. Bodies take the time they take.
    """

    def __init__(self, *, header_timeout: float, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._header_timeout = header_timeout
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        _limit_untaken(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_in_request = self.cycle is not None and not self.cycle.response_complete
        if is_in_request:
            self._stop_timer()
        elif self._header_timer is None:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        # Not `close`, which would wait for a client that does not read its last answer either.
        self._header_timer = self.loop.call_later(self._header_timeout, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class InterimConnection(InterimResponses, Connection):
    """The same, with interim responses."""


def _limit_untaken(transport: asyncio.BaseTransport) -> None:
    """Have the kernel end the connection of a client that takes nothing of what it is sent.

    The server cannot do so where it has sent all and closed: it would wait for the client.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        connection = transport.get_extra_info("socket")
        milliseconds = _UNTAKEN_SECONDS * 1000
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def raise_descriptor_limit() -> None:
    """Let this process and its children have as many files and connections as they may ask for."""
    limits = _limits()
    if limits is None:
        return
    import resource

    with contextlib.suppress(OSError, ValueError):  # macOS names a limit that it refuses
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))


async def watch_descriptors() -> None:
    """Log a line a minute while (nearly) all descriptors are in use.

    Nothing else does: with uvloop new connections are then closed without a word.
    """
    limits = _limits()
    if limits is None:
        return
    logged = -_LOG_SECONDS
    while True:
        if _is_scarce(limits[0]) and time.monotonic() >= logged + _LOG_SECONDS:
            logged = time.monotonic()
            logger.warning(
                "Nearly all of the %d files and connections that this process may have open are in "
                "use, and without one it refuses clients: raise the limit (ulimit -Hn, "
                "LimitNOFILE=), or start more workers",
                limits[0],
            )
        await anyio.sleep(_LOOK_SECONDS)


def _limits() -> tuple[int, int] | None:
    """Return the soft and the hard limit of descriptors; None where there are none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def _is_scarce(limit: int) -> bool:
    """Look at the lowest number that is free: all those below it are in use."""
    try:
        number = os.open(os.devnull, os.O_RDONLY)
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    os.close(number)
    return number >= limit * (1 - _RESERVE)
