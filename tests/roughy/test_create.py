"""Checklist C: making an asset and its upload."""

import uuid
from datetime import timedelta
from email.utils import parsedate_to_datetime

import httpx
import pytest
from sqlalchemy import delete

from examples.roughy.storage.tables import Project

from .api import Api, error_of, fields_of, id_of
from .conftest import ALICE, ON_SQLITE

pytestmark = pytest.mark.anyio

GIB = 1024**3


async def test_a_new_asset_waits_for_its_bytes(api: Api):  # C01, C02, C18
    project_id = await api.new_project()
    response = await api.create(1000, project_id=project_id, language="en")
    asset = response.json()
    assert response.status_code == 201
    assert uuid.UUID(asset["id"]).version == 7
    assert asset == {
        "id": asset["id"],
        "project_id": project_id,
        "type": None,
        "state": "pending_upload",
        "extension": None,
        "size_bytes": None,
        "content_type": None,
        "duration_seconds": None,
        "language": "en",
        "error_code": None,
        "error_message": None,
        "created_at": asset["created_at"],
    }


async def test_the_location_is_absolute_and_works_as_it_is(api: Api):  # C03, C06
    response = await api.create(1000)
    url = response.headers["location"]
    assert url == f"http://roughy.test/v1/uploads/{response.json()['id']}"
    assert (await api.head(url)).status_code == 200


async def test_the_answer_carries_the_headers_of_the_protocol(api: Api):  # C04, C05
    response = await api.create(1000)
    expires = parsedate_to_datetime(response.headers["upload-expires"])
    assert response.headers["upload-expires"].endswith(" GMT")
    assert response.headers["tus-resumable"] == "1.0.0"
    assert timedelta(0) <= api.clock.now - (expires - timedelta(days=7)) < timedelta(seconds=2)


@ON_SQLITE
@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        pytest.param({"project_id": None}, ["body.project_id"], id="C07-null"),
        pytest.param({"project_id": "clips"}, ["body.project_id"], id="C07-not-a-uuid"),
        pytest.param({"project_id": 7}, ["body.project_id"], id="C07-number"),
        pytest.param({"size_bytes": None}, ["body.size_bytes"], id="C08-missing"),
        pytest.param({"size_bytes": 63}, ["body.size_bytes"], id="C09-63"),
        pytest.param({"size_bytes": 0}, ["body.size_bytes"], id="C09-0"),
        pytest.param({"size_bytes": -64}, ["body.size_bytes"], id="U25-negative"),
        pytest.param({"size_bytes": "1000"}, ["body.size_bytes"], id="U25-text"),
        pytest.param({"size_bytes": 1000.0}, ["body.size_bytes"], id="U25-float"),
        pytest.param({"size_bytes": True}, ["body.size_bytes"], id="U25-true"),
        pytest.param({"language": "e"}, ["body.language"], id="C12-one-letter"),
        pytest.param({"language": "eng"}, ["body.language"], id="C12-three-letters"),
        pytest.param({"language": "e1"}, ["body.language"], id="C12-digit"),
        pytest.param({"language": "éé"}, ["body.language"], id="C12-not-ascii"),
        pytest.param({"language": ""}, ["body.language"], id="C12-empty"),
        pytest.param({"language": "en\n"}, ["body.language"], id="C12-line-end"),
        pytest.param({"language": 5}, ["body.language"], id="C12-number"),
        pytest.param({"script": "x"}, ["body.script"], id="U23-unknown-field"),
        pytest.param({"x\ud800": 1}, ["body.x?"], id="U23-unprintable-field"),
        pytest.param(
            {"project_id": 1, "size_bytes": 1, "language": 1, "type": "video"},
            ["body.type", "body.project_id", "body.size_bytes", "body.language"],
            id="E03-all-at-once",
        ),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_made(api: Api, body, wrong):
    fields = {"project_id": await api.new_project(), "size_bytes": 1000, **body}
    async with api.nothing_stored():
        response = await api.post("/v1/assets", fields)
    assert error_of(response) == (422, "validation_error")
    assert fields_of(response) == wrong


