import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from anyio.streams.text import TextReceiveStream
from anyio.to_thread import run_sync

from tusasgi import InvalidUploadId, UploadLocked
from tusasgi.lockers.file import FileLocker, claim, inbox, lock_file, locks
from tusasgi.lockers.file import locker as locker_module
from tusasgi.lockers.file.inbox import Message
from tusasgi.lockers.file.lock_file import LockFile

pytestmark = pytest.mark.anyio

_HANDOVER = 4.0  # seconds; it takes some milliseconds, and patience would end after 5
_AFTER_A_STOP = 2.0  # seconds
_NEXT_TO_NOTHING = 0.25  # seconds of one core in a second


@pytest.fixture(autouse=True)
def _nobody_looks_for_himself(monkeypatch: pytest.MonkeyPatch, apart: None) -> None:
    monkeypatch.setattr(locks, "_RETRY", 60.0)  # so that messages have to be received


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
        with contextlib.suppress(ChildProcessError):  # dead, and somebody has waited for it
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def _state(self) -> str:
        status = Path(f"/proc/{self.process.pid}/stat").read_text()
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
        assert process.stdin is not None and process.stdout is not None
        await process.stdin.aclose()  # a child that it forked leaves, too
        async for _ in process.stdout:  # uvloop with an older anyio closes it only at its end
            pass
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
            async with FileLocker(tmp_path, patience=0.1).lock("a", interrupt=_unexpected):
                pytest.fail("two holders")
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path).lock("a", interrupt=_unexpected, take_over=False):
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
    async with FileLocker(folder, patience=30).lock("a", interrupt=_unexpected):
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
    monkeypatch.setattr(locks, "_RETRY", 0.2)  # the holder's pipe has a reader again
    earlier, interrupted, got_it = time.monotonic(), anyio.Event(), anyio.Event()
    async with child(_HOLDER, tmp_path, "holds-on") as holder:
        await holder.holds()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_take, tmp_path, got_it)
            await holder.says("interrupted")  # nothing that it has not read is in the pipe
            holder.kill_at_once()
            # A request that came first, but was slow to try the lock.
            with monkeypatch.context() as patches:
                patches.setattr(claim, "time", SimpleNamespace(monotonic=lambda: earlier))
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
            async with FileLocker(tmp_path, patience=0.3).lock("a", interrupt=_unexpected):
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
            async with FileLocker(tmp_path, patience=30).lock("a", interrupt=_unexpected):
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
    word = "holds-on" if is_killed else "lets-go"
    async with child(_FORKING_HOLDER, tmp_path, word) as holder:
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
            async with FileLocker(tmp_path).lock("a", interrupt=_unexpected, take_over=False):
                pytest.fail("two holders")


async def test_a_hundred_newcomers_wait_at_next_to_no_cost(tmp_path: Path) -> None:
    async def give_up() -> None:
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path, patience=3).lock("a", interrupt=_unexpected):
                pytest.fail("two holders")

    holding = FileLocker(tmp_path).lock("a", interrupt=_nothing)
    async with holding, anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(give_up)
        await anyio.wait_all_tasks_blocked()  # coming costs something, waiting does not
        before = time.process_time()
        await anyio.sleep(1)
        assert time.process_time() - before < _NEXT_TO_NOTHING


def _nothing() -> None:
    pass


def _unexpected() -> None:
    raise AssertionError("nobody has asked for this lock")


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
        async with FileLocker(tmp_path / "locks").lock(upload_id, interrupt=_unexpected):
            pytest.fail("locked")
    assert left_in(tmp_path) == []


async def test_a_file_that_somebody_removed_is_not_missed(tmp_path: Path) -> None:
    async with FileLocker(tmp_path).lock("a", interrupt=_unexpected):
        (tmp_path / "locks").unlink()
    async with FileLocker(tmp_path).lock("a", interrupt=_unexpected):
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path).lock("a", interrupt=_unexpected, take_over=False):
                pytest.fail("two holders")


