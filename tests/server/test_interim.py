"""Interim responses over uvicorn, on the wire: what is sent, to whom, and that it is true."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.ietf import shows
from tests.hosts._process import Server, free_port, running
from tests.hosts._wire import TUS, Answer, Client, Connection, path_of, wait_until
from tusasgi.server.interim import _head

PROTOCOLS = {
    "httptools": "tusasgi.server.interim:InterimProtocol",
    "h11": "tests.server.interim_app:InterimH11Protocol",
}
VERSION = "Upload-Draft-Interop-Version"
DRAFT = {VERSION: "8"}
PARTIAL = {"Content-Type": "application/partial-upload", "Upload-Complete": "?1"}
DATA = os.urandom(3_000_000)


@contextlib.contextmanager
def serving(http: str, folder: Path, *, interval: float = 0.05) -> Iterator[Server]:
    port = free_port()
    command = [
        "-m", "uvicorn", "tests.server.interim_app:app", "--port", str(port), "--http", http,
        "--log-level", "warning", "--no-server-header", "--no-date-header",
    ]  # fmt: skip
    environment = {"TUSASGI_TEST_FOLDER": str(folder), "TUSASGI_TEST_INTERVAL": str(interval)}
    with running(f"uvicorn with {http}", command, port, folder, **environment) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interim")


@pytest.fixture(scope="module", params=PROTOCOLS)
def parser(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(parser: str, folder: Path) -> Iterator[Server]:
    with serving(PROTOCOLS[parser], folder) as server:
        yield server


@pytest.fixture(scope="module")
def plain(parser: str, folder: Path) -> Iterator[Server]:
    """The same app on the same folder, behind uvicorn as it is."""
    with serving(parser, folder) as server:
        yield server


class Draft(Connection):
    """A connection that reads interim responses one by one."""

    def create(self, size: int = len(DATA), **more: str) -> None:
        """Begin a request that is to become an upload: one with everything, as apps send it."""
        headers = {"Content-Type": "image/jpeg", "Upload-Complete": "?1", **more}
        self.start("POST", "/files/", {**headers, "Content-Length": str(size)})

    def append(self, path: str, offset: int, size: int) -> None:
        headers = {**DRAFT, **PARTIAL, "Upload-Offset": str(offset), "Content-Length": str(size)}
        self.start("PATCH", path, headers)

    def interim(self) -> tuple[int, dict[str, str]]:
        """Read the head of the next response: status and headers by lower-case name."""
        first, *lines = self.first_line().decode().split("\r\n")[:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        assert first.startswith("HTTP/1.1 1"), first
        return int(first.split(" ")[1]), headers

    def answer(self) -> Answer:
        """Read the next final answer; interim ones are passed over, of whichever status."""
        while self.socket.recv(10, socket.MSG_PEEK | socket.MSG_WAITALL) == b"HTTP/1.1 1":
            self.interim()
        return super().answer()


def describe(server: Server, path: str) -> Answer:
    return Client(server.port).request("HEAD", path, DRAFT)


def finish(server: Server, path: str, data: bytes) -> Answer:
    """Bring the rest as a client of the draft does."""
    offset = describe(server, path).offset
    rest = data[offset:]
    with Draft(server.port) as connection:
        connection.append(path, offset, len(rest))
        connection.send(rest)
        return connection.answer()


def exchanged(server: Server, request: bytes) -> bytes:
    """Return all that the server sends until it closes."""
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(request)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


def get(path: str, *, close: bool = True, version: str = "1.1", more: str = "") -> bytes:
    ending = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/{version}\r\nHost: here\r\n{more}{ending}\r\n".encode()


# The protocol classes.

TWO_INTERIMS = b"HTTP/1.1 104 \r\nlocation: /here\r\n\r\nHTTP/1.1 199 \r\n\r\n"


@shows("IETF-163")
def test_interim_responses_are_heads_before_the_response(server: Server, plain: Server) -> None:
    assert exchanged(server, get("/echo")) == TWO_INTERIMS + exchanged(plain, get("/echo"))


@shows("IETF-162")
def test_http_1_0_is_offered_none(server: Server) -> None:
    assert exchanged(server, get("/offered")).endswith(b"\r\n\r\nyes")
    assert exchanged(server, get("/offered", version="1.0")).endswith(b"\r\n\r\nno")
    assert exchanged(server, get("/echo", version="1.0")).startswith(b"HTTP/1.1 200 ")


def test_requests_of_one_connection_have_their_own(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        for _ in range(3):
            connection.sendall(get("/echo", close=False))
            received = b""
            while b"200 OK" not in received or not received.endswith(b"\r\n\r\n"):
                received += connection.recv(65536)
            assert received.startswith(TWO_INTERIMS + b"HTTP/1.1 200 OK\r\n")


def test_requests_that_come_together_are_answered_in_turn(server: Server, plain: Server) -> None:
    posts = [
        b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\n%b" % text
        for text in (b"one", b"two")
    ]
    together = b"".join([*posts, get("/echo")])
    answers = exchanged(plain, together)
    assert [answers.count(text) for text in (b"one", b"two", b"200 OK")] == [1, 1, 3]
    with_interims = answers.replace(b"HTTP/1.1 200", TWO_INTERIMS + b"HTTP/1.1 200")
    assert exchanged(server, together) == with_interims


def test_none_is_sent_within_a_response(server: Server) -> None:
    received = exchanged(server, get("/late"))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"some" in received
    assert b"104" not in received
    assert "comes before the response" in server.output()


def test_one_that_cannot_be_sent_is_an_error_of_the_app(server: Server) -> None:
    received = exchanged(server, get("/broken"))
    assert received.startswith(b"HTTP/1.1 500 ")
    assert b"mine" not in received


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [
        pytest.param(100, b"a", b"", id="uvicorn-sends-it"),
        pytest.param(101, b"a", b"", id="ends-http"),
        pytest.param(200, b"a", b"", id="final"),
        pytest.param(1040, b"a", b"", id="no-status"),
        pytest.param("104", b"a", b"", id="text"),
        pytest.param(104, b"", b"", id="no-name"),
        pytest.param(104, b"a b", b"", id="space-in-name"),
        pytest.param(104, b"a:b", b"", id="colon-in-name"),
        pytest.param(104, b"a\r\nb", b"", id="line-in-name"),
        pytest.param(104, b"a\n", b"", id="line-after-name"),
        pytest.param(104, b"a", b"b\r\nc: d", id="line-in-value"),
        pytest.param(104, b"a", b"b\n", id="line-after-value"),
        pytest.param(104, b"a", b"b\0", id="zero-in-value"),
        pytest.param(104, b"Content-Length", b"0", id="length"),
        pytest.param(104, b"transfer-encoding", b"chunked", id="coding"),
        pytest.param(104, b"Connection", b"close", id="connection"),
        pytest.param(104, b"upgrade", b"h2c", id="upgrade"),
    ],
)
def test_what_would_break_the_framing_is_not_sent(status: int, name: bytes, value: bytes) -> None:
    with pytest.raises(RuntimeError):
        _head(status, [(name, value)])


def test_a_value_may_be_any_text_of_one_line() -> None:
    assert (
        _head(103, [(b"Link", b"</a>;\tx=\xe9~")])
        == b"HTTP/1.1 103 \r\nLink: </a>;\tx=\xe9~\r\n\r\n"
    )


def test_for_a_client_that_does_not_read_the_app_waits(server: Server) -> None:
    client = Client(server.port)

    def flooded() -> int:
        return int(client.get("/flooded").body)

    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(get("/flood", close=False))
        wait_until(lambda: flooded() > 0)
        seen = -1

        def has_stopped() -> bool:
            nonlocal seen
            before, seen = seen, flooded()
            time.sleep(0.3)
            return seen == before

        wait_until(has_stopped)
        assert seen < 20_000  # a kilobyte each: what the kernel's buffers take, and a little more
    wait_until(lambda: flooded() == -1)  # the app hears that the client has left


def test_none_is_sent_behind_the_back_of_an_app_that_failed(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(get("/raise"))
        wait_until(lambda: "goes on" in server.output())
        received = b""
        while piece := connection.recv(65536):
            received += piece
    _, _, answer = received.partition(b"HTTP/1.1 500 ")
    assert answer.count(b"Internal Server Error") == 2  # its reason and its text
    assert b"HTTP/1.1 104" not in answer


# Ordinary requests.


@pytest.fixture(scope="module")
def upload(plain: Server) -> str:
    client = Client(plain.port)
    path = client.create(len(DATA))
    client.resume(path, DATA)
    return path


def _ordinary(path: str) -> dict[str, bytes]:
    asks = TUS | {"Upload-Length": "5"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in asks.items())
    return {
        "download": get(path),
        "part": get(path, more="Range: bytes=1000-2000000\r\n"),
        "old": get(path, version="1.0"),
        "head": get(path).replace(b"GET", b"HEAD"),
        "offset": get(path, more="Tus-Resumable: 1.0.0\r\n").replace(b"GET", b"HEAD"),
        "draft": get(path, more=f"{VERSION}: 8\r\n").replace(b"GET", b"HEAD"),
        "missing": get("/files/none"),
        "refused": get("/files/", more=lines).replace(b"GET", b"PUT"),
        "options": get("/files/").replace(b"GET", b"OPTIONS"),
        "nonsense": b"NONSENSE\r\n\r\n",
        "together": get("/offered/"[:-1], close=False) * 2 + get(path),
    }


@pytest.mark.parametrize("kind", _ordinary(""))
def test_ordinary_answers_are_what_they_were(
    server: Server, plain: Server, upload: str, kind: str
) -> None:
    request = _ordinary(upload)[kind]
    expected = exchanged(plain, request).replace(b"\r\n\r\nno", b"\r\n\r\nyes")
    answer = exchanged(server, request)
    assert answer == expected.replace(
        b"content-length: 2\r\n\r\nyes", b"content-length: 3\r\n\r\nyes"
    )
    if kind == "download":
        assert answer.endswith(DATA)


# Uploads by the draft.


@shows("IETF-003", "IETF-051", "IETF-052", "IETF-053", "IETF-160")
def test_a_104_comes_before_the_content_is_asked_for_and_beside_100(server: Server) -> None:
    with Draft(server.port) as connection:
        connection.create(**DRAFT, Expect="100-continue")
        status, headers = connection.interim()
        assert (status, headers[VERSION.lower()]) == (104, "8")
        assert headers["upload-limit"] == "min-size=0"
        assert connection.interim() == (100, {})
        connection.send(DATA)
        answer = connection.answer()
        assert (answer.status, answer.headers["Upload-Complete"]) == (201, "?1")
        assert answer.headers["Location"] == headers["location"]


@shows("IETF-003", "IETF-060")
def test_a_104_has_the_offset_while_content_comes(server: Server) -> None:
    with Draft(server.port) as connection:
        connection.create(**DRAFT)
        path = connection.interim()[1]["location"]
        for start in (0, 1_000_000):
            connection.send(DATA[start : start + 1_000_000])
            offset = -1
            while offset != start + 1_000_000:  # of which there may be more than one report
                status, headers = connection.interim()
                assert (status, headers[VERSION.lower()]) == (104, "8")
                assert "location" not in headers
                assert int(headers["upload-offset"]) > offset
                offset = int(headers["upload-offset"])
        connection.cut()
    assert describe(server, path).offset == 2_000_000


SILENT = [
    pytest.param({}, id="no-version"),
    pytest.param({VERSION: "2"}, id="older"),
    pytest.param({VERSION: "99"}, id="newer"),
    pytest.param({VERSION: "9, 8"}, id="list"),
    pytest.param({**DRAFT, **TUS, "Upload-Length": "2000000"}, id="tus"),
]


@pytest.mark.parametrize("headers", SILENT)
@shows("IETF-001", "IETF-002")
def test_nobody_else_is_sent_a_104(server: Server, headers: dict[str, str]) -> None:
    with Draft(server.port) as connection:
        connection.create(
            2_000_000, **{"Content-Type": "application/offset+octet-stream"} | headers
        )
        connection.send(DATA[:1_000_000])
        time.sleep(0.3)  # several reports
        connection.send(DATA[1_000_000:2_000_000])
        assert connection.first_line().startswith(b"HTTP/1.1 201 ")


@shows("IETF-162")
def test_over_http_1_0_there_is_no_104(server: Server) -> None:
    head = f"POST /files/ HTTP/1.0\r\nHost: here\r\nUpload-Complete: ?1\r\n{VERSION}: 8\r\n"
    request = f"{head}Content-Length: 5\r\n\r\nhello".encode()
    assert exchanged(server, request).startswith(b"HTTP/1.1 201 ")


@shows("IETF-163")
def test_after_a_104_the_connection_takes_the_next_request(server: Server) -> None:
    with Draft(server.port) as connection:
        for _ in range(3):
            connection.create(5, **DRAFT)
            path = connection.interim()[1]["location"]
            connection.send(b"hello")
            assert connection.answer().headers["Location"] == path


@shows("IETF-062", "IETF-063")
def test_one_request_with_everything_is_resumed_after_a_cut(server: Server) -> None:
    with Draft(server.port) as connection:
        connection.create(**DRAFT)
        path = connection.interim()[1]["location"]
        connection.send(DATA[:1_234_567])
        wait_until(lambda: stored_size(server, path) == 1_234_567)
        connection.reset()
    answer = describe(server, path)
    assert (answer.status, answer.offset, answer.headers["Upload-Complete"]) == (
        204,
        1_234_567,
        "?0",
    )
    assert answer.headers["Upload-Length"] == str(len(DATA))
    answer = finish(server, path, DATA)
    assert (answer.status, answer.headers["Upload-Complete"]) == (201, "?1")
    assert Client(server.port).get(path).body == DATA


def stored_size(server: Server, path: str) -> int:
    """Return how many bytes of an upload are there, without a question that would stop it."""
    upload_id = path.rpartition("/")[2]
    file = server.folder / "uploads" / upload_id[-2:] / upload_id
    return file.stat().st_size if file.exists() else 0


def test_without_interim_responses_nothing_is_left_of_a_creation_that_is_cut(plain: Server) -> None:
    before = files_of(plain)
    with Draft(plain.port) as connection:
        connection.create(**DRAFT)
        connection.send(DATA[:1_000_000])
        wait_until(lambda: files_of(plain) != before)
        connection.cut()
    wait_until(lambda: files_of(plain) == before)


def files_of(server: Server) -> set[Path]:
    return {path for path in (server.folder / "uploads").rglob("*") if path.is_file()}


@shows("IETF-023")
def test_the_offset_in_a_104_outlives_the_server(parser: str, tmp_path: Path) -> None:
    with (
        serving(PROTOCOLS[parser], tmp_path / "data", interval=0.001) as server,
        Draft(server.port) as connection,
    ):
        connection.create(**DRAFT)
        path = connection.interim()[1]["location"]
        for start in range(0, 2_000_000, 100_000):
            connection.send(DATA[start : start + 100_000])
        offset = int(connection.interim()[1]["upload-offset"])
        server.signal(signal.SIGKILL)
        server.wait()
        promised = max([offset, *offsets_behind(connection)])
    with serving(PROTOCOLS[parser], tmp_path / "data") as server:
        assert promised <= describe(server, path).offset <= 2_000_000
        assert finish(server, path, DATA).status == 201
        assert Client(server.port).get(path).body == DATA


def offsets_behind(connection: Draft) -> list[int]:
    """Return the offsets that were reported in what came before the connection broke."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.socket.recv(65536):
            received += piece
    *heads, _ = received.decode().split("\r\n\r\n")
    return [int(head.rpartition("upload-offset: ")[2]) for head in heads]


