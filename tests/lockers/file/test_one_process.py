"""What the lockers and event loops of one process share: a file, a pipe, and its queues."""

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio.to_thread import run_sync

from tests.lockers.file.test_processes import _HANDOVER, _HOLDER, child, left_in, until
from tusasgi import UploadLocked
from tusasgi.lockers.file import FileLocker, lock_file, locks

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _nobody_looks_for_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_RETRY", 60.0)  # so that messages have to be received


@pytest.fixture(params=[True, False], ids=["one-locker", "several-lockers"])
def get_locker(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], FileLocker]:
    """A function that returns the locker for another event loop."""
    locker = FileLocker(tmp_path, patience=30)
    return lambda: locker if request.param else FileLocker(tmp_path, patience=30)


def test_event_loops_of_one_process_exclude_each_other_and_hand_over(
    anyio_backend_name: str, get_locker: Callable[[], FileLocker], tmp_path: Path
) -> None:
    inside, most, served = [0], [0], []

    async def take_often() -> None:
        locker = get_locker()
        for _ in range(50):
            async with locker.lock("a", interrupt=_nothing):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                await anyio.lowlevel.checkpoint()
                inside[0] -= 1
        served.append(None)

    threads = [_run_in_thread(anyio_backend_name, take_often) for _ in range(4)]
    for thread in threads:
        thread.join(60)
    assert len(served) == len(threads)
    assert most == [1]
    assert left_in(tmp_path) == ["1.pipe", "locks"]


@pytest.mark.parametrize("is_asked_from_outside", [False, True], ids=["inside", "outside"])
async def test_a_holder_in_another_thread_is_interrupted_in_its_own_event_loop(
    is_asked_from_outside: bool,
    anyio_backend_name: str,
    get_locker: Callable[[], FileLocker],
    tmp_path: Path,
) -> None:
    holds, interrupted_in = threading.Event(), []

    async def hold() -> None:
        interrupted = anyio.Event()

        def interrupt() -> None:
            interrupted_in.append(threading.get_ident())
            interrupted.set()

        async with get_locker().lock("a", interrupt=interrupt):
            holds.set()
            await interrupted.wait()

    thread = _run_in_thread(anyio_backend_name, hold)
    await run_sync(holds.wait, 20)
    if is_asked_from_outside:
        async with child(_HOLDER, tmp_path, "lets-go") as newcomer:
            await newcomer.holds()
    else:
        with anyio.fail_after(5):
            async with get_locker().lock("a", interrupt=_unexpected):
                pass
    await run_sync(thread.join, 20)
    assert set(interrupted_in) == {thread.ident}


async def test_nothing_is_opened_for_a_lock_soon_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **_: object) -> None:
        raise AssertionError(f"{arguments} is opened")

    locker = FileLocker(tmp_path)
    async with locker.lock("first", interrupt=_unexpected):
        with monkeypatch.context() as patches:
            patches.setattr(lock_file.os, "open", refuse)
            patches.setattr(lock_file.os, "mkfifo", refuse)
            for _ in range(3):
                async with locker.lock("a", interrupt=_unexpected):
                    pass


async def test_what_is_open_stays_so_for_a_while_and_is_closed_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = threading.Event()
    close = locks.Locks._close_unless_used

    def close_when_told(self: locks.Locks) -> bool:
        return silent.is_set() and close(self)

    monkeypatch.setattr(locks.Locks, "_close_unless_used", close_when_told)
    for _ in range(2):
        async with FileLocker(tmp_path).lock("a", interrupt=_unexpected):
            opened = list(locks._open.values())
    assert list(locks._open.values()) == opened
    assert len(opened) == 1
    silent.set()
    await until(lambda: not opened[0].file.is_open)
    assert not locks._open


async def test_locks_that_were_closed_meanwhile_are_opened_again(tmp_path: Path) -> None:
    locker = FileLocker(tmp_path)
    for _ in range(3):
        async with locker.lock("a", interrupt=_unexpected):
            with pytest.raises(UploadLocked):
                async with FileLocker(tmp_path).lock("a", interrupt=_unexpected, take_over=False):
                    pytest.fail("two holders")
        await until(lambda: not locks._open)


async def test_without_a_thread_to_listen_locks_are_handed_over_within_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    interrupted = anyio.Event()

    async def hold() -> None:
        async with FileLocker(tmp_path).lock("a", interrupt=interrupted.set):
            await interrupted.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            async with FileLocker(tmp_path).lock("a", interrupt=_unexpected):
                pass
    assert not locks._open
    assert not [name for name in _open_files() if name.startswith(f"{tmp_path}/")]


async def test_the_time_in_the_queue_counts_as_time_of_waiting(tmp_path: Path) -> None:
    async def wait() -> None:
        async with FileLocker(tmp_path, patience=30).lock("a", interrupt=_unexpected):
            pytest.fail("two holders")

    async with child(_HOLDER, tmp_path, "holds-on") as holder:
        await holder.holds()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(5), pytest.raises(UploadLocked):
                async with FileLocker(tmp_path, patience=0.05).lock("a", interrupt=_unexpected):
                    pytest.fail("two holders")
            tasks.cancel_scope.cancel()


def test_a_holder_whose_event_loop_has_ended_is_not_disturbed(tmp_path: Path) -> None:
    async def be_refused() -> None:
        with pytest.raises(UploadLocked):
            async with FileLocker(tmp_path, patience=0.05).lock("a", interrupt=_unexpected):
                pytest.fail("two holders")

    holding = FileLocker(tmp_path).lock("a", interrupt=_unexpected)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(holding.__aenter__())
    loop.close()
    anyio.run(be_refused)
    with pytest.raises(StopIteration):  # it awaits nothing
        holding.__aexit__(None, None, None).send(None)


async def test_the_kinds_of_locks_exclude_each_other(tmp_path: Path) -> None:
    async with child(_HOLDER, tmp_path, "lets-go") as holder:
        await holder.holds()
        with pytest.MonkeyPatch.context() as patches:
            patches.setattr(lock_file, "_SET", fcntl.F_SETLK)
            patches.setattr(lock_file, "_GET", fcntl.F_GETLK)
            with pytest.raises(UploadLocked):
                async with FileLocker(tmp_path).lock("a", interrupt=_unexpected, take_over=False):
                    pytest.fail("two holders")
            with anyio.fail_after(_HANDOVER):
                async with FileLocker(tmp_path).lock("a", interrupt=_unexpected):
                    pass


async def test_where_locks_belong_to_processes_no_locker_takes_those_of_another_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_file, "_SET", fcntl.F_SETLK)
    monkeypatch.setattr(lock_file, "_GET", fcntl.F_GETLK)
    async with FileLocker(tmp_path).lock("a", interrupt=_nothing):
        async with FileLocker(tmp_path).lock("b", interrupt=_unexpected):
            pass
        async with child(_HOLDER.replace("interrupted.set", "print"), tmp_path, "lets-go") as other:
            with pytest.raises(TimeoutError), anyio.fail_after(1.5):
                await other.holds()


def _run_in_thread(backend: str, run: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=anyio.run, args=(run,), kwargs={"backend": backend})
    thread.start()
    return thread


def _open_files() -> list[str]:
    return [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]


def _nothing() -> None:
    pass


def _unexpected() -> None:
    raise AssertionError("nobody has asked for this lock")
