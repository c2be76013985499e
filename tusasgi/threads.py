"""Worker threads that are waited for, whoever cancels."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import anyio

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """So many worker threads, which nobody else has a share of, begun as they are needed.

    anyio's default threads are also those of the host: its slow endpoints would hold up ours,
    and our slow disk its endpoints. And what each call of them brings along (a limiter, a scope,
    a copy of the context) costs as much as the file work of a small request, and is not needed.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._start()

    async def run(self, function: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs) -> T:
        """Call a function that blocks in a thread; return or raise only when it is done.

        A cancellation takes effect before the call begins, or after it has ended. No shield sees
        to that: asyncio's cancellation (`Task.cancel`, which `asyncio.timeout` and servers use)
        passes every one, and would have the caller let go of a lock or a file that the thread
        still works on.
        """
        if self._process != os.getpid():  # forked: it has none of the threads
            self._start()
        call = self._executor.submit(function, *arguments, **keywords)
        try:
            await _ended(call)
        except BaseException:
            if not call.cancel():  # too late: it has begun
                await _surely_ended(call)
            raise
        return call.result()

    async def run_surely(self, function: Callable[[], T]) -> T:
        """Call a function as `run` does, also when this task is cancelled: what cleans up.

        A cancellation that comes meanwhile is raised when the function has ended.
        """
        ended: list[T] = []
        has_begun = False

        def call() -> None:
            nonlocal has_begun
            has_begun = True
            ended.append(function())

        cancellation: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not has_begun:
                try:
                    await self.run(call)
                except asyncio.CancelledError as error:  # asyncio's own; anyio's wait outside
                    cancellation = error
        if cancellation is not None:
            raise cancellation
        return ended[0]

    def _start(self) -> None:
        self._process = os.getpid()
        self._executor = ThreadPoolExecutor(self._count, thread_name_prefix="tusasgi")


def caller_of_this_loop() -> Callable[[Callable[[], None]], object]:
    """Return what has this event loop call a function soon, from whatever thread.

    That raises `RuntimeError` once the loop has ended.
    """
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon


async def _ended(call: Future[T]) -> None:
    """Return when a call has ended, in whatever way."""
    ended, call_soon = anyio.Event(), caller_of_this_loop()
    call.add_done_callback(lambda _: call_soon(ended.set))
    await ended.wait()


async def _surely_ended(call: Future[T]) -> None:
    """Return when a call has ended, however often this task is cancelled."""
    with anyio.CancelScope(shield=True):
        while not call.done():
            with contextlib.suppress(asyncio.CancelledError):
                await _ended(call)
