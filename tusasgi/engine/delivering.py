"""What comes, worked on as it comes: so much at a time, until cancelled."""

from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import anyio

T = TypeVar("T")


async def deliver_each(
    following: Callable[[], Awaitable[T]],
    deliver: Callable[[T], Awaitable[None]],
    *,
    at_once: int,
) -> NoReturn:
    """Wait for what follows and deliver it, at most so many at the same time.

    `following` is asked when there is a slot for what it returns. What `deliver` raises ends all.
    """
    slots = anyio.Semaphore(at_once)

    async def run(one: T) -> None:
        try:
            await deliver(one)
        finally:
            slots.release()

    async with anyio.create_task_group() as tasks:
        while True:
            await slots.acquire()
            tasks.start_soon(run, await following())
    raise AssertionError("it ends by being cancelled")
