"""What every store promises, as a suite of tests to be run on a store of your own."""

import abc
import contextlib
import itertools
import random
import tracemalloc
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.to_thread import run_sync

from tusasgi import Expiry, InvalidUploadId, Renewal, Upload, UploadExists, UploadNotFound
from tusasgi.stores import (
    PartLost,
    Store,
    SupportsConcat,
    SupportsDeferLength,
    SupportsRead,
    SupportsSweep,
    SupportsTerminate,
)
from tusasgi.testing._faults import cancelled_at, natively_cancelled_at

Cancelled = Callable[[int, Coroutine[Any, Any, object]], Awaitable[bool]]
"""Runs an operation and cancels it at its n-th suspension; False if it was done before that."""

NOW = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
_MIB = 1024 * 1024
_FRESH_SIZE = 64 * 1024
_MOST_AWAITS = 1000

HOSTILE_IDS = [
    pytest.param("", id="empty"),
    pytest.param(".", id="dot"),
    pytest.param("..", id="dot-dot"),
    pytest.param("../outside", id="climbing"),
    pytest.param("a/b", id="slash"),
    pytest.param("a\\b", id="backslash"),
    pytest.param("/etc/passwd", id="absolute"),
    pytest.param("a.info", id="suffix"),
    pytest.param("a\0b", id="nul"),
    pytest.param("a\n", id="newline"),
    pytest.param("%2e%2e", id="escaped"),
    pytest.param("é", id="latin"),
    pytest.param("٣", id="arabic-digit"),
    pytest.param("x" * 65, id="65-characters"),
    pytest.param("x" * 10_000, id="10000-characters"),
]

SPLITS = [
    pytest.param([b"abcdef"[a:b] for a, b in itertools.pairwise((0, *cuts, 6))], id=f"cut-{cuts}")
    for count in range(6)
    for cuts in itertools.combinations(range(1, 6), count)
]

FIELDS = [
    pytest.param({"length": 4711}, id="length"),
    pytest.param({"length": None}, id="length-not-declared"),
    pytest.param({"created": NOW + timedelta(days=1, microseconds=1)}, id="created"),
    pytest.param(
        {"metadata": {"a": b"", "bin": b"\x00\xff\n", "name": "é".encode()}}, id="metadata"
    ),
    pytest.param({"metadata_header": "a ,bin AP8K"}, id="metadata-header"),
    pytest.param({"max_size": 2**62, "min_size": 2**61}, id="limits"),
    pytest.param({"owner": "somebody é"}, id="owner"),
    pytest.param({"facts": {"i": 1, "f": 0.5, "s": "é", "b": True, "n": None}}, id="facts"),
    pytest.param({"expires": NOW + timedelta(microseconds=1)}, id="expires"),
    pytest.param({"is_partial": True, "concat_header": "partial"}, id="partial"),
    pytest.param({"parts": ("a", "b", "a"), "concat_header": "final;/a b /a"}, id="final"),
    pytest.param({"sha256": "0f" * 32}, id="sha256"),
    pytest.param({"is_complete": True}, id="complete"),
    pytest.param({"removal": "terminated"}, id="being-terminated"),
]

PENDING = [
    pytest.param({"length": 0}, b"", id="empty"),
    pytest.param({"length": 6}, b"abcdef", id="filled"),
    pytest.param({"length": 6, "is_partial": True}, b"abcdef", id="partial-filled"),
    pytest.param({"length": 6, "parts": ("a", "b")}, b"", id="to-be-joined"),
    pytest.param({"length": 6, "removal": "terminated"}, b"abc", id="to-be-removed"),
]


