"""What a store promises that hands finished bytes over to the host."""

from dataclasses import replace

import pytest

from tusasgi import Upload, UploadNotFound
from tusasgi.stores import DestinationTaken, Store
from tusasgi.testing.stores.base import Cancelled, Reopened, StoreTests
from tusasgi.testing.stores.tools import (
    at_every_await,
    created,
    read,
    supports_hand_over,
    supports_read,
    supports_terminate,
)

PLACE = "2026-11-29/ada/film.mp4"


class HandOverTests(StoreTests):
    async def test_what_was_handed_over_is_read_at_its_destination(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await finished(store, b"abcdef")
        for _ in range(2):
            await supports_hand_over(await reopened()).hand_over(upload)
            assert await (await reopened()).get(upload.id) == upload
        complete = await store.update(replace(upload, is_complete=True))
        kept = await (await reopened()).get(upload.id)
        assert (kept, kept.offset, kept.is_handed_over) == (complete, 6, True)
        assert await read(supports_read(await reopened()), kept, 1, 5) == b"bcde"

    async def test_an_empty_file_can_be_handed_over(self, store: Store, reopened: Reopened) -> None:
        upload = await finished(store, b"")
        await supports_hand_over(store).hand_over(upload)
        await store.update(replace(upload, is_complete=True))
        kept = await (await reopened()).get(upload.id)
        assert (kept.offset, kept.is_handed_over) == (0, True)

    async def test_what_is_at_the_destination_is_not_overwritten_nor_removed(
        self, store: Store, reopened: Reopened
    ) -> None:
        first, second = await finished(store, b"first"), await finished(store, b"other")
        await supports_hand_over(store).hand_over(first)
        first = await store.update(replace(first, is_complete=True))
        with pytest.raises(DestinationTaken):
            await supports_hand_over(store).hand_over(second)
        await supports_hand_over(await reopened()).take_back(second)
        await supports_terminate(store).terminate(second.id)
        assert await read(supports_read(await reopened()), first, 0, 5) == b"first"

    async def test_a_termination_leaves_to_the_host_what_was_handed_over(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await handed_over(store, b"abc")
        await supports_terminate(store).terminate(upload.id)
        with pytest.raises(UploadNotFound):
            await (await reopened()).get(upload.id)
        with pytest.raises(DestinationTaken):
            await supports_hand_over(store).hand_over(await finished(store, b"xyz"))

    async def test_what_is_taken_back_leaves_its_place_to_another(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await finished(store, b"abc")
        await supports_hand_over(store).hand_over(upload)
        for _ in range(2):
            await supports_hand_over(await reopened()).take_back(upload)
        await supports_terminate(await reopened()).terminate(upload.id)
        other = await handed_over(store, b"xyz")
        assert await read(supports_read(store), other, 0, 3) == b"xyz"

    @pytest.mark.parametrize("path", ["../x", "/x", "a/../x", "a//x", "", ".x", "a\0b", "a\nb"])
    async def test_no_destination_leads_out_of_the_store(self, store: Store, path: str) -> None:
        upload = await finished(store, b"abc", destination=path)
        with pytest.raises(ValueError, match="destination"):
            await supports_hand_over(store).hand_over(upload)

    async def test_a_hand_over_cancelled_at_any_await_can_be_repeated(
        self, cancelled: Cancelled, store: Store, reopened: Reopened
    ) -> None:
        supports_hand_over(store)
        places = iter(range(1000))

        async def cut(at: int) -> bool:
            upload = await finished(store, b"abcdef", destination=f"{next(places)}/x")
            was_cut = await cancelled(at, supports_hand_over(store).hand_over(upload))
            assert await (await reopened()).get(upload.id) == upload
            await supports_hand_over(await reopened()).hand_over(upload)
            kept = await (await reopened()).update(replace(upload, is_complete=True))
            assert await read(supports_read(await reopened()), kept, 0, 6) == b"abcdef"
            return was_cut

        await at_every_await(cut)


async def finished(store: Store, content: bytes, *, destination: str = PLACE) -> Upload:
    """Return an upload that has all its bytes, and is to be handed over."""
    supports_hand_over(store)
    chunks = (content,) if content else ()
    upload = await store.finish(await created(store, *chunks, length=len(content)))
    return await store.update(replace(upload, destination=destination))


async def handed_over(store: Store, content: bytes) -> Upload:
    upload = await finished(store, content)
    await supports_hand_over(store).hand_over(upload)
    return await store.update(replace(upload, is_complete=True))
