"""Particular claims of the S3 store.

On asyncio alone: the way from trio is that of every call, and the suite for stores goes it.
"""

import http.client
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import anyio
import pytest
from aiohttp import web
from anyio.to_thread import run_sync

from tests._stage import OCTETS, TUS
from tests.services import faults
from tests.services.faults import Call, FaultProxy
from tests.services.s3 import S3Server, SeaweedFS
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
    completed,
    filled,
    new_place,
    read,
    swept,
)
from tests.stores.s3._server import store_on
from tusasgi import (
    StoreUnavailable,
    TusApp,
    Upload,
    UploadExpired,
    UploadNotFound,
    UploadPending,
    Uploads,
)
from tusasgi.models import Creation
from tusasgi.stores import BytesLost, PartLost, WriteConflict
from tusasgi.stores.s3 import S3Object, S3Store, client
from tusasgi.stores.s3.bucket import DescribeFailed
from tusasgi.stores.s3.failures import Gone
from tusasgi.stores.s3.manifest import Part, load_manifest
from tusasgi.stores.s3.rope import Rope
from tusasgi.testing import ASGIDriver
from tusasgi.testing.stores import new_upload

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def either(s3_server: S3Server) -> Place:
    """A place on each server in turn."""
    return new_place(s3_server)


# The start.


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
async def test_a_server_that_ignores_conditions_is_refused(
    header: str, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = (*faults._HOP_BY_HOP, header.lower())
    monkeypatch.setattr(faults, "_HOP_BY_HOP", dropped)
    prefix = secrets.token_hex(6)
    with FaultProxy(moto.endpoint) as proxy:
        store = store_on(moto, prefix, endpoint=proxy.endpoint)
        for _ in range(2):
            with pytest.raises(RuntimeError, match=f"ignores {header} on PutObject"):
                await store.create(new_upload())
    assert await run_sync(moto.keys, moto.bucket, prefix) == []


async def test_the_check_leaves_nothing_and_is_made_once(either: Place) -> None:
    store = either.store(check=True)
    wire = Wire(store)
    async with store, wire.listening():
        assert await either.left() == []
        await store.create(new_upload())
    assert wire.names == ["put_object"]


async def test_a_server_that_is_away_at_the_start_is_tried_again(seaweedfs: SeaweedFS) -> None:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        config = {"retries": {"total_max_attempts": 1}}
        store = store_on(
            seaweedfs, secrets.token_hex(6), endpoint=proxy.endpoint, config_kwargs=config
        )
        proxy.fail("error_503", times=None)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.create(new_upload())
        proxy.heal()
        await store.create(new_upload())


def test_settings_that_are_not_given_stay_as_the_store_needs_them() -> None:
    given = {"s3": {"addressing_style": "path"}, "retries": {"total_max_attempts": 2}}
    store = S3Store("s3://bucket", config_kwargs={**given, "read_timeout": 5})
    config = store._client._session._options["config_kwargs"]
    assert config["s3"] == {"addressing_style": "path", "payload_signing_enabled": False}
    assert config["retries"] == {"mode": "standard", "total_max_attempts": 2}
    assert (config["read_timeout"], config["signature_version"]) == (5, "s3v4")


# What a rule of the bucket may do.


async def test_an_upload_whose_parts_were_taken_away_is_gone_and_never_complete(
    place: Place,
) -> None:
    store = place.store()
    content = CONTENT[: 12 * MIB]
    upload = await filled(store, content, 6 * MIB)
    full = await filled(store, content[: 6 * MIB], 6 * MIB)
    await strike(place, store, upload, full)
    with pytest.raises(BytesLost):
        await appended(store, upload, content[6 * MIB :])
    with pytest.raises(BytesLost):
        await store.finish(full)
    for kept in (upload, full):
        assert not (await place.store().get(kept.id)).is_complete
        await store.terminate(kept.id)
    assert await place.left() == []


async def test_a_client_hears_410_when_the_parts_were_taken_away(place: Place) -> None:
    store = place.store()
    driver = ASGIDriver(TusApp(Uploads(store), prefix="/files"), root_path="/files", headers=TUS)
    upload = await filled(store, CONTENT[: 12 * MIB], 6 * MIB, expires=None)
    await strike(place, store, upload)
    headers = {"Upload-Offset": f"{6 * MIB}", "Content-Type": OCTETS}
    answer = await driver.request("PATCH", f"/{upload.id}", headers, CONTENT[6 * MIB : 12 * MIB])
    assert answer.status == 410
    answer = await driver.request("HEAD", f"/{upload.id}")
    assert answer.status == 200
    assert answer.headers["upload-offset"] != answer.headers["upload-length"]


async def strike(place: Place, store: S3Store, *uploads: Upload) -> None:
    """Do what a rule does that aborts unfinished uploads."""
    for upload in uploads:
        manifest = await store._bucket.read(upload.id)
        assert manifest.object is not None and manifest.multipart_id is not None
        await store._bucket.abort(store._bucket.key_of(manifest.object), manifest.multipart_id)


# Bytes that change on their way.


class Damaging(FaultProxy):
    """Changes the first byte of the next bodies whose call is the one named."""

    operation = ""
    times = 0

    async def _body(self, request: web.BaseRequest, call: Call) -> AsyncIterator[bytes]:
        is_damaged = call.operation == self.operation and self.times > 0
        self.times -= is_damaged
        async for chunk in super()._body(request, call):
            yield bytes([chunk[0] ^ 1]) + chunk[1:] if is_damaged else chunk
            is_damaged = False


@pytest.fixture
def damaging(seaweedfs: SeaweedFS) -> Iterator[Damaging]:
    with Damaging(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def damaged(seaweedfs: SeaweedFS, damaging: Damaging) -> Place:
    return new_place(seaweedfs, damaging.endpoint)


@pytest.mark.parametrize("operation", ["UploadPart", "PutObject"])
@pytest.mark.parametrize("integrity", ["md5", "crc32"])
async def test_bytes_that_are_damaged_on_the_way_are_not_kept(
    integrity: str, operation: str, damaged: Place, damaging: Damaging
) -> None:
    store = damaged.store(integrity=integrity)
    content = CONTENT[: 12 * MIB]
    upload = await filled(store, content, 300 * KIB)
    damaging.operation, damaging.times = operation, 1
    with pytest.raises(StoreUnavailable):
        await appended(store, upload, content[upload.offset : 7 * MIB])
    assert damaging.times == 0
    upload = await store.get(upload.id)
    assert await damaged.content(store, upload) == content[: upload.offset]
    upload = await completed(store, await appended(store, upload, content[upload.offset :]))
    assert await read(store, upload) == content


@pytest.mark.parametrize("integrity", ["md5", "crc32", "none"])
async def test_the_truth_is_proved_whatever_the_integrity(
    integrity: str, damaged: Place, damaging: Damaging
) -> None:
    store = damaged.store(integrity=integrity)
    upload = await filled(store, CONTENT[: 12 * MIB], 300 * KIB)
    manifest = await store._bucket.read(upload.id)
    damaging.operation = "PutObject"
    damaging.times = 1
    with pytest.raises(StoreUnavailable):
        await store.update(replace(upload, facts={"kind": "mp4"}))
    assert await damaged.store().get(upload.id) == upload
    damaging.times = 1
    parts = tuple(Part(number=number, etag='"0"') for number in range(1, 1002))
    with pytest.raises(StoreUnavailable):
        await store._bucket.paged(replace(manifest, parts=parts))
    assert damaging.times == 0


@pytest.mark.parametrize("integrity", ["md5", "crc32", "none"])
async def test_every_kind_of_integrity_completes(integrity: str, either: Place) -> None:
    store = either.store(integrity=integrity)
    for length, sizes in ((12 * MIB, [6 * MIB, 6 * MIB]), (300 * KIB, [300 * KIB])):
        upload = await completed(store, await filled(store, CONTENT[:length], *sizes))
        assert await read(store, upload) == CONTENT[:length]
    parts = [
        await completed(store, await filled(store, content, len(content), is_partial=True))
        for content in (CONTENT[: 6 * MIB], OTHER[: 6 * MIB])
    ]
    final = await store.create(new_upload(length=12 * MIB, parts=tuple(part.id for part in parts)))
    final = await completed(store, await store.concat(final))
    assert await read(store, final) == CONTENT[: 6 * MIB] + OTHER[: 6 * MIB]


# How an upload is stored in the end.


def by_facts(upload: Upload) -> S3Object:
    kind = upload.facts["kind"]
    return S3Object(
        key=f"films/2026/{upload.id}.{kind}",
        content_type=f"video/{kind}",
        content_disposition="inline",
        metadata={"owner": "somebody"},
    )


@pytest.mark.parametrize("length", [0, 300 * KIB, 6 * MIB])
async def test_an_object_is_stored_as_its_facts_say(length: int, either: Place) -> None:
    store = either.store(describe=by_facts)
    upload = await store.create(new_upload(length=length, facts={"kind": "mp4"}))
    if length:
        upload = await appended(store, upload, CONTENT[:length])
    upload = await completed(store, upload)
    key = f"{either.prefix}/films/2026/{upload.id}.mp4"
    answer = await run_sync(head, either.server, key)
    assert answer["ContentLength"] == length
    assert answer["ContentType"] == "video/mp4"
    assert answer["ContentDisposition"] == "inline"
    assert answer["Metadata"] == {"owner": "somebody"}
    await store.terminate(upload.id)
    assert await either.left() == []


async def test_the_facts_that_come_with_the_first_bytes_decide(either: Place) -> None:
    store = either.store(describe=by_facts)
    upload = await store.create(new_upload(length=300 * KIB))
    upload = replace(upload, facts={"kind": "webm"})
    upload = await completed(store, await appended(store, upload, CONTENT[: 300 * KIB]))
    key = f"{either.prefix}/films/2026/{upload.id}.webm"
    assert (await run_sync(head, either.server, key))["ContentType"] == "video/webm"


@pytest.mark.parametrize("length", [300 * KIB, 6 * MIB])
async def test_what_was_decided_with_the_first_bytes_stays(length: int, either: Place) -> None:
    kinds = ["mp4"]

    def describe(upload: Upload) -> S3Object:
        return S3Object(key=f"objects/{upload.id}.{kinds[-1]}")

    store = either.store(describe=describe)
    upload = await filled(store, CONTENT[:length], 10)
    kinds.append("webm")
    upload = await completed(store, await appended(store, upload, CONTENT[10:length]))
    names = [name for name in await either.left() if "/objects/" in name]
    assert names == [f"{either.prefix}/objects/{upload.id}.mp4"]


def head(server: S3Server, key: str) -> dict[str, Any]:
    found: dict[str, Any] = server.client.head_object(Bucket=server.bucket, Key=key)
    return found


# What a host's own lookup may raise, of another upload perhaps.
FAILURES = [
    UploadExpired("another one"),
    UploadNotFound(),
    StoreUnavailable("elsewhere"),
    WriteConflict(),
    BytesLost(),
    PartLost(),
    Gone("NoSuchKey"),
    KeyError("kind"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_what_describe_raises_is_a_failure_of_the_host_and_refuses_nothing(
    failure: Exception, place: Place
) -> None:
    failures = [failure]

    def describe(upload: Upload) -> S3Object:
        if failures and not upload.is_partial:
            raise failures[0]
        return S3Object(key=f"objects/{upload.id}")

    uploads = Uploads(store := place.store(describe=describe))
    # With the first bytes: a failure like any other.
    for length in (300 * KIB, 7 * MIB):
        upload = await uploads.create(length=length)
        for is_staged in (False, True):
            with pytest.raises(DescribeFailed) as raised:
                await store.append(upload, chunks_of(CONTENT[:length]), staged=is_staged)
            assert raised.value.__cause__ is failure
        assert (await place.store().get(upload.id)).offset == 0
    # With the last byte: it is repeated until it works.
    fields = {"is_partial": True, "expires": None}
    part = await completed(store, await filled(store, CONTENT[:MIB], MIB, **fields))
    for creation in ({"length": 0}, {"length": MIB, "parts": (part.id,)}):
        name = secrets.token_hex(6)
        with pytest.raises(UploadPending):
            await uploads.create_from(Creation(upload_id=name, **creation))
        with pytest.raises(ExceptionGroup):
            await uploads.sweep()
        failures.clear()
        upload = await uploads.get(name)
        assert upload.is_complete and upload.removal is None
        assert await read(store, upload) == CONTENT[: upload.offset]
        failures.append(failure)


BAD_KEYS = [
    "",
    "{id}/",
    "/{id}",
    "other",
    "x{id}",
    "{id}x",
    "{id}-1.mp4",
    "a//{id}",
    "../{id}",
    "a/./{id}",
    "a/../{id}",
    "state/{id}",
    "pieces/{id}",
    "pieces/x/{id}.mp4",
    "a\n/{id}",
    "{id}.\0",
    "é" * 400 + "/{id}",
]


@pytest.mark.parametrize("length", [100 * KIB, 7 * MIB])
async def test_a_key_outside_the_rule_is_refused_before_anything_is_written(
    length: int, place: Place
) -> None:
    described = [""]
    store = place.store(describe=lambda upload: S3Object(key=described[0].format(id=upload.id)))
    upload = await store.create(new_upload(length=length))
    before = await place.left()
    for key in BAD_KEYS:
        described[0] = key
        with pytest.raises(ValueError, match="the key of an object must end in the id"):
            await appended(store, upload, CONTENT[:length])
        assert (await store.get(upload.id)).offset == 0
    assert await place.left() == before


# Links.


def follow(link: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    url = urlsplit(link)
    connection = http.client.HTTPConnection(url.netloc, timeout=10)
    try:
        connection.request("GET", f"{url.path}?{url.query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("length", [0, 300 * KIB, 6 * MIB])
async def test_a_link_gives_the_bytes_and_ranges_of_them(length: int, place: Place) -> None:
    store = place.store()
    upload = await store.create(new_upload(length=length))
    if length:
        with pytest.raises(UploadNotFound):
            await store.link(upload)
        upload = await appended(store, upload, CONTENT[:length])
    with pytest.raises(UploadNotFound):
        await store.link(upload)
    upload = await completed(store, upload)
    link = await store.link(upload, content_type="video/mp4")
    status, headers, body = await run_sync(follow, link)
    assert (status, headers["Content-Type"], body) == (200, "video/mp4", CONTENT[:length])
    if length:
        status, headers, body = await run_sync(lambda: follow(link, Range="bytes=5-9"))
        assert (status, body) == (206, CONTENT[5:10])
        assert headers["Content-Range"] == f"bytes 5-9/{length}"
    await store.terminate(upload.id)
    assert (await run_sync(follow, link))[0] == 404
    with pytest.raises(UploadNotFound):
        await store.link(upload)


@pytest.mark.parametrize(
    ("filename", "plain"),
    [
        ("film.mp4", "film.mp4"),
        ("Zoë \N{SNOWMAN}.mp4", "Zo_ _.mp4"),
        ('a"b\\c/d;e.mp4', "a_b_c_d;e.mp4"),
        ("a\r\nX-Evil: 1\t\0.mp4", "a__X-Evil: 1__.mp4"),
    ],
)
async def test_a_link_names_the_file(filename: str, plain: str, place: Place) -> None:
    store = place.store()
    upload = await completed(store, await filled(store, CONTENT[:100], 100))
    link = await store.link(upload, filename=filename)
    status, headers, body = await run_sync(follow, link)
    assert (status, body) == (200, CONTENT[:100])
    assert "X-Evil" not in headers
    disposition, quoted = headers["Content-Disposition"].split("; filename*=UTF-8''")
    assert disposition == f'attachment; filename="{plain}"'
    assert unquote(quoted) == filename


async def test_a_link_expires(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.store()
    upload = await completed(store, await filled(store, CONTENT[:100], 100))
    past = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=61)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: past)
    link = await store.link(upload, seconds=60)
    good = await store.link(upload, seconds=900)
    monkeypatch.undo()
    assert (await run_sync(follow, link))[0] == 403
    assert (await run_sync(follow, good))[0] == 200
    assert (await run_sync(follow, good.replace(upload.id, f"{upload.id}x")))[0] == 403


# Found when the algorithm was tried out.


@pytest.mark.parametrize("length", [300 * KIB, 6 * MIB])
async def test_two_appends_of_one_server_do_not_share_what_they_change(
    length: int, place: Place
) -> None:
    store = place.store()
    upload = await store.create(new_upload(length=2 * length))
    results: list[Upload | Exception] = []

    async def append(content: bytes) -> None:
        try:
            results.append(await appended(store, upload, content))
        except WriteConflict as refusal:
            results.append(refusal)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(append, CONTENT[:length])
        tasks.start_soon(append, OTHER[:length])
    assert sorted(isinstance(result, Upload) for result in results) == [False, True]
    kept = await place.store().get(upload.id)
    assert kept.offset == length
    assert await place.content(store, kept) in (CONTENT[:length], OTHER[:length])
    await completed(store, await appended(store, kept, CONTENT[length : 2 * length]))
    await store.terminate(upload.id)
    await swept(store)
    assert await place.left() == []


async def test_an_object_is_written_only_from_what_was_decided(place: Place) -> None:
    one, other = place.store(name="one"), place.store(name="other")
    upload = await one.create(new_upload(length=300 * KIB))
    wire = Wire(other)

    async def be_faster(number: int, name: str, parameters: dict[str, Any]) -> None:
        if number == 1:
            await completed(one, await appended(one, upload, CONTENT[: 300 * KIB]))

    late = await other.get(upload.id)
    wire.before = be_faster
    async with wire.listening():
        with pytest.raises(WriteConflict):
            await completed(other, await appended(other, late, OTHER[: 300 * KIB]))
    assert await read(place.store(), await one.get(upload.id)) == CONTENT[: 300 * KIB]


async def _append(store: S3Store, upload: Upload) -> object:
    return await appended(store, upload, OTHER[: 200 * KIB])


async def _declare_length(store: S3Store, upload: Upload) -> object:
    return await store.declare_length(upload, MIB)


@pytest.mark.parametrize("change", [_append, _declare_length])
@pytest.mark.parametrize("remembered", [MIB, 0], ids=["seen since", "to be read"])
async def test_an_upload_that_was_read_before_its_last_change_is_not_changed(
    change: Callable[[S3Store, Upload], Awaitable[object]], remembered: int, place: Place
) -> None:
    """Whether this server has seen that change or not."""
    store = place.store(remembered=remembered)
    late = await store.create(new_upload(length=None))
    kept = await appended(store, late, CONTENT[: 100 * KIB])
    with pytest.raises(WriteConflict):
        await change(store, late)
    assert await store.get(late.id) == kept
    assert await place.content(store, kept) == CONTENT[: 100 * KIB]


async def test_who_loses_a_race_removes_what_it_has_stored(place: Place) -> None:
    one, other = place.store(name="one"), place.store(name="other")
    for length in (400 * KIB, 7 * MIB):
        upload = await one.create(new_upload(length=8 * MIB))
        late = await other.get(upload.id)
        await appended(one, upload, CONTENT[: 100 * KIB])
        before = await place.left()
        with pytest.raises(WriteConflict):
            await appended(other, late, OTHER[:length])
        assert await place.left() == before


async def test_a_joining_that_loses_a_race_leaves_no_parts(place: Place) -> None:
    store, other = place.store(name="one"), place.store(name="other")
    parts = [
        await completed(store, await filled(store, content, 6 * MIB, is_partial=True))
        for content in (CONTENT[: 6 * MIB], CONTENT[6 * MIB : 12 * MIB])
    ]
    names = tuple(part.id for part in parts)
    final = await store.create(new_upload(length=12 * MIB, parts=names))
    wire = Wire(store)

    async def overtake(number: int, name: str, parameters: dict[str, Any]) -> None:
        if name == "put_object":
            wire.before = None
            await completed(other, await other.concat(await other.get(final.id)))

    wire.before = overtake
    async with wire.listening():
        with pytest.raises(WriteConflict):
            await store.concat(final)
    assert not [name for name in await place.left() if "(multipart)" in name]
    assert await read(place.store(), await other.get(final.id)) == CONTENT[: 12 * MIB]


async def test_a_part_that_comes_after_another_server_has_completed_is_refused_not_gone(
    place: Place,
) -> None:
    one, other = place.store(name="one"), place.store(name="other")
    content = CONTENT[: 12 * MIB]
    upload = await filled(one, content, 6 * MIB)
    late = await other.get(upload.id)
    wire = Wire(other)

    async def be_faster(number: int, name: str, parameters: dict[str, Any]) -> None:
        if name == "upload_part":
            wire.before = None
            newest = await one.get(upload.id)
            await completed(one, await appended(one, newest, content[6 * MIB :]))

    wire.before = be_faster
    async with wire.listening():
        with pytest.raises(WriteConflict):  # and not `BytesLost`: the parts became the object
            await appended(other, late, OTHER[: 6 * MIB])
    assert wire.before is None
    assert await read(place.store(), await one.get(upload.id)) == content


@pytest.mark.parametrize("removed", ["removed", "being removed"])
async def test_an_object_that_is_made_while_its_upload_is_removed_does_not_stay(
    removed: str, place: Place
) -> None:
    frozen, other = place.store(name="one"), place.store(name="other")
    upload = await filled(frozen, CONTENT[: 300 * KIB], 300 * KIB)
    wire = Wire(frozen)

    async def sleep(number: int, name: str, parameters: dict[str, Any]) -> None:
        if "/objects/" in parameters.get("Key", ""):
            wire.before = None
            if removed == "removed":
                await other.terminate(upload.id)
            else:
                found = await other.get(upload.id)
                await other.update(replace(found, removal="terminated"))

    wire.before = sleep
    async with wire.listening():
        with pytest.raises((WriteConflict, UploadNotFound)):
            await completed(frozen, upload)
    assert wire.before is None
    assert not [name for name in await place.left() if "/objects/" in name]


async def test_a_link_is_for_the_upload_as_it_is_and_not_as_it_was_remembered(
    place: Place,
) -> None:
    one, other = place.store(name="one"), place.store(name="other")
    upload = await filled(one, CONTENT[:MIB], MIB)
    upload = await completed(other, await other.get(upload.id))
    assert upload.id in await one.link(upload)


# What somebody else has changed in the bucket.


async def test_a_manifest_that_cannot_be_read_is_told_and_keeps_no_sweep_from_the_others(
    place: Place,
) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    store = place.store()
    uploads = [await filled(store, CONTENT[:10], 3, expires=past) for _ in range(3)]
    broken = sorted(uploads, key=lambda upload: upload.id)[1]
    await overwrite(store, f"{store._bucket.prefix}state/{broken.id}", b"{}")
    with pytest.raises(ExceptionGroup) as caught:
        await Uploads(place.store()).sweep()
    assert len(caught.value.exceptions) == 1
    assert await place.left() == [f"{place.prefix}/state/{broken.id}"]


async def test_a_manifest_that_cannot_be_read_keeps_nothing_left_behind_of_the_others(
    place: Place,
) -> None:
    store = place.store()
    uploads = [await filled(store, CONTENT[: 8 * MIB], MIB, expires=None) for _ in range(2)]
    spoiled, other = sorted(uploads, key=lambda upload: upload.id)
    left = await store._bucket.put_segment(other.id, Rope([b"left behind"]))
    key = f"{place.prefix}/state/{spoiled.id}"
    await run_sync(
        lambda: place.server.client.put_object(Bucket=place.server.bucket, Key=key, Body=b"{} \n")
    )
    assert await swept(place.store()) == [spoiled.id]
    names = await place.left()
    assert left.key not in names
    assert len([name for name in names if "/pieces/" in name]) == 2  # which are of use


async def test_a_removal_of_segments_is_proved_as_every_server_knows_it(place: Place) -> None:
    with FaultProxy(place.server.endpoint) as proxy:
        store = place.store(proxy.endpoint, name="through the proxy")
        upload = await filled(store, CONTENT[: 8 * MIB], MIB)
        await store.terminate(upload.id)
        removals = [call for call in proxy.calls if call.operation == "DeleteObjects"]
        assert removals
        assert all(call.headers["Content-MD5"] for call in removals)
        newer = [name for call in removals for name in call.headers if "checksum" in name.lower()]
        assert newer == []  # which some servers refuse


async def test_a_server_that_does_not_answer_is_waited_for_within_reason(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_PATIENCE", 0.5)
    with FaultProxy(place.server.endpoint) as proxy:
        store = place.store(proxy.endpoint, name="through the proxy")
        upload = await store.create(new_upload())
        stall = proxy.fail("stall", times=None)
        with anyio.fail_after(10), pytest.raises(StoreUnavailable):
            await store.get(upload.id)
        stall.release()


async def test_a_segment_that_is_not_as_long_as_it_was_is_never_part_of_an_upload(
    place: Place,
) -> None:
    store = place.store()
    upload = await filled(store, CONTENT[: 8 * MIB], 400 * KIB)
    (segment,) = (await store._bucket.read(upload.id)).segments
    await overwrite(store, segment.key, CONTENT[: 399 * KIB])
    other = place.store()
    with pytest.raises(OSError, match="not as long as it was"):
        await appended(other, await other.get(upload.id), CONTENT[400 * KIB : 8 * MIB])
    assert (await place.store().get(upload.id)).offset == 400 * KIB


async def test_what_is_not_ours_among_our_objects_is_left_alone_and_stops_no_sweep(
    place: Place,
) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    store = place.store()
    uploads = [await filled(store, CONTENT[: 8 * MIB], MIB, expires=past) for _ in range(3)]
    kept = await filled(store, CONTENT[: 8 * MIB], MIB, expires=None)
    copy = (await store._client.read(f"{place.prefix}/state/{kept.id}"))[1]
    unreadable = {
        "state/hello": b"hi",
        "state/list": b"[1]  \n",
        "state/nested": b"[" * 100_000 + b"\n ",
        "state/record": b'{"version":1,"record":[]} \n'.rjust(40),
        "state/copy": copy,
    }
    foreign = {
        **unreadable,
        "state/": b"",
        "state/notes.txt": b"hi",
        f"state/old/{kept.id}": copy,
        f"state/old/{uploads[0].id}": b"hi",
        "pieces/": b"",
        "pieces/notes.txt": b"hi",
        "pieces/somebody/notes": b"hi",
        f"pieces/{kept.id}/notes": b"hi",
    }
    for name, content in foreign.items():
        await overwrite(store, f"{place.prefix}/{name}", content)
    with pytest.raises(ExceptionGroup) as caught:
        await Uploads(place.store(), clock=lambda: past + timedelta(days=90)).sweep()
    told = {f"upload {name.removeprefix('state/')}" for name in unreadable}
    assert {error.__notes__[0] for error in caught.value.exceptions} == told
    left = await place.left()
    assert {f"{place.prefix}/{name}" for name in foreign} <= set(left)
    assert not [name for name in left if any(upload.id in name for upload in uploads[1:])]
    for upload in uploads:
        with pytest.raises(UploadNotFound):
            await place.store().get(upload.id)
    kept = await place.store().get(kept.id)
    kept = await completed(store, await appended(store, kept, CONTENT[MIB : 8 * MIB]))
    assert await read(place.store(), kept) == CONTENT[: 8 * MIB]


@pytest.mark.parametrize("line", ["[1]", "7", "null", '{"version":1,"record":[]}', "[" * 100_000])
def test_what_is_json_and_no_manifest_is_told_as_any_other(line: str) -> None:
    with pytest.raises(ValueError):
        load_manifest(line.encode() + b"\n", "")


async def test_a_manifest_that_may_not_be_read_stops_no_sweep(place: Place) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    uploads = [await filled(place.store(), CONTENT[:10], 3, expires=past) for _ in range(3)]
    hidden = min(upload.id for upload in uploads)
    left = await place.store()._bucket.put_segment(hidden, Rope([b"left behind"]))
    with FaultProxy(place.server.endpoint) as proxy:
        store = place.store(proxy.endpoint, name="through the proxy")
        proxy.fail("error_403", operation="GetObject", key=hidden, times=None)
        with pytest.raises(ExceptionGroup) as caught:
            await Uploads(store, clock=lambda: past + timedelta(days=90)).sweep()
    assert [error.__notes__ for error in caught.value.exceptions] == [[f"upload {hidden}"]]
    assert sorted(await place.left()) == [left.key, f"{place.prefix}/state/{hidden}"]


async def test_a_copy_of_a_manifest_under_another_name_is_no_upload(place: Place) -> None:
    store = place.store()
    upload = await filled(store, CONTENT[: 8 * MIB], MIB)
    copy = (await store._client.read(f"{place.prefix}/state/{upload.id}"))[1]
    await overwrite(store, f"{place.prefix}/state/copy", copy)
    with pytest.raises(ValueError, match="a copy"):
        await store.get("copy")
    upload = await completed(store, await appended(store, upload, CONTENT[MIB : 8 * MIB]))
    assert await read(store, upload) == CONTENT[: 8 * MIB]


async def test_a_listing_that_never_ends_is_left(place: Place) -> None:
    store = place.store()
    await store.create(new_upload(id="a"))
    loop = await store._client._ready()
    call = loop.call

    async def again(operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer = await call(operation, parameters)
        if operation == "list_objects_v2":
            parameters.pop("ContinuationToken", None)
            answer |= {"IsTruncated": True, "NextContinuationToken": "the same"}
        return answer

    with patch.object(loop, "call", again), anyio.fail_after(10):
        found = {found["Key"] async for found in store._client.listed(place.prefix)}
    assert found == {f"{place.prefix}/state/a"}


async def test_what_is_small_does_not_wait_for_long_bodies(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_TRANSFERS", 2)
    with FaultProxy(place.server.endpoint) as proxy:
        store = place.store(proxy.endpoint, name="through the proxy")
        uploads = [await store.create(new_upload(length=12 * MIB)) for _ in range(3)]
        other = await place.store().create(new_upload())
        stalls = [proxy.fail("stall", operation="UploadPart", at=at, times=1) for at in (1, 2)]
        async with anyio.create_task_group() as tasks:
            for upload in uploads:
                tasks.start_soon(appended, store, upload, CONTENT[: 12 * MIB])
            for stall in stalls:
                await run_sync(stall.wait)
            with anyio.fail_after(5):
                assert await store.get(other.id) == other
                assert (await store.update(other)).id == other.id
                await store.terminate(other.id)
            for stall in stalls:
                stall.release()


async def overwrite(store: S3Store, key: str, content: bytes) -> None:
    await store._client.call("put_object", Key=key, Body=content)


# What a server finds that wakes up after a sweep.


@pytest.mark.parametrize("length", [400 * KIB, 7 * MIB], ids=["a-segment", "parts"])
async def test_what_a_sweep_removed_is_not_named_by_a_server_that_wakes_up(
    length: int, place: Place
) -> None:
    frozen, other = place.store(name="one"), place.store(name="other")
    upload = await filled(frozen, CONTENT[: 8 * MIB], 300 * KIB)
    start = upload.offset
    wire = Wire(frozen)

    async def sleep(number: int, name: str, parameters: dict[str, Any]) -> None:
        if "/state/" in parameters.get("Key", ""):
            wire.before = None
            await swept(other)

    wire.before = sleep
    async with wire.listening():
        with pytest.raises(WriteConflict):
            await appended(frozen, upload, CONTENT[start : start + length])
    assert wire.before is None
    upload = await other.get(upload.id)
    assert await place.content(other, upload) == CONTENT[: upload.offset]
    upload = await completed(other, await appended(other, upload, CONTENT[start : 8 * MIB]))
    assert await read(other, upload) == CONTENT[: 8 * MIB]


async def test_a_source_that_is_removed_while_it_is_joined_ends_the_joining(place: Place) -> None:
    store, other = place.store(name="one"), place.store(name="other")
    parts = [
        await completed(store, await filled(store, CONTENT[:size], size, is_partial=True))
        for size in (6 * MIB, 6 * MIB)
    ]
    final = await store.create(new_upload(length=12 * MIB, parts=tuple(part.id for part in parts)))
    wire = Wire(store)

    async def remove(number: int, name: str, parameters: dict[str, Any]) -> None:
        if name == "create_multipart_upload":
            await other.terminate(parts[1].id)

    wire.before = remove
    async with wire.listening():
        with pytest.raises(PartLost):
            await store.concat(final)


async def test_an_answer_that_is_cut_in_its_middle_is_asked_for_again(place: Place) -> None:
    upload = await completed(place.store(), await filled(place.store(), CONTENT, 16 * MIB))
    with FaultProxy(place.server.endpoint) as proxy:
        store = place.store(proxy.endpoint, name="through the proxy")
        upload = await store.get(upload.id)
        proxy.fail("cut_answer", at=3, times=3)
        assert await read(store, upload) == CONTENT
        assert [call.fault for call in proxy.calls].count("cut_answer") == 3


async def test_an_answer_that_is_cut_each_time_is_told(place: Place) -> None:
    upload = await completed(place.store(), await filled(place.store(), CONTENT, 16 * MIB))
    with FaultProxy(place.server.endpoint) as proxy:
        store = place.store(proxy.endpoint, name="through the proxy")
        upload = await store.get(upload.id)
        proxy.fail("cut_answer", times=None)
        with pytest.raises(StoreUnavailable):
            await read(store, upload)


async def test_segments_of_a_filled_part_are_removed_by_the_next_append(place: Place) -> None:
    store, content = place.store(), CONTENT[: 11 * MIB]
    upload = await filled(store, content, 2 * MIB, 2 * MIB, 1 * MIB)
    assert upload.offset == PART
    pieces = f"{place.prefix}/pieces/{upload.id}/"
    assert len([name for name in await place.left() if name.startswith(pieces)]) == 2
    upload = await appended(place.store(), upload, content[PART:][:KIB])
    assert not [name for name in await place.left() if name.startswith(pieces)]
    upload = await appended(store, upload, content[PART + KIB :])
    upload = await completed(store, upload)
    assert not [name for name in await place.left() if name.startswith(pieces)]
    assert await read(store, upload) == content


async def test_segments_of_a_filled_part_are_removed_by_a_sweep_if_no_append_follows(
    place: Place,
) -> None:
    store, content = place.store(), CONTENT[: 11 * MIB]
    upload = await filled(store, content, 2 * MIB, 3 * MIB, expires=None)
    pieces = f"{place.prefix}/pieces/{upload.id}/"
    assert [name for name in await place.left() if name.startswith(pieces)]
    assert await swept(store) == []
    assert not [name for name in await place.left() if name.startswith(pieces)]
    upload = await appended(store, await store.get(upload.id), content[PART:])
    assert await read(store, await completed(store, upload)) == content


async def test_chunks_of_every_size_are_the_same_upload(place: Place) -> None:
    store = place.store()
    content = CONTENT[: 6 * MIB + 3]
    for size in (1021, 64 * KIB + 1, PART, PART + 1, 6 * MIB + 3):
        upload = await store.create(new_upload(length=len(content)))
        upload = await store.append(upload, chunks_of(content, size=size))
        assert await place.content(store, upload) == content