@pytest.mark.parametrize(
    "is_replaced", [pytest.param(False, id="removed"), pytest.param(True, id="replaced")]
)
async def test_a_lock_on_a_file_that_lost_its_name_does_not_count(
    is_replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, locker = tmp_path / "locks", FileLocker(tmp_path)
    try_lock, lost = LockFile.try_lock, []

    def lose_the_name_first(file: LockFile, start: int, length: int) -> bool:
        if not lost:
            path.unlink()
            if is_replaced:
                path.touch()
        lost.append(start)
        return try_lock(file, start, length)

    async with locker.lock("b", interrupt=_unexpected):  # has the file open
        monkeypatch.setattr(LockFile, "try_lock", lose_the_name_first)
        async with locker.lock("a", interrupt=_unexpected):
            assert len(lost) > 1
            with pytest.raises(UploadLocked):
                async with FileLocker(tmp_path).lock("a", interrupt=_unexpected, take_over=False):
                    pytest.fail("two holders")


async def test_a_folder_that_somebody_removed_is_made_anew(tmp_path: Path) -> None:
    locker = FileLocker(tmp_path / "data" / "locks")
    for _ in range(2):
        async with locker.lock("a", interrupt=_unexpected):
            shutil.rmtree(tmp_path / "data")


async def test_processes_use_the_pipes_again_that_others_left(tmp_path: Path) -> None:
    for _ in range(3):
        async with child(_HOLDER, tmp_path, "holds-on") as holder:
            await holder.holds()
            holder.process.send_signal(signal.SIGKILL)
            await holder.process.wait()
        async with FileLocker(tmp_path).lock("a", interrupt=_unexpected, take_over=False):
            pass
    assert left_in(tmp_path) == ["1.pipe", "locks"]


async def test_a_holder_that_was_asked_too_often_is_asked_no_more(tmp_path: Path) -> None:
    async with child(_HOLDER, tmp_path, "lets-go") as holder:
        await holder.holds()
        await holder.stop()
        with (tmp_path / "1.pipe").open("r+b", buffering=0) as pipe:
            os.set_blocking(pipe.fileno(), False)
            while pipe.write(bytes(4096)) is not None:
                pass
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path, patience=0.05).lock("a", interrupt=_unexpected):
                pytest.fail("two holders")


async def test_a_newcomer_that_came_before_the_holder_does_not_interrupt_it(
    tmp_path: Path,
) -> None:
    earlier, interrupted = time.monotonic() - 1, anyio.Event()
    async with FileLocker(tmp_path).lock("a", interrupt=interrupted.set):
        start = locker_module._start_of("a")
        inbox.send(str(tmp_path), 1, Message(start, arrival=earlier))
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert not interrupted.is_set()
        inbox.send(str(tmp_path), 1, Message(start, arrival=time.monotonic()))
        with anyio.fail_after(5):
            await interrupted.wait()


@pytest.mark.parametrize(
    "noise", [b"?", bytes(1000), os.urandom(3000)], ids=["short", "zeros", "random"]
)
async def test_what_strangers_write_into_a_pipe_does_no_harm(noise: bytes, tmp_path: Path) -> None:
    interrupted = anyio.Event()
    async with FileLocker(tmp_path).lock("a", interrupt=interrupted.set):
        with (tmp_path / "1.pipe").open("r+b", buffering=0) as pipe:
            pipe.write(noise)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        async with child(_HOLDER, tmp_path, "lets-go") as newcomer:
            with anyio.fail_after(20):
                await interrupted.wait()
            assert newcomer.process.returncode is None


def test_a_pipe_that_a_stranger_has_read_is_only_empty(tmp_path: Path) -> None:
    (tmp_path / "locks").touch()
    file = lock_file.open_lock_file(str(tmp_path / "locks"))
    mine = inbox.open_inbox(file, str(tmp_path))
    assert mine is not None
    inbox.send(str(tmp_path), mine.number, Message(1))
    assert mine._read() == [Message(1)]
    assert mine._read() == []
    mine.close()
    file.close()


