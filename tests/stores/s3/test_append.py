"""What the S3 store shows of an append while it runs, its date, and the memory that is shared."""

import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync
from botocore.exceptions import ClientError

from tests.services.faults import Call, FaultProxy
from tests.services.s3 import Moto
from tests.stores.s3._scenes import (
    CONTENT,
    KIB,
    MIB,
    OTHER,
    PART,
    Place,
    Wire,
    appended,
    chunks_of,
    filled,
    new_place,
)
from tusasgi import TooLarge, Upload
from tusasgi.stores import WriteConflict
from tusasgi.stores.s3 import S3Store, bucket, committing, writer
from tusasgi.stores.s3.bucket import Bucket
from tusasgi.stores.s3.budget import Budget
from tusasgi.stores.s3.manifest import Manifest
from tusasgi.stores.s3.window import Window
from tusasgi.testing.stores import NOW, new_upload

pytestmark = pytest.mark.anyio


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came is saved at every opportunity."""
    monkeypatch.setattr(writer, "_FIRST_SAVE", 0.0)
    monkeypatch.setattr(writer, "_SAVE", 0.0)


# What is shown.


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # what is in the bucket is no affair of it
@pytest.mark.parametrize("begun", [0, 200 * KIB, 6 * MIB])
@pytest.mark.parametrize("length", [300 * KIB, 2 * PART, 11 * MIB])
async def test_what_may_be_one_too_many_is_not_shown_before_the_end(
    begun: int, length: int, place: Place, at_once: None
) -> None:
    if begun >= length:
        return
    store, other = place.store(name="one"), place.store(name="other")
    upload = await filled(store, CONTENT[:length], begun)
    before = multiparts(await place.left())
    seen: list[Upload] = []

    async def one_too_many() -> AsyncIterator[bytes]:
        async for chunk in chunks_of(CONTENT[begun:length]):
            yield chunk
        for _ in range(500):
            await anyio.sleep(0.02)
            seen.append(await other.get(upload.id))
            if len(seen) > 8 and len({found.version for found in seen[-4:]}) == 1:
                raise TooLarge("the body runs past the end of the upload")
        raise AssertionError("what may not be shown is saved again and again")

    changed = replace(upload, facts={"kind": "mp4"})
    with pytest.raises(TooLarge):
        await store.append(changed, one_too_many())
    assert all(found.offset < length for found in seen)
    kept = await other.get(upload.id)
    assert kept == upload and kept.facts == {}
    assert multiparts(await place.left()) == before
    upload = await appended(other, kept, CONTENT[begun:length])
    assert await place.content(other, upload) == CONTENT[:length]


async def test_the_whole_is_not_shown_while_its_last_part_is_on_its_way(
    moto: Moto, at_once: None
) -> None:
    """Another server would complete it, and overtake the one that is about to."""
    length = 6 * MIB + 300 * KIB
    with FaultProxy(moto.endpoint) as proxy:
        place = new_place(moto, proxy.endpoint)
        store, other = place.store(name="one"), place.store(moto.endpoint, name="other")
        upload = await filled(store, CONTENT[:length], 6 * MIB)
        puts = len(segment_puts(proxy))
        stalled = proxy.fail("stall", operation="UploadPart")

        async def saved_before_the_end() -> AsyncIterator[bytes]:
            yield CONTENT[6 * MIB : length]
            for _ in range(1000):
                if len(segment_puts(proxy)) > puts:
                    return
                await anyio.sleep(0.02)
            raise AssertionError("what came is not saved")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.append, upload, saved_before_the_end())
            await run_sync(stalled.wait)
            seen = await other.get(upload.id)
            stalled.release()
        assert seen.offset == upload.offset
        assert (await other.get(upload.id)).offset == length


def segment_puts(proxy: FaultProxy) -> list[Call]:
    return [c for c in proxy.calls if "/pieces/" in c.key and c.status == 200]


def multiparts(names: list[str]) -> list[str]:
    return [name for name in names if "(multipart)" in name]


async def test_a_length_is_declared_by_the_first_byte_and_by_no_refused_one(
    place: Place, at_once: None
) -> None:
    store = place.store()
    upload = await store.create(new_upload(length=None))
    declared = replace(upload, length=300 * KIB)
    for is_staged in (False, True):
        chunks = chunks_of(CONTENT[: 300 * KIB], error=TooLarge("one too many"))
        with pytest.raises(TooLarge):
            await store.append(declared, chunks, staged=is_staged)
        upload = await place.store().get(upload.id)
        assert (upload.offset, upload.length) == (0, None)
        declared = replace(upload, length=300 * KIB)
    kept = await appended(store, declared, CONTENT[: 100 * KIB])
    assert (await place.store().get(upload.id)) == kept
    assert (kept.offset, kept.length) == (100 * KIB, 300 * KIB)


async def test_a_part_is_sent_under_a_number_that_nobody_else_will_use(moto: Moto) -> None:
    with FaultProxy(moto.endpoint) as proxy:
        place = new_place(moto, proxy.endpoint)
        store, other = place.store(name="one"), place.store(moto.endpoint, name="other")
        upload = await filled(store, CONTENT, 6 * MIB)
        stalled = proxy.fail("stall", operation="UploadPart")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(appended, store, upload, CONTENT[6 * MIB :])
            await run_sync(stalled.wait)
            (call,) = [call for call in proxy.calls if call.fault == "stall"]
            used_to = (await other._bucket.read(upload.id)).used_to
            stalled.release()
        assert used_to >= int(call.query["partNumber"])


async def test_the_number_of_a_refused_part_is_not_used_again(moto: Moto) -> None:
    """What was sent under it may arrive late."""
    with FaultProxy(moto.endpoint) as proxy:
        place = new_place(moto, proxy.endpoint)
        store = place.store()
        upload = await filled(store, CONTENT, 6 * MIB)
        with pytest.raises(TooLarge):
            chunks = chunks_of(CONTENT[6 * MIB :], error=TooLarge("one too many"))
            await store.append(upload, chunks)
        refused = part_numbers(proxy)[1:]
        await appended(store, await place.store().get(upload.id), CONTENT[6 * MIB :])
        numbers = part_numbers(proxy)
        assert refused and len(set(numbers)) == len(numbers)


def part_numbers(proxy: FaultProxy) -> list[str]:
    return [c.query["partNumber"] for c in proxy.calls if c.operation == "UploadPart"]


@pytest.mark.parametrize("wait", ["bytes", "room", "memory"])
async def test_a_failure_of_the_store_waits_for_no_client(wait: str, moto: Moto) -> None:
    async def endless() -> AsyncIterator[bytes]:
        async for chunk in chunks_of(CONTENT if wait == "room" else CONTENT[: 6 * MIB]):
            yield chunk
        await anyio.sleep_forever()

    with FaultProxy(moto.endpoint) as proxy:
        place = new_place(moto, proxy.endpoint, memory=2 * PART)
        store = place.store()
        if wait == "room":
            store._window = Window(2)
        if wait == "memory":
            await store._budget.take(PART)
        upload = await store.create(new_upload(length=len(CONTENT) + 1))
        proxy.fail("error_501", operation="UploadPart")
        with anyio.fail_after(60), pytest.raises(ClientError, match="NotImplemented"):
            await store.append(upload, endless())


# The date.


class Slow:
    """A client that sends a byte in a quarter of the time that an upload lives."""

    window = timedelta(minutes=1)

    def __init__(self, place: Place) -> None:
        self.now = NOW
        self.seen: list[Upload] = []
        self.store = place.store(name="one", clock=lambda: self.now)
        self._other = place.store(name="other")

    async def bytes(self, upload: Upload, count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            self.now += self.window / 4
            yield CONTENT[number : number + 1]
            self.seen.append(await self._renewed(upload))

    async def _renewed(self, upload: Upload) -> Upload:
        for _ in range(500):  # it may be on its way to the store for a while
            found = await self._other.get(upload.id)
            assert found.expires is not None
            if found.expires == self.now + self.window:
                return found
            await anyio.sleep(0.02)
        raise AssertionError("the date stands still although bytes arrive")


async def test_the_last_byte_moves_the_date_and_is_not_shown(place: Place) -> None:
    slow = Slow(place)
    new = new_upload(length=8, expires=NOW + Slow.window, expires_after=Slow.window)
    upload = await slow.store.create(new)
    kept = await slow.store.append(upload, slow.bytes(upload, 8))
    assert [found.offset for found in slow.seen][-1] < 8
    assert kept.offset == 8


@pytest.mark.parametrize("begun", [0, 3, 6 * MIB])
async def test_staged_bytes_move_the_date_and_nothing_else(begun: int, place: Place) -> None:
    slow, expires = Slow(place), NOW + Slow.window
    dates = {"expires": expires, "expires_after": Slow.window}
    upload = await filled(slow.store, CONTENT[: 12 * MIB], begun, **dates)
    changed = replace(upload, facts={"kind": "mp4"})
    kept = await slow.store.append(changed, slow.bytes(upload, 9), staged=True)
    for found in slow.seen:
        assert replace(found, expires=upload.expires) == upload
    assert slow.seen[-1].expires is not None and slow.seen[-1].expires > expires
    assert (kept.offset, kept.facts) == (begun + 9, {"kind": "mp4"})
    assert kept == await place.store().get(upload.id) and not kept.is_expired(slow.now)


@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
async def test_a_refusal_takes_everything_back_but_a_later_date(
    is_staged: bool, place: Place
) -> None:
    slow = Slow(place)
    dates = {"expires": NOW + Slow.window, "expires_after": Slow.window}
    upload = await filled(slow.store, CONTENT[:MIB], 10, **dates)

    async def refused() -> AsyncIterator[bytes]:
        async for chunk in slow.bytes(upload, 9):
            yield chunk
        raise TooLarge("one too many")

    changed = replace(upload, facts={"kind": "mp4"})
    with pytest.raises(TooLarge):
        await slow.store.append(changed, refused(), staged=is_staged)
    kept = await place.store().get(upload.id)
    assert not kept.is_expired(slow.now)
    assert replace(kept, expires=upload.expires) == upload


WAITS = {
    "a part": (12 * MIB, {"operation": "UploadPart"}),
    "the last part": (7 * MIB, {"operation": "UploadPart", "at": 2}),
    "a segment": (400 * KIB, {"operation": "PutObject", "key": "/pieces/"}),
    "memory": (400 * KIB, None),
}
"""What an append waits for, how much it has sent by then, and the call that takes its time."""


@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
@pytest.mark.parametrize("wait", WAITS)
async def test_the_date_moves_while_what_has_come_waits(
    wait: str, is_staged: bool, moto: Moto
) -> None:
    """However long it takes, and though no more bytes come meanwhile."""
    size, fault = WAITS[wait]
    length = size if "part" in wait else 7 * MIB
    now, window = NOW, timedelta(seconds=0.2)
    done = anyio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in chunks_of(CONTENT[:size]):
            yield chunk
        if "part" not in wait:
            await done.wait()

    with FaultProxy(moto.endpoint) as proxy:
        place = new_place(moto, proxy.endpoint, memory=2 * PART)
        store = place.store(name="one", clock=lambda: now)
        other = place.store(moto.endpoint, name="other")
        upload = await store.create(
            new_upload(length=length, expires=NOW + window, expires_after=window)
        )
        before = upload
        held = await store._budget.take(2 * PART if fault is None else 0)
        stalled = None if fault is None else proxy.fail("stall", **fault)
        async with anyio.create_task_group() as tasks:

            async def append() -> None:
                nonlocal upload
                upload = await store.append(upload, chunks(), staged=is_staged)

            tasks.start_soon(append)
            if stalled is not None:
                await run_sync(stalled.wait)
            try:
                for _ in range(3):
                    now += window
                    await dated(other, upload.id, now + window)
                seen = await other.get(upload.id)
                assert not is_staged or replace(seen, expires=before.expires) == before
            finally:
                store._budget.give(held)
                if stalled is not None:
                    stalled.release()
                done.set()
        assert upload == await place.store(moto.endpoint).get(upload.id)
        assert await place.content(other, upload) == CONTENT[:size]


async def test_a_date_that_has_moved_stays_when_numbers_are_reserved(
    moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_FIRST_SAVE", 600.0)  # the date alone is what is stored
    now, window = NOW, timedelta(seconds=0.2)
    with FaultProxy(moto.endpoint) as proxy:
        place = new_place(moto, proxy.endpoint)
        store = place.store(name="one", clock=lambda: now)
        other = place.store(moto.endpoint, name="other")
        upload = await filled(store, CONTENT, 6 * MIB, expires=NOW, expires_after=window)
        stalled = proxy.fail("stall", operation="UploadPart")

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal now
            now += window
            yield CONTENT[6 * MIB :][:1]
            await dated(other, upload.id, now + window)
            yield CONTENT[6 * MIB :][1 : 5 * MIB]
            await run_sync(stalled.wait)
            kept = await other.get(upload.id)
            stalled.release()
            assert (kept.offset, kept.expires) == (upload.offset, now + window)

        await store.append(upload, chunks())


async def test_the_date_that_an_append_leaves_is_not_moved_again(moto: Moto) -> None:
    window = timedelta(seconds=0.2)
    with FaultProxy(moto.endpoint) as proxy:
        place = new_place(moto, proxy.endpoint)
        puts = 1  # of the creation

        def clock() -> datetime:  # time passes while the last manifest is on its way
            return NOW if len(state_puts(proxy)) == puts else NOW + window

        store = place.store(clock=clock)
        upload = await store.create(
            new_upload(length=10, expires=NOW + window, expires_after=window)
        )
        stalled = proxy.fail("stall", operation="PutObject")
        async with anyio.create_task_group() as tasks:

            async def append() -> None:
                nonlocal upload
                upload = await store.append(upload, chunks_of(CONTENT[:3]))

            tasks.start_soon(append)
            await run_sync(stalled.wait)
            await anyio.sleep(window.total_seconds() / 2)
            stalled.release()
        assert (upload.offset, upload.expires) == (3, NOW + window)
        assert len(state_puts(proxy)) == puts + 1


def state_puts(proxy: FaultProxy) -> list[Call]:
    return [c for c in proxy.calls if c.operation == "PutObject" and "/state/" in c.key]


async def dated(store: S3Store, upload_id: str, expires: datetime) -> None:
    """Return when the upload has this date."""
    for _ in range(1000):
        if (await store.get(upload_id)).expires == expires:
            return
        await anyio.sleep(0.01)
    raise AssertionError("the date stands still although bytes have come")


async def test_refused_bytes_are_taken_back_although_the_request_is_cancelled_meanwhile(
    place: Place, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = place.store(name="one"), place.store(name="other")
    upload = await store.create(new_upload(length=MIB))
    swap, taken_back = Bucket.swap, []
    with anyio.CancelScope() as request:

        async def too_many() -> AsyncIterator[bytes]:
            yield CONTENT[:1000]
            while (await other.get(upload.id)).offset == 0:  # noqa: ASYNC110
                await anyio.sleep(0.02)
            monkeypatch.setattr(Bucket, "swap", cancelled)
            raise TooLarge("the body runs past the end of the upload")

        async def cancelled(bucket: Bucket, old: Manifest, new: Manifest) -> Manifest:
            request.cancel()
            taken_back.append(new)
            return await swap(bucket, old, new)

        with pytest.raises(TooLarge):
            await store.append(upload, too_many())
    assert [manifest.offset for manifest in taken_back] == [0]
    assert await other.get(upload.id) == upload


async def test_an_append_that_is_overtaken_while_a_part_is_on_its_way_ends(
    moto: Moto,
) -> None:
    now, window = NOW, timedelta(seconds=0.2)
    with FaultProxy(moto.endpoint) as proxy:
        place = new_place(moto, proxy.endpoint)
        store = place.store(name="one", clock=lambda: now)
        other = place.store(moto.endpoint, name="other")
        upload = await store.create(
            new_upload(length=12 * MIB, expires=NOW + window, expires_after=window)
        )
        stalled = proxy.fail("stall", operation="UploadPart")
        async with anyio.create_task_group() as tasks:

            async def append() -> None:
                async with aclosing(chunks_of(CONTENT)) as chunks:
                    with pytest.raises(WriteConflict):
                        await store.append(upload, chunks)

            tasks.start_soon(append)
            await run_sync(stalled.wait)
            taken = await appended(other, upload, CONTENT[:100])
            now += window
            for _ in range(3000):
                if any(call.status == 412 for call in proxy.calls):
                    break
                await anyio.sleep(0.02)
            else:
                raise AssertionError("the writer does not find out")
            stalled.release()
        assert await other.get(upload.id) == taken
        assert multiparts(await place.left()) == []


async def test_an_append_that_is_overtaken_ends_although_its_client_hangs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds out when the date is to be moved, if it has nothing to save."""
    monkeypatch.setattr(writer, "_FIRST_SAVE", 600.0)
    now, window = NOW, timedelta(seconds=0.2)
    store, other = place.store(name="one", clock=lambda: now), place.store(name="other")
    upload = await store.create(
        new_upload(length=12 * MIB, expires=NOW + window, expires_after=window)
    )
    taken = upload

    async def hanging() -> AsyncIterator[bytes]:
        nonlocal now, taken
        yield CONTENT[:1]
        taken = await appended(other, upload, CONTENT[:100])
        now += window
        await anyio.sleep_forever()

    with anyio.fail_after(60), pytest.raises(WriteConflict):
        await store.append(upload, hanging())
    assert await other.get(upload.id) == taken


