"""The S3 store where a writer does not know whether its swap took effect, or who came after it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import anyio
import pytest
from anyio.to_thread import run_sync

from tests.services.faults import FaultProxy
from tests.stores.s3._scenes import (
    CONTENT,
    KIB,
    MIB,
    PART,
    Place,
    Wire,
    Wrong,
    appended,
    chunks_of,
    completed,
    filled,
    read,
    swept,
)
from tusasgi import StoreUnavailable, UploadExists, UploadNotFound
from tusasgi.stores import WriteConflict
from tusasgi.stores.s3 import S3Store, bucket, calls, joining, writer
from tusasgi.stores.s3.failures import Conflict
from tusasgi.testing.stores import new_upload

pytestmark = pytest.mark.anyio


class Swaps:
    """Takes the answer to the first swap of a store away."""

    def __init__(self, store: S3Store, error: Exception) -> None:
        self.landed = anyio.Event()
        self.answer = anyio.Event()
        self._error = error
        self._put = store._bucket._put_manifest
        store._bucket._put_manifest = self._put_manifest  # type: ignore[method-assign]
        self._states = store._bucket._manifests

    async def _put_manifest(self, manifest: Any, **condition: str) -> Any:
        put = await self._put(manifest, **condition)
        if not self.landed.is_set():
            self._states.drop(manifest.upload.id)
            self.landed.set()
            await self.answer.wait()
            raise self._error
        return put


@pytest.mark.parametrize("more", [2 * MIB, 7 * MIB], ids=["a-segment", "a-part"])
async def test_a_refusal_after_an_answer_that_was_lost_costs_nothing_acknowledged(
    more: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_FIRST_SAVE", 0.05)
    store, other = place.store(name="one"), place.store(name="other")
    upload = await filled(store, CONTENT, 200 * KIB)
    swaps = Swaps(store, StoreUnavailable("no answer came"))

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in chunks_of(CONTENT[200 * KIB :][:more]):
            if swaps.landed.is_set():  # on a slow machine: nobody takes more for now
                break
            yield chunk
        await swaps.landed.wait()
        swaps.answer.set()
        raise Wrong

    with pytest.raises(WriteConflict):
        await store.append(upload, chunks())
    kept = await other.get(upload.id)
    assert kept.offset >= 200 * KIB
    kept = await completed(other, await appended(other, kept, CONTENT[kept.offset :]))
    assert await read(place.store(), kept) == CONTENT
    await other.terminate(upload.id)
    await swept(other)
    assert await place.left() == []


async def test_who_was_overtaken_leaves_the_segments_that_the_other_one_may_return_to(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_FIRST_SAVE", 0.05)
    store, rival = place.store(name="one"), place.store(name="other")
    upload = await filled(store, CONTENT, PART, 200 * KIB)
    swaps = Swaps(store, Conflict("412"))  # what the repetition by the SDK is told
    refused, saved = anyio.Event(), anyio.Event()
    wire = Wire(rival)

    async def tell(number: int, name: str, parameters: dict[str, Any]) -> None:
        if "upload_part" in wire.names and "/state/" in parameters.get("Key", ""):
            saved.set()  # the segment is in a part now, and no manifest names it

    wire.after = tell

    async def append() -> None:
        with pytest.raises(WriteConflict):
            await appended(store, upload, CONTENT[upload.offset :][:MIB])
        refused.set()

    async def overtake() -> None:
        await swaps.landed.wait()
        newest = await rival.get(upload.id)

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in chunks_of(CONTENT[newest.offset :][: 5 * MIB]):
                yield chunk
            await saved.wait()
            swaps.answer.set()
            await refused.wait()
            raise Wrong

        async with wire.listening():
            with pytest.raises(Wrong):
                await rival.append(newest, chunks())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(append)
        tasks.start_soon(overtake)
    kept = await place.store().get(upload.id)
    assert kept.offset >= upload.offset
    kept = await completed(rival, await appended(rival, kept, CONTENT[kept.offset :]))
    assert await read(place.store(), kept) == CONTENT


async def test_a_creation_that_meets_itself_is_one(place: Place) -> None:
    store, upload = place.store(), new_upload()
    wire = Wire(store)

    async def conflict(number: int, name: str, parameters: dict[str, Any]) -> None:
        # S3 says 409 while an attempt is under way whose answer was given up.
        if number == 1:
            raise Conflict("409")

    wire.before = conflict
    async with wire.listening():
        assert (await store.create(upload)).id == upload.id
    with pytest.raises(UploadExists):
        await store.create(upload)


async def test_a_creation_of_which_nothing_is_told_may_be_tried_again(place: Place) -> None:
    store, upload = place.store(), new_upload()
    wire = Wire(store)

    async def conflict(number: int, name: str, parameters: dict[str, Any]) -> None:
        if name == "put_object":
            raise Conflict("409")

    wire.before = conflict
    async with wire.listening():
        with pytest.raises(StoreUnavailable), patch.object(bucket, "_PAUSE", 0.0):
            await store.create(upload)


async def test_a_joining_goes_on_with_the_parts_of_a_server_that_has_shorter_ones(
    place: Place,
) -> None:
    store = place.store(name="one")
    parts = [
        await completed(store, await filled(store, CONTENT[start:][: 4 * MIB], 4 * MIB))
        for start in (0, 4 * MIB, 8 * MIB)
    ]
    names = tuple(part.id for part in parts)
    final = await store.create(new_upload(length=12 * MIB, parts=names))
    wire = Wire(store)

    async def fail(number: int, name: str, parameters: dict[str, Any]) -> None:
        if name == "put_object":
            wire.after = None
            raise StoreUnavailable("no answer came")

    wire.after = fail
    async with wire.listening():
        with pytest.raises(StoreUnavailable), patch.object(joining, "_AT_ONCE", 1):
            await store.concat(final)
    other = place.store(name="other", part_size=16 * MIB)
    final = await other.get(final.id)
    assert final.offset == PART
    final = await completed(other, await other.concat(final))
    assert (final.offset, final.is_complete) == (12 * MIB, True)
    assert await read(place.store(), final) == CONTENT[: 12 * MIB]


@pytest.mark.parametrize("what", ["a digest", "the end", "the end, forgotten"])
async def test_an_object_that_is_made_after_its_upload_was_removed_does_not_stay(
    what: str, place: Place
) -> None:
    store, other = place.store(name="one"), place.store(name="other")
    upload = await filled(store, CONTENT[:MIB], MIB)
    wire = Wire(store)

    async def remove(number: int, name: str, parameters: dict[str, Any]) -> None:
        if "/objects/" in parameters["Key"]:
            await other.terminate(upload.id)

    wire.before = remove
    async with wire.listening():
        upload = await store.finish(upload)
    assert [name for name in await place.left() if "/objects/" in name]
    if what == "the end, forgotten":
        store._bucket._manifests.drop(upload.id)
    change = {"sha256": "0" * 64} if what == "a digest" else {"is_complete": True}
    with pytest.raises(UploadNotFound):
        await store.update(replace(upload, **change))
    assert await place.left() == []


async def test_an_upload_that_another_server_has_completed_is_not_gone_though_its_object_is(
    place: Place,
) -> None:
    store, other = place.store(name="one"), place.store(name="other")
    upload = await filled(store, CONTENT[: 6 * MIB], 6 * MIB)
    await completed(other, await other.get(upload.id))
    key = f"{place.prefix}/objects/{upload.id}"
    await run_sync(lambda: place.server.client.delete_object(Bucket=place.server.bucket, Key=key))
    with pytest.raises(WriteConflict):  # and not `BytesLost`
        await store.finish(upload)
    upload = await other.get(upload.id)
    with pytest.raises(UploadNotFound):
        await read(other, upload)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_manifest_is_written_again_when_its_turn_has_come(
    times: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_TURN", 0.05)
    with FaultProxy(place.server.endpoint) as proxy:
        store = place.store(proxy.endpoint, name="through the proxy")
        proxy.fail("error_429", times=times, operation="PutObject")
        upload = await filled(store, CONTENT[: 300 * KIB], 300 * KIB)
        proxy.fail("error_429", times=times, operation="PutObject", key="/state/")
        upload = await completed(store, upload)
        assert [call.fault for call in proxy.calls].count("error_429") == 2 * times
        assert await read(place.store(), upload) == CONTENT[: 300 * KIB]
        proxy.fail("error_429", times=None)
        with pytest.raises(StoreUnavailable):
            await store.update(replace(upload, facts={"seen": True}))