# `tusasgi serve`.

_MAIN = "import sys; from tusasgi.server.command import main; main(sys.argv[1:])"
_SCRIPTS = {
    "httptools": _MAIN,
    "h11": f"import sys; sys.modules['httptools'] = None; {_MAIN}",
}


@contextlib.contextmanager
def tusasgi_serve(parser: str, folder: Path, *options: str) -> Iterator[Server]:
    port = free_port()
    command = ["-c", _SCRIPTS[parser], "serve", "--dir", str(folder), "--port", str(port)]
    with running("tusasgi serve", [*command, *options], port, folder) as server:
        yield server


def test_serve_sends_interim_responses_when_asked_to(parser: str, tmp_path: Path) -> None:
    options = ["--interim-responses", "--shutdown-timeout", "1"]
    with tusasgi_serve(parser, tmp_path / "data", *options) as server:
        with Draft(server.port) as connection:
            connection.create(**DRAFT)
            path = path_of(connection.interim()[1]["location"])
            connection.send(DATA[:1_000_000])
            assert connection.interim()[1]["upload-offset"] == "1000000"
            server.signal(signal.SIGTERM)  # while the client goes on
            answer = connection.answer()
            assert (answer.status, answer.headers["Upload-Complete"]) == (503, "?0")
        server.wait()
    with tusasgi_serve(parser, tmp_path / "data", *options, "--workers", "2") as server:
        assert describe(server, path).offset == 1_000_000
        assert finish(server, path, DATA).status == 201
        assert Client(server.port).get(path).body == DATA


def test_serve_sends_none_by_itself(parser: str, tmp_path: Path) -> None:
    with tusasgi_serve(parser, tmp_path / "data") as server, Draft(server.port) as connection:
        connection.create(5, **DRAFT)
        connection.send(b"hello")
        assert connection.first_line().startswith(b"HTTP/1.1 201 ")
