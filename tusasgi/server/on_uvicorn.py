"""`tusasgi serve` on uvicorn, whose connections get a time for the heads of requests."""

import asyncio
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from tusasgi.server.interim import InterimResponses
from tusasgi.server.listening import Listener
from tusasgi.server.logs import log_config
from tusasgi.server.settings import Settings

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: those that granian has, too


def run(settings: Settings, listener: Listener) -> None:
    """Serve until a signal ends it; the settings for the workers are in the environment."""
    connection = InterimConnection if settings.interim_responses else Connection
    uvicorn.run(
        "tusasgi.server.app:create_app",
        factory=True,
        **_place_of(listener),
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        ssl_ciphers=_CIPHERS,
        proxy_headers=False,  # the app looks at them, on every server in the same way
        workers=settings.workers,
        timeout_graceful_shutdown=settings.stop_timeout,
        timeout_keep_alive=settings.keep_alive,
        http=partial(connection, header_timeout=settings.header_timeout),  # type: ignore[arg-type]
        ws="none",
        log_level="warning",
        log_config=log_config(settings),
        access_log=False,
    )


def _place_of(listener: Listener) -> dict[str, Any]:
    if listener.given is not None:
        return {"fd": listener.given.fileno()}
    assert listener.address is not None
    return {"host": listener.address.host, "port": listener.address.port}


class Connection(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """A connection that ends if no request comes.

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