@pytest.mark.parametrize("missing", ["project_id", "size_bytes"])  # C07, C08
async def test_a_missing_field_is_named(api: Api, missing):
    fields = {"project_id": await api.new_project(), "size_bytes": 1000}
    del fields[missing]
    async with api.nothing_stored():
        response = await api.post("/v1/assets", fields)
    assert error_of(response) == (422, "validation_error")
    assert fields_of(response) == [f"body.{missing}"]


@pytest.mark.parametrize("size", [64, 50 * GIB])  # C09, C10
async def test_the_smallest_and_the_largest_file_are_taken(api: Api, size):
    url = await api.new_upload(size)
    assert (await api.head(url)).headers["upload-length"] == str(size)


@pytest.mark.parametrize("size", [50 * GIB + 1, 10**30])
async def test_a_larger_file_is_refused(api: Api, size):  # C10
    project_id = await api.new_project()
    async with api.nothing_stored():
        response = await api.create(size, project_id=project_id)
    assert error_of(response) == (413, "payload_too_large")
    assert "fields" not in response.json()["error"]


@ON_SQLITE
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param({}, None, id="omitted"),
        pytest.param({"language": None}, None, id="null"),
        pytest.param({"language": "EN"}, "en", id="upper-case"),
        pytest.param({"language": "zz"}, "zz", id="no-language"),
    ],
)
async def test_a_language_is_two_letters_in_lower_case(api: Api, given, kept):  # C11, U26
    asset = (await api.create(1000, **given)).json()
    assert asset["language"] == kept
    assert (await api.asset(asset["id"]))["language"] == kept


async def test_nothing_changes_an_asset_by_hand(api: Api):  # C13
    asset = (await api.create(1000, language="en")).json()
    for method in ("PATCH", "PUT", "POST"):
        response = await api.call(method, f"/v1/assets/{asset['id']}", json={"language": "de"})
        assert error_of(response) == (405, "method_not_allowed")
        assert set(response.headers["allow"].split(", ")) == {"DELETE", "GET", "HEAD"}
    assert (await api.asset(asset["id"]))["language"] == "en"


async def test_an_unknown_project_is_like_that_of_another(api: Api, other: Api):  # C14
    foreign = await other.new_project()
    async with api.nothing_stored():
        first = await api.create(1000, project_id=foreign)
        second = await api.create(1000, project_id=str(uuid.uuid4()))
    assert error_of(first) == (404, "not_found")
    assert first.content == second.content


async def test_an_archived_project_takes_assets(api: Api):  # U24
    project_id = await api.new_project()
    await api.call("PATCH", f"/v1/projects/{project_id}", json={"state": "archived"})
    assert (await api.create(1000, project_id=project_id)).status_code == 201


@pytest.mark.parametrize("balance", [0, -3])
async def test_without_credits_nothing_is_made(api: Api, balance):  # C15
    project_id = await api.new_project()
    await api.set_balance(balance)
    async with api.nothing_stored():
        response = await api.create(1000, project_id=project_id)
    assert error_of(response) == (402, "insufficient_credits")


async def test_one_credit_is_enough_to_start_any_upload(api: Api):  # C16
    await api.set_balance(1)
    assert (await api.create(50 * GIB)).status_code == 201
    assert await api.balance() == 1


@ON_SQLITE
@pytest.mark.parametrize(
    ("content_type", "content", "answer"),
    [
        pytest.param("text/plain", b"{}", (415, "unsupported_media_type"), id="C17-text"),
        pytest.param("", b"{}", (415, "unsupported_media_type"), id="C17-no-type"),
        pytest.param("application/json", b"", (400, "bad_request"), id="C17-empty"),
        pytest.param("application/json", b"{", (400, "bad_request"), id="C17-half"),
        pytest.param("application/json", b"\xff", (400, "bad_request"), id="C17-not-utf-8"),
        pytest.param("application/json", b"[" * 60_000, (400, "bad_request"), id="deep"),
        pytest.param("application/json", b'{"a":NaN}', (400, "bad_request"), id="NaN"),
        pytest.param(
            "application/json",
            b'{"size_bytes":' + b"9" * 9000 + b"}",
            (400, "bad_request"),
            id="huge-number",
        ),
        pytest.param("application/json", b"[]", (422, "validation_error"), id="a-list"),
        pytest.param("application/json", b" " * 65_537, (413, "payload_too_large"), id="too-much"),
    ],
)
async def test_a_body_that_is_not_a_json_object_is_refused(api: Api, content_type, content, answer):
    async with api.nothing_stored():
        response = await api.call(
            "POST", "/v1/assets", content=content, headers={"Content-Type": content_type}
        )
    assert error_of(response) == answer


