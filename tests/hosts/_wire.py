"""HTTP by hand, for what no client library would do: cuts, stalls, bodies in pieces."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPMessage, HTTPResponse
from types import TracebackType
from urllib.parse import urlsplit

TUS = {"Tus-Resumable": "1.0.0"}
UPLOAD = {**TUS, "Content-Type": "application/offset+octet-stream"}
_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def offset(self) -> int:
        return int(self.headers["Upload-Offset"])


class Connection:
    """One connection; ends with its block, and with it what is still under way."""

    def __init__(self, port: int, made: socket.socket | None = None) -> None:
        self.socket = _connected(port) if made is None else made
        self.socket.settimeout(_SECONDS)
        self._host = f"127.0.0.1:{port}"
        self._method = ""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def start(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Send the head of a request."""
        self._method = method
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_chunk(self, data: bytes) -> None:
        """Send a piece of a chunked body; an empty one ends it."""
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def answer(self) -> Answer:
        """Read the next answer; an interim one is passed over."""
        with HTTPResponse(self.socket, method=self._method) as response:
            response.begin()
            return Answer(status=response.status, headers=response.headers, body=response.read())

    def first_line(self) -> bytes:
        """Read one line, as of an interim answer, and the blank one behind it."""
        line = b""
        while not line.endswith(b"\r\n\r\n"):
            line += self.socket.recv(1)
        return line

    def until_closed(self) -> bytes:
        """Read what comes until the server closes."""
        return b"".join(iter(lambda: self.socket.recv(65536), b""))

    def is_closed(self) -> bool:
        """True if the server closes without sending anything more."""
        with contextlib.suppress(ConnectionError):
            return self.socket.recv(1) == b""
        return True

    def cut(self) -> None:
        """Close as a process that ends does."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def reset(self) -> None:
        """Close so that the peer gets RST, and what it has not read is lost."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


def _connected(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), _SECONDS)
    # Pieces are to arrive as they are sent.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


class Client:
    """The requests of TUS against one collection, each on a connection of its own."""

    def __init__(
        self, port: int, path: str = "/files/", connect: Callable[[], socket.socket] | None = None
    ) -> None:
        self.port = port
        self.path = path
        self._connect = partial(_connected, port) if connect is None else connect

    def connection(self) -> Connection:
        return Connection(self.port, self._connect())

    def request(
        self, method: str, path: str, headers: dict[str, str] = TUS, body: bytes = b""
    ) -> Answer:
        length = {"Content-Length": str(len(body))} if body or method != "GET" else {}
        with self.connection() as connection:
            connection.start(method, path, {**headers, **length, "Connection": "close"})
            if body:  # else it may have been answered already, and be gone
                connection.send(body)
            return connection.answer()

    def create(self, length: int, **headers: str) -> str:
        """Create an upload and return its path."""
        answer = self.request("POST", self.path, {**TUS, "Upload-Length": str(length), **headers})
        assert answer.status == 201, answer
        return path_of(answer.headers["Location"])

    def head(self, path: str) -> Answer:
        return self.request("HEAD", path)

    def offset(self, path: str) -> int:
        answer = self.head(path)
        assert answer.status == 200, answer
        return answer.offset

    def patch(self, path: str, offset: int, data: bytes) -> Answer:
        return self.request("PATCH", path, {**UPLOAD, "Upload-Offset": str(offset)}, data)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers)

    @contextlib.contextmanager
    def patching(self, path: str, offset: int, size: int | None) -> Iterator[Connection]:
        """Begin a PATCH of `size` bytes, chunked for None; the block sends them, or not."""
        framing = (
            {"Transfer-Encoding": "chunked"} if size is None else {"Content-Length": str(size)}
        )
        with self.connection() as connection:
            connection.start("PATCH", path, {**UPLOAD, "Upload-Offset": str(offset), **framing})
            yield connection

    def take_over(self, path: str) -> None:
        """Stop who still writes, as of a connection that was cut: the offset moves no more."""
        wait_until(lambda: self.patch(path, self.offset(path), b"").status == 204)

    def resume(self, path: str, data: bytes) -> None:
        """Bring the rest as a client does: ask, send, and ask again when somebody was faster."""

        def is_brought() -> bool:
            offset = self.offset(path)
            return self.patch(path, offset, data[offset:]).status == 204

        wait_until(is_brought)


def path_of(location: str) -> str:
    """Return the path of a `Location`, which may be a path or a whole URL."""
    return urlsplit(location).path


def wait_until(is_true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Ask again and again, for something that another process is about to do."""
    give_up = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < give_up, "it did not come true"
        time.sleep(0.01)
