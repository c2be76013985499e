"""What a store promises to a sweeper: exactly what is due is found."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tusasgi import Target
from tusasgi.stores import Store
from tusasgi.testing.stores.base import Reopened, StoreTests
from tusasgi.testing.stores.tools import (
    NOW,
    Arriving,
    completed,
    created,
    found_due,
    new_upload,
    supports_defer_length,
    supports_sweep,
    supports_terminate,
)

PENDING = [
    pytest.param({"length": 0}, b"", id="empty"),
    pytest.param({"length": 6}, b"abcdef", id="filled"),
    pytest.param({"length": 6, "is_partial": True}, b"abcdef", id="partial-filled"),
    pytest.param({"length": 6, "parts": ("a", "b")}, b"", id="to-be-joined"),
    pytest.param({"length": 6, "removal": "terminated"}, b"abc", id="to-be-removed"),
]


class ExpiryTests(StoreTests):
    async def test_exactly_what_is_due_is_found(self, store: Store, reopened: Reopened) -> None:
        expiring = supports_sweep(store)
        seconds = timedelta(seconds=1)
        due = {
            (await created(store, expires=NOW - timedelta(days=400))).id,
            (await created(store, b"abc", expires=NOW - seconds)).id,
            (await created(store, expires=NOW)).id,
        }
        await created(store, expires=NOW + timedelta(microseconds=1))
        await created(store, expires=NOW + timedelta(days=1))
        await created(store, b"abc", expires=None)
        await completed(store, b"abcdef", expires=NOW - seconds)
        assert await found_due(expiring, NOW) == sorted(due)
        # Nobody removed them, so they are found again, also by another process.
        assert await found_due(supports_sweep(await reopened()), NOW) == sorted(due)

    @pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
    @pytest.mark.parametrize(("fields", "content"), PENDING)
    async def test_what_is_pending_is_found_until_it_is_complete(
        self,
        fields: dict[str, Any],
        content: bytes,
        is_staged: bool,
        store: Store,
        reopened: Reopened,
    ) -> None:
        sweeping = supports_sweep(store)
        upload = new_upload(**fields)
        await store.create(upload)
        if content:
            upload = await store.append(upload, Arriving(content), staged=is_staged)
        assert await found_due(sweeping, NOW) == [upload.id]
        assert await found_due(supports_sweep(await reopened()), NOW) == [upload.id]
        if upload.removal is None:
            await store.update(replace(upload, is_complete=True))
        else:
            await supports_terminate(store).terminate(upload.id)
        assert await found_due(sweeping, NOW) == []

    async def test_a_length_declared_to_be_what_is_there_makes_it_pending(
        self, store: Store
    ) -> None:
        sweeping, deferring = supports_sweep(store), supports_defer_length(store)
        upload = await created(store, b"abc", length=None)
        assert await found_due(sweeping, NOW) == []
        await deferring.declare_length(upload, 3)
        assert await found_due(sweeping, NOW) == [upload.id]

    async def test_what_is_to_be_told_is_found_until_it_was(
        self, store: Store, reopened: Reopened
    ) -> None:
        sweeping = supports_sweep(store)
        upload = await store.create(new_upload(length=6, untold={"created": NOW}))
        assert await found_due(sweeping, NOW) == [upload.id]
        upload = await store.append(upload, Arriving(b"abc"))
        assert await found_due(supports_sweep(await reopened()), NOW) == [upload.id]
        upload = await store.append(upload, Arriving(b"def"))
        upload = await store.update(replace(upload, is_complete=True))
        assert await found_due(sweeping, NOW) == [upload.id]
        assert (await store.get(upload.id)).untold == {"created": NOW}
        await store.update(replace(upload, untold={}))
        assert await found_due(sweeping, NOW) == []

    async def test_what_is_due_for_two_reasons_is_found_once(self, store: Store) -> None:
        sweeping = supports_sweep(store)
        upload = await created(store, b"abc", expires=NOW)
        await store.update(replace(upload, removal="expired"))
        assert await found_due(sweeping, NOW) == [upload.id]

    async def test_what_is_to_be_told_and_past_its_time_is_found_once(self, store: Store) -> None:
        sweeping = supports_sweep(store)
        upload = await store.create(new_upload(untold={"created": NOW}, expires=NOW))
        assert await found_due(sweeping, NOW) == [upload.id]

    async def test_a_finished_piece_is_found_past_its_time(self, store: Store) -> None:
        sweeping = supports_sweep(store)
        upload = await completed(store, b"abcdef", is_partial=True, expires=NOW)
        assert await found_due(sweeping, NOW - timedelta(seconds=1)) == []
        assert await found_due(sweeping, NOW) == [upload.id]

    async def test_a_complete_upload_that_stands_for_a_request_is_found_past_its_time(
        self, store: Store
    ) -> None:
        sweeping = supports_sweep(store)
        target = Target(method="POST", path="/", raw_path=None, query_string=b"", headers=())
        upload = await completed(store, b"abcdef", target=target, expires=NOW)
        assert await found_due(sweeping, NOW - timedelta(seconds=1)) == []
        assert await found_due(sweeping, NOW) == [upload.id]

    async def test_an_upload_that_got_more_time_is_found_later(
        self, store: Store, reopened: Reopened
    ) -> None:
        supports_sweep(store)
        upload = await created(store, b"abc", expires=NOW)
        for more in (timedelta(seconds=1), timedelta(hours=1), timedelta(days=9), timedelta(0)):
            upload = await store.update(replace(upload, expires=NOW + more))
            finding = supports_sweep(await reopened())
            assert await found_due(finding, NOW + more - timedelta(microseconds=1)) == []
            assert await found_due(finding, NOW + more) == [upload.id]

    async def test_a_finished_upload_is_never_found(self, store: Store, reopened: Reopened) -> None:
        supports_sweep(store)
        upload = await created(store, b"abcdef", expires=NOW)
        await store.update(replace(upload, is_complete=True))
        assert await found_due(supports_sweep(await reopened()), NOW + timedelta(days=999)) == []

    async def test_an_upload_that_lost_its_date_is_never_found(
        self, store: Store, reopened: Reopened
    ) -> None:
        supports_sweep(store)
        upload = await created(store, expires=NOW)
        await store.update(replace(upload, expires=None))
        assert await found_due(supports_sweep(await reopened()), NOW + timedelta(days=999)) == []

    async def test_what_is_terminated_while_it_is_found_is_not_found_again(
        self, store: Store
    ) -> None:
        expiring, terminating = supports_sweep(store), supports_terminate(store)
        uploads = [await created(store, b"abc", expires=NOW) for _ in range(5)]
        found = []
        async for upload_id in expiring.due(NOW):
            found.append(upload_id)
            await terminating.terminate(upload_id)
        assert sorted(found) == sorted(upload.id for upload in uploads)
        assert await found_due(expiring, NOW) == []
