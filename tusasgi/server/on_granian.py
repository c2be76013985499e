"""`tusasgi serve` on granian, which has its HTTP in Rust and its workers in other processes."""

import importlib.util
import multiprocessing
import socket

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from starlette.types import ASGIApp

from tusasgi.server.connections import RESERVE, descriptor_limit
from tusasgi.server.logs import log_config
from tusasgi.server.settings import Settings
from tusasgi.server.values import Address

_BACKLOG = 2048


def run(settings: Settings, address: Address) -> None:
    """Serve until a signal ends it; the settings for the workers are in the environment."""
    # Threads run here already, and a fork would copy what they hold at the moment.
    multiprocessing.set_start_method("spawn", force=True)
    server = Granian(
        "tusasgi serve",
        address=_number_of(address),
        port=address.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop if importlib.util.find_spec("uvloop") else Loops.asyncio,
        # Where it looks for HTTP/2 as well, silent connections never end, and keep it from
        # stopping. Without TLS only clients that are told to speak it would.
        http=HTTPModes.http1,
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
