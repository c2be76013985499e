import fcntl
import os
import signal
import sys
import termios
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from anyio.streams.text import TextReceiveStream

from tusasgi import InvalidUploadId, UploadLocked
from tusasgi.lockers import file as module
from tusasgi.lockers.file import FileLocker

pytestmark = pytest.mark.anyio

_HANDOVER = 1.0  # seconds; it takes some milliseconds

_HOLDER = """
import sys, anyio
from tusasgi.lockers.file import FileLocker

async def main(folder, lets_go):
    interrupted = anyio.Event()
    async with FileLocker(folder, patience=30).lock("a", interrupt=interrupted.set):
        print("holding", flush=True)
        await interrupted.wait()
        if not lets_go:
            await anyio.sleep_forever()

anyio.run(main, sys.argv[1], sys.argv[2] == "lets-go")
"""

_COUNTER = """
import sys, anyio
from pathlib import Path
from tusasgi.lockers.file import FileLocker

async def main(folder, count):
    locker, counter = FileLocker(folder, patience=30), Path(folder, "counter")
    for _ in range(count):
        async with locker.lock("a", interrupt=lambda: None):
            before = int(counter.read_text())
            await anyio.sleep(0)
            counter.write_text(str(before + 1))

anyio.run(main, sys.argv[1], int(sys.argv[2]))
"""


class Child:
    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        self.process = process
        self._output = TextReceiveStream(process.stdout)

    async def holds(self) -> None:
        text = ""
        with anyio.fail_after(20):
            while "holding" not in text:
                text += await self._output.receive()


@asynccontextmanager
async def child(script: str, *arguments: object) -> AsyncIterator[Child]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = await anyio.open_process(command, stderr=None)
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_lock_is_handed_over_between_processes(tmp_path: Path) -> None:
    interrupted = anyio.Event()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(child(_HOLDER, tmp_path, "lets-go"))
        await first.holds()
        asked = time.monotonic()
        async with FileLocker(tmp_path, patience=30).lock("a", interrupt=interrupted.set):
            assert time.monotonic() - asked < _HANDOVER
            second = await stack.enter_async_context(child(_HOLDER, tmp_path, "lets-go"))
            with anyio.fail_after(20):
                await interrupted.wait()
        await second.holds()
    assert left_in(tmp_path) == ["a.lock"]  # the second was killed


async def test_a_holder_in_another_process_that_does_not_let_go_makes_the_newcomer_give_up(
    tmp_path: Path,
) -> None:
    async with child(_HOLDER, tmp_path, "holds-on") as holder:
        await holder.holds()
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path, patience=0.1).lock("a", interrupt=pytest.fail):
                pytest.fail("two holders")
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path).lock("a", interrupt=pytest.fail, take_over=False):
                pytest.fail("two holders")


async def test_a_killed_holder_frees_the_lock_for_whoever_waits(tmp_path: Path) -> None:
    async with child(_HOLDER, tmp_path, "holds-on") as holder:
        await holder.holds()
        async with anyio.create_task_group() as tasks:
            got_it = anyio.Event()
            tasks.start_soon(_take, tmp_path, got_it)
            await anyio.wait_all_tasks_blocked()
            assert not got_it.is_set()
            holder.process.send_signal(signal.SIGKILL)
            with anyio.fail_after(_HANDOVER):
                await got_it.wait()
    assert left_in(tmp_path) == []


async def _take(folder: Path, got_it: anyio.Event) -> None:
    async with FileLocker(folder, patience=30).lock("a", interrupt=pytest.fail):
        got_it.set()


async def test_what_a_killed_holder_left_is_used_again_and_removed(tmp_path: Path) -> None:
    async with child(_HOLDER, tmp_path, "holds-on") as holder:
        await holder.holds()
        holder.process.send_signal(signal.SIGKILL)
        await holder.process.wait()
    assert left_in(tmp_path) == ["a.lock"]
    async with FileLocker(tmp_path).lock("a", interrupt=pytest.fail, take_over=False):
        pass
    assert left_in(tmp_path) == []


async def test_processes_that_compete_never_hold_the_lock_together(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    async with (
        child(_COUNTER, tmp_path, 40) as one,
        child(_COUNTER, tmp_path, 40) as two,
        child(_COUNTER, tmp_path, 40) as three,
    ):
        with anyio.fail_after(50):
            for one_of_them in (one, two, three):
                assert await one_of_them.process.wait() == 0
    assert counter.read_text() == "120"
    assert left_in(tmp_path) == ["counter"]


@pytest.mark.parametrize(
    "upload_id",
    [
        pytest.param("", id="empty"),
        pytest.param("../a", id="climbing"),
        pytest.param("a/b", id="slash"),
        pytest.param("a\0b", id="nul"),
        pytest.param("x" * 10_000, id="10000-characters"),
    ],
)
async def test_an_id_outside_the_grammar_is_refused_and_touches_nothing(
    upload_id: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidUploadId):
        async with FileLocker(tmp_path / "locks").lock(upload_id, interrupt=pytest.fail):
            pytest.fail("locked")
    assert left_in(tmp_path) == []


async def test_a_holder_that_was_told_too_often_is_told_no_more(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.flock(pipe, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(pipe, bytes(4096))
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path, patience=0.05).lock("a", interrupt=pytest.fail):
                pytest.fail("two holders")
    finally:
        os.close(pipe)


def _waiting_in(pipe: int) -> int:
    """Return how many bytes nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


async def test_a_newcomer_that_came_before_the_holder_does_not_interrupt_it(
    tmp_path: Path,
) -> None:
    earlier = time.monotonic() - 1
    interrupts: list[float] = []
    async with FileLocker(tmp_path).lock("a", interrupt=lambda: interrupts.append(0)):
        with (tmp_path / "a.lock").open("wb", buffering=0) as pipe:
            pipe.write(module._ARRIVAL.pack(earlier))
            with anyio.fail_after(5):
                while _waiting_in(pipe.fileno()):
                    await anyio.lowlevel.checkpoint()
            assert interrupts == []
            pipe.write(module._ARRIVAL.pack(time.monotonic()))
            with anyio.fail_after(5):
                while not interrupts:
                    await anyio.lowlevel.checkpoint()


def test_a_pipe_that_somebody_else_emptied_tells_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    try:
        assert module._read_arrivals(pipe) == []
    finally:
        os.close(pipe)


@pytest.mark.parametrize(
    "is_replaced", [pytest.param(False, id="removed"), pytest.param(True, id="replaced")]
)
async def test_a_lock_on_a_file_that_lost_its_name_does_not_count(
    is_replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, locked = tmp_path / "a.lock", []
    flock = fcntl.flock

    def lose_the_name_first(pipe: int, operation: int) -> None:
        if not locked:
            path.unlink()
            if is_replaced:
                os.mkfifo(path)
        locked.append(pipe)
        flock(pipe, operation)

    monkeypatch.setattr(module.fcntl, "flock", lose_the_name_first)
    async with FileLocker(tmp_path).lock("a", interrupt=pytest.fail):
        assert len(locked) == 2
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path).lock("a", interrupt=pytest.fail, take_over=False):
                pytest.fail("two holders")
    assert left_in(tmp_path) == []


async def test_a_newcomer_that_loses_the_race_for_a_new_name_uses_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkfifo = os.mkfifo

    def somebody_was_quicker(path: str) -> None:
        mkfifo(path)
        mkfifo(path)

    monkeypatch.setattr(module.os, "mkfifo", somebody_was_quicker)
    async with FileLocker(tmp_path).lock("a", interrupt=pytest.fail):
        pass
    assert left_in(tmp_path) == []
