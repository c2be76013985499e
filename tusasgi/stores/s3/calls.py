"""Ways to make calls: many at the same time, and one again when its turn has come."""

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio

from tusasgi.stores.s3.failures import TooFast

_TRIES = 5
_TURN = 1.0  # seconds, after which the same key may be written again


async def together(calls: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Make calls at the same time; raise the first failure as it is, with the others given up."""
    failures: list[Exception] = []

    async def run(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except Exception as failure:
            failures.append(failure)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(run, call)
    if failures:
        raise failures[0]


async def in_turn(put: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Write to a key that was just written: some servers take one write in a second."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(TooFast):
            return await put()
        await anyio.sleep(_TURN)
    return await put()
