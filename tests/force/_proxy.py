"""A TCP proxy that breaks connections in the ways that networks do, each by a plan."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass

_PIECE = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one connection. Byte counts are those of TCP, heads of requests included.

    `up` is what the client sends and `down` what the server answers; None is never.
    """

    cut_up: int | None = None
    cut_down: int | None = None
    is_reset: bool = False
    """A cut is RST in both directions, not FIN."""
    silent_up: int | None = None
    """After so many bytes nothing is forwarded any more, either way, and all stays open."""
    loses_answer: bool = False
    """The request arrives; of the answer nothing does, and then the connection ends."""
    delay: float = 0.0
    """Seconds that every piece waits, either way."""
    bytes_per_second: float | None = None


WHOLE = Fault()


class Proxy:
    """Listens on `port` while the block lasts; `plan` says what happens to the next connections.

    Runs in a thread with an event loop of its own, beside clients that block.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.upstream_ports: list[int] = []
        """The ports from which the connections went on to the server, in their order."""
        self._target = target
        self._plan: deque[Fault] = deque()
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._run()])
        self._end = asyncio.Event()

    def plan(self, *faults: Fault) -> None:
        """Decide on the next connections; those behind them go through whole."""
        self._plan.extend(faults)

    def silence(self) -> None:
        """Forward nothing more on the connections there are, either way, and keep them open."""
        for link in list(self._links):
            self._loop.call_soon_threadsafe(link.silence)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        assert self._is_listening.wait(10), "the proxy did not come up"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the proxy did not end"
        self._loop.close()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._is_listening.set()
        await self._end.wait()
        server.close()
        for link in list(self._links):
            link.cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._plan.popleft() if self._plan else WHOLE
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self.upstream_ports.append(up_writer.get_extra_info("sockname")[1])
        link = _Link(fault, writer, up_writer)
        self._links.add(link)
        try:
            await link.forward(reader, up_reader)
        finally:
            self._links.discard(link)
            link.cut()


class _Link:
    """The two connections that make one."""

    def __init__(
        self, fault: Fault, client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        self._fault = fault
        self._client = client
        self._server = server
        self._is_silent = asyncio.Event()
        self._never = asyncio.Event()

    async def forward(self, client: asyncio.StreamReader, server: asyncio.StreamReader) -> None:
        """Forward both ways until both have ended, or the plan says to end."""
        up = asyncio.create_task(self._forward_up(client))
        down = asyncio.create_task(self._forward_down(server))
        try:
            done, _ = await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            is_over = any(task.result() for task in done)
            if not is_over:
                await asyncio.wait([up, down])
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    def silence(self) -> None:
        self._is_silent.set()

    def cut(self) -> None:
        """End both connections, by RST if the plan says so."""
        for writer in (self._client, self._server):
            if self._fault.is_reset:
                plain: socket.socket = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()

    # Both return True if the whole connection is over, False if this direction has just ended.

    async def _forward_up(self, reader: asyncio.StreamReader) -> bool:
        fault, passed = self._fault, 0
        bound = fault.cut_up if fault.silent_up is None else fault.silent_up
        while bound is None or passed < bound:
            piece = await _read(reader, bound, passed)
            if self._is_silent.is_set():
                await self._never.wait()
            if not piece:
                return _end_of(self._server)
            await self._pass_on(piece, self._server)
            passed += len(piece)
        if fault.silent_up is not None:
            self._is_silent.set()
            await self._never.wait()
        return True

    async def _forward_down(self, reader: asyncio.StreamReader) -> bool:
        fault, passed = self._fault, 0
        while fault.cut_down is None or passed < fault.cut_down:
            piece = await _read(reader, fault.cut_down, passed)
            if self._is_silent.is_set():
                await self._never.wait()
            if fault.loses_answer:
                return True
            if not piece:
                return _end_of(self._client)
            await self._pass_on(piece, self._client)
            passed += len(piece)
        return True

    async def _pass_on(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        fault = self._fault
        seconds = fault.delay
        if fault.bytes_per_second is not None:
            seconds += len(piece) / fault.bytes_per_second
        if seconds:
            await asyncio.sleep(seconds)
        with contextlib.suppress(ConnectionError):
            writer.write(piece)
            await writer.drain()


async def _read(reader: asyncio.StreamReader, bound: int | None, passed: int) -> bytes:
    size = _PIECE if bound is None else min(_PIECE, bound - passed)
    with contextlib.suppress(ConnectionError):
        return await reader.read(size)
    return b""


def _end_of(writer: asyncio.StreamWriter) -> bool:
    """Pass the end of one direction on, and say that the other may go on."""
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
    return False