class StoreSuite(abc.ABC):
    """Subclass it as `TestMyStore`, say how a store is made, and run pytest.

    Every test runs once for each backend of the fixture `anyio_backend`. Override the fixture
    `store` if the store has to be opened and closed. Tests of what the store does not support
    are skipped.
    """

    pytestmark = pytest.mark.anyio

    is_persistent: bool = True
    """False if nothing is left when the store object is gone."""

    memory_bound: int | None = 8 * _MIB
    """The most memory one running append may take; None if the store is memory itself."""

    @abc.abstractmethod
    def make_store(self, place: Path) -> Store:
        """Return a store over this place; the same place again is the same uploads."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """An empty folder, for a store that wants one."""
        return tmp_path / "place"

    @pytest.fixture
    def store(self, place: Path) -> Store:
        return self.make_store(place)

    @pytest.fixture
    def reopened(self, store: Store, place: Path) -> Callable[[], Awaitable[Store]]:
        """What a process finds that starts now."""

        async def reopened() -> Store:
            return await run_sync(self.make_store, place) if self.is_persistent else store

        return reopened

    @pytest.fixture(params=["anyio", "asyncio", "asyncio-twice"])
    def cancelled(self, request: pytest.FixtureRequest, anyio_backend: object) -> Cancelled:
        """What cancels an operation at one of its suspensions, in one of the ways there are."""
        if request.param == "anyio":
            return cancelled_at
        name = anyio_backend if isinstance(anyio_backend, str) else anyio_backend[0]  # type: ignore[index]
        if name != "asyncio":
            pytest.skip("only asyncio has a cancellation of its own")
        return partial(natively_cancelled_at, times=2 if request.param == "asyncio-twice" else 1)

    async def content(self, store: Store, upload: Upload) -> bytes:
        """Return the bytes up to the offset. Override it for a store that cannot read."""
        if upload.offset == 0:
            return b""
        return await _read(_supports_read(store), upload, 0, upload.offset)

    # Records.

    @pytest.mark.parametrize("fields", FIELDS)
    async def test_a_record_comes_back_as_it_was_created(
        self, fields: dict[str, Any], store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        upload = replace(new_upload(), **fields)
        await store.create(upload)
        assert await store.get(upload.id) == upload
        assert await (await reopened()).get(upload.id) == upload

    @pytest.mark.parametrize("fields", FIELDS)
    async def test_an_update_replaces_everything_but_the_offset(
        self, fields: dict[str, Any], store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        upload = await _created(store, b"abc")
        await store.update(replace(upload, offset=999, **fields))
        assert await (await reopened()).get(upload.id) == replace(upload, offset=3, **fields)
        assert await self.content(store, upload) == b"abc"

    async def test_a_taken_id_is_refused_and_the_upload_that_has_it_stays(
        self, store: Store
    ) -> None:
        upload = await _created(store, b"abc")
        with pytest.raises(UploadExists):
            await store.create(replace(new_upload(), id=upload.id, length=1))
        assert await store.get(upload.id) == upload
        assert await self.content(store, upload) == b"abc"

    async def test_an_unknown_id_is_not_found(self, store: Store) -> None:
        upload = new_upload()
        with pytest.raises(UploadNotFound):
            await store.get(upload.id)
        with pytest.raises(UploadNotFound):
            await store.update(upload)
        with pytest.raises(UploadNotFound):
            await store.get(upload.id)

    async def test_a_declared_length_stays(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        deferring = _supports_defer_length(store)
        upload = await _created(store, b"abc", length=None)
        declared = await deferring.declare_length(upload, 7)
        assert declared == replace(upload, length=7)
        assert await (await reopened()).get(upload.id) == declared

    # Ids.

    @pytest.mark.parametrize("upload_id", HOSTILE_IDS)
    async def test_an_id_outside_the_grammar_is_refused_and_touches_nothing(
        self, upload_id: str, store: Store, place: Path
    ) -> None:
        await _created(store, b"abc")
        before = await run_sync(_tree, place.parent)
        for refused in _operations(store, replace(new_upload(), id=upload_id)):
            with pytest.raises(InvalidUploadId):
                await refused()
        assert await run_sync(_tree, place.parent) == before

    async def test_ids_that_differ_in_case_or_begin_alike_are_different_uploads(
        self, store: Store
    ) -> None:
        contents = {"a": b"1", "A": b"2", "aa": b"3", "a-_a": b"4", "x" * 64: b"5"}
        for upload_id, content in contents.items():
            await _created(store, content, id=upload_id)
        for upload_id, content in contents.items():
            assert await self.content(store, await store.get(upload_id)) == content

    # Appends.

    @pytest.mark.parametrize("chunks", SPLITS)
    async def test_any_split_of_the_bytes_is_the_same_upload(
        self, chunks: list[bytes], store: Store
    ) -> None:
        upload = await _created(store, *chunks)
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
        upload = await _created(store, *chunks)
        assert await self.content(store, upload) == b"".join(chunks)

    async def test_empty_chunks_and_empty_appends_change_nothing(self, store: Store) -> None:
        upload = await _created(store, b"", b"ab", b"", b"", b"c", b"")
        assert upload.offset == 3
        assert await store.append(upload, Arriving()) == upload
        assert await store.append(upload, Arriving(b"")) == upload
        assert await self.content(store, upload) == b"abc"

    async def test_appends_go_on_where_the_last_one_ended(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        upload = await _created(store)
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
        self, came_before: list[bytes], store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        upload = await _created(store, b"abc")
        error = ValueError("these bytes are wrong")
        with pytest.raises(ValueError) as raised:
            await store.append(upload, Arriving(*came_before, error=error))
        assert raised.value is error
        assert await (await reopened()).get(upload.id) == upload
        upload = await store.append(upload, Arriving(b"def"))
        assert await self.content(await reopened(), upload) == b"abcdef"

    @pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
    async def test_the_record_an_append_is_given_is_kept_with_the_first_byte(
        self, is_staged: bool, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        upload = await _created(store)
        given = replace(upload, facts={"kind": "audio"}, expires=NOW)
        assert await store.append(given, Arriving(), staged=is_staged) == given
        assert await (await reopened()).get(upload.id) == upload
        kept = await store.append(given, Arriving(b"abc"), staged=is_staged)
        assert kept == replace(given, offset=3)
        assert await (await reopened()).get(upload.id) == kept

    @pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
    async def test_bytes_give_an_upload_more_time_until_it_has_all(
        self, is_staged: bool, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        window = timedelta(days=1)
        upload = await _created(store, expires=NOW + window)
        renewal = Renewal(expiry=Expiry(after_append=window), clock=lambda: NOW + window / 8)
        seen = []
        for content in (b"", b"abc", b"def"):
            upload = await store.append(
                upload, Arriving(content), staged=is_staged, renewal=renewal
            )
            assert await (await reopened()).get(upload.id) == upload
            seen.append(upload.expires)
        assert seen[0] == NOW + window
        assert seen[1] == seen[2] == NOW + window * 1.125

    @pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
    async def test_an_upload_whose_bytes_arrive_does_not_expire(
        self, is_staged: bool, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        now = NOW
        window = timedelta(minutes=1)
        upload = await _created(store, length=9, expires=NOW + window)
        renewal = Renewal(expiry=Expiry(initial=window), clock=lambda: now)

        async def slowly() -> AsyncIterator[bytes]:
            nonlocal now
            for _ in range(8):
                now += window / 4
                yield b"x"
                for _ in range(500):  # it may be on its way to the store for a while
                    if not (await (await reopened()).get(upload.id)).is_expired(now):
                        break
                    await anyio.sleep(0.02)
                else:
                    raise AssertionError("the upload expired although its bytes arrive")

        kept = await store.append(upload, slowly(), staged=is_staged, renewal=renewal)
        assert kept.offset == 8 and not kept.is_expired(now)
        assert await (await reopened()).get(upload.id) == kept

    # What only the end tells to be right.

    async def test_staged_chunks_are_seen_when_all_have_come(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        upload = await _created(store, b"abc", length=2_000_003)
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
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        upload = await _created(store, b"abc")
        chunks = Arriving(b"x" * 700_000, error=ValueError("these bytes are wrong"))
        await _refused(store.append(upload, chunks, staged=True))
        assert await (await reopened()).get(upload.id) == upload
        upload = await store.append(upload, Arriving(b"def"), staged=True)
        assert await self.content(await reopened(), upload) == b"abcdef"

    async def test_staging_nothing_changes_nothing(self, store: Store) -> None:
        upload = await _created(store, b"abc")
        assert await store.append(upload, Arriving(), staged=True) == upload

    async def test_of_staged_chunks_nothing_is_kept_when_cancelled_before_the_end(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        upload = await _created(store, b"abc")
        with anyio.CancelScope() as scope:
            chunks = Arriving(b"x" * 700_000, b"y" * 700_000, then=scope.cancel)
            await store.append(upload, chunks, staged=True)
        assert await (await reopened()).get(upload.id) == upload

    async def test_a_staged_append_cancelled_at_any_await_keeps_a_beginning(
        self,
        cancelled: Cancelled,
        store: Store,
        reopened: Callable[[], Awaitable[Store]],
    ) -> None:
        parts = [bytes([number]) * 400_000 for number in range(4)]

        async def cut(at: int) -> bool:
            upload = await _created(store, b"abc")
            operation = store.append(upload, Arriving(*parts), staged=True)
            was_cut = await cancelled(at, operation)
            await self._check_beginning(await reopened(), upload, b"abc", b"abc" + b"".join(parts))
            return was_cut

        await _at_every_await(cut)

    async def test_the_memory_of_a_long_staged_append_is_bounded(self, store: Store) -> None:
        if self.memory_bound is None:
            pytest.skip("this store is memory itself")
        upload = await _created(store, length=None)
        count = 4 * self.memory_bound // _FRESH_SIZE
        with _peak_memory() as peak:
            await store.append(upload, _fresh_chunks(count), staged=True)
        assert (await store.get(upload.id)).offset == count * _FRESH_SIZE
        assert peak() < self.memory_bound

    # Joining.

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
        reopened: Callable[[], Awaitable[Store]],
    ) -> None:
        joining = _supports_concat(store)
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
        joining = _supports_concat(store)
        parts, contents = await self._parts(store, [3, 4])
        final = new_upload(length=7, parts=tuple(part.id for part in parts))
        await store.create(final)
        joined = await joining.concat(final)
        assert await joining.concat(await store.get(final.id)) == joined
        assert await self.content(store, joined) == b"".join(contents)

    async def test_joining_cancelled_at_any_await_goes_on_where_it_was(
        self,
        cancelled: Cancelled,
        store: Store,
        reopened: Callable[[], Awaitable[Store]],
    ) -> None:
        _supports_concat(store)
        parts, contents = await self._parts(store, [300_000, 0, 400_000])

        async def cut(at: int) -> bool:
            final = new_upload(length=700_000, parts=tuple(part.id for part in parts))
            await store.create(final)
            was_cut = await cancelled(at, _supports_concat(store).concat(final))
            again = await reopened()
            joined = await _supports_concat(again).concat(await again.get(final.id))
            assert await self.content(again, joined) == b"".join(contents)
            return was_cut

        await _at_every_await(cut)

    @pytest.mark.parametrize("is_replaced", [False, True], ids=["removed", "replaced"])
    async def test_a_part_that_is_gone_ends_the_joining(
        self, is_replaced: bool, store: Store
    ) -> None:
        joining, removing = _supports_concat(store), _supports_terminate(store)
        parts, _ = await self._parts(store, [3, 4])
        final = new_upload(length=7, parts=tuple(part.id for part in parts))
        await store.create(final)
        await removing.terminate(parts[1].id)
        if is_replaced:
            await _completed(store, b"abcdef", id=parts[1].id, is_partial=True)
        with pytest.raises(PartLost):
            await joining.concat(final)

    async def _parts(self, store: Store, sizes: list[int]) -> tuple[list[Upload], list[bytes]]:
        contents = [random.Random(size).randbytes(size) for size in sizes]
        parts = [
            await _completed(store, content, length=len(content), is_partial=True)
            for content in contents
        ]
        return parts, contents

    async def test_a_reader_beside_a_running_append_sees_only_what_is_there(
        self, store: Store
    ) -> None:
        upload = await _created(store)
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
        one, two = await _created(store), await _created(store)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.append, one, Arriving(*[b"1" * 50_000] * 40))
            tasks.start_soon(store.append, two, Arriving(*[b"2" * 50_000] * 40))
        assert await self.content(store, await store.get(one.id)) == b"1" * 2_000_000
        assert await self.content(store, await store.get(two.id)) == b"2" * 2_000_000

    async def test_the_memory_of_a_long_append_is_bounded(self, store: Store) -> None:
        if self.memory_bound is None:
            pytest.skip("this store is memory itself")
        upload = await _created(store, length=None)
        count = 4 * self.memory_bound // _FRESH_SIZE
        with _peak_memory() as peak:
            await store.append(upload, _fresh_chunks(count))
        assert (await store.get(upload.id)).offset == count * _FRESH_SIZE
        assert peak() < self.memory_bound

    # Cancellation.

    async def test_an_append_cancelled_while_it_waits_keeps_a_beginning(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        upload = await _created(store, b"abc")
        parts = [bytes([number]) * 400_000 for number in range(7)]
        with anyio.CancelScope() as scope:
            await store.append(upload, Arriving(*parts, then=scope.cancel))
        await self._check_beginning(await reopened(), upload, b"abc", b"abc" + b"".join(parts))

    async def test_an_append_cancelled_at_any_await_keeps_a_beginning(
        self,
        cancelled: Cancelled,
        store: Store,
        reopened: Callable[[], Awaitable[Store]],
    ) -> None:
        parts = [bytes([number]) * 400_000 for number in range(7)]

        async def cut(at: int) -> bool:
            upload = await _created(store, b"abc")
            was_cut = await cancelled(at, store.append(upload, Arriving(*parts)))
            await self._check_beginning(await reopened(), upload, b"abc", b"abc" + b"".join(parts))
            return was_cut

        await _at_every_await(cut)

    async def test_an_append_refused_and_cancelled_at_any_await_keeps_a_beginning(
        self,
        cancelled: Cancelled,
        store: Store,
        reopened: Callable[[], Awaitable[Store]],
    ) -> None:
        parts = [bytes([number]) * 400_000 for number in range(4)]

        async def cut(at: int) -> bool:
            upload = await _created(store, b"abc")
            chunks = Arriving(*parts, error=ValueError("these bytes are wrong"))
            was_cut = await cancelled(at, _refused(store.append(upload, chunks)))
            await self._check_beginning(await reopened(), upload, b"abc", b"abc" + b"".join(parts))
            return was_cut

        await _at_every_await(cut)

    async def _check_beginning(
        self, store: Store, upload: Upload, acknowledged: bytes, sent: bytes
    ) -> None:
        kept = await store.get(upload.id)
        assert len(acknowledged) <= kept.offset <= len(sent)
        assert await self.content(store, kept) == sent[: kept.offset]
        assert replace(kept, offset=upload.offset) == upload
        kept = await store.append(kept, Arriving(b"more"))
        assert await self.content(store, kept) == sent[: kept.offset - 4] + b"more"

    async def test_a_creation_cancelled_at_any_await_happened_or_did_not(
        self,
        cancelled: Cancelled,
        store: Store,
        reopened: Callable[[], Awaitable[Store]],
    ) -> None:
        async def cut(at: int) -> bool:
            upload = new_upload(expires=NOW)
            was_cut = await cancelled(at, store.create(upload))
            with contextlib.suppress(UploadExists):
                await (await reopened()).create(upload)
            assert await (await reopened()).get(upload.id) == upload
            return was_cut

        await _at_every_await(cut)

    async def test_an_update_cancelled_at_any_await_happened_or_did_not(
        self,
        cancelled: Cancelled,
        store: Store,
        reopened: Callable[[], Awaitable[Store]],
    ) -> None:
        async def cut(at: int) -> bool:
            upload = await _created(store, b"abc", expires=NOW)
            changed = replace(upload, facts={"a": 1}, expires=NOW + timedelta(days=1))
            was_cut = await cancelled(at, store.update(changed))
            kept = await (await reopened()).get(upload.id)
            assert kept in (upload, changed)
            await (await reopened()).update(replace(changed, version=kept.version))
            assert await (await reopened()).get(upload.id) == changed
            return was_cut

        await _at_every_await(cut)

    async def test_a_finish_cancelled_at_any_await_can_be_repeated(
        self,
        cancelled: Cancelled,
        store: Store,
        reopened: Callable[[], Awaitable[Store]],
    ) -> None:
        async def cut(at: int) -> bool:
            upload = await _created(store, b"abcdef")
            was_cut = await cancelled(at, store.finish(upload))
            await (await reopened()).finish(upload)
            assert await (await reopened()).get(upload.id) == upload
            assert await self.content(await reopened(), upload) == b"abcdef"
            return was_cut

        await _at_every_await(cut)

    async def test_a_termination_cancelled_at_any_await_can_be_repeated(
        self,
        cancelled: Cancelled,
        store: Store,
        reopened: Callable[[], Awaitable[Store]],
    ) -> None:
        _supports_terminate(store)

        async def cut(at: int) -> bool:
            upload = await _created(store, b"abcdef", expires=NOW)
            was_cut = await cancelled(at, _supports_terminate(store).terminate(upload.id))
            await _supports_terminate(await reopened()).terminate(upload.id)
            with pytest.raises(UploadNotFound):
                await (await reopened()).get(upload.id)
            return was_cut

        await _at_every_await(cut)

    # Completion.

    async def test_finishing_changes_nothing_and_may_be_repeated(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        upload = await _created(store, b"abcdef")
        for _ in range(2):
            await store.finish(upload)
            assert await (await reopened()).get(upload.id) == upload
            assert await self.content(await reopened(), upload) == b"abcdef"

    async def test_an_upload_without_bytes_can_be_finished(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        upload = await _created(store, length=0)
        upload = await store.finish(upload)
        await store.update(replace(upload, is_complete=True))
        kept = await (await reopened()).get(upload.id)
        assert kept == replace(upload, is_complete=True)
        assert await self.content(await reopened(), kept) == b""

    # Termination.

    async def test_a_terminated_upload_is_gone_and_another_may_take_its_id(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        terminating = _supports_terminate(store)
        upload = await _created(store, b"abcdef", expires=NOW)
        for _ in range(2):
            await terminating.terminate(upload.id)
            with pytest.raises(UploadNotFound):
                await (await reopened()).get(upload.id)
        again = await _created(store, b"x", id=upload.id)
        assert await self.content(await reopened(), again) == b"x"

    async def test_terminating_what_never_was_is_nothing(self, store: Store) -> None:
        terminating = _supports_terminate(store)
        upload = await _created(store, b"abc")
        await terminating.terminate(new_upload().id)
        assert await store.get(upload.id) == upload

    # Expiry.

    async def test_exactly_what_is_due_is_found(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        expiring = _supports_expire(store)
        seconds = timedelta(seconds=1)
        due = {
            (await _created(store, expires=NOW - timedelta(days=400))).id,
            (await _created(store, b"abc", expires=NOW - seconds)).id,
            (await _created(store, expires=NOW)).id,
        }
        await _created(store, expires=NOW + timedelta(microseconds=1))
        await _created(store, expires=NOW + timedelta(days=1))
        await _created(store, b"abc", expires=None)
        await _completed(store, b"abcdef", expires=NOW - seconds)
        assert await _found(expiring, NOW) == sorted(due)
        # Nobody removed them, so they are found again, also by another process.
        assert await _found(_supports_expire(await reopened()), NOW) == sorted(due)

    @pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
    @pytest.mark.parametrize(("fields", "content"), PENDING)
    async def test_what_is_pending_is_found_until_it_is_complete(
        self,
        fields: dict[str, Any],
        content: bytes,
        is_staged: bool,
        store: Store,
        reopened: Callable[[], Awaitable[Store]],
    ) -> None:
        sweeping = _supports_expire(store)
        upload = new_upload(**fields)
        await store.create(upload)
        if content:
            upload = await store.append(upload, Arriving(content), staged=is_staged)
        assert await _found(sweeping, NOW) == [upload.id]
        assert await _found(_supports_expire(await reopened()), NOW) == [upload.id]
        if upload.removal is None:
            await store.update(replace(upload, is_complete=True))
        else:
            await _supports_terminate(store).terminate(upload.id)
        assert await _found(sweeping, NOW) == []

    async def test_a_length_declared_to_be_what_is_there_makes_it_pending(
        self, store: Store
    ) -> None:
        sweeping, deferring = _supports_expire(store), _supports_defer_length(store)
        upload = await _created(store, b"abc", length=None)
        assert await _found(sweeping, NOW) == []
        await deferring.declare_length(upload, 3)
        assert await _found(sweeping, NOW) == [upload.id]

    async def test_what_is_due_for_two_reasons_is_found_once(self, store: Store) -> None:
        sweeping = _supports_expire(store)
        upload = await _created(store, b"abc", expires=NOW)
        await store.update(replace(upload, removal="expired"))
        assert await _found(sweeping, NOW) == [upload.id]

    async def test_a_finished_piece_is_found_past_its_time(self, store: Store) -> None:
        sweeping = _supports_expire(store)
        upload = await _completed(store, b"abcdef", is_partial=True, expires=NOW)
        assert await _found(sweeping, NOW - timedelta(seconds=1)) == []
        assert await _found(sweeping, NOW) == [upload.id]

    async def test_an_upload_that_got_more_time_is_found_later(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        _supports_expire(store)
        upload = await _created(store, b"abc", expires=NOW)
        for more in (timedelta(seconds=1), timedelta(hours=1), timedelta(days=9), timedelta(0)):
            upload = await store.update(replace(upload, expires=NOW + more))
            finding = _supports_expire(await reopened())
            assert await _found(finding, NOW + more - timedelta(microseconds=1)) == []
            assert await _found(finding, NOW + more) == [upload.id]

    async def test_a_finished_upload_is_never_found(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        _supports_expire(store)
        upload = await _created(store, b"abcdef", expires=NOW)
        await store.update(replace(upload, is_complete=True))
        assert await _found(_supports_expire(await reopened()), NOW + timedelta(days=999)) == []

    async def test_an_upload_that_lost_its_date_is_never_found(
        self, store: Store, reopened: Callable[[], Awaitable[Store]]
    ) -> None:
        _supports_expire(store)
        upload = await _created(store, expires=NOW)
        await store.update(replace(upload, expires=None))
        assert await _found(_supports_expire(await reopened()), NOW + timedelta(days=999)) == []

    async def test_what_is_terminated_while_it_is_found_is_not_found_again(
        self, store: Store
    ) -> None:
        expiring, terminating = _supports_expire(store), _supports_terminate(store)
        uploads = [await _created(store, b"abc", expires=NOW) for _ in range(5)]
        found = []
        async for upload_id in expiring.due(NOW):
            found.append(upload_id)
            await terminating.terminate(upload_id)
        assert sorted(found) == sorted(upload.id for upload in uploads)
        assert await _found(expiring, NOW) == []

    # Reading.

    @pytest.mark.parametrize(
        ("start", "stop"),
        [
            pytest.param(0, 600_000, id="all"),
            pytest.param(0, 0, id="none"),
            pytest.param(0, 1, id="first-byte"),
            pytest.param(599_999, 600_000, id="last-byte"),
            pytest.param(1, 599_999, id="middle"),
            pytest.param(262_143, 262_145, id="across-256-KiB"),
            pytest.param(262_144, 524_288, id="exactly-256-KiB"),
        ],
    )
    async def test_a_range_is_read(self, start: int, stop: int, store: Store) -> None:
        reading = _supports_read(store)
        content = random.Random(0).randbytes(600_000)
        upload = await _created(store, content, length=600_000)
        assert await _read(reading, upload, start, stop) == content[start:stop]

    async def test_an_unknown_upload_cannot_be_read(self, store: Store) -> None:
        reading = _supports_read(store)
        with pytest.raises(UploadNotFound):
            await _read(reading, new_upload(), 0, 1)


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


async def _fresh_chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(_FRESH_SIZE)


async def _created(store: Store, *chunks: bytes, **fields: Any) -> Upload:
    upload = new_upload(**fields)
    await store.create(upload)
    return await store.append(upload, Arriving(*chunks)) if chunks else upload


async def _completed(store: Store, *chunks: bytes, **fields: Any) -> Upload:
    upload = await store.finish(await _created(store, *chunks, **fields))
    return await store.update(replace(upload, is_complete=True))


async def _read(store: SupportsRead, upload: Upload, start: int, stop: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(upload, start, stop)])


async def _found(store: SupportsSweep, now: datetime) -> list[str]:
    return sorted([upload_id async for upload_id in store.due(now)])


async def _refused(operation: Awaitable[object]) -> None:
    with pytest.raises(ValueError, match="these bytes are wrong"):
        await operation


async def _at_every_await(cut: Callable[[int], Coroutine[Any, Any, bool]]) -> None:
    for at in range(_MOST_AWAITS):
        if not await cut(at):
            return
    pytest.fail("the operation suspends without end")


def _operations(store: Store, upload: Upload) -> Iterator[Callable[[], Awaitable[object]]]:
    yield lambda: store.create(upload)
    yield lambda: store.get(upload.id)
    yield lambda: store.append(upload, Arriving(b"abc"))
    yield lambda: store.append(upload, Arriving(b"abc"), staged=True)
    yield lambda: store.update(upload)
    yield lambda: store.finish(upload)
    if isinstance(store, SupportsTerminate):
        yield lambda: store.terminate(upload.id)
    if isinstance(store, SupportsConcat):
        yield lambda: store.concat(upload)
    if isinstance(store, SupportsDeferLength):
        yield lambda: store.declare_length(upload, 3)
    if isinstance(store, SupportsRead):
        yield lambda: _read(store, upload, 0, 3)


def _supports_read(store: Store) -> SupportsRead:
    if not isinstance(store, SupportsRead):
        pytest.skip("the store does not support reading")
    return store


def _supports_terminate(store: Store) -> SupportsTerminate:
    if not isinstance(store, SupportsTerminate):
        pytest.skip("the store does not support termination")
    return store


def _supports_expire(store: Store) -> SupportsSweep:
    if not isinstance(store, SupportsSweep):
        pytest.skip("the store does not support expiry")
    return store


def _supports_concat(store: Store) -> SupportsConcat:
    if not isinstance(store, SupportsConcat):
        pytest.skip("the store does not support concatenation")
    return store


def _supports_defer_length(store: Store) -> SupportsDeferLength:
    if not isinstance(store, SupportsDeferLength):
        pytest.skip("the store does not support deferred lengths")
    return store


def _tree(folder: Path) -> dict[str, bytes | None]:
    """Return every file below a folder with its content, and every folder."""
    tree: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        tree[str(path)] = None if path.is_dir() else path.read_bytes()
    return tree


@contextlib.contextmanager
def _peak_memory() -> Iterator[Callable[[], int]]:
    """Give what tells, inside and afterwards, how much more memory there was at the most."""
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
