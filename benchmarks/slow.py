"""What does a slow client cost? Many PATCHes at once, each sending a little now and then."""

import contextlib
import resource
import socket
import tempfile
import time

from benchmarks._server import Server, running

HEAD = (
    "{method} {target} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\n"
    "Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
    "{length_header}: {length}\r\n{more}\r\n"
)
LENGTH = 1024 * 1024


def measure(kind: str, clients: int, seconds: float, folder: str | None) -> dict[str, float]:
    """Return the memory that each of `clients` slow PATCHes takes in the server, in KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, max(soft, 4 * clients))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        running(kind, "benchmarks.floor_apps:app", FLOOR_DIR=place) as server,
        contextlib.ExitStack() as sockets,
    ):
        _round(server, 10, 0.5, sockets)  # what is loaded once is loaded now
        sockets.close()
        time.sleep(1)
        idle = server.rss()
        bare = _idle_connections(server, clients)
        peak = _round(server, clients, seconds, sockets)
        return {
            "clients": clients,
            "idle_mib": idle / 2**20,
            "kib_each": (peak - idle) / clients / 1024,
            "kib_each_of_it_for_an_idle_connection": (bare - idle) / clients / 1024,
        }


def _idle_connections(server: Server, clients: int) -> int:
    with contextlib.ExitStack() as sockets:
        for _ in range(clients):
            sockets.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        time.sleep(1)
        return server.rss()


def _round(server: Server, clients: int, seconds: float, sockets: contextlib.ExitStack) -> int:
    connections = [
        sockets.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        for _ in range(clients)
    ]
    for connection in connections:
        target = _create(connection)
        head = HEAD.format(
            method="PATCH", target=target, length_header="Content-Length", length=LENGTH, more=""
        )
        connection.sendall(head.encode())
    peak, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for connection in connections:
            connection.sendall(b"x" * 512)
        peak = max(peak, server.rss())
        time.sleep(0.25)
    return peak


def _create(connection: socket.socket) -> str:
    head = HEAD.format(
        method="POST",
        target="/tus/",
        length_header="Upload-Length",
        length=LENGTH,
        more="Content-Length: 0\r\n",
    )
    connection.sendall(head.encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    lines = answer.decode().split("\r\n")
    return next(line[10:] for line in lines if line.lower().startswith("location: "))
