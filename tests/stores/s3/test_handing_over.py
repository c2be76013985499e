"""A hand-over in a bucket: killed at every call, beside other servers, copied by the server."""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tests.stores.s3._scenes import (
    CONTENT,
    KIB,
    MIB,
    PART,
    THOROUGH,
    Killed,
    Listener,
    Place,
    Wire,
    filled,
    read,
)
from tests.stores.s3.test_crash import is_killed_by
from tusasgi import (
    FinalResponse,
    Hooks,
    Rejected,
    Upload,
    UploadNotFound,
    UploadPending,
    Uploads,
)
from tusasgi.stores import DestinationTaken
from tusasgi.stores.s3 import S3Object, S3Store, handing_over
from tusasgi.testing.stores import NOW

pytestmark = pytest.mark.anyio

SMALL, LARGE = 300 * KIB, 6 * MIB
MOST_CALLS = 60


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Host(Hooks):
    """Wants every upload in one place, and leaves it there, takes it, rejects it or forgets."""

    def __init__(self, place: Place, does: str) -> None:
        self.taken: list[str] = []
        self.uploads: Uploads | None = None
        self._place = place
        self._does = does

    @property
    def key(self) -> str:
        return f"{self._place.prefix}/files/2026/film.mp4"

    async def destination(self, upload: Upload) -> str | None:
        return "2026/film.mp4"

    async def completed(self, upload: Upload) -> FinalResponse | None:
        self.taken.append(await run_sync(self._digest))
        if self._does == "takes":
            await run_sync(self._delete)
        if self._does == "rejects":
            raise Rejected("a virus")
        if self._does == "forgets":
            assert self.uploads is not None
            await self.uploads.terminate(upload.id)
        return None

    def _digest(self) -> str:
        server = self._place.server
        found = server.client.get_object(Bucket=server.bucket, Key=self.key)
        with contextlib.closing(found["Body"]) as body:
            return hashlib.sha256(body.read()).hexdigest()

    def _delete(self) -> None:
        self._place.server.client.delete_object(Bucket=self._place.server.bucket, Key=self.key)


async def completed_by(store: S3Store, host: Host, upload: Upload) -> None:
    """Do what any request for the upload does, as a server that has just begun."""
    host.uploads = Uploads(store, hooks=host)
    with contextlib.suppress(Rejected):
        await host.uploads.get(upload.id)


async def check(place: Place, host: Host, upload: Upload, does: str) -> None:
    """Go on as the next server would, and see that all is as it has to be."""
    store = place.store()
    with contextlib.suppress(UploadNotFound):
        await completed_by(store, host, upload)
    assert set(host.taken) == {hashlib.sha256(CONTENT[: upload.offset]).hexdigest()}
    uploads = Uploads(store, hooks=host)
    await uploads.sweep()
    left = [host.key] if does in ("leaves", "forgets") else []
    if does in ("leaves", "takes"):
        kept = await place.store().get(upload.id)
        assert (kept.is_handed_over, kept.offset) == (True, upload.offset)
        assert sorted(await place.left()) == sorted([*left, f"{place.prefix}/state/{upload.id}"])
        assert [found async for found in store.due(NOW)] == []
        await uploads.terminate(upload.id)
    with pytest.raises(UploadNotFound):
        await store.get(upload.id)
    assert await place.left() == left
    if left:
        assert await run_sync(host._digest) == host.taken[0]
        await run_sync(host._delete)


COPYING = ("create_multipart_upload", "upload_part_copy", "complete_multipart_upload")
ANY = ("",)


@pytest.mark.parametrize(
    ("size", "does", "calls"),
    [
        (SMALL, "leaves", ANY),
        (SMALL, "rejects", ANY),
        (LARGE, "takes", COPYING),
        *([(LARGE, does, ANY) for does in ("takes", "rejects", "forgets")] if THOROUGH else []),
    ],
)
async def test_a_server_that_dies_at_any_call_has_handed_over_what_the_next_one_completes(
    size: int, does: str, calls: tuple[str, ...], place: Place
) -> None:
    """When the call took effect: before the next one, nothing else has happened."""
    for number in range(1, MOST_CALLS):
        host = Host(place, does)
        store = place.store(name="dying")
        upload = await filled(store, CONTENT[:size], size, expires=None)
        wire = Wire(store)
        wire.after = dying(wire, number, calls)
        async with wire.listening():
            try:
                await completed_by(store, host, upload)
            except (Killed, BaseExceptionGroup) as error:
                assert is_killed_by(error)
            except UploadPending:
                assert wire.is_dead
        await check(place, host, upload, does)
        if not wire.is_dead:
            assert number > 3
            return
    pytest.fail("it calls without end")


def dying(wire: Wire, number: int, calls: tuple[str, ...]) -> Listener:
    """Kill at the n-th call of these kinds."""
    left = number

    async def die(seen: int, name: str, parameters: dict[str, Any]) -> None:
        nonlocal left
        left -= name.startswith(calls)
        if left == 0:
            wire.kill()

    return die


async def finished(store: S3Store, size: int, destination: str = "x") -> Upload:
    upload = await store.finish(await filled(store, CONTENT[:size], size, expires=None))
    return await store.update(replace(upload, destination=destination))


