"""A careful client on asyncio: one request on one connection, and no byte more than was asked."""

import asyncio
import base64
import contextlib
import hashlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

TUS = {"Tus-Resumable": "1.0.0"}
DRAFT = {"Upload-Draft-Interop-Version": "9"}
PARTIAL = {**DRAFT, "Content-Type": "application/partial-upload"}
UPLOAD = {**TUS, "Content-Type": "application/offset+octet-stream"}
_SECONDS = 60.0
_ATTEMPTS = 60
_PAUSE = 0.05


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def offset(self) -> int:
        return int(self.headers["upload-offset"])


@dataclass(frozen=True, kw_only=True)
class Body:
    """What is sent, in how many pieces, and where it breaks off."""

    data: bytes = b""
    pieces: int = 1
    is_chunked: bool = False
    cut_at: int | None = None
    is_reset: bool = False
    pause: float = 0.0
    """Seconds between two pieces."""
    before_last: Callable[[], Awaitable[object]] | None = None
    """Waited for before the last piece is sent, if there are more than one."""

    def __str__(self) -> str:
        ending = "" if self.cut_at is None else f", cut at {self.cut_at}"
        framing = "chunked" if self.is_chunked else "by length"
        return f"with {len(self.data)} bytes {framing} in {self.pieces} pieces{ending}"

    @property
    def framing(self) -> dict[str, str]:
        if self.is_chunked:
            return {"Transfer-Encoding": "chunked"}
        return {"Content-Length": str(len(self.data))}

    def split(self) -> Iterator[bytes]:
        sent = self.data if self.cut_at is None else self.data[: self.cut_at]
        step = max(1, -(-len(sent) // self.pieces))
        for start in range(0, len(sent), step):
            piece = sent[start : start + step]
            yield b"%x\r\n%b\r\n" % (len(piece), piece) if self.is_chunked else piece
        if self.is_chunked and self.cut_at is None:
            yield b"0\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=lambda: TUS)
    body: Body = field(default_factory=Body)

    def __str__(self) -> str:
        names = ("Upload-Offset", "Upload-Length", "Upload-Checksum", "Upload-Complete")
        said = [f"{name} {self.headers[name]}" for name in names if name in self.headers]
        return " ".join([self.method, *said, str(self.body)])

    def head(self, port: int) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        headers = {**self.headers, **self.body.framing, "Connection": "close"}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()


def passes(method: str, reply: Reply) -> bool:
    """True for an answer that says: not now, ask again. To a HEAD that is 423."""
    return reply.status == (423 if method == "HEAD" else 503)


def checksum(data: bytes) -> str:
    """Return the value of `Upload-Checksum` for a body."""
    return f"sha1 {base64.b64encode(hashlib.sha1(data).digest()).decode()}"


async def send(port: int, ask: Ask) -> Reply:
    """Return the answer, also one that comes before the body is sent.

    Raises `ConnectionError` if the connection ends before the answer does, and `TimeoutError`
    if neither happens.
    """
    async with asyncio.timeout(_SECONDS), _connection(port) as (reader, writer):
        answer = asyncio.create_task(_read_reply(reader, ask.method))
        try:
            with contextlib.suppress(ConnectionError):  # the answer says more, if there is one
                await _write(writer, ask, port, until=answer)
            return await answer
        finally:
            answer.cancel()


async def bring(port: int, path: str, data: bytes) -> int:
    """Bring the rest of an upload over a bad network; return how many connections broke.

    Asks, sends, and asks again, as clients do. What was told once must never be taken back.
    """
    told, broken = 0, 0
    for _ in range(_ATTEMPTS):
        try:
            reply = await send(port, Ask(method="HEAD", path=path))
            if passes("HEAD", reply):  # a request that was cut before is just completing it
                await asyncio.sleep(_PAUSE)
                continue
            assert reply.status == 200, reply
            assert told <= reply.offset, f"the offset went back from {told} to {reply.offset}"
            told = reply.offset
            if told == len(data):
                return broken
            headers = {**UPLOAD, "Upload-Offset": str(told)}
            body = Body(data=data[told:], pieces=4)
            reply = await send(port, Ask(method="PATCH", path=path, headers=headers, body=body))
        except ConnectionError:
            broken += 1
            continue
        # The others: a request that was cut before is still at work.
        assert reply.status in (204, 409, 423, 503), reply
        if reply.status == 204:
            assert reply.offset == len(data), reply
            told = reply.offset
        else:
            await asyncio.sleep(_PAUSE)
    raise AssertionError(f"after {_ATTEMPTS} attempts the offset is {told} of {len(data)}")


async def send_and_cut(port: int, ask: Ask) -> None:
    """Send the request up to `cut_at`, and close or reset."""
    async with asyncio.timeout(_SECONDS), _connection(port) as (_, writer):
        if ask.body.is_reset:  # decided first: a broken connection takes no options any more
            plain: socket.socket = writer.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await _write(writer, ask, port, until=None)


@contextlib.asynccontextmanager
async def _connection(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _write(
    writer: asyncio.StreamWriter, ask: Ask, port: int, *, until: "asyncio.Task[Reply] | None"
) -> None:
    writer.write(ask.head(port))
    pieces = list(ask.body.split())
    for index, piece in enumerate(pieces):
        if until is not None and until.done():
            return
        if ask.body.before_last is not None and 0 < index == len(pieces) - 1:
            await ask.body.before_last()
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(ask.body.pause)


async def _read_reply(reader: asyncio.StreamReader, method: str) -> Reply:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        lines = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in lines}
        has_body = method != "HEAD" and status != 204
        body = await reader.readexactly(int(headers["content-length"])) if has_body else b""
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the connection ended before the answer") from error
    return Reply(status=status, headers=headers, body=body)
