"""Uploads, and what is done to them, as the tests of stores need it."""

import contextlib
import tracemalloc
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio.lowlevel
import pytest

from tusasgi import Upload
from tusasgi.stores import (
    Store,
    SupportsConcat,
    SupportsDeferLength,
    SupportsHandOver,
    SupportsList,
    SupportsLocalPath,
    SupportsRead,
    SupportsSweep,
    SupportsTerminate,
)

NOW = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
MIB = 1024 * 1024
FRESH_SIZE = 64 * 1024
MOST_AWAITS = 1000


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_upload(**fields: Any) -> Upload:
    """Return an upload of six bytes that no store knows."""
    return replace(Upload(id=uuid.uuid4().hex, length=6, created=NOW), **fields)


class Arriving(AsyncIterator[bytes]):
    """The chunks as from a network, with a suspension before each and before the end."""

    def __init__(
        self,
        *chunks: bytes,
        error: Exception | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        self._chunks = iter(chunks)
        self._error = error
        self._then = then

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        for chunk in self._chunks:
            return chunk
        if self._then is not None:
            self._then()
            await anyio.lowlevel.checkpoint()
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration


async def fresh_chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(FRESH_SIZE)


async def created(store: Store, *chunks: bytes, **fields: Any) -> Upload:
    upload = new_upload(**fields)
    await store.create(upload)
    return await store.append(upload, Arriving(*chunks)) if chunks else upload


async def completed(store: Store, *chunks: bytes, **fields: Any) -> Upload:
    upload = await store.finish(await created(store, *chunks, **fields))
    return await store.update(replace(upload, is_complete=True))


async def read(store: SupportsRead, upload: Upload, start: int, stop: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(upload, start, stop)])


async def found_due(store: SupportsSweep, now: datetime) -> list[str]:
    return sorted([upload_id async for upload_id in store.due(now)])


async def refused(operation: Awaitable[object]) -> None:
    with pytest.raises(ValueError, match="these bytes are wrong"):
        await operation


async def at_every_await(cut: Callable[[int], Coroutine[Any, Any, bool]]) -> None:
    for at in range(MOST_AWAITS):
        if not await cut(at):
            return
    pytest.fail("the operation suspends without end")


def supports_read(store: Store) -> SupportsRead:
    if not isinstance(store, SupportsRead):
        pytest.skip("the store does not support reading")
    return store


def supports_local_path(store: Store) -> SupportsLocalPath:
    if not isinstance(store, SupportsLocalPath):
        pytest.skip("the uploads of the store are no files of this machine")
    return store


def supports_terminate(store: Store) -> SupportsTerminate:
    if not isinstance(store, SupportsTerminate):
        pytest.skip("the store does not support termination")
    return store


def supports_list(store: Store) -> SupportsList:
    if not isinstance(store, SupportsList):
        pytest.skip("the store cannot list its uploads")
    return store


def supports_sweep(store: Store) -> SupportsSweep:
    if not isinstance(store, SupportsSweep):
        pytest.skip("the store does not support expiry")
    return store


def supports_concat(store: Store) -> SupportsConcat:
    if not isinstance(store, SupportsConcat):
        pytest.skip("the store does not support concatenation")
    return store


def supports_hand_over(store: Store) -> SupportsHandOver:
    if not isinstance(store, SupportsHandOver):
        pytest.skip("the store cannot hand uploads over")
    return store


def supports_defer_length(store: Store) -> SupportsDeferLength:
    if not isinstance(store, SupportsDeferLength):
        pytest.skip("the store does not support deferred lengths")
    return store


@contextlib.contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Give a function that returns, inside and afterwards, the most memory that was added."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    peak = 0

    def highest() -> int:
        return max(peak, tracemalloc.get_traced_memory()[1] - before)

    try:
        yield highest
        peak = highest()
    finally:
        tracemalloc.stop()
