"""Thousands of uploads at once against one server, and what is left in it when they are done.

`python -m tests.force.load --uploads 2000` runs two rounds. In each, every upload is in the
middle of its PATCH before any may go on; some are cut there and resumed. After a round the
server must have as many tasks, open files and threads as before.
"""

import argparse
import asyncio
import hashlib
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.force._client import TUS, UPLOAD, Ask, Body, Reply, bring, send, send_and_cut
from tests.force._server import serving, stored
from tests.hosts._process import Server
from tests.hosts._wire import Client, wait_until

MIB = 1024 * 1024
_SETTLE_SECONDS = 30.0
_GROWTH = 0.05
_WARM_UP = 20
_SETTINGS = {
    # One arena: else the memory of a burst of threads stays with arenas that are used no more.
    "MALLOC_ARENA_MAX": "1",
    # The first may have to wait long until the last is there.
    "TUSASGI_TEST_RECEIVE_TIMEOUT": "300",
}


@dataclass(frozen=True, kw_only=True)
class State:
    """What a server holds while nobody asks for anything."""

    tasks: int
    open_files: int
    threads: int | None = None
    """None where nobody waited for the idle ones to end."""

    def __str__(self) -> str:
        threads = "" if self.threads is None else f", {self.threads} threads"
        return f"{self.tasks} tasks, {self.open_files} open files{threads}"


@dataclass(frozen=True, kw_only=True)
class Round:
    seconds: float
    bytes: int
    peak_open_files: int
    after: State
    rss: int

    def __str__(self) -> str:
        speed = self.bytes / MIB / self.seconds
        return (
            f"{self.seconds:.1f} s, {self.bytes / MIB:.0f} MiB, {speed:.0f} MiB/s, "
            f"at most {self.peak_open_files} open files; after it {self.after}, "
            f"{self.rss / MIB:.1f} MiB resident"
        )


@dataclass(frozen=True, kw_only=True)
class Result:
    idle: State
    rounds: list[Round]


def run(folder: Path, *, uploads: int, rounds: int, seed: int, threads: bool = False) -> Result:
    """Run the rounds on a server of their own, or raise for the first that goes wrong.

    With `threads` the state includes them, which takes the ten seconds or so that an idle
    worker thread is kept.
    """
    with many_files(), serving(folder, **_SETTINGS) as server:
        # Those of the loop, and one of the pool.
        few = psutil.Process(server.process.pid).num_threads() + 1 if threads else None
        asyncio.run(_uploads(server, _WARM_UP, random.Random(seed)))  # what is loaded once
        idle = _settled(server, None, few)
        results = []
        for number in range(rounds):
            began = time.monotonic()
            dice = random.Random(f"{seed} {number}")
            count, peak = asyncio.run(_uploads(server, uploads, dice))
            results.append(
                Round(
                    seconds=time.monotonic() - began,
                    bytes=count,
                    peak_open_files=peak,
                    after=_settled(server, idle, few),
                    rss=server.rss(),
                )
            )
            print(f"round {number + 1}: {results[-1]}", flush=True)
    return Result(idle=idle, rounds=results)


