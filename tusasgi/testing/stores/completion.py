"""What a store promises about uploads that have all their bytes."""

from dataclasses import replace

from tusasgi.stores import Store
from tusasgi.testing.stores.base import Reopened, StoreTests
from tusasgi.testing.stores.tools import created


class CompletionTests(StoreTests):
    async def test_finishing_changes_nothing_and_may_be_repeated(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store, b"abcdef")
        for _ in range(2):
            await store.finish(upload)
            assert await (await reopened()).get(upload.id) == upload
            assert await self.content(await reopened(), upload) == b"abcdef"

    async def test_an_upload_without_bytes_can_be_finished(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store, length=0)
        upload = await store.finish(upload)
        await store.update(replace(upload, is_complete=True))
        kept = await (await reopened()).get(upload.id)
        assert kept == replace(upload, is_complete=True)
        assert await self.content(await reopened(), kept) == b""
