"""What a store promises about uploads that are joined of others."""

import random
from dataclasses import replace

import pytest

from tusasgi import Upload
from tusasgi.stores import PartLost, Store
from tusasgi.testing.stores.base import Cancelled, Reopened, StoreTests
from tusasgi.testing.stores.tools import (
    at_every_await,
    completed,
    new_upload,
    supports_concat,
    supports_terminate,
)


class JoiningTests(StoreTests):
    @pytest.mark.parametrize(
        ("sizes", "order"),
        [
            pytest.param([3, 4], [0, 1], id="two"),
            pytest.param([3, 4], [1, 0], id="the-other-way-round"),
            pytest.param([5], [0, 0, 0], id="one-thrice"),
            pytest.param([0, 7, 0], [0, 1, 2], id="with-empty-ones"),
            pytest.param([0], [0], id="empty"),
            pytest.param([1_000_000, 1, 700_000], [0, 1, 2, 0], id="long-ones"),
        ],
    )
    async def test_parts_are_joined_in_their_order_and_stay(
        self,
        sizes: list[int],
        order: list[int],
        store: Store,
        reopened: Reopened,
    ) -> None:
        joining = supports_concat(store)
        parts, contents = await self._parts(store, sizes)
        whole = b"".join(contents[number] for number in order)
        final = new_upload(length=len(whole), parts=tuple(parts[number].id for number in order))
        await store.create(final)
        joined = await joining.concat(final)
        assert joined == replace(final, offset=len(whole))
        assert await self.content(await reopened(), joined) == whole
        for part, content in zip(parts, contents, strict=True):
            assert await store.get(part.id) == part
            assert await self.content(store, part) == content

    async def test_joining_may_be_repeated(self, store: Store) -> None:
        joining = supports_concat(store)
        parts, contents = await self._parts(store, [3, 4])
        final = new_upload(length=7, parts=tuple(part.id for part in parts))
        await store.create(final)
        joined = await joining.concat(final)
        assert await joining.concat(await store.get(final.id)) == joined
        assert await self.content(store, joined) == b"".join(contents)

    async def test_joining_cancelled_at_any_await_goes_on_where_it_was(
        self, cancelled: Cancelled, store: Store, reopened: Reopened
    ) -> None:
        supports_concat(store)
        parts, contents = await self._parts(store, [300_000, 0, 400_000])

        async def cut(at: int) -> bool:
            final = new_upload(length=700_000, parts=tuple(part.id for part in parts))
            await store.create(final)
            was_cut = await cancelled(at, supports_concat(store).concat(final))
            again = await reopened()
            joined = await supports_concat(again).concat(await again.get(final.id))
            assert await self.content(again, joined) == b"".join(contents)
            return was_cut

        await at_every_await(cut)

    @pytest.mark.parametrize("is_replaced", [False, True], ids=["removed", "replaced"])
    async def test_a_part_that_is_gone_ends_the_joining(
        self, is_replaced: bool, store: Store
    ) -> None:
        joining, removing = supports_concat(store), supports_terminate(store)
        parts, _ = await self._parts(store, [3, 4])
        final = new_upload(length=7, parts=tuple(part.id for part in parts))
        await store.create(final)
        await removing.terminate(parts[1].id)
        if is_replaced:
            await completed(store, b"abcdef", id=parts[1].id, is_partial=True)
        with pytest.raises(PartLost):
            await joining.concat(final)

    async def _parts(self, store: Store, sizes: list[int]) -> tuple[list[Upload], list[bytes]]:
        contents = [random.Random(size).randbytes(size) for size in sizes]
        parts = [
            await completed(store, content, length=len(content), is_partial=True)
            for content in contents
        ]
        return parts, contents
