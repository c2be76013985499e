"""Whether an S3 server honours conditions, also of many at once: tried before it is used."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
from botocore.exceptions import ClientError

from tusasgi.errors import StoreUnavailable
from tusasgi.stores.s3.calls import in_turn, together
from tusasgi.stores.s3.failures import Conflict, Gone, TooFast
from tusasgi.stores.s3.rope import Rope

Call = Callable[..., Awaitable[dict[str, Any]]]
"""Calls an operation of S3 by its name, as `Client.call` does."""

_ROUNDS = 3
_RACERS = 8
_GATHERING = 0.2  # seconds that a body waits for the others
_TRIES = 5
_PAUSE = 1.0  # seconds, after which the same key may be written again


async def check_conditions(call: Call, prefix: str) -> None:
    """Write small objects to see that a condition is honoured, and that one of many wins.

    Raises `RuntimeError` if not: two servers of ours could then overwrite each other's work.
    """
    # Where the sweeper finds them if this is broken off.
    folder = f"{prefix}pieces/check-{uuid.uuid4().hex}"
    keys = [f"{folder}/{uuid.uuid4().hex}" for _ in range(2 * _ROUNDS)]
    try:
        await _check_one_by_one(call, keys[0])
        # At the same time: SeaweedFS lets those of one key in one by one, each after a second.
        races = [partial(_race, call, key, None) for key in keys[:_ROUNDS]]
        races += [partial(_race_to_replace, call, key) for key in keys[_ROUNDS:]]
        await together(races)
    finally:
        # What failed above is what counts.
        with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
            await _delete(call, keys)


async def _check_one_by_one(call: Call, key: str) -> None:
    async def put(content: bytes, etag: str | None) -> str:
        return await _put(call, key, content, etag)

    async def must_fail(etag: str | None) -> None:
        with contextlib.suppress(Conflict, Gone):
            await put(b"3", etag)
            raise RuntimeError(f"this S3 server ignores {_name(etag)} on PutObject, {_UNFIT}")

    first = await put(b"1", None)
    await must_fail(None)
    second = await put(b"2", first)
    if second == first:
        raise RuntimeError("this S3 server does not change an ETag along with the object")
    await must_fail(first)
    await _delete(call, [key])
    await must_fail(second)


async def _race_to_replace(call: Call, key: str) -> None:
    await _race(call, key, await _put(call, key, b"1", None))


async def _race(call: Call, key: str, before: str | None) -> None:
    """Have several replace one state of an object at once, of whom one may succeed.

    `before` is the ETag of that state, and None for no object.
    """
    for _ in range(_TRIES):
        won: list[str] = []
        start = _Start(_RACERS)
        await together([partial(_run, call, key, before, start, won) for _ in range(_RACERS)])
        after = await _etag(call, key)
        if won and won != [after]:
            raise RuntimeError(
                f"of {_RACERS} PutObject with {_name(before)} at once not exactly one succeeds on "
                f"this S3 server, {_UNFIT}"
            )
        if after is not None and after != before:
            return  # if nobody has won, the answer to the first attempt of the winner was lost
        await anyio.sleep(_PAUSE)
    raise StoreUnavailable("the object storage lets nobody be the first; go on in a moment")


async def _run(call: Call, key: str, before: str | None, start: "_Start", won: list[str]) -> None:
    with contextlib.suppress(Conflict, Gone, TooFast):
        won.append(await _put(call, key, _Waiting([uuid.uuid4().bytes], start), before))


class _Start:
    """Holds bodies back until as many have been asked for.

    A server that looks at the condition first has then let all of them in.
    """

    def __init__(self, count: int) -> None:
        self._missing = count
        # Bodies are sent in the event loop of the client, which is one of asyncio's.
        self._is_open = asyncio.Event()

    async def wait(self) -> None:
        self._missing -= 1
        if self._missing <= 0:
            self._is_open.set()
        with contextlib.suppress(TimeoutError):  # not all servers take so many at once
            async with asyncio.timeout(_GATHERING):
                await self._is_open.wait()


class _Waiting(Rope):
    """A body that is sent when its start has come."""

    def __init__(self, chunks: list[bytes], start: _Start) -> None:
        super().__init__(chunks)
        self._start = start

    async def __aiter__(self) -> AsyncIterator[bytes | bytearray | memoryview]:
        await self._start.wait()
        for chunk in self.chunks:
            yield chunk


# The calls.

_UNFIT = "so two servers could overwrite each other's work: use one with atomic conditional writes"


def _name(etag: str | None) -> str:
    return "If-None-Match" if etag is None else "If-Match"


async def _put(call: Call, key: str, content: bytes | Rope, etag: str | None) -> str:
    condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
    put = partial(call, "put_object", Key=key, Body=content, **condition)
    try:
        # Who runs with others is not to run alone after them.
        answer = await (put() if isinstance(content, _Waiting) else in_turn(put))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "NotImplemented":
            raise
        raise RuntimeError(
            f"this S3 server does not know {_name(etag)} on PutObject, {_UNFIT}"
        ) from error
    return str(answer["ETag"])


async def _etag(call: Call, key: str) -> str | None:
    try:
        return str((await call("head_object", Key=key))["ETag"])
    except Gone:
        return None


async def _delete(call: Call, keys: list[str]) -> None:
    removed = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    await call("delete_objects", Delete=removed)
