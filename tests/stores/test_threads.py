"""Calls in worker threads end before whoever made them goes on."""

import asyncio
import subprocess
import sys
import threading
import time

import anyio
import pytest
from anyio.to_thread import run_sync

from tusasgi.threads import Threads

pytestmark = pytest.mark.anyio


class Call:
    """A call that waits in its thread until it is told to go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.ended = False

    def __call__(self) -> str:
        self.begun.set()
        assert self.may_end.wait(10)
        self.ended = True
        return "done"


async def begun(call: Call) -> None:
    assert await run_sync(call.begun.wait, 10, limiter=anyio.CapacityLimiter(1))


async def test_a_call_gives_back_what_the_function_returns_or_raises() -> None:
    threads = Threads(1)
    assert await threads.run(max, 3, 5) == 5
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)


async def test_the_cancellation_of_anyio_takes_effect_when_the_call_is_done() -> None:
    call = Call()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Threads(1).run, call)
            await begun(call)
            scope.cancel()
            call.may_end.set()
    assert call.ended


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("times", [1, 3])
async def test_the_cancellation_of_asyncio_takes_effect_when_the_call_is_done(times: int) -> None:
    call = Call()
    task = asyncio.create_task(Threads(1).run(call))
    await begun(call)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.01)
    assert not task.done()
    call.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.ended


async def test_a_call_that_was_cancelled_before_it_began_never_begins() -> None:
    threads, first, second = Threads(1), Call(), Call()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(threads.run, first)
        await begun(first)
        with anyio.move_on_after(0.01) as scope:
            await threads.run(second)
        assert scope.cancelled_caught
        first.may_end.set()
    assert await threads.run(max, 3, 5) == 5
    assert not second.begun.is_set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_same_holds_for_the_cancellation_of_asyncio() -> None:
    threads, first, second = Threads(1), Call(), Call()
    holding = asyncio.create_task(threads.run(first))
    await begun(first)
    waiting = asyncio.create_task(threads.run(second))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.may_end.set()
    assert await holding == "done"
    assert not second.begun.is_set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_timeout_of_asyncio_around_a_call_is_raised_as_one() -> None:
    call = Call()
    threading.Timer(0.1, call.may_end.set).start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Threads(1).run(call)
    assert call.ended


async def test_threads_of_ones_own_are_free_while_all_others_are_busy() -> None:
    threads, calls = Threads(1), [Call() for _ in range(40)]
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(run_sync, call)
        for call in calls:
            await begun(call)
        with anyio.fail_after(5):
            assert await threads.run(max, 3, 5) == 5
        for call in calls:
            call.may_end.set()


async def test_no_more_threads_than_there_are_to_be_run_at_once() -> None:
    threads, running, most = Threads(2), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(threads.run, work)
    assert most == 2


def test_a_process_that_was_forked_has_threads_too() -> None:
    script = """
import asyncio, os, signal
from tusasgi.threads import Threads

threads = Threads(1)
assert asyncio.run(threads.run(max, 3, 5)) == 5
child = os.fork()
if child == 0:
    signal.alarm(20)
    assert asyncio.run(threads.run(max, 3, 5)) == 5
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)
