"""Connections to `tusasgi serve` that bring nothing, or bring it slowly."""

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.force._server import owner
from tests.hosts._process import Server
from tests.hosts._wire import UPLOAD, Client, Connection, wait_until
from tests.server.test_command import serving
from tusasgi.server.options import read_arguments

QUESTION = b"OPTIONS /files/ HTTP/1.1\r\nHost: here\r\n\r\n"
SIZE = 20_000_000
HEADER_TIMEOUT, KEEP_ALIVE = 1, 6  # uvicorn's own: none, 5
TIMEOUTS = ["--header-timeout", str(HEADER_TIMEOUT), "--keep-alive"]

_WITHOUT_HTTPTOOLS = "sys.modules['httptools'] = None"
_INTERIM = "--interim-responses"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(([], ""), id="httptools"),
        pytest.param(([_INTERIM], ""), id="httptools-interim"),
        pytest.param(([], _WITHOUT_HTTPTOOLS), id="h11"),
        pytest.param(([_INTERIM], _WITHOUT_HTTPTOOLS), id="h11-interim"),
        pytest.param((["--server", "granian"], ""), id="granian"),
    ],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    options, first = request.param
    folder = tmp_path_factory.mktemp("connections")
    # Granian has one time for heads and for idleness, which is the longer one.
    with serving(folder, *TIMEOUTS, str(HEADER_TIMEOUT), *options, first=first) as server:
        yield server


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 20)


def seconds_until_closed(connection: socket.socket) -> float:
    start = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while connection.recv(10_000):
            pass
    return time.monotonic() - start


def ask(connection: socket.socket) -> None:
    connection.sendall(QUESTION)
    assert connection.recv(10_000).startswith(b"HTTP/1.1 204 ")


def is_answered(server: Server) -> bool:
    with contextlib.suppress(OSError, AssertionError), connect(server) as connection:
        connection.settimeout(1)
        ask(connection)
        return True
    return False


# The head.


def _nothing(_: socket.socket) -> None:
    pass


def _half_a_head(connection: socket.socket) -> None:
    connection.sendall(QUESTION[:-2])


def _half_a_second_head(connection: socket.socket) -> None:
    ask(connection)
    connection.sendall(QUESTION[:-2])


def _empty_lines(connection: socket.socket) -> None:
    ask(connection)
    connection.sendall(b"\r\n")  # may stand before a request, and is none


def _a_body_that_was_answered_already(connection: socket.socket) -> None:
    connection.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n")
    assert connection.recv(10_000).startswith(b"HTTP/1.1 405 ")
    connection.sendall(b"some")


BEGINNINGS = [
    _nothing, _half_a_head, _half_a_second_head, _empty_lines, _a_body_that_was_answered_already,
]  # fmt: skip


def test_a_connection_that_brings_no_whole_head_is_ended(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        connections = {begin: stack.enter_context(connect(server)) for begin in BEGINNINGS}
        for begin, connection in connections.items():
            begin(connection)
        for begin, connection in connections.items():  # where nothing ends it: `TimeoutError`
            assert seconds_until_closed(connection) < 15, begin.__name__


def test_every_worker_has_its_time_for_heads_and_for_idleness(on: str, tmp_path: Path) -> None:
    options = ["--server", on, "--workers", "2", *TIMEOUTS, str(KEEP_ALIVE)]
    with (
        serving(tmp_path / "data", *options) as server,
        connect(server) as half,
        connect(server) as idle,
    ):
        ask(idle)
        since = time.monotonic()
        _half_a_head(half)
        assert seconds_until_closed(half) < 15
        seconds_until_closed(idle)
        assert KEEP_ALIVE - 0.1 < time.monotonic() - since < 20


def test_a_head_that_comes_byte_by_byte_is_ended(server: Server) -> None:
    with connect(server) as connection, pytest.raises(ConnectionError):
        connection.sendall(b"GET /")  # else a parser refuses the first byte
        for _ in range(200):
            connection.sendall(b"x")
            time.sleep(0.1)


def _ask_in_two_parts(connection: socket.socket) -> None:
    for part in (QUESTION[:20], QUESTION[20:]):
        connection.sendall(part)
        time.sleep(0.05)
    assert connection.recv(10_000).startswith(b"HTTP/1.1 204 ")


def test_a_slow_body_is_no_slow_head(server: Server) -> None:
    client = Client(server.port)
    path = client.create(3)
    with Connection(server.port) as connection:
        _ask_in_two_parts(connection.socket)
        connection.start("PATCH", path, {**UPLOAD, "Upload-Offset": "0", "Content-Length": "3"})
        for byte in b"abc":
            time.sleep(HEADER_TIMEOUT / 2)
            connection.send(bytes([byte]))
        assert connection.answer().status == 204
    assert client.get(path).body == b"abc"


def test_idle_connections_outlive_those_of_common_proxies() -> None:
    settings = read_arguments(["serve"]).settings
    assert (settings.header_timeout, settings.keep_alive) == (60, 75)  # theirs: 60


# What is sent.

_IMPATIENT = "import tusasgi.server.connections as c; c.UNTAKEN_SECONDS = 2"


@pytest.fixture
def download(on: str, tmp_path: Path) -> Iterator[tuple[Server, bytes]]:
    """A server with little patience, and the head of a request for more than buffers hold."""
    with serving(tmp_path / "data", "--server", on, first=_IMPATIENT) as server:
        client = Client(server.port)
        path = client.create(SIZE)
        client.resume(path, bytes(SIZE))
        yield server, f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
def test_a_client_that_takes_nothing_of_what_it_asked_for_is_left(
    download: tuple[Server, bytes],
) -> None:
    server, question = download
    with connect(server) as connection:
        connection.sendall(question)
        port = connection.getsockname()[1]
        wait_until(lambda: owner(server, port) is not None)
        wait_until(lambda: owner(server, port) is None, 30)


def test_a_client_that_takes_it_slowly_gets_it_all(download: tuple[Server, bytes]) -> None:
    server, question = download
    with connect(server) as connection, connection.makefile("rb") as answer:
        connection.sendall(question)
        for _ in range(6):  # longer than what is left untaken is left alone
            assert len(answer.read(SIZE // 10)) == SIZE // 10
            time.sleep(0.5)
        assert len(answer.read()) > SIZE * 4 // 10


# Descriptors.


def limited(soft: int, hard: int) -> str:
    """What lets a process have so many files and connections, and ask for `hard`."""
    return f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))"


@contextlib.contextmanager
def silent(server: Server, count: int) -> Iterator[None]:
    """Hold so many connections, as far as the server takes them, and say nothing on any."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connect(server))
        yield


def test_silent_connections_do_not_keep_others_out_for_longer_than_their_time(
    on: str, tmp_path: Path
) -> None:
    options = ["--server", on, "--header-timeout", "4", "--keep-alive", "4"]
    with serving(tmp_path / "data", *options, first=limited(300, 300)) as server:
        assert is_answered(server)
        with silent(server, 350):
            wait_until(lambda: "300 files and connections" in server.output())
            wait_until(lambda: is_answered(server))
            assert Client(server.port).create(1)
        warnings = [line for line in server.output().splitlines() if "LimitNOFILE" in line]
        assert len(warnings) == 1  # in several looks, and for all of them


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's own limit counts too")
def test_as_many_connections_are_taken_as_the_system_allows(on: str, tmp_path: Path) -> None:
    options, first = ["--server", on], limited(64, 512)
    with serving(tmp_path / "data", *options, first=first) as server, silent(server, 200):
        assert is_answered(server)
        time.sleep(1.5)  # one look at the descriptors
        assert len(server.output().splitlines()) == 1
