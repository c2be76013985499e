"""What a store promises about the names of its uploads."""

from tusasgi.stores import Store, SupportsList
from tusasgi.testing.stores.base import Reopened, StoreTests
from tusasgi.testing.stores.tools import created, new_upload, supports_list, supports_terminate


async def _ids(store: SupportsList, after: str | None = None) -> list[str]:
    return [upload_id async for upload_id in store.ids(after=after)]


class ListingTests(StoreTests):
    async def test_a_store_without_uploads_lists_none(self, store: Store) -> None:
        assert await _ids(supports_list(store)) == []

    async def test_all_uploads_are_listed_whatever_is_there_of_them(
        self, store: Store, reopened: Reopened
    ) -> None:
        supports_list(store)
        made = [(await created(store, *chunks)).id for chunks in ([], [b"abc"], [b"abcdef"])]
        done = await created(store, b"abcdef")
        await store.finish(done)
        found = await _ids(supports_list(await reopened()))
        assert sorted(found) == sorted([*made, done.id])

    async def test_a_listing_goes_on_behind_any_upload(self, store: Store) -> None:
        listing = supports_list(store)
        for _ in range(12):
            await created(store)
        # Ids that share their ends, and one that is the beginning of another.
        for upload_id in ("a", "ab", "aab", "bab", "b"):
            await store.create(new_upload(id=upload_id))
        found = await _ids(listing)
        assert len(set(found)) == len(found) == 17
        for number, upload_id in enumerate(found):
            assert await _ids(listing, upload_id) == found[number + 1 :]

    async def test_a_listing_goes_on_behind_an_upload_that_is_gone(self, store: Store) -> None:
        listing = supports_list(store)
        terminating = supports_terminate(store)
        for _ in range(5):
            await created(store)
        found = await _ids(listing)
        await terminating.terminate(found[2])
        assert await _ids(listing, found[2]) == found[3:]
        assert await _ids(listing) == [*found[:2], *found[3:]]
