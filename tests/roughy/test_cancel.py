"""Checklist D and X: cancelling, and what nobody finished."""

import uuid

import pytest

from examples.roughy.storage.tables import Asset

from .api import Api, error_of, id_of
from .conftest import ALICE

pytestmark = pytest.mark.anyio


async def test_cancelling_removes_upload_and_asset(api: Api, mp4):  # D01, D03, D04, B10
    project_id = await api.new_project()
    before = await api.stored()
    url = await api.new_upload(len(mp4), project_id=project_id)
    await api.patch(url, 0, mp4[:500])
    response = await api.cancel(url)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["tus-resumable"] == "1.0.0"
    assert await api.stored() == before
    assert error_of(await api.get(f"/v1/assets/{id_of(url)}")) == (404, "not_found")
    assert (await api.head(url)).status_code == 404
    assert error_of(await api.patch(url, 500, mp4[500:])) == (404, "not_found")


async def test_cancelling_again_is_no_error(api: Api):  # D02
    url = await api.new_upload(1000)
    assert [(await api.cancel(url)).status_code for _ in range(3)] == [204, 204, 204]


async def test_cancelling_what_is_foreign_unknown_or_gone_looks_the_same(
    api: Api, other: Api, mp4
):  # D06, U13
    url = await api.new_upload(len(mp4))
    await api.patch(url, 0, mp4[:500])
    gone = await other.new_upload(1000)
    await other.cancel(gone)
    unknown = url.replace(id_of(url), str(uuid.uuid4()))
    async with api.nothing_stored():
        answers = [await other.cancel(each) for each in (url, gone, unknown)]
    assert [answer.status_code for answer in answers] == [204, 204, 204]
    headers = [sorted(answer.headers.multi_items()) for answer in answers]
    assert headers[0] == headers[1] == headers[2]
    assert (await api.head(url)).headers["upload-offset"] == "500"


async def test_a_finished_upload_is_not_cancelled(api: Api, mp4, mp3):  # U12
    url = f"/v1/uploads/{await api.upload(mp4)}"
    for _ in ("processing", "ready"):
        async with api.nothing_stored():
            response = await api.cancel(url)
        assert error_of(response) == (409, "conflict")
        await api.work()
    assert (await api.asset(id_of(url)))["state"] == "ready"
    assert (await api.call("DELETE", f"/v1/assets/{id_of(url)}")).status_code == 204
    assert (await api.cancel(url)).status_code == 204


async def test_the_last_byte_may_come_before_the_cancelling(api: Api, roughy, mp4, monkeypatch):
    """The DELETE was let in while bytes were missing, and waited for the PATCH to finish."""
    url = await api.new_upload(len(mp4))
    terminate = roughy.uploads.terminate

    async def finish_first(upload_id, **options):
        monkeypatch.undo()
        assert (await api.patch(url, 0, mp4)).status_code == 204
        await terminate(upload_id, **options)

    monkeypatch.setattr(roughy.uploads, "terminate", finish_first)
    assert error_of(await api.cancel(url)) == (409, "conflict")
    assert (await api.asset(id_of(url)))["state"] == "processing"
    assert (await api.head(url)).headers["upload-offset"] == str(len(mp4))


async def test_an_idle_upload_is_reaped(api: Api, roughy, clock, mp4):  # X01, U11
    project_id = await api.new_project()
    before = await api.stored()
    url = await api.new_upload(len(mp4), project_id=project_id)
    await api.patch(url, 0, mp4[:500])
    clock.advance(hours=48, seconds=1)
    # Dead at once, before the sweeper comes, and no address is shown that leads nowhere.
    assert (await api.head(url)).status_code == 404
    assert error_of(await api.get(f"/v1/assets/{id_of(url)}")) == (404, "not_found")
    late, unknown = (
        await api.patch(url, 500, mp4[500:]),
        await api.patch(url.replace(id_of(url), str(uuid.uuid4())), 500, mp4[500:]),
    )
    assert error_of(late) == (404, "not_found")
    assert late.content == unknown.content
    await roughy.sweeper.sweep()
    assert await api.stored() == before
    assert error_of(await api.get(f"/v1/assets/{id_of(url)}")) == (404, "not_found")
    assert (await api.cancel(url)).status_code == 204


async def test_an_upload_never_begun_is_reaped_after_a_week(api: Api, roughy, clock):  # X01, C05
    url = await api.new_upload(1000)
    clock.advance(days=7, seconds=-5)
    await roughy.sweeper.sweep()
    assert (await api.head(url)).status_code == 200
    clock.advance(seconds=10)
    await roughy.sweeper.sweep()
    assert (await api.get("/v1/assets")).json()["total"] == 0


async def test_a_patch_in_time_keeps_the_upload(api: Api, roughy, clock, mp4):  # X02
    url = await api.new_upload(len(mp4))
    clock.advance(days=6, hours=23)
    await api.patch(url, 0, mp4[:500])
    clock.advance(hours=47)
    await roughy.sweeper.sweep()
    assert (await api.head(url)).headers["upload-offset"] == "500"
    assert (await api.patch(url, 500, mp4[500:])).status_code == 204


async def test_an_asset_whose_upload_a_power_cut_has_taken_goes_when_it_would_have_expired(
    api: Api, roughy, clock, mp4
):
    lost, kept = await api.new_upload(len(mp4)), await api.new_upload(len(mp4))
    await roughy.store.terminate(id_of(lost))
    clock.advance(days=6)
    await api.patch(kept, 0, mp4[:1000])
    await roughy.sweeper.sweep()
    assert (await api.get("/v1/assets", state="pending_upload")).json()["total"] == 2
    clock.advance(days=1, hours=1)
    await roughy.sweeper.sweep()
    assert (await api.get(f"/v1/assets/{id_of(lost)}")).status_code == 404
    assert (await api.asset(id_of(kept)))["state"] == "pending_upload"


async def test_a_finished_upload_never_expires(api: Api, roughy, clock, mp4):  # X03
    asset = await api.prepared(mp4)
    clock.advance(days=400)
    async with api.nothing_stored():
        await roughy.sweeper.sweep()
    assert (await api.asset(asset["id"]))["state"] == "ready"


async def test_a_refused_upload_that_survived_a_crash_is_dead_and_goes(
    api: Api, roughy, clock, mp4
):
    """As a process leaves it that dies between the asset's note and the end of the upload."""
    url = await api.new_upload(len(mp4))
    async with roughy.db.writing() as session:
        asset = await session.get(Asset, uuid.UUID(id_of(url)))
        asset.state, asset.error_code = "failed", "unsupported_media"
    assert (await api.head(url)).status_code == 404
    assert error_of(await api.patch(url, 0, mp4)) == (404, "not_found")
    assert (await api.cancel(url)).status_code == 204
    clock.advance(days=8)
    await roughy.sweeper.sweep()
    assert (await api.stored())["files"] == {}
    assert (await api.asset(id_of(url)))["error_code"] == "unsupported_media"


async def test_the_windows_are_settings(start, clock, mp4):
    roughy = await start(ROUGHY_UPLOAD_EXPIRES_AFTER="60", ROUGHY_UPLOAD_IDLE_AFTER="30")
    api = Api(roughy, clock, ALICE)
    async with api.http:
        first, second = [await api.new_upload(len(mp4)) for _ in range(2)]
        clock.advance(seconds=50)
        await api.patch(first, 0, mp4[:100])
        clock.advance(seconds=20)
        assert (await api.head(first)).status_code == 200
        assert (await api.head(second)).status_code == 404
        clock.advance(seconds=11)
        assert (await api.head(first)).status_code == 404
