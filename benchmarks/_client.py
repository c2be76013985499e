"""The client of all measurements: a bare socket, which costs less than the servers it asks."""

import contextlib
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

MIB = 1024 * 1024
BLOCK = os.urandom(MIB)

_PATIENCE = 600  # seconds; the last PATCH of 50 GiB takes some


class UnexpectedAnswer(Exception):
    """A server answered otherwise than it should have."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    def field(self, name: str) -> str:
        """Return the value of a header field, or an empty string."""
        return _field(self.head, name)


class Client:
    """One connection, which is kept. What is not answered as expected raises."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def create(self, target: str, length: int) -> str:
        """Return the path of a new upload."""
        # There are servers that insist on both.
        metadata = "filename YS5iaW4=,filetype YXBwbGljYXRpb24vb2N0ZXQtc3RyZWFt"
        fields = {"Upload-Length": str(length), "Upload-Metadata": metadata}
        location = self.request("POST", target, 201, **fields).field("location")
        return location[location.index("/", 8) :] if location.startswith("http") else location

    def begin_patch(self, target: str, offset: int, size: int, *, with_body: bytes = b"") -> None:
        """Send the head of a PATCH of so many bytes, and no more of them than `with_body`."""
        fields = {
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(size),
        }
        self.send(_head("PATCH", target, fields) + with_body)

    def patch(
        self, target: str, offset: int, size: int, *, content: Iterable[bytes] | None = None
    ) -> None:
        """Send a whole PATCH; `content` gives its bytes, where it matters which they are."""
        if size <= MIB and content is None:
            self.begin_patch(target, offset, size, with_body=BLOCK[:size])
        else:
            self.begin_patch(target, offset, size)
            with contextlib.suppress(BrokenPipeError):  # it was refused: the answer says why
                for block in content or _blocks(size):
                    self.send(block)
        self._answer("PATCH", 204)

    def request(self, method: str, target: str, status: int, **fields: str) -> Answer:
        """Send a request without a body."""
        self.send(_head(method, target, {"Content-Length": "0", **fields}))
        return self._answer(method, status)

    def send(self, data: bytes | memoryview) -> None:
        self._socket.sendall(data)

    def _answer(self, method: str, status: int) -> Answer:
        head = self._until(b"\r\n\r\n")
        answer = Answer(int(head[9:12]), head, self._body(head, method))
        if answer.status != status:
            raise UnexpectedAnswer(
                f"{method} was answered {answer.status} instead of {status}: {answer.body[:200]!r}"
            )
        return answer

    def _body(self, head: bytes, method: str) -> bytes:
        if method == "HEAD":
            return b""
        if _field(head, "transfer-encoding") == "chunked":
            body = b""
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size + 2)[:-2]
            self._until(b"\r\n")
            return body
        return self._exactly(int(_field(head, "content-length") or 0))

    def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            self._receive()
        found, _, self._received = self._received.partition(end)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._receive()
        found, self._received = self._received[:size], self._received[size:]
        return found

    def _receive(self) -> None:
        data = self._socket.recv(MIB)
        if not data:
            raise UnexpectedAnswer("the connection was closed")
        self._received += data


def _head(method: str, target: str, fields: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\n{lines}\r\n"
    ).encode()


def _field(head: bytes, name: str) -> str:
    line_start = f"\r\n{name}:".encode()
    start = head.lower().find(line_start)
    if start < 0:
        return ""
    return head[start + len(line_start) :].partition(b"\r\n")[0].strip().decode()


def _blocks(size: int) -> Iterable[bytes | memoryview]:
    for start in range(0, size, MIB):
        yield BLOCK if size - start >= MIB else memoryview(BLOCK)[: size - start]
