"""A server far away: a proxy on loopback that delays what passes and limits each connection.

    python -m benchmarks.distant PORT TARGET

It knows nothing of HTTP: what comes on one side goes out on the other after `DELAY` seconds, and
of each connection no more than `RATE` bytes in a second, each way.
"""

import asyncio
import contextlib
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator

from benchmarks._server import free_port, wait_until_up

DELAY = 0.025  # 50 ms there and back
RATE = 40e6
_PIECE = 256 * 1024


@contextlib.contextmanager
def distant(target: str) -> Iterator[str]:
    """Give the endpoint of a proxy before a server at `http://host:port`, in its own process."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.distant", str(port), target])
    try:
        wait_until_up(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def serve(port: int, target: str) -> None:
    host, _, target_port = target.removeprefix("http://").partition(":")

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        there = await asyncio.open_connection(host, int(target_port), limit=_PIECE)
        with contextlib.suppress(OSError):
            await asyncio.gather(_pass(reader, there[1]), _pass(there[0], writer))

    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=_PIECE)
    await server.serve_forever()


async def _pass(reader: StreamReader, writer: StreamWriter) -> None:
    """Pass on what comes one way, until its end, which ends the other way as well."""
    now = asyncio.get_running_loop().time
    # What is on its way: as much as fits into the delay.
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
    leaving = asyncio.create_task(_leave(pieces, writer))
    free_at = now()
    try:
        while data := await reader.read(_PIECE):
            # Late wakes are made up for, or a busy machine would limit the rate.
            free_at = max(free_at, now() - DELAY) + len(data) / RATE
            await asyncio.sleep(free_at - now())
            await pieces.put((now() + DELAY, data))
        await pieces.put((now() + DELAY, b""))
        await leaving
    finally:
        leaving.cancel()
        writer.close()


async def _leave(pieces: "asyncio.Queue[tuple[float, bytes]]", writer: StreamWriter) -> None:
    while True:
        at, data = await pieces.get()
        await asyncio.sleep(at - asyncio.get_running_loop().time())
        if not data:
            return
        writer.write(data)
        await writer.drain()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
