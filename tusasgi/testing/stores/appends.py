"""What a store promises about the bytes of an append, and about several at once."""

import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import anyio
import pytest

from tusasgi.stores import Store
from tusasgi.testing.stores.base import Reopened, StoreTests
from tusasgi.testing.stores.tools import (
    FRESH_SIZE,
    NOW,
    Arriving,
    created,
    fresh_chunks,
    peak_memory,
    utc_now,
)

SPLITS = [
    pytest.param([b"abcdef"[a:b] for a, b in itertools.pairwise((0, *cuts, 6))], id=f"cut-{cuts}")
    for count in range(6)
    for cuts in itertools.combinations(range(1, 6), count)
]


ROUNDED = timedelta(seconds=2)
"""What some file systems round times to."""


class AppendTests(StoreTests):
    @pytest.mark.parametrize("chunks", SPLITS)
    async def test_any_split_of_the_bytes_is_the_same_upload(
        self, chunks: list[bytes], store: Store
    ) -> None:
        upload = await created(store, *chunks)
        assert upload.offset == 6
        assert await self.content(store, upload) == b"abcdef"

    @pytest.mark.parametrize(
        ("count", "size"),
        [
            pytest.param(5_000, 1, id="one-byte"),
            pytest.param(2_500, 1021, id="about-1-KiB"),
            pytest.param(50, 65_536, id="64-KiB"),
            pytest.param(3, 1024 * 1024, id="1-MiB"),
            pytest.param(1, 5 * 1024 * 1024 + 1, id="5-MiB"),
        ],
    )
    async def test_chunks_of_any_size_arrive_in_order(
        self, count: int, size: int, store: Store
    ) -> None:
        chunks = [random.Random(seed).randbytes(size) for seed in range(count)]
        upload = await created(store, *chunks)
        assert await self.content(store, upload) == b"".join(chunks)

    async def test_empty_chunks_and_empty_appends_change_nothing(self, store: Store) -> None:
        upload = await created(store, b"", b"ab", b"", b"", b"c", b"")
        assert upload.offset == 3
        assert await store.append(upload, Arriving()) == upload
        assert await store.append(upload, Arriving(b"")) == upload
        assert await self.content(store, upload) == b"abc"

    async def test_appends_go_on_where_the_last_one_ended(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store)
        expected = b""
        for part in (b"abc", b"d" * 70_000, b"", b"e"):
            upload = await (await reopened()).append(upload, Arriving(part))
            expected += part
            assert await (await reopened()).get(upload.id) == upload
        assert upload.offset == len(expected)
        assert await self.content(await reopened(), upload) == expected

    @pytest.mark.parametrize(
        "came_before",
        [
            pytest.param([], id="at-once"),
            pytest.param([b"x"], id="after-a-byte"),
            pytest.param([b"x" * 70_000] * 10, id="after-700-kB"),
            pytest.param([b"x" * 1_000_000] * 5, id="after-5-MB"),
        ],
    )
    async def test_an_exception_from_the_chunks_keeps_nothing_of_this_append(
        self, came_before: list[bytes], store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store, b"abc")
        error = ValueError("these bytes are wrong")
        with pytest.raises(ValueError) as raised:
            await store.append(upload, Arriving(*came_before, error=error))
        assert raised.value is error
        assert await (await reopened()).get(upload.id) == upload
        upload = await store.append(upload, Arriving(b"def"))
        assert await self.content(await reopened(), upload) == b"abcdef"

    @pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
    async def test_the_record_an_append_is_given_is_kept_with_the_first_byte(
        self, is_staged: bool, store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store)
        given = replace(upload, facts={"kind": "audio"}, expires=NOW)
        assert await store.append(given, Arriving(), staged=is_staged) == given
        assert await (await reopened()).get(upload.id) == upload
        kept = await store.append(given, Arriving(b"abc"), staged=is_staged)
        assert kept == replace(given, offset=3)
        assert await (await reopened()).get(upload.id) == kept

    @pytest.mark.parametrize(
        "rest", [timedelta(minutes=1), timedelta(days=9)], ids=["less", "more"]
    )
    @pytest.mark.parametrize("is_partial", [False, True], ids=["whole", "partial"])
    @pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
    async def test_an_append_leaves_an_upload_the_time_that_it_is_given(
        self,
        rest: timedelta,
        is_staged: bool,
        is_partial: bool,
        store: Store,
        reopened: Reopened,
    ) -> None:
        window = timedelta(days=1)
        expires = utc_now() + rest
        upload = await created(
            store, length=6, expires=expires, expires_after=window, is_partial=is_partial
        )
        upload = await store.append(upload, Arriving(), staged=is_staged)
        assert upload.expires == expires
        for content in (b"abc", b"def"):
            before = utc_now()
            upload = await store.append(upload, Arriving(content), staged=is_staged)
            assert await (await reopened()).get(upload.id) == upload
            if upload.can_expire:
                assert upload.expires is not None
                assert before - ROUNDED <= upload.expires - window <= utc_now()

    @pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
    async def test_an_upload_that_is_given_no_time_after_an_append_keeps_its_date(
        self, is_staged: bool, store: Store, reopened: Reopened
    ) -> None:
        expires = utc_now() + timedelta(days=2)
        upload = await created(store, expires=expires)
        upload = await store.append(upload, Arriving(b"abc"), staged=is_staged)
        assert (await (await reopened()).get(upload.id)).expires == upload.expires == expires

    @pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
    async def test_an_upload_gets_more_time_while_its_bytes_arrive(
        self, is_staged: bool, store: Store, reopened: Reopened
    ) -> None:
        window = timedelta(seconds=1)
        upload = await created(store, expires=utc_now() + window, expires_after=window)

        async def date() -> datetime:
            found = await (await reopened()).get(upload.id)
            assert found.expires is not None
            return found.expires

        async def slowly() -> AsyncIterator[bytes]:
            for _ in range(2):
                await anyio.sleep(0.4)  # with more than most of the time left there is no hurry
                before = await date()
                yield b"abc"
                for _ in range(1000):  # it may take a while to get to the store
                    if await date() > before:
                        break
                    await anyio.sleep(0.02)
                else:
                    raise AssertionError("the upload got no more time although its bytes arrive")

        kept = await store.append(upload, slowly(), staged=is_staged)
        assert await (await reopened()).get(upload.id) == kept

    async def test_a_reader_beside_a_running_append_sees_only_what_is_there(
        self, store: Store
    ) -> None:
        upload = await created(store)
        sent = b""
        offsets = []

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal sent
            for number in range(8):
                sent += bytes([number]) * 300_000
                yield bytes([number]) * 300_000
                seen = await store.get(upload.id)
                offsets.append(seen.offset)
                assert await self.content(store, seen) == sent[: seen.offset]

        await store.append(upload, chunks())
        assert offsets == sorted(offsets)
        assert (await store.get(upload.id)).offset == len(sent)

    async def test_appends_to_two_uploads_at_once_do_not_mix(self, store: Store) -> None:
        one, two = await created(store), await created(store)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.append, one, Arriving(*[b"1" * 50_000] * 40))
            tasks.start_soon(store.append, two, Arriving(*[b"2" * 50_000] * 40))
        assert await self.content(store, await store.get(one.id)) == b"1" * 2_000_000
        assert await self.content(store, await store.get(two.id)) == b"2" * 2_000_000

    async def test_the_memory_of_a_long_append_is_bounded(self, store: Store) -> None:
        if self.memory_bound is None:
            pytest.skip("this store is memory itself")
        upload = await created(store, length=None)
        count = 4 * self.memory_bound // FRESH_SIZE
        with peak_memory() as peak:
            await store.append(upload, fresh_chunks(count))
        assert (await store.get(upload.id)).offset == count * FRESH_SIZE
        assert peak() < self.memory_bound
