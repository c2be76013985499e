"""What does a slow client cost? Many PATCHes at once, each sending a little now and then."""

import contextlib
import tempfile
import time

from benchmarks._client import MIB, Client
from benchmarks._server import Server, allow_connections
from benchmarks.contenders import DEFAULT, of_ours
from benchmarks.loads import SLOW_EVERY, begin_slow_patches, send_slowly


def measure(kind: str, clients: int, seconds: float, folder: str | None) -> dict[str, float]:
    """Return the memory that each of `clients` slow PATCHes takes in the server, in KiB."""
    allow_connections(clients)
    contender = of_ours(DEFAULT, kind)
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        contender.running(place) as server,
        contextlib.ExitStack() as connections,
    ):
        _round(server, contender.target, 10, 0.5, connections)  # what is loaded once is now
        connections.close()
        time.sleep(1)
        idle = server.rss()
        bare = _idle_connections(server, clients)
        peak = _round(server, contender.target, clients, seconds, connections)
        return {
            "clients": clients,
            "idle_mib": idle / MIB,
            "kib_each": (peak - idle) / clients / 1024,
            "kib_each_of_it_for_an_idle_connection": (bare - idle) / clients / 1024,
        }


def _idle_connections(server: Server, count: int) -> int:
    with contextlib.ExitStack() as connections:
        for _ in range(count):
            connections.enter_context(Client(server.port))
        time.sleep(1)
        return server.rss()


def _round(
    server: Server, target: str, count: int, seconds: float, connections: contextlib.ExitStack
) -> int:
    clients = begin_slow_patches(server, target, count, connections)
    peak, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        send_slowly(clients)
        peak = max(peak, server.rss())
        time.sleep(SLOW_EVERY)
    return peak
