"""Checklist R: reading assets, recovering an upload, getting the bytes back."""

import hashlib
import re

import asyncpg
import pytest

from .api import Api, error_of, fields_of, id_of
from .conftest import ON_SQLITE

pytestmark = pytest.mark.anyio

STATES = ("pending_upload", "processing", "pending_payment", "ready", "failed")


async def test_a_lost_upload_url_is_in_the_asset(api: Api, mp4):  # R01, R02, K04
    response = await api.create(len(mp4))
    asset = await api.asset(response.json()["id"])
    assert asset["upload_url"] == response.headers["location"]
    assert asset["download_url"] is None
    await api.patch(asset["upload_url"], 0, mp4[:200])
    offset = int((await api.head(asset["upload_url"])).headers["upload-offset"])
    await api.patch(asset["upload_url"], offset, mp4[offset:])
    assert (await api.asset(asset["id"]))["upload_url"] is None
    await api.work()
    assert (await api.asset(asset["id"]))["upload_url"] is None


async def test_the_uploads_still_waiting_are_a_list(api: Api, mp4):  # R03
    waiting = [id_of(await api.new_upload(len(mp4))) for _ in range(2)]
    await api.upload(mp4)
    listed = (await api.get("/v1/assets", state="pending_upload")).json()
    assert [item["id"] for item in listed["items"]] == waiting[::-1]
    assert listed["total"] == 2


@pytest.mark.parametrize("environment", ["postgresql"], indirect=True)
async def test_connections_that_the_database_has_ended_are_made_anew(api: Api, environment):
    assert (await api.get("/v1/assets")).status_code == 200
    connection = await asyncpg.connect(environment["ROUGHY_DATABASE_URL"])
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    await connection.close()
    assert (await api.get("/v1/assets")).status_code == 200


async def test_a_ready_asset_has_everything(api: Api, mp4):  # R04
    asset = await api.prepared(mp4, language="DE")
    assert asset == {
        "id": asset["id"],
        "project_id": asset["project_id"],
        "type": "video",
        "state": "ready",
        "extension": "mp4",
        "size_bytes": len(mp4),
        "content_type": "video/mp4",
        "duration_seconds": "2.000",
        "language": "de",
        "error_code": None,
        "error_message": None,
        "created_at": asset["created_at"],
        "upload_url": None,
        "download_url": asset["download_url"],
    }


async def test_the_download_has_the_uploaded_bytes_for_900_seconds(api: Api, clock, mp4):  # R05
    asset = await api.prepared(mp4)
    first = asset["download_url"]
    clock.advance(seconds=1)
    second = (await api.asset(asset["id"]))["download_url"]
    assert first != second
    for url in (first, second):
        got = await api.http.get(url)  # no key: a player sends none
        assert got.status_code == 200
        assert hashlib.sha256(got.content).digest() == hashlib.sha256(mp4).digest()
        assert got.headers["content-type"] == "video/mp4"
        assert f"{asset['id']}.mp4" in got.headers["content-disposition"]
    for name in ("clip", "clip.mp4"):
        got = await api.http.head(f"{first}&filename={name}")
        assert 'filename="clip.mp4"' in got.headers["content-disposition"]
    clock.advance(seconds=899)
    assert error_of(await api.http.get(first)) == (403, "forbidden")
    clock.advance(seconds=2)
    assert error_of(await api.http.get(second)) == (403, "forbidden")


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        pytest.param("bytes=0-9", 206, slice(0, 10), id="first"),
        pytest.param("bytes=100-", 206, slice(100, None), id="rest"),
        pytest.param("bytes=-7", 206, slice(-7, None), id="last"),
        pytest.param("bytes=nonsense", 200, slice(None), id="not-a-range"),
    ],
)
async def test_a_part_can_be_asked_for(api: Api, mp4, wanted, status, part):  # U22
    asset = await api.prepared(mp4)
    got = await api.http.get(asset["download_url"], headers={"Range": wanted})
    assert (got.status_code, got.content) == (status, mp4[part])
    assert got.headers["accept-ranges"] == "bytes"
    beyond = {"Range": f"bytes={len(mp4)}-"}
    refused = await api.http.get(asset["download_url"], headers=beyond)
    assert error_of(refused) == (416, "range_not_satisfiable")
    assert refused.headers["content-range"] == f"bytes */{len(mp4)}"


async def test_head_on_a_download_has_no_body(api: Api, mp4):
    asset = await api.prepared(mp4)
    head = await api.http.head(asset["download_url"])
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(mp4))


@ON_SQLITE
@pytest.mark.parametrize(
    ("find", "put"),
    [
        pytest.param(r"signature=.", "signature=g", id="other-signature"),
        pytest.param(r"signature=.*", "signature=", id="no-signature"),
        pytest.param(r"signature=.*", "signature=%C3%A4", id="signature-not-ascii"),
        pytest.param(r"expires=\d", "expires=9", id="other-time"),
        pytest.param(r"expires=\d+", "expires=%C2%B2", id="time-that-is-no-number"),
        pytest.param(r"expires=\d+&", "", id="no-time"),
        pytest.param(r"\?.*", "", id="nothing"),
        pytest.param(r"downloads/........", "downloads/00000000", id="other-asset"),
        pytest.param(r"downloads/[^?]*", "downloads/x", id="no-asset"),
    ],
)
async def test_a_link_that_was_changed_opens_nothing(api: Api, mp4, find, put):
    asset = await api.prepared(mp4)
    changed = re.sub(find, put, asset["download_url"])
    assert changed != asset["download_url"]
    assert error_of(await api.http.get(changed)) == (403, "forbidden")


