"""`tusasgi serve` on granian, which has its HTTP in Rust and its workers in other processes."""

import importlib.util
import multiprocessing
import socket
from functools import partial
from pathlib import Path
from typing import Any

from granian import Granian
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from starlette.types import ASGIApp

from tusasgi.server.connections import RESERVE, descriptor_limit
from tusasgi.server.listening import Listener
from tusasgi.server.logs import log_config
from tusasgi.server.settings import Settings
from tusasgi.server.values import Address

_BACKLOG = 2048


def run(settings: Settings, listener: Listener) -> None:
    """Serve until a signal ends it; the settings for the workers are in the environment."""
    # Threads run here already, and a fork would copy what they hold at the moment.
    multiprocessing.set_start_method("spawn", force=True)
    server = (Granian if listener.given is None else partial(_OnGiven, listener.given))(
        "tusasgi serve",
        **_place_of(listener),
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop if importlib.util.find_spec("uvloop") else Loops.asyncio,
        # Where it looks for HTTP/2 as well, silent connections never end.
        http=HTTPModes.auto if settings.http2 else HTTPModes.http1,
        ssl_cert=_path(settings.ssl_certfile),
        ssl_key=_path(settings.ssl_keyfile),
        ssl_protocol_min=SSLProtocols.tls12,  # as uvicorn has it
        websockets=False,
        backlog=_BACKLOG,
        backpressure=_most_connections(),
        http1_settings=HTTP1Settings(header_read_timeout=1000 * _silence(settings)),
        respawn_failed_workers=True,
        workers_kill_timeout=settings.stop_timeout,
        log_level=LogLevels.error,
        log_dictconfig=log_config(settings),
    )
    server.serve(target_loader=_load_app, wrap_loader=False)


class _OnGiven(Granian):  # type: ignore[misc,valid-type]
    """granian on a socket that listens already, which it has no public way to be told of."""

    def __init__(self, given: socket.socket, *of_granian: Any, **more_of_granian: Any) -> None:
        super().__init__(*of_granian, **more_of_granian)
        self._given = given

    def _init_shared_socket(self) -> None:
        # Workers find it by its number, which is kept for the object that is handed to them.
        self._sso = self._given.dup()
        self._sfd = self._sso.fileno()
        is_unix = self._given.family == socket.AF_UNIX
        self._shd = SocketHolder(self._sfd, is_unix, _BACKLOG)  # type: ignore[call-arg]
        self._ssp = None


def _place_of(listener: Listener) -> dict[str, Any]:
    if listener.address is None:
        return {}
    return {"address": _number_of(listener.address), "port": listener.address.port}


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _load_app() -> ASGIApp:
    from tusasgi.server.app import create_app

    return create_app()


def _number_of(address: Address) -> str:
    """Return the address without a name, which granian would not look up."""
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return str(found[0][4][0])


def _silence(settings: Settings) -> int:
    """Return how long a connection may bring no whole head: granian has one time for both."""
    return max(settings.header_timeout, settings.keep_alive)


def _most_connections() -> int:
    """Return how many a worker may have: more wait in the kernel, and none is refused.

    Without descriptors granian logs two lines a second.
    """
    limit = descriptor_limit()
    return 2**20 if limit is None else int(limit * (1 - RESERVE))
