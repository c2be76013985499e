"""Cancels an operation at a chosen await, so that a test can do it at each of them."""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def cancelled_at(suspension: int, operation: Coroutine[Any, Any, object]) -> bool:
    """Run an operation and cancel it when it suspends for the n-th time, from 0.

    Returns False when it came to its end without suspending that often: then every await was
    tried. What the operation does after the cancellation is its own affair.
    """
    seen = -1

    def on_suspension() -> None:
        nonlocal seen
        seen += 1
        if seen == suspension:
            scope.cancel()

    with anyio.CancelScope() as scope:
        await watched(operation, on_suspension)
    return seen >= suspension


async def natively_cancelled_at(
    suspension: int, operation: Coroutine[Any, Any, object], *, times: int = 1
) -> bool:
    """Do the same by asyncio's own `Task.cancel`, for which there are no shields.

    It is called at so many suspensions in a row, as by somebody who loses patience.
    """
    seen = -1

    def on_suspension() -> None:
        nonlocal seen
        seen += 1
        if suspension <= seen < suspension + times:
            task.cancel()

    async def run() -> None:
        await watched(operation, on_suspension)

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return seen >= suspension


@types.coroutine
def watched(
    operation: Coroutine[Any, Any, T], on_suspension: Callable[[], None]
) -> Generator[Any, Any, T]:
    """Run an operation, and call back each time that it suspends."""
    resume: Callable[[], Any] = partial(operation.send, None)
    while True:
        try:
            trap = resume()
        except StopIteration as end:
            result: T = end.value
            return result
        on_suspension()
        try:
            resume = partial(operation.send, (yield trap))
        except BaseException as error:  # whatever the event loop throws in goes on to its target
            resume = partial(operation.throw, error)
