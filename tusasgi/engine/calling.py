"""Hooks that may not refuse, called so that whatever leaves them means that they failed."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from tusasgi.errors import TryAgain, TusError, UploadPending

T = TypeVar("T")


async def called(
    hook: Callable[[], Awaitable[T]],
    message: str,
    *,
    timeout: float | None,
    refusals: tuple[type[TusError], ...] = (),
) -> T:
    """Call a hook that may not refuse, or only so.

    What leaves it otherwise, a `TusError` about another upload too, is the cause of an
    `UploadPending` with this message.
    """
    try:
        with anyio.fail_after(timeout):
            return await hook()
    except refusals:
        raise
    except TryAgain as failure:
        raise UploadPending(message, retry_after=failure.retry_after) from failure
    except Exception as failure:
        raise UploadPending(message) from failure
