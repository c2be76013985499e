"""Worker threads that are waited for, whoever cancels."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar, TypeVarTuple

import anyio
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def run_to_end(
    function: Callable[[*Ts], T],
    *arguments: *Ts,
    limiter: anyio.CapacityLimiter | None = None,
) -> T:
    """Call a function that blocks in a worker thread; return or raise only when it is done.

    A cancellation takes effect before the call begins, or after it has ended. anyio sees to that
    for its own. asyncio's (`Task.cancel`, which `asyncio.timeout` and servers use) passes every
    shield, and would have the caller let go of a lock or a file that the thread still works on.
    """
    call: Future[T] = Future()

    def run() -> None:
        if not call.set_running_or_notify_cancel():
            return
        try:
            call.set_result(function(*arguments))
        except BaseException as error:  # raised by whoever called
            call.set_exception(error)

    try:
        await run_sync(run, limiter=limiter)
    except BaseException:
        if not call.cancel():  # too late: it has begun
            await _wait_for(call)
        raise
    return call.result()


async def _wait_for(call: Future[T]) -> None:
    """Wait for the end of a call, however often asyncio cancels this task."""
    with anyio.CancelScope(shield=True):
        while not call.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([asyncio.wrap_future(call)])


class Threads:
    """So many worker threads at a time, in each event loop, which nobody else has a share of.

    anyio's default threads are also those of the host: its slow endpoints would hold up ours,
    and our slow disk its endpoints.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._limiter: RunVar[anyio.CapacityLimiter] = RunVar(f"tusasgi.threads.{uuid.uuid4()}")

    async def run(self, function: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs) -> T:
        """Call a function as `run_to_end` does, when there is a thread for it."""
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(self._count)
            self._limiter.set(limiter)

        def call() -> T:
            return function(*arguments, **keywords)

        return await run_to_end(call, limiter=limiter)

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