async def test_a_link_to_a_deleted_asset_is_dead(api: Api, mp4):  # R10, U33
    before = await api.stored()
    asset = await api.prepared(mp4, project_id=await api.new_project())
    deleted = await api.call("DELETE", f"/v1/assets/{asset['id']}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert error_of(await api.http.get(asset["download_url"])) == (404, "not_found")
    assert error_of(await api.get(f"/v1/assets/{asset['id']}")) == (404, "not_found")
    assert error_of(await api.call("DELETE", f"/v1/assets/{asset['id']}")) == (404, "not_found")
    after = await api.stored()
    assert (after["assets"], after["files"], after["removals"]) == ([], {}, [])
    assert len(after["ledger"]) == len(before["ledger"]) + 1  # what was paid stays paid


async def test_an_asset_can_be_deleted_while_its_bytes_come(api: Api, mp4):  # R10
    url = await api.new_upload(len(mp4))
    await api.patch(url, 0, mp4[:200])
    assert (await api.call("DELETE", f"/v1/assets/{id_of(url)}")).status_code == 204
    assert (await api.head(url)).status_code == 404
    assert (await api.stored())["files"] == {}


async def test_lists_are_of_the_caller_and_of_one_project_if_wanted(
    api: Api, other: Api
):  # R06, R09
    first, second = await api.new_project(), await api.new_project()
    await other.new_upload(1000)
    made = [
        id_of(await api.new_upload(1000, project_id=project_id))
        for project_id in (first, second, first)
    ]
    listed = (await api.get("/v1/assets")).json()
    assert [item["id"] for item in listed["items"]] == made[::-1]
    of_first = (await api.get("/v1/assets", project_id=first)).json()
    assert [item["id"] for item in of_first["items"]] == [made[2], made[0]]
    assert listed["items"][0].keys() == {
        "id",
        "project_id",
        "type",
        "state",
        "extension",
        "size_bytes",
        "content_type",
        "duration_seconds",
        "language",
        "created_at",
    }


async def test_each_state_is_a_filter(api: Api, mp4):  # R07, C4
    project_id = await api.new_project()
    await api.set_balance(1)
    ids = {"ready": (await api.prepared(mp4, project_id=project_id))["id"]}
    await api.set_balance(1)
    ids["processing"] = await api.upload(mp4, project_id=project_id)
    await api.set_balance(0)
    await api.work()
    ids["pending_payment"] = ids.pop("processing")
    await api.set_balance(1)
    ids["pending_upload"] = id_of(await api.new_upload(1000, project_id=project_id))
    refused = await api.new_upload(1000, project_id=project_id)
    await api.patch(refused, 0, bytes(1000))
    ids["failed"] = id_of(refused)
    ids["processing"] = await api.upload(mp4, project_id=project_id)
    assert (await api.get("/v1/assets")).json()["total"] == 5
    for state in STATES:
        items = (await api.get("/v1/assets", state=state)).json()["items"]
        assert [(item["id"], item["state"]) for item in items] == [(ids[state], state)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param("state=deleted", "query.state", id="R07-state"),
        pytest.param("state=", "query.state", id="R07-no-state"),
        pytest.param("state=READY", "query.state", id="R07-upper-case"),
        pytest.param("project_id=clips", "query.project_id", id="R06-project"),
        pytest.param("limit=0", "query.limit", id="R08-limit-0"),
        pytest.param("limit=101", "query.limit", id="R08-limit-101"),
        pytest.param("limit=ten", "query.limit", id="R08-limit-word"),
        pytest.param("limit=%D9%A1", "query.limit", id="R08-limit-not-ascii"),
        pytest.param("offset=-1", "query.offset", id="R08-offset-negative"),
        pytest.param("offset=9223372036854775808", "query.offset", id="R08-offset-2-to-the-63"),
        pytest.param("offset=" + "9" * 5000, "query.offset", id="R08-offset-huge"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(api: Api, query, field):
    response = await api.get(f"/v1/assets?{query}")
    assert error_of(response) == (422, "validation_error")
    assert fields_of(response) == [field]


async def test_pages_echo_what_was_asked_and_count_everything(api: Api):  # R08, R09, U27
    project_id = await api.new_project()
    made = [id_of(await api.new_upload(1000, project_id=project_id)) for _ in range(5)]
    page = (await api.get("/v1/assets", limit=2, offset=2)).json()
    assert [item["id"] for item in page["items"]] == [made[2], made[1]]
    assert (page["total"], page["limit"], page["offset"]) == (5, 2, 2)
    past = (await api.get("/v1/assets", limit=100, offset=2**63 - 1)).json()
    assert (past["items"], past["total"]) == ([], 5)
    assert (await api.get("/v1/assets")).json()["limit"] == 20


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_asset_id_that_cannot_be_one_is_named(api: Api, method):
    response = await api.call(method, "/v1/assets/7")
    assert error_of(response) == (422, "validation_error")
    assert fields_of(response) == ["path.asset_id"]