async def test_json_may_name_its_character_set(api: Api):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    response = await api.call("POST", "/v1/projects", content=b'{"name":"x"}', headers=headers)
    assert response.status_code == 201


async def test_the_checks_come_in_a_fixed_order(api: Api):
    """U2: 401, 415, 400, 422, 413, 404, 402. Each request has all the later faults as well."""
    good = {"project_id": await api.new_project(), "size_bytes": 1000}
    unknown = {**good, "project_id": str(uuid.uuid4())}
    await api.set_balance(0)
    json = {"Content-Type": "application/json"}
    async with api.nothing_stored():
        answers = [
            await api.http.post("/v1/assets", content=b"{"),
            await api.call("POST", "/v1/assets", content=b"{"),
            await api.call("POST", "/v1/assets", content=b"{", headers=json),
            await api.post("/v1/assets", {**unknown, "size_bytes": 10**15, "language": "eng"}),
            await api.post("/v1/assets", {**unknown, "size_bytes": 10**15}),
            await api.post("/v1/assets", unknown),
            await api.post("/v1/assets", good),
        ]
    assert [answer.status_code for answer in answers] == [401, 415, 400, 422, 413, 404, 402]


async def test_a_project_deleted_meanwhile_leaves_no_upload(api: Api, roughy, monkeypatch):
    project_id = await api.new_project()
    before = await api.stored()
    create = roughy.uploads.create

    async def delete_the_project_first(**values):
        async with roughy.db.writing() as session:
            await session.execute(delete(Project).where(Project.id == uuid.UUID(project_id)))
        return await create(**values)

    monkeypatch.setattr(roughy.uploads, "create", delete_the_project_first)
    response = await api.create(1000, project_id=project_id)
    assert error_of(response) == (404, "not_found")
    assert await api.stored() == {**before, "projects": []}


async def test_an_upload_without_its_asset_is_nobodys(api: Api, roughy, clock, mp4):
    """As a process leaves it that dies between the two writes of a creation."""
    url = await api.new_upload(len(mp4))
    owner = (await roughy.uploads.get(id_of(url))).owner
    before = await api.stored()
    upload = await roughy.uploads.create(length=len(mp4), upload_id=str(uuid.uuid4()), owner=owner)
    orphan = url.replace(id_of(url), upload.id)
    assert (await api.head(orphan)).status_code == 404
    assert error_of(await api.patch(orphan, 0, mp4)) == (404, "not_found")
    assert (await api.get("/v1/assets")).json()["total"] == 1
    await roughy.uploads.terminate(id_of(url))
    clock.advance(days=8)
    await roughy.sweeper.sweep()
    assert await api.stored() == {**before, "files": {}, "assets": []}


async def test_the_public_url_is_what_clients_see(start, clock):  # U36
    roughy = await start(ROUGHY_PUBLIC_URL="https://api.example.com/roughy/")
    api = Api(roughy, clock, ALICE)
    async with api.http:
        response = await api.create(1000)
        url = f"https://api.example.com/roughy/v1/uploads/{response.json()['id']}"
        assert response.headers["location"] == url
        assert (await api.asset(response.json()["id"]))["upload_url"] == url


async def test_a_root_path_is_a_part_of_every_url(api: Api, roughy, mp4):  # U36
    api.http = httpx.AsyncClient(
        transport=httpx.ASGITransport(roughy.app, root_path="/media"),
        base_url="https://behind.test/media",
    )
    async with api.http:
        url = await api.new_upload(len(mp4))
        assert url.startswith("https://behind.test/media/v1/uploads/")
        assert (await api.patch(url, 0, mp4)).status_code == 204
        assert (await api.http.options("/v1/uploads")).headers["tus-version"] == "1.0.0"
        await api.work()
        link = (await api.asset(id_of(url)))["download_url"]
        assert link.startswith("https://behind.test/media/downloads/")
        assert (await api.http.get(link)).content == mp4
