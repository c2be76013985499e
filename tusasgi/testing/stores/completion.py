"""What a store promises about uploads that have all their bytes."""

from dataclasses import replace

from tusasgi.stores import Store
from tusasgi.testing.stores.base import Reopened, StoreTests
from tusasgi.testing.stores.tools import (
    NOW,
    created,
    found_due,
    supports_defer_length,
    supports_sweep,
)


class CompletionTests(StoreTests):
    async def test_finishing_changes_nothing_and_may_be_repeated(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store, b"abcdef")
        for _ in range(2):
            await store.finish(upload)
            assert await (await reopened()).get(upload.id) == upload
            assert await self.content(await reopened(), upload) == b"abcdef"

    async def test_an_open_upload_with_all_its_bytes_is_finished_and_read_before_it_ends(
        self, store: Store, reopened: Reopened
    ) -> None:
        sweeping = supports_sweep(store)
        upload = await created(store, b"abcdef", is_open=True)
        assert await found_due(sweeping, NOW) == []
        upload = await store.finish(upload)
        assert await (await reopened()).get(upload.id) == upload
        assert await self.content(await reopened(), upload) == b"abcdef"
        assert await found_due(sweeping, NOW) == []
        upload = await store.update(replace(upload, is_open=False))
        assert await found_due(supports_sweep(await reopened()), NOW) == [upload.id]
        upload = await store.finish(upload)
        await store.update(replace(upload, is_complete=True))
        assert await self.content(await reopened(), upload) == b"abcdef"
        assert await found_due(sweeping, NOW) == []

    async def test_an_open_upload_ends_where_an_update_says(
        self, store: Store, reopened: Reopened
    ) -> None:
        supports_defer_length(store)
        upload = await created(store, b"abc", length=None, is_open=True)
        upload = await store.update(replace(upload, length=3, is_open=False))
        upload = await store.finish(upload)
        upload = await store.update(replace(upload, is_complete=True))
        assert await (await reopened()).get(upload.id) == upload
        assert await self.content(await reopened(), upload) == b"abc"

    async def test_an_upload_without_bytes_can_be_finished(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store, length=0)
        upload = await store.finish(upload)
        await store.update(replace(upload, is_complete=True))
        kept = await (await reopened()).get(upload.id)
        assert kept == replace(upload, is_complete=True)
        assert await self.content(await reopened(), kept) == b""