async def test_an_append_of_nothing_moves_no_date(place: Place) -> None:
    store, window = place.store(), timedelta(seconds=0.1)
    upload = await filled(store, CONTENT[:MIB], 10, expires=NOW, expires_after=window)

    async def nothing() -> AsyncIterator[bytes]:
        await anyio.sleep(window.total_seconds())
        for chunk in ():
            yield chunk

    for is_staged in (False, True):
        await store.append(upload, nothing(), staged=is_staged)
    assert await place.store().get(upload.id) == upload


# What is left over.


async def test_a_segment_of_an_append_that_was_overtaken_is_removed_at_once(place: Place) -> None:
    store, other = place.store(name="one"), place.store(name="other")
    upload = await store.create(new_upload(length=12 * MIB))
    wire, taken = Wire(store), upload

    async def overtake(number: int, name: str, parameters: dict[str, Any]) -> None:
        nonlocal taken
        if name == "put_object" and "/pieces/" in parameters["Key"]:
            taken = await appended(other, upload, CONTENT[:100])

    wire.before = overtake
    async with wire.listening():
        with pytest.raises(WriteConflict):
            await appended(store, upload, CONTENT[: 400 * KIB])
    assert not [name for name in await place.left() if "/pieces/" in name]
    assert await other.get(upload.id) == taken