def _make_file(path: Path) -> None:
    path.touch()


def _make_folder(path: Path) -> None:
    path.mkdir()


def _make_link(path: Path) -> None:
    os.mkfifo(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("make", [_make_file, _make_folder, _make_link])
async def test_what_is_in_the_place_of_a_pipe_is_left_alone(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    interrupted = anyio.Event()
    make(tmp_path / "1.pipe")
    async with child(_HOLDER, tmp_path, "lets-go") as holder:
        await holder.holds()
        async with FileLocker(tmp_path, patience=30).lock("a", interrupt=interrupted.set):
            assert left_in(tmp_path)[:3] == ["1.pipe", "2.pipe", "3.pipe"]
    if make is _make_file:
        assert (tmp_path / "1.pipe").read_bytes() == b""


async def test_a_lock_of_an_earlier_release_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.lock")
    async with FileLocker(tmp_path).lock("a", interrupt=_unexpected):
        pass
    assert "a.lock" in left_in(tmp_path)


async def test_a_holder_that_lets_go_while_a_newcomer_is_about_to_ask_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding = FileLocker(tmp_path).lock("a", interrupt=_unexpected)
    await holding.__aenter__()

    def let_go_first(folder: str, number: int, message: Message) -> AbstractContextManager[Any]:
        monkeypatch.setattr(locks, "sent", inbox.sent)
        with pytest.raises(StopIteration):  # it awaits nothing
            holding.__aexit__(None, None, None).send(None)
        return inbox.sent(folder, number, message)

    monkeypatch.setattr(locks, "sent", let_go_first)
    monkeypatch.setattr(locks, "_RETRY_UNANSWERED", 60.0)
    with anyio.fail_after(5):
        async with FileLocker(tmp_path, patience=30).lock("a", interrupt=_unexpected):
            for _ in range(20):  # nor is there a message left that would disturb the newcomer
                await anyio.lowlevel.checkpoint()


async def test_uploads_whose_locks_begin_at_one_byte_only_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locker_module, "_start_of", lambda upload_id: 1 << 20)
    one, other = FileLocker(tmp_path, patience=0.1), FileLocker(tmp_path, patience=0.1)
    interrupted = anyio.Event()
    async with one.lock("a", interrupt=interrupted.set):
        for locker in (one, other):
            with pytest.raises(UploadLocked):
                async with locker.lock("b", interrupt=_unexpected):
                    pytest.fail("two holders")
        assert interrupted.is_set()
    async with other.lock("b", interrupt=_unexpected):
        pass


def test_locks_lie_apart_and_in_the_range_of_the_kernel() -> None:
    starts = sorted({locker_module._start_of(f"upload-{number}") for number in range(5000)})
    assert len(starts) == 5000
    # However near two hashes are, a lock ends before the next one begins.
    assert all(start % 2**locks.LENGTHS == 0 for start in starts)
    assert inbox.MOST + 1 < 2**locks.LENGTHS
    assert starts[-1] + inbox.MOST < inbox._FIRST_START
    assert inbox._start_of(inbox.MOST) < 2**63


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="locks belong to processes here")
async def test_whoever_reads_the_file_in_the_same_process_takes_no_lock_away(
    tmp_path: Path,
) -> None:
    async with FileLocker(tmp_path).lock("a", interrupt=lambda: None):
        shutil.copy(tmp_path / "locks", tmp_path / "backup")
        async with child(_HOLDER, tmp_path, "lets-go") as other:
            with pytest.raises(TimeoutError), anyio.fail_after(1.5):
                await other._output.receive()


def test_a_system_without_file_locks_is_told_what_to_use(tmp_path: Path) -> None:
    program = "import sys; sys.modules['fcntl'] = None; import tusasgi.lockers.file"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stderr.splitlines()[-1].startswith("ImportError: FileLocker needs")
    assert "MemoryLocker" in ended.stderr
    assert "During handling" not in ended.stderr


@asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[tuple[int, list[Message]]]:
    """Have an inbox as another process has one; give its number, and what came."""
    messages: list[Message] = []
    may_end = threading.Event()
    file = await run_sync(lock_file.open_lock_file, str(folder / "locks"))
    mine = inbox.open_inbox(file, str(folder))
    assert mine is not None
    thread = threading.Thread(target=mine.listen, args=(messages.append, may_end.is_set))
    thread.start()
    try:
        yield mine.number, messages
    finally:
        may_end.set()
        await run_sync(thread.join)
        mine.close()
        file.close()


async def until(is_true: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    with anyio.fail_after(5):
        while not is_true():  # noqa: ASYNC110 (no event of this loop tells)
            await anyio.sleep(0.001)


async def test_a_holder_that_leaves_answers_whoever_has_asked(tmp_path: Path) -> None:
    start, interrupted = locker_module._start_of("a"), anyio.Event()
    os.mkfifo(tmp_path / "2.pipe")
    async with AsyncExitStack() as held:
        await held.enter_async_context(FileLocker(tmp_path).lock("a", interrupt=interrupted.set))
        async with listening(tmp_path) as (number, messages):
            inbox.send(str(tmp_path), 1, Message(start, number, time.monotonic()))
            with anyio.fail_after(5):
                await interrupted.wait()
            assert messages == []
            await held.aclose()
            await until(lambda: messages)
            assert messages == [Message(start, is_freed=True)]


async def test_a_newcomer_behind_one_that_came_too_early_interrupts_the_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, interrupted, other = time.monotonic() - 1, anyio.Event(), FileLocker(tmp_path)

    async def wait() -> None:
        async with other.lock("a", interrupt=_nothing):
            pass

    async with (
        FileLocker(tmp_path).lock("a", interrupt=interrupted.set),
        anyio.create_task_group() as tasks,
    ):
        with monkeypatch.context() as patches:
            patches.setattr(claim, "time", SimpleNamespace(monotonic=lambda: early))
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
        assert not interrupted.is_set()
        tasks.start_soon(wait)
        with anyio.fail_after(5):
            await interrupted.wait()
        tasks.cancel_scope.cancel()


async def test_one_that_gets_the_lock_while_a_newer_waits_behind_it_is_interrupted(
    tmp_path: Path,
) -> None:
    interrupted, other = anyio.Event(), FileLocker(tmp_path, patience=30)

    async def hold(interrupt: Callable[[], None]) -> None:
        async with other.lock("a", interrupt=interrupt):
            await interrupted.wait()

    async with anyio.create_task_group() as tasks:
        async with FileLocker(tmp_path).lock("a", interrupt=_nothing):
            tasks.start_soon(hold, interrupted.set)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(hold, _nothing)
            await anyio.wait_all_tasks_blocked()
            assert not interrupted.is_set()
        with anyio.fail_after(5):
            await interrupted.wait()


async def test_a_newcomer_is_told_by_a_holder_that_goes_on_with_other_uploads(
    tmp_path: Path,
) -> None:
    interrupted, got_it, locker = anyio.Event(), anyio.Event(), FileLocker(tmp_path)
    async with (
        anyio.create_task_group() as tasks,
        locker.lock("b", interrupt=_unexpected),
    ):
        async with locker.lock("a", interrupt=interrupted.set):
            tasks.start_soon(_take, tmp_path, got_it)
            await interrupted.wait()
            await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await got_it.wait()


async def test_a_wish_that_comes_after_the_lock_was_freed_is_answered(tmp_path: Path) -> None:
    start, locker = locker_module._start_of("a"), FileLocker(tmp_path)
    os.mkfifo(tmp_path / "2.pipe")
    async with (
        locker.lock("b", interrupt=_unexpected),
        listening(tmp_path) as (number, messages),
    ):
        inbox.send(str(tmp_path), 1, Message(start, number, time.monotonic()))
        await until(lambda: messages)
        assert messages == [Message(start, is_freed=True)]