@contextmanager
def many_files() -> Iterator[None]:
    """Let this process and those it starts open as many files as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _settled(server: Server, wanted: State | None, few: int | None) -> State:
    """Return the state once it is the wanted one, or once it stays the same if none is given.

    With `few` that includes the threads, of which so many or less are waited for.
    """
    if few is not None:
        _wait_for_threads(server, few)
    seen = [_state(server, few)]

    def is_settled() -> bool:
        seen.append(_state(server, few))
        return seen[-1] == (seen[-2] if wanted is None else wanted)

    try:
        wait_until(is_settled, _SETTLE_SECONDS)
    except AssertionError:
        raise AssertionError(f"the server holds {seen[-1]}, and idle it was {wanted}") from None
    return seen[-1]


def _state(server: Server, few: int | None) -> State:
    process = psutil.Process(server.process.pid)
    return State(
        tasks=int(Client(server.port).get("/tasks").body),
        open_files=process.num_fds(),
        threads=None if few is None else process.num_threads(),
    )


def _wait_for_threads(server: Server, few: int) -> None:
    """Let the idle threads end: the pool looks for them whenever it is used."""
    process = psutil.Process(server.process.pid)

    def are_few() -> bool:
        Client(server.port).head("/files/nothing")
        time.sleep(0.2)
        return process.num_threads() <= few

    wait_until(are_few, _SETTLE_SECONDS)


async def _uploads(server: Server, count: int, dice: random.Random) -> tuple[int, int]:
    """Bring so many uploads at once; return their bytes, and the most files that were open."""
    middle = _Middle(server, count)
    many = [_Upload(server, random.Random(dice.random()), middle) for _ in range(count)]
    async with asyncio.TaskGroup() as tasks:
        for upload in many:
            tasks.create_task(upload.live())
    return sum(len(upload.content) for upload in many), middle.open_files


class _Middle:
    """Where every upload waits until the server has all of them under way."""

    def __init__(self, server: Server, count: int) -> None:
        self.open_files = 0
        self._process = psutil.Process(server.process.pid)
        self._missing = count
        self._connected = 0
        self._all_there = asyncio.Event()

    async def reach(self, *, is_connected: bool = True) -> None:
        self._missing -= 1
        self._connected += is_connected
        if self._missing == 0:
            await self._wait_for_server()
            self._all_there.set()
        await self._all_there.wait()

    async def _wait_for_server(self) -> None:
        # A connection, a lock and a file each.
        wanted = 3 * self._connected
        give_up = time.monotonic() + _SETTLE_SECONDS
        while self.open_files < wanted:
            assert time.monotonic() < give_up, f"{self.open_files} of {wanted} open files"
            await asyncio.sleep(0.02)
            self.open_files = self._process.num_fds()


class _Upload:
    def __init__(self, server: Server, dice: random.Random, middle: _Middle) -> None:
        sizes = [0, 1, 2, dice.randrange(3, 1000), dice.randrange(65_536), dice.randrange(MIB + 1)]
        self.content = dice.randbytes(dice.choice(sizes))
        self._server = server
        self._port = server.port
        self._dice = dice
        self._middle = middle

    async def live(self) -> None:
        """Be created, brought, compared and removed."""
        headers = {**TUS, "Upload-Length": str(len(self.content))}
        reply = await self._send("POST", "/files/", headers)
        assert reply.status == 201, reply
        path = reply.headers["location"]
        if len(self.content) < 2:
            await self._middle.reach(is_connected=False)
            await bring(self._port, path, self.content)
        elif self._dice.random() < 0.2:
            await self._cut(path)
            await bring(self._port, path, self.content)
        else:
            body = Body(data=self.content, pieces=2, before_last=self._middle.reach)
            reply = await self._send("PATCH", path, {**UPLOAD, "Upload-Offset": "0"}, body)
            assert (reply.status, reply.offset) == (204, len(self.content)), reply
        assert _digest(stored(self._server, path)) == _digest(self.content)
        reply = await self._send("DELETE", path)
        assert reply.status == 204, reply

    async def _cut(self, path: str) -> None:
        body = Body(
            data=self.content,
            pieces=2,
            cut_at=self._dice.randrange(2, len(self.content) + 1),
            is_reset=self._dice.random() < 0.5,
            before_last=self._middle.reach,
        )
        headers = {**UPLOAD, "Upload-Offset": "0"}
        await send_and_cut(self._port, Ask(method="PATCH", path=path, headers=headers, body=body))

    async def _send(
        self, method: str, path: str, headers: dict[str, str] = TUS, body: Body | None = None
    ) -> Reply:
        ask = Ask(method=method, path=path, headers=headers, body=body or Body())
        return await send(self._port, ask)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.force.load", description=__doc__)
    parser.add_argument("--uploads", type=int, default=2000, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", help="where the folder is made (default: shared memory)")
    options = parser.parse_args()
    place = options.dir or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    with tempfile.TemporaryDirectory(prefix="tusasgi-load-", dir=place) as top:
        result = run(
            Path(top) / "data",
            uploads=options.uploads,
            rounds=options.rounds,
            seed=options.seed,
            threads=True,
        )
    growth = result.rounds[-1].rss / result.rounds[0].rss - 1
    print(f"idle: {result.idle}; memory grew by {growth:.1%} from the first round to the last")
    if growth > _GROWTH:
        sys.exit(f"The server holds more memory than {_GROWTH:.0%} above that of the first round")


if __name__ == "__main__":
    main()