async def test_a_page_of_parts_that_were_refused_is_removed_by_the_next_append(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_PAGE_PARTS", 1)
    monkeypatch.setattr(committing, "_RESERVED", 1)
    store, content = place.store(), CONTENT + OTHER
    store._window = Window(1)  # each part has arrived when a number is reserved for the next
    upload = await filled(store, content, PART)
    with pytest.raises(TooLarge):
        chunks = chunks_of(content[PART:][: 4 * PART], error=TooLarge("one too many"))
        await store.append(upload, chunks, staged=True)
    assert [name for name in await place.left() if "/pieces/" in name]
    await appended(store, await store.get(upload.id), content[PART:][:1])
    assert not [name for name in await place.left() if "/pieces/" in name]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_came_is_not_saved_when_no_more_follows(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is."""
    monkeypatch.setattr(writer, "_FIRST_SAVE", 0.01)
    store = place.store()
    upload = await store.create(new_upload(length=12 * MIB))
    wire, ended = Wire(store), anyio.Event()
    manifests: list[str] = []

    async def chunks() -> AsyncIterator[bytes]:
        yield CONTENT[: 6 * MIB]
        ended.set()

    async def wait(number: int, name: str, parameters: dict[str, Any]) -> None:
        if name == "upload_part":
            await ended.wait()
            await anyio.sleep(0.05)
        if "/state/" in parameters.get("Key", ""):
            manifests.append(name)

    wire.before = wait
    async with wire.listening():
        assert (await store.append(upload, chunks())).offset == 6 * MIB
    assert manifests == ["put_object"]


# The memory that all appends share.


async def test_a_cancelled_waiter_holds_up_nobody_and_takes_nothing() -> None:
    budget = Budget(10)
    assert await budget.take(6) == 6
    got: list[int] = []

    async def wait(size: int) -> None:
        got.append(await budget.take(size))

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as impatient:
                impatient.start_soon(wait, 10)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(wait, 4)
                await anyio.wait_all_tasks_blocked()
                assert got == []  # first come, first served
                scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert got == [4]
    budget.give(4)
    budget.give(6)
    with anyio.fail_after(1):
        assert await budget.take(10) == 10


async def test_a_waiter_that_is_cancelled_when_its_turn_has_come_gives_it_back() -> None:
    budget = Budget(10)
    await budget.take(10)
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as impatient:
                impatient.start_soon(budget.take, 7)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                budget.give(10)  # before it hears of either
        tasks.cancel_scope.cancel()
    with anyio.fail_after(1):
        assert await budget.take(10) == 10


async def test_a_budget_is_whole_again_whoever_was_cancelled() -> None:
    chance = random.Random(7)
    budget = Budget(10)
    held = 0

    async def work() -> None:
        nonlocal held
        with anyio.move_on_after(chance.random() / 500):
            async with budget.taken(size := chance.randrange(1, 13)):
                held += min(size, 10)
                assert held <= 10
                try:
                    await anyio.sleep(chance.random() / 500)
                finally:
                    held -= min(size, 10)

    with anyio.fail_after(20):
        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(work)
                    if chance.random() < 0.5:
                        await checkpoint()
        assert await budget.take(10) == 10
