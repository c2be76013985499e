"""Roughy with its bytes on S3 and its rows in PostgreSQL."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import anyio.to_thread
import httpx
import pytest

from examples.roughy.app import Roughy
from examples.roughy.media import claims
from examples.roughy.replicas.bucket import object_of
from examples.roughy.settings import Settings, SettingsError
from examples.roughy.storage.accounts import own_key
from tests.services.faults import FaultProxy
from tests.services.s3 import SeaweedFS
from tusasgi import StoreUnavailable, Upload
from tusasgi.stores.s3 import S3Store, store

from . import media, s3
from .api import Api, error_of, id_of
from .conftest import ALICE, empty
from .files import measure_file

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quickly_checked")]

MIB = 1024 * 1024


@pytest.fixture
async def bucket(seaweedfs: SeaweedFS) -> str:
    return await anyio.to_thread.run_sync(seaweedfs.new_bucket)


@pytest.fixture
async def environment(seaweedfs: SeaweedFS, bucket: str, postgres_server: str) -> dict[str, str]:
    """What `start` has every process told."""
    await empty(postgres_server)
    return {"ROUGHY_DATABASE_URL": postgres_server, **s3.environment(seaweedfs, bucket)}


@pytest.fixture
async def keys(seaweedfs: SeaweedFS, bucket: str) -> Callable:
    """Ask what is in the bucket, without the prefix."""

    async def keys() -> list[str]:
        found = await anyio.to_thread.run_sync(seaweedfs.keys, bucket)
        assert all(key.startswith("roughy/") for key in found)
        return [key.removeprefix("roughy/") for key in found]

    return keys


@pytest.fixture
async def outside() -> AsyncIterator[httpx.AsyncClient]:
    """A client of nobody, for links."""
    async with httpx.AsyncClient() as client:
        yield client


# A life


async def test_an_upload_in_pieces_becomes_a_ready_asset(api: Api, keys, outside, film):
    project_id = await api.new_project()
    url = await api.new_upload(len(film), project_id=project_id, language="DE")
    for offset in range(0, len(film), 3 * MIB):
        assert int((await api.head(url)).headers["upload-offset"]) == offset
        response = await api.patch(url, offset, film[offset : offset + 3 * MIB])
        assert response.status_code == 204
    assert (await api.asset(id_of(url)))["state"] == "processing"
    await api.work()
    asset = await api.asset(id_of(url))
    assert asset == {
        "id": id_of(url),
        "project_id": project_id,
        "type": "video",
        "state": "ready",
        "extension": "mp4",
        "size_bytes": len(film),
        "content_type": "video/mp4",
        "duration_seconds": "65.000",
        "language": "de",
        "error_code": None,
        "error_message": None,
        "created_at": asset["created_at"],
        "upload_url": None,
        "download_url": asset["download_url"],
    }
    assert await api.balance() == 98
    assert f"assets/{id_of(url)}.mp4" in await keys()
    assert (await outside.get(asset["download_url"])).content == film


async def test_a_download_goes_past_roughy_and_is_shown_in_place(
    api: Api, seaweedfs, bucket, outside, mp3
):
    asset = await api.prepared(mp3)
    url = asset["download_url"]
    assert url.startswith(f"{seaweedfs.endpoint}/{bucket}/roughy/assets/{asset['id']}.mp3?")
    assert "X-Amz-Expires=900" in url
    assert "X-Amz-Signature=" in url
    assert seaweedfs.secret not in url
    answer = await outside.get(url)
    assert (answer.status_code, answer.content) == (200, mp3)
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["content-disposition"] == f'inline; filename="{asset["id"]}.mp3"'
    part = await outside.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, mp3[10:20])


@pytest.mark.parametrize("added", ["&response-content-type=text%2Fhtml", ""])
async def test_a_link_opens_what_it_was_signed_for_alone(api: Api, outside, mp3, added):
    project_id = await api.new_project()
    asset = await api.prepared(mp3, project_id=project_id)
    other = await api.prepared(mp3, project_id=project_id)
    url = asset["download_url"] + added
    if not added:
        url = url.replace(asset["id"], other["id"])
    assert (await outside.get(url)).status_code == 403


async def test_roughy_has_no_downloads_of_its_own(api: Api, mp3):
    asset = await api.prepared(mp3)
    assert error_of(await api.get(f"/downloads/{asset['id']}")) == (404, "not_found")


async def test_what_is_no_media_is_refused_and_leaves_nothing(api: Api, keys):
    url = await api.new_upload(len(media.PDF))
    assert error_of(await api.patch(url, 0, media.PDF)) == (409, "conflict")
    asset = await api.asset(id_of(url))
    assert (asset["state"], asset["error_code"]) == ("failed", "unsupported_media")
    assert (await api.head(url)).status_code == 404
    assert await keys() == []


async def test_a_cancelled_upload_leaves_nothing(api: Api, keys, seaweedfs, bucket, film):
    url = await api.new_upload(len(film))
    assert (await api.patch(url, 0, film[: 6 * MIB])).status_code == 204
    assert (await api.cancel(url)).status_code == 204
    assert (await api.head(url)).status_code == 404
    assert await keys() == []
    assert await anyio.to_thread.run_sync(seaweedfs.multiparts, bucket) == []


async def test_a_deleted_asset_leaves_nothing(api: Api, keys, outside, mp3):
    asset = await api.prepared(mp3)
    assert (await api.call("DELETE", f"/v1/assets/{asset['id']}")).status_code == 204
    assert await keys() == []
    assert (await outside.get(asset["download_url"])).status_code == 404


async def test_an_idle_upload_expires(api: Api, roughy: Roughy, clock, keys, mp3):
    url = await api.new_upload(len(mp3))
    await api.patch(url, 0, mp3[:100])
    clock.advance(hours=47)
    await roughy.sweeper.sweep()
    assert (await api.head(url)).status_code == 200
    clock.advance(hours=2)
    await roughy.sweeper.sweep()
    assert (await api.head(url)).status_code == 404
    assert (await api.get("/v1/assets")).json()["total"] == 0
    assert await keys() == []


async def test_an_account_without_credits_waits_for_them(api: Api, outside, mp3):
    await api.set_balance(1)
    asset_id = await api.upload(mp3)
    await api.set_balance(0)
    await api.work()
    assert (await api.asset(asset_id))["state"] == "pending_payment"
    await api.top_up(1)
    asset = await api.asset(asset_id)
    assert asset["state"] == "ready"
    assert (await outside.get(asset["download_url"])).content == mp3


async def test_others_see_nothing_of_it(api: Api, other: Api, mp3):
    asset = await api.prepared(mp3)
    assert error_of(await other.get(f"/v1/assets/{asset['id']}")) == (404, "not_found")
    url = await api.new_upload(len(mp3))
    assert (await other.head(url)).status_code == 404
    assert (await other.patch(url, 0, mp3)).status_code == 404
    assert (await api.patch(url, 0, mp3)).status_code == 204


# Several processes


async def test_every_patch_may_go_to_another_process(api: Api, start, clock, outside, film):
    second = Api(await start(), clock, ALICE)
    async with second.http:
        url = await api.new_upload(len(film))
        processes = [api, second]
        for number, offset in enumerate(range(0, len(film), MIB)):
            here, there = processes[number % 2], processes[1 - number % 2]
            response = await here.patch(url, offset, film[offset : offset + MIB])
            assert response.status_code == 204
            assert int((await there.head(url)).headers["upload-offset"]) == offset + MIB
        await second.work()
        asset = await api.asset(id_of(url))
        assert (asset["state"], asset["duration_seconds"]) == ("ready", "65.000")
        assert (await outside.get(asset["download_url"])).content == film


async def test_processes_prepare_each_asset_once(api: Api, start, mp3, monkeypatch):
    monkeypatch.setattr(claims, "_LASTS", timedelta(minutes=2))  # none lapses on a busy machine
    project_id = await api.new_project()
    others = [await start(), await start()]
    ids = [await api.upload(mp3, project_id=project_id) for _ in range(9)]
    measured = []
    for roughy in (api.roughy, *others):
        read = roughy.store.read

        def counted(upload, start, stop, read=read):
            if start == 0:
                measured.append(upload.id)
            return read(upload, start, stop)

        monkeypatch.setattr(roughy.store, "read", counted)

    async def work(roughy: Roughy) -> None:
        while await roughy.worker.prepare_next():
            pass

    await asyncio.gather(*(work(roughy) for roughy in (api.roughy, *others) for _ in range(2)))
    assert sorted(measured) == sorted(2 * ids)  # an MP3 is opened twice: it has to be counted
    assert (await api.get("/v1/assets", state="ready")).json()["total"] == 9
    assert await api.balance() == 91


async def test_a_worker_does_not_forestall_who_has_just_received_the_last_byte(
    api: Api, roughy: Roughy, start, monkeypatch, mp3
):
    """The one that was overtaken would have to tell its client to try again."""
    second = await start()
    url = await api.new_upload(len(mp3))
    update, working = roughy.store.update, []

    async def slowly(upload):
        if upload.is_complete:
            working.append(asyncio.create_task(second.worker.prepare_next()))
            await anyio.sleep(0.5)  # time enough for the other, if it were to use it
        return await update(upload)

    monkeypatch.setattr(roughy.store, "update", slowly)
    assert (await api.patch(url, 0, mp3)).status_code == 204
    assert await working[0]
    assert (await api.asset(id_of(url)))["state"] == "ready"


async def test_a_worker_finishes_what_died_at_the_last_byte(
    api: Api, roughy: Roughy, start, monkeypatch, outside, mp3
):
    second = await start()
    url = await api.new_upload(len(mp3))
    update = roughy.store.update

    async def die(upload):
        if upload.is_complete:
            raise KeyboardInterrupt
        return await update(upload)

    with monkeypatch.context() as patched:
        patched.setattr(roughy.store, "update", die)
        with pytest.raises(BaseException):  # noqa: B017 - whatever the servers make of it
            await api.patch(url, 0, mp3)
    assert await second.worker.prepare_next()
    asset = await api.asset(id_of(url))
    assert asset["state"] == "ready"
    assert (await outside.get(asset["download_url"])).content == mp3
    assert await api.balance() == 99


# How much is read


async def test_little_of_a_large_object_is_read(api: Api, roughy, tmp_path, monkeypatch):
    path = tmp_path / "large"
    size = await anyio.to_thread.run_sync(media.long_mp4, path, 48 * MIB)
    content = await anyio.Path(path).read_bytes()
    asset_id = await api.upload(content)
    read, count = roughy.store.read, 0

    async def counted(upload, start, stop):
        nonlocal count
        async for data in read(upload, start, stop):
            count += len(data)
            yield data

    monkeypatch.setattr(roughy.store, "read", counted)
    await api.work()
    asset = await api.asset(asset_id)
    assert (asset["state"], asset["size_bytes"]) == ("ready", size)
    assert asset["duration_seconds"] == "3.000"
    assert 0 < count < MIB
    assert (await measure_file(path)).milliseconds == 3000


# When S3 is away


@pytest.fixture
def proxy(seaweedfs: SeaweedFS, monkeypatch):
    """On the way to S3, which is not asked again and again while it is away."""
    retries = {**store.CONFIGURATION["retries"], "total_max_attempts": 1}
    monkeypatch.setitem(store.CONFIGURATION, "retries", retries)
    with FaultProxy(seaweedfs.endpoint) as proxy:
        yield proxy


async def test_an_outage_of_s3_fails_no_asset(
    start, clock, seaweedfs, bucket, proxy, monkeypatch, mp3
):
    roughy = await start(**s3.environment(seaweedfs, bucket, proxy.endpoint))
    api = Api(roughy, clock, ALICE)
    async with api.http:
        asset_id = await api.upload(mp3)
        proxy.down()
        with pytest.raises(BaseExceptionGroup):
            await roughy.worker.prepare_next()
        assert (await api.asset(asset_id))["state"] == "processing"
        assert error_of(await api.create(1000)) == (503, "unavailable")
        proxy.up()
        await api.lapse()
        await api.work()
        assert (await api.asset(asset_id))["state"] == "ready"
        proxy.down()
        assert error_of(await api.get(f"/v1/assets/{asset_id}")) == (503, "unavailable")
        assert (await api.call("DELETE", f"/v1/assets/{asset_id}")).status_code == 204
        proxy.up()
        await roughy.sweeper.sweep()
        assert await anyio.to_thread.run_sync(seaweedfs.keys, bucket) == []


async def test_health_tells_when_s3_is_away(start, clock, seaweedfs, bucket, proxy):
    told = s3.environment(seaweedfs, bucket, proxy.endpoint)
    api = Api(await start(ROUGHY_MONITORING="1", **told), clock, ALICE)
    async with api.http:
        assert (await api.get("/health")).json() == {"status": "ok"}
        proxy.down()
        answer = await api.get("/health")
        assert error_of(answer) == (503, "unavailable")
        assert bucket not in answer.text
        proxy.up()
        assert (await api.get("/health")).status_code == 200


# Settings


async def test_a_bucket_that_is_not_there_is_told_before_serving(start, seaweedfs):
    with pytest.raises(SettingsError, match=r"ROUGHY_STORE cannot be used: .*bucket"):
        await start(**s3.environment(seaweedfs, "no-such-bucket"))


async def test_a_wrong_secret_is_told_before_serving(start, seaweedfs, bucket):
    told = {**s3.environment(seaweedfs, bucket), "AWS_SECRET_ACCESS_KEY": "wrong"}
    with pytest.raises(SettingsError, match="ROUGHY_STORE cannot be used") as caught:
        await start(**told)
    assert "wrong" not in str(caught.value)


async def test_a_store_that_is_away_at_the_start_is_tried_again(
    start, clock, seaweedfs, bucket, proxy, caplog
):
    proxy.down()
    told = s3.environment(seaweedfs, bucket, proxy.endpoint)
    api = Api(await start(ROUGHY_MONITORING="1", **told), clock, ALICE)
    assert "the first request tries again: Could not connect" in caplog.text
    async with api.http:
        assert error_of(await api.get("/health")) == (503, "unavailable")
        proxy.up()
        assert (await api.get("/health")).status_code == 200


async def test_a_store_that_does_not_answer_is_told_in_words(
    start, seaweedfs, bucket, monkeypatch, caplog
):
    async def silent(store):
        raise StoreUnavailable("it does not answer") from TimeoutError()

    monkeypatch.setattr(S3Store, "open", silent)
    await start(**s3.environment(seaweedfs, bucket))
    assert "the first request tries again: it does not answer" in caplog.text


async def test_replicas_do_not_make_keys_of_their_own(start):
    with pytest.raises(SettingsError, match="ROUGHY_API_KEYS must be set"):
        await start(ROUGHY_API_KEYS="")


def test_on_one_machine_a_key_is_made(tmp_path, seaweedfs):
    settings = Settings.of(tmp_path / "data", s3.environment(seaweedfs, "bucket"))
    assert own_key(settings) == (tmp_path / "data" / "api-key").read_text()


async def test_nothing_is_kept_in_the_data_folder(api: Api, tmp_path, mp3):
    await api.prepared(mp3)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("/var/lib/uploads", id="folder"),
        pytest.param("s3://", id="no-bucket"),
        pytest.param("s3://UPPER", id="upper-case"),
        pytest.param("s3://bucket//prefix", id="empty-segment"),
        pytest.param("s3://key:secret@bucket", id="with-credentials"),
        pytest.param("gs://bucket", id="other-scheme"),
    ],
)
def test_what_is_no_bucket_is_refused(tmp_path, text):
    with pytest.raises(SettingsError, match="ROUGHY_STORE must be s3://bucket") as caught:
        Settings.of(tmp_path, {"ROUGHY_STORE": text})
    assert "secret" not in str(caught.value)


def test_the_settings_are_those_of_the_aws_tools(tmp_path, seaweedfs):
    told = s3.environment(seaweedfs, "bucket")
    settings = Settings.of(tmp_path, told)
    assert settings.bucket.url == "s3://bucket/roughy"
    assert settings.bucket.endpoint_url == seaweedfs.endpoint
    assert settings.bucket.region == "us-east-1"
    assert seaweedfs.secret not in repr(settings)
    del told["AWS_REGION"], told["AWS_ENDPOINT_URL"]
    settings = Settings.of(tmp_path, {**told, "AWS_DEFAULT_REGION": "eu-central-1"})
    assert settings.bucket.region == "eu-central-1"
    assert settings.bucket.endpoint_url is None


def test_without_s3_its_client_is_not_loaded(tmp_path):
    code = (
        "import sys; from pathlib import Path; from examples.roughy.app import Roughy;"
        "from examples.roughy.settings import Settings;"
        "import examples.roughy.__main__;"
        f"Roughy(Settings.of(Path({str(tmp_path)!r}), {{}}));"
        "print(sorted({'s3fs', 'botocore', 'aiobotocore', 'aiohttp', 'fsspec'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("content_type", "shown"),
    [
        pytest.param("video/mp4", "inline", id="video"),
        pytest.param("audio/mpeg", "inline", id="audio"),
        pytest.param("application/mxf", "attachment", id="other"),
        pytest.param("text/html", "attachment", id="active"),
    ],
)
def test_only_sound_and_pictures_are_shown_in_place(clock, content_type, shown):
    upload_id = str(uuid.UUID(int=7))
    facts = {"content_type": content_type, "extension": "mp4", "type": "video"}
    upload = Upload(id=upload_id, length=100, created=clock(), facts=facts)
    stored = object_of(upload)
    assert stored.key == f"assets/{upload_id}.mp4"
    assert stored.content_type == content_type
    assert stored.content_disposition == f'{shown}; filename="{upload_id}.mp4"'
