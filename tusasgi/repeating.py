"""Work with something done beside it, again and again: a date moved, progress reported."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def repeating(
    work: Awaitable[T], action: Callable[[], Awaitable[object]], *, interval: float
) -> T:
    """Return what the work returns, or raise what it raises, and act every `interval` seconds.

    An action that fails is passed over; one that is under way when the work ends is waited for.
    """
    failure: Exception
    done = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_repeat_until, done, action, interval)
        try:
            return await work
        except Exception as error:  # raised below: the task group would wrap it
            failure = error
        finally:
            done.set()
    raise failure


async def _repeat_until(
    done: anyio.Event, action: Callable[[], Awaitable[object]], interval: float
) -> None:
    while True:
        with anyio.move_on_after(interval):
            await done.wait()
            return
        with contextlib.suppress(Exception):  # the work meets the reason as well, and raises it
            await action()
