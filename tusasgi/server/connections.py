"""The connections of `tusasgi serve`, whatever server it runs on: how many, and for how long."""

import contextlib
import errno
import logging
import os
import socket
import time

import anyio

logger = logging.getLogger("tusasgi.cli")

UNTAKEN_SECONDS = 60  # that a client may leave what it is sent where it is
_LISTEN_SECONDS = 0.05  # that we look again for the socket of a server that is starting
_LOOK_SECONDS = 1.0
_LOG_SECONDS = 60.0
RESERVE = 0.1  # of the descriptors: an upload takes more than that of its connection

LIMITS_UNTAKEN = hasattr(socket, "TCP_USER_TIMEOUT")
"""True where the system can end connections from which nothing is taken: Linux."""


async def limit_untaken(port: int) -> None:
    """Have the kernel end the connection of a client that takes nothing of what it is sent.

    The server cannot do so where it has sent all and closed: it would wait for the client. A
    connection inherits the time from the socket that listens on the port, and the server makes
    that one when the app has started.
    """
    if not LIMITS_UNTAKEN:
        return
    is_set = False
    while not is_set:
        await anyio.sleep(_LISTEN_SECONDS)
        is_set = _set_on_listeners(port, socket.TCP_USER_TIMEOUT, UNTAKEN_SECONDS * 1000)


def _set_on_listeners(port: int, option: int, value: int) -> bool:
    """Set an option of TCP on the sockets of this process that listen on the port, if any do."""
    is_set = False
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:  # clients have taken all descriptors: one is free when the first have left
        return False
    for name in names:
        # On a copy: whoever owns the descriptor may close it at any time, and the number is then
        # somebody else's.
        with contextlib.suppress(OSError), _copied(int(name)) as copy:
            if _is_listening(copy, port):
                copy.setsockopt(socket.IPPROTO_TCP, option, value)
                is_set = True
    return is_set


def _copied(descriptor: int) -> socket.socket:
    """Return a socket of our own for the same connection; `OSError` for what is no socket."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _is_listening(seen: socket.socket, port: int) -> bool:
    if seen.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    is_listener = seen.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return bool(is_listener) and seen.getsockname()[1] == port


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
    limit = descriptor_limit()
    if limit is None:
        return
    logged = -_LOG_SECONDS
    while True:
        if _is_scarce(limit) and time.monotonic() >= logged + _LOG_SECONDS:
            logged = time.monotonic()
            logger.warning(
                "Nearly all of the %d files and connections that this process may have open are in "
                "use, and without one it refuses clients: raise the limit (ulimit -Hn, "
                "LimitNOFILE=), or start more workers",
                limit,
            )
        await anyio.sleep(_LOOK_SECONDS)


def descriptor_limit() -> int | None:
    """Return how many files and connections this process may have; None for no such limit."""
    limits = _limits()
    return None if limits is None else limits[0]


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
    return number >= limit * (1 - RESERVE)
