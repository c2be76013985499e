"""What a store promises when an operation is cancelled, at whichever await."""

import contextlib
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from tusasgi import UploadExists, UploadNotFound
from tusasgi.stores import Store
from tusasgi.testing.stores.base import Cancelled, Reopened, StoreTests
from tusasgi.testing.stores.tools import (
    NOW,
    Arriving,
    at_every_await,
    created,
    new_upload,
    refused,
    supports_terminate,
)


class CancellationTests(StoreTests):
    async def test_an_append_cancelled_while_it_waits_keeps_a_beginning(
        self, store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store, b"abc")
        parts = [bytes([number]) * 400_000 for number in range(7)]
        with anyio.CancelScope() as scope:
            await store.append(upload, Arriving(*parts, then=scope.cancel))
        await self.check_beginning(await reopened(), upload, b"abc", b"abc" + b"".join(parts))

    async def test_an_append_cancelled_at_any_await_keeps_a_beginning(
        self, cancelled: Cancelled, store: Store, reopened: Reopened
    ) -> None:
        parts = [bytes([number]) * 400_000 for number in range(7)]

        async def cut(at: int) -> bool:
            upload = await created(store, b"abc")
            was_cut = await cancelled(at, store.append(upload, Arriving(*parts)))
            await self.check_beginning(await reopened(), upload, b"abc", b"abc" + b"".join(parts))
            return was_cut

        await at_every_await(cut)

    async def test_an_append_refused_and_cancelled_at_any_await_keeps_a_beginning(
        self, cancelled: Cancelled, store: Store, reopened: Reopened
    ) -> None:
        parts = [bytes([number]) * 400_000 for number in range(4)]

        async def cut(at: int) -> bool:
            upload = await created(store, b"abc")
            chunks = Arriving(*parts, error=ValueError("these bytes are wrong"))
            was_cut = await cancelled(at, refused(store.append(upload, chunks)))
            await self.check_beginning(await reopened(), upload, b"abc", b"abc" + b"".join(parts))
            return was_cut

        await at_every_await(cut)

    async def test_a_creation_cancelled_at_any_await_happened_or_did_not(
        self, cancelled: Cancelled, store: Store, reopened: Reopened
    ) -> None:
        async def cut(at: int) -> bool:
            upload = new_upload(expires=NOW)
            was_cut = await cancelled(at, store.create(upload))
            with contextlib.suppress(UploadExists):
                await (await reopened()).create(upload)
            assert await (await reopened()).get(upload.id) == upload
            return was_cut

        await at_every_await(cut)

    async def test_an_update_cancelled_at_any_await_happened_or_did_not(
        self, cancelled: Cancelled, store: Store, reopened: Reopened
    ) -> None:
        async def cut(at: int) -> bool:
            upload = await created(store, b"abc", expires=NOW)
            changed = replace(upload, facts={"a": 1}, expires=NOW + timedelta(days=1))
            was_cut = await cancelled(at, store.update(changed))
            kept = await (await reopened()).get(upload.id)
            assert kept in (upload, changed)
            await (await reopened()).update(replace(changed, version=kept.version))
            assert await (await reopened()).get(upload.id) == changed
            return was_cut

        await at_every_await(cut)

    async def test_a_finish_cancelled_at_any_await_can_be_repeated(
        self, cancelled: Cancelled, store: Store, reopened: Reopened
    ) -> None:
        async def cut(at: int) -> bool:
            upload = await created(store, b"abcdef")
            was_cut = await cancelled(at, store.finish(upload))
            await (await reopened()).finish(upload)
            assert await (await reopened()).get(upload.id) == upload
            assert await self.content(await reopened(), upload) == b"abcdef"
            return was_cut

        await at_every_await(cut)

    async def test_a_termination_cancelled_at_any_await_can_be_repeated(
        self, cancelled: Cancelled, store: Store, reopened: Reopened
    ) -> None:
        supports_terminate(store)

        async def cut(at: int) -> bool:
            upload = await created(store, b"abcdef", expires=NOW)
            was_cut = await cancelled(at, supports_terminate(store).terminate(upload.id))
            await supports_terminate(await reopened()).terminate(upload.id)
            with pytest.raises(UploadNotFound):
                await (await reopened()).get(upload.id)
            return was_cut

        await at_every_await(cut)
