import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

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
_AFTER_A_STOP = 2.0  # seconds
_NEXT_TO_NOTHING = 0.5  # seconds of one core, of which pytest takes the most

_HOLDER = """
import sys, anyio
from tusasgi.lockers.file import FileLocker

async def main(folder, lets_go):
    interrupted = anyio.Event()
    async with FileLocker(folder, patience=30).lock("a", interrupt=interrupted.set):
        print("holding", flush=True)
        await interrupted.wait()
        print("interrupted", flush=True)
        if not lets_go:
            await anyio.sleep_forever()

anyio.run(main, sys.argv[1], sys.argv[2] == "lets-go")
"""

_FORKING_HOLDER = """
import os, sys, anyio
from tusasgi.lockers.file import FileLocker

async def main(folder):
    interrupted = anyio.Event()
    async with FileLocker(folder, patience=30).lock("a", interrupt=interrupted.set):
        if os.fork() == 0:
            os.write(1, b"forked ")
            os.read(0, 1)  # until the test ends
            if sys.argv[2] == "unwinds":
                raise SystemExit
            os._exit(0)
        print("holding", flush=True)
        await interrupted.wait()
        if sys.argv[2] == "holds-on":
            await anyio.sleep_forever()

try:
    anyio.run(main, sys.argv[1])
except BaseException:  # an event loop does not like to be forked
    print("unwound", flush=True)
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
        await self.says("holding")

    async def says(self, *words: str) -> None:
        text = ""
        with anyio.fail_after(20):
            while not all(word in text for word in words):
                text += await self._output.receive()

    async def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        with anyio.fail_after(5):
            while self._state() != "T":
                await anyio.lowlevel.checkpoint()

    def kill_at_once(self) -> None:
        """Kill the process, and return when it is dead; nothing else runs meanwhile."""
        self.process.send_signal(signal.SIGKILL)
        while self._state() != "Z":
            pass

    def _state(self) -> str:
        try:
            status = Path(f"/proc/{self.process.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return "Z"  # and somebody has waited for it
        return status.rpartition(")")[2].split()[0]


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
    assert left_in(tmp_path) == ["1.pipe", "2.pipe", "locks"]


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


async def _take(folder: Path, got_it: anyio.Event) -> None:
    async with FileLocker(folder, patience=30).lock("a", interrupt=pytest.fail):
        got_it.set()


async def test_of_those_who_wait_for_a_killed_holder_the_newest_goes_on(tmp_path: Path) -> None:
    newest_has_it = anyio.Event()

    async def take(number: int) -> None:
        interrupted = anyio.Event()
        async with FileLocker(tmp_path, patience=30).lock("a", interrupt=interrupted.set):
            if number == 5:
                newest_has_it.set()
            await interrupted.wait()

    async with child(_HOLDER, tmp_path, "holds-on") as holder:
        await holder.holds()
        with anyio.fail_after(6 * _HANDOVER):
            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(take, number)
                    await anyio.wait_all_tasks_blocked()
                holder.process.send_signal(signal.SIGKILL)
                await newest_has_it.wait()
                tasks.cancel_scope.cancel()  # those who came before need not be served


async def test_a_newcomer_is_woken_though_another_takes_a_killed_holders_lock_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, interrupted, got_it = time.monotonic(), anyio.Event(), anyio.Event()
    async with child(_HOLDER, tmp_path, "holds-on") as holder:
        await holder.holds()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_take, tmp_path, got_it)
            await holder.says("interrupted")  # nothing that it has not read is in the pipe
            holder.kill_at_once()
            # A request that came first, but was slow to try the lock.
            with monkeypatch.context() as patches:
                patches.setattr(module, "time", SimpleNamespace(monotonic=lambda: earlier))
                slow = FileLocker(tmp_path).lock("a", interrupt=interrupted.set, take_over=False)
                await slow.__aenter__()
            try:
                with anyio.fail_after(_HANDOVER):
                    await interrupted.wait()
            finally:
                await slow.__aexit__(None, None, None)
            with anyio.fail_after(_HANDOVER):
                await got_it.wait()


async def test_a_stopped_holder_keeps_its_lock_and_hears_of_newcomers_when_it_goes_on(
    tmp_path: Path,
) -> None:
    async def try_and_fail() -> None:
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path, patience=0.3).lock("a", interrupt=pytest.fail):
                pytest.fail("two holders")

    async with child(_HOLDER, tmp_path, "lets-go") as holder:
        await holder.holds()
        await holder.stop()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(try_and_fail)
        holder.process.send_signal(signal.SIGCONT)
        with anyio.fail_after(_AFTER_A_STOP):
            await holder.says("interrupted")
            async with FileLocker(tmp_path, patience=30).lock("a", interrupt=pytest.fail):
                pass


async def test_a_newcomer_that_waits_for_a_stopped_holder_gets_the_lock_when_it_goes_on(
    tmp_path: Path,
) -> None:
    async with child(_HOLDER, tmp_path, "lets-go") as holder:
        await holder.holds()
        await holder.stop()
        async with anyio.create_task_group() as tasks:
            got_it = anyio.Event()
            tasks.start_soon(_take, tmp_path, got_it)
            await anyio.wait_all_tasks_blocked()
            assert not got_it.is_set()
            holder.process.send_signal(signal.SIGCONT)
            with anyio.fail_after(_AFTER_A_STOP):
                await got_it.wait()


async def test_a_stopped_holder_that_is_killed_frees_the_lock_for_whoever_waits(
    tmp_path: Path,
) -> None:
    async with child(_HOLDER, tmp_path, "lets-go") as holder:
        await holder.holds()
        await holder.stop()
        async with anyio.create_task_group() as tasks:
            got_it = anyio.Event()
            tasks.start_soon(_take, tmp_path, got_it)
            await anyio.wait_all_tasks_blocked()
            assert not got_it.is_set()
            holder.process.send_signal(signal.SIGKILL)
            with anyio.fail_after(_HANDOVER):
                await got_it.wait()


@pytest.mark.parametrize("is_killed", [False, True], ids=["lets-go", "killed"])
async def test_a_child_that_the_holder_forked_keeps_nobody_waiting(
    is_killed: bool, tmp_path: Path
) -> None:
    way = "holds-on" if is_killed else "lets-go"
    async with child(_FORKING_HOLDER, tmp_path, way) as holder:
        await holder.says("forked", "holding")
        async with anyio.create_task_group() as tasks:
            got_it = anyio.Event()
            tasks.start_soon(_take, tmp_path, got_it)
            if is_killed:
                await anyio.wait_all_tasks_blocked()
                assert not got_it.is_set()
                holder.process.send_signal(signal.SIGKILL)
            with anyio.fail_after(_HANDOVER):
                await got_it.wait()


async def test_a_forked_child_that_leaves_through_the_holders_code_does_not_free_the_lock(
    tmp_path: Path,
) -> None:
    async with child(_FORKING_HOLDER, tmp_path, "unwinds") as holder:
        await holder.says("forked", "holding")
        assert holder.process.stdin is not None
        await holder.process.stdin.send(b".")
        await holder.says("unwound")
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path).lock("a", interrupt=pytest.fail, take_over=False):
                pytest.fail("two holders")


async def test_a_hundred_newcomers_wait_at_next_to_no_cost(tmp_path: Path) -> None:
    async def give_up() -> None:
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path, patience=1).lock("a", interrupt=pytest.fail):
                pytest.fail("two holders")

    async with FileLocker(tmp_path).lock("a", interrupt=_nothing):
        before = time.process_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(give_up)
        assert time.process_time() - before < _NEXT_TO_NOTHING


def _nothing() -> None:
    pass


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
