"""What a store promises about bytes of which only the end says that they are right."""

import random
from collections.abc import AsyncIterator

import anyio
import pytest

from tusasgi.stores import Store
from tusasgi.testing.stores.base import Cancelled, Reopened, StoreTests
from tusasgi.testing.stores.tools import (
    FRESH_SIZE,
    Arriving,
    at_every_await,
    created,
    fresh_chunks,
    peak_memory,
    refused,
)


class StagingTests(StoreTests):
    async def test_staged_chunks_are_seen_when_all_have_come(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store, b"abc", length=2_000_003)
        content = random.Random(1).randbytes(2_000_000)
        seen: list[int] = []

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(content), 250_000):
                yield content[start : start + 250_000]
                seen.append((await store.get(upload.id)).offset)

        upload = await store.append(upload, chunks(), staged=True)
        assert set(seen) == {3}
        assert await self.content(await reopened(), upload) == b"abc" + content

    async def test_of_staged_chunks_nothing_is_kept_if_they_turn_out_wrong(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store, b"abc")
        chunks = Arriving(b"x" * 700_000, error=ValueError("these bytes are wrong"))
        await refused(store.append(upload, chunks, staged=True))
        assert await (await reopened()).get(upload.id) == upload
        upload = await store.append(upload, Arriving(b"def"), staged=True)
        assert await self.content(await reopened(), upload) == b"abcdef"

    async def test_staging_nothing_changes_nothing(self, store: Store) -> None:
        upload = await created(store, b"abc")
        assert await store.append(upload, Arriving(), staged=True) == upload

    async def test_of_staged_chunks_nothing_is_kept_when_cancelled_before_the_end(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store, b"abc")
        with anyio.CancelScope() as scope:
            chunks = Arriving(b"x" * 700_000, b"y" * 700_000, then=scope.cancel)
            await store.append(upload, chunks, staged=True)
        assert await (await reopened()).get(upload.id) == upload

    async def test_a_staged_append_cancelled_at_any_await_keeps_a_beginning(
        self, cancelled: Cancelled, store: Store, reopened: Reopened
    ) -> None:
        parts = [bytes([number]) * 400_000 for number in range(4)]

        async def cut(at: int) -> bool:
            upload = await created(store, b"abc")
            operation = store.append(upload, Arriving(*parts), staged=True)
            was_cut = await cancelled(at, operation)
            await self.check_beginning(await reopened(), upload, b"abc", b"abc" + b"".join(parts))
            return was_cut

        await at_every_await(cut)

    async def test_the_memory_of_a_long_staged_append_is_bounded(self, store: Store) -> None:
        if self.memory_bound is None:
            pytest.skip("this store is memory itself")
        upload = await created(store, length=None)
        count = 4 * self.memory_bound // FRESH_SIZE
        with peak_memory() as peak:
            await store.append(upload, fresh_chunks(count), staged=True)
        assert (await store.get(upload.id)).offset == count * FRESH_SIZE
        assert peak() < self.memory_bound