async def test_a_large_object_is_copied_in_parts_by_the_server(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing_over, "_COPY_SIZE", PART)
    monkeypatch.setattr(handing_over, "_AT_ONCE", 2)
    store = place.store()
    upload = await finished(store, 2 * PART + MIB)
    async with Wire(store).listening() as wire:
        await store.hand_over(upload)
    assert wire.names.count("upload_part_copy") == 3
    assert not {"put_object", "upload_part", "get_object"} & set(wire.names)
    complete = await store.update(replace(upload, is_complete=True))
    assert await read(place.store(), complete) == CONTENT[: 2 * PART + MIB]


async def test_the_copy_has_what_describe_says_of_the_object(place: Place) -> None:
    def describe(upload: Upload) -> S3Object:
        return S3Object(key=f"{upload.id}.mp4", content_type="video/mp4", metadata={"a": "b"})

    for size in (SMALL, LARGE):
        store = place.store(describe=describe)
        upload = await finished(store, size, f"films/{size}")
        await store.hand_over(upload)
        await store.update(replace(upload, is_complete=True))
        about = await run_sync(
            lambda key: place.server.client.head_object(Bucket=place.server.bucket, Key=key),
            f"{place.prefix}/files/films/{size}",
        )
        assert (about["ContentType"], about["Metadata"]["a"]) == ("video/mp4", "b")


async def test_an_object_that_describe_has_put_there_is_neither_copied_nor_removed(
    place: Place,
) -> None:
    store = place.store(describe=lambda upload: S3Object(key=f"files/films/{upload.id}"))
    upload = await store.finish(await filled(store, CONTENT[:LARGE], LARGE))
    upload = await store.update(replace(upload, destination=f"films/{upload.id}"))
    async with Wire(store).listening() as wire:
        await store.hand_over(upload)
    assert wire.names == []
    upload = await store.update(replace(upload, is_complete=True))
    await store.terminate(upload.id)
    assert await place.left() == [f"{place.prefix}/files/films/{upload.id}"]


Other = Callable[[S3Store, Upload], Awaitable[None]]


async def completes(store: S3Store, upload: Upload) -> None:
    if not upload.is_complete:
        await store.hand_over(upload)
        await store.update(replace(upload, is_complete=True))


async def completes_and_terminates(store: S3Store, upload: Upload) -> None:
    await completes(store, upload)
    await store.terminate(upload.id)


async def removes(store: S3Store, upload: Upload) -> None:
    """As the engine does."""
    upload = await store.update(replace(upload, removal="terminated"))
    if not upload.is_complete:
        await store.take_back(upload)


@pytest.mark.parametrize(
    ("other", "size"),
    [
        (completes, SMALL),
        (completes_and_terminates, SMALL),
        (removes, SMALL),
        *(
            [(one, LARGE) for one in (completes, completes_and_terminates, removes)]
            if THOROUGH
            else []
        ),
    ],
)
async def test_a_server_that_stands_still_anywhere_changes_nothing_that_another_one_did(
    other: Other, size: int, place: Place
) -> None:
    """At each call of the slow one another one, which shares no lock with it, does all it can."""
    for number in range(1, MOST_CALLS):
        slow, fast = place.store(name="slow"), place.store(name="fast")
        upload = await finished(slow, size, f"{number}/x")
        wire = Wire(slow)
        found: list[Upload] = []
        wire.before = coming(number, other, fast, upload, found)
        async with wire.listening():
            with contextlib.suppress(Exception):
                await slow.hand_over(upload)
                await slow.update(replace(upload, is_complete=True))
        if not found:
            assert number > 3
            return
        is_left = other is not removes or found[0].is_complete
        assert (f"{place.prefix}/files/{number}/x" in await place.left()) is is_left
    pytest.fail("it calls without end")


def coming(number: int, other: Other, store: S3Store, upload: Upload, found: list[Upload]) -> Any:
    async def come(seen: int, name: str, parameters: dict[str, Any]) -> None:
        if seen == number:
            found.append(await store.get(upload.id))
            await other(store, found[0])

    return come


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_of_two_servers_that_want_one_place_one_gets_it(size: int, place: Place) -> None:
    one, other = place.store(name="one"), place.store(name="other")
    first, second = await finished(one, size), await finished(other, size)
    wire = Wire(one)
    has_come = False

    async def come(seen: int, name: str, parameters: dict[str, Any]) -> None:
        nonlocal has_come
        if name in ("put_object", "create_multipart_upload") and not has_come:
            has_come = True
            await other.hand_over(second)

    wire.before = come
    async with wire.listening():
        with pytest.raises(DestinationTaken):
            await one.hand_over(first)
    second = await other.update(replace(second, is_complete=True))
    assert await read(place.store(), second) == CONTENT[:size]


@pytest.mark.parametrize(("size", "calls"), [(SMALL, 5), (LARGE, 8)])
async def test_a_hand_over_costs_so_many_calls(size: int, calls: int, place: Place) -> None:
    counts = []
    for host in (Hooks(), Host(place, "leaves")):
        store = place.store()
        upload = await filled(store, CONTENT[:size], size, expires=None)
        async with Wire(store).listening() as wire:
            await Uploads(store, hooks=host).get(upload.id)
        counts.append(wire.count)
    assert counts[1] - counts[0] == calls
