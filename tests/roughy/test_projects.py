"""Checklist P: projects."""

import re
import uuid

import pytest

from .api import Api, error_of, fields_of, id_of

pytestmark = pytest.mark.anyio

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_a_new_project_is_active(api: Api):  # P01
    response = await api.post("/v1/projects", {"name": "Interviews"})
    project = response.json()
    assert response.status_code == 201
    assert uuid.UUID(project["id"]).version == 7
    assert TIME.fullmatch(project["created_at"])
    assert project["updated_at"] == project["created_at"]
    assert project == {
        "id": project["id"],
        "name": "Interviews",
        "state": "active",
        "archived_at": None,
        "created_at": project["created_at"],
        "updated_at": project["updated_at"],
    }
    assert (await api.get(f"/v1/projects/{project['id']}")).json() == project


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="P02-missing"),
        pytest.param({"name": ""}, id="P02-empty"),
        pytest.param({"name": "x" * 257}, id="P02-too-long"),
        pytest.param({"name": None}, id="P02-null"),
        pytest.param({"name": 7}, id="P02-number"),
        pytest.param({"name": "a\x00b"}, id="P02-nul"),
        pytest.param({"name": "a\ud800b"}, id="P02-half-a-character"),
    ],
)
async def test_a_name_has_1_to_256_characters(api: Api, body):
    async with api.nothing_stored():
        response = await api.post("/v1/projects", body)
    assert error_of(response) == (422, "validation_error")
    assert fields_of(response) == ["body.name"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x" * 256, id="256-characters"),
        pytest.param("🎬" * 256, id="256-characters-of-4-bytes"),
        pytest.param("../../etc/passwd'; DROP TABLE assets --", id="free-text"),
    ],
)
async def test_a_name_is_only_a_label(api: Api, name):
    project_id = await api.new_project(name)
    assert (await api.get(f"/v1/projects/{project_id}")).json()["name"] == name


async def test_the_list_is_newest_first_and_in_pages(api: Api):  # P03
    made = [await api.new_project(f"p{number}") for number in range(23)]
    page = (await api.get("/v1/projects")).json()
    assert {key: page[key] for key in ("total", "limit", "offset")} == {
        "total": 23,
        "limit": 20,
        "offset": 0,
    }
    assert [item["id"] for item in page["items"]] == made[:2:-1]
    assert page["items"][0].keys() == {"id", "name", "state", "created_at", "updated_at"}
    rest = (await api.get("/v1/projects", limit=20, offset=20)).json()
    assert [item["id"] for item in rest["items"]] == made[2::-1]
    assert (await api.get("/v1/projects", offset=99)).json()["items"] == []


async def test_an_archived_project_is_out_of_sight_until_it_is_active_again(api: Api):  # P04
    project_id = await api.new_project()
    one = f"/v1/projects/{project_id}"
    archived = (await api.call("PATCH", one, json={"state": "archived"})).json()
    assert archived["state"] == "archived"
    assert TIME.fullmatch(archived["archived_at"])
    assert archived["updated_at"] == archived["archived_at"]
    assert (await api.get("/v1/projects")).json()["total"] == 0
    assert (await api.get("/v1/projects", state="archived")).json()["total"] == 1
    assert (await api.get(one)).json() == archived
    active = (await api.call("PATCH", one, json={"state": "active"})).json()
    assert (active["state"], active["archived_at"]) == ("active", None)
    assert (await api.get("/v1/projects", state="active")).json()["total"] == 1


async def test_a_patch_of_nothing_changes_nothing(api: Api):  # P05
    project_id = await api.new_project()
    async with api.nothing_stored():
        response = await api.call("PATCH", f"/v1/projects/{project_id}", json={})
    assert response.status_code == 200
    assert response.json() == (await api.get(f"/v1/projects/{project_id}")).json()


async def test_a_rename_shows_at_once(api: Api):
    project_id = await api.new_project("before")
    response = await api.call("PATCH", f"/v1/projects/{project_id}", json={"name": "after"})
    assert response.json()["name"] == "after"
    assert response.json()["updated_at"] > response.json()["created_at"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"name": ""}, "body.name", id="empty-name"),
        pytest.param({"name": None}, "body.name", id="no-name"),
        pytest.param({"state": "deleted"}, "body.state", id="unknown-state"),
        pytest.param({"state": ["active"]}, "body.state", id="state-of-another-type"),
        pytest.param({"archived_at": None}, "body.archived_at", id="unknown-field"),
    ],
)
async def test_a_wrong_patch_changes_nothing(api: Api, body, field):
    project_id = await api.new_project()
    async with api.nothing_stored():
        response = await api.call("PATCH", f"/v1/projects/{project_id}", json=body)
    assert error_of(response) == (422, "validation_error")
    assert fields_of(response) == [field]


async def test_deleting_a_project_removes_its_assets_and_their_bytes(api: Api, mp4):  # P06
    kept = await api.new_upload(len(mp4))
    await api.patch(kept, 0, mp4[:100])
    before = await api.stored()
    project_id = await api.new_project()
    begun = await api.new_upload(len(mp4), project_id=project_id)
    await api.patch(begun, 0, mp4[:100])
    finished = await api.upload(mp4, project_id=project_id)

    response = await api.call("DELETE", f"/v1/projects/{project_id}")

    assert (response.status_code, response.content) == (204, b"")
    assert await api.stored() == before
    for path in (f"projects/{project_id}", f"assets/{finished}", f"assets/{id_of(begun)}"):
        assert error_of(await api.get(f"/v1/{path}")) == (404, "not_found")
    assert (await api.head(begun)).status_code == 404
    again = await api.call("DELETE", f"/v1/projects/{project_id}")
    assert error_of(again) == (404, "not_found")  # U33


async def test_many_assets_share_a_project(api: Api):  # P07
    project_id = await api.new_project()
    for _ in range(3):
        await api.new_upload(1000, project_id=project_id)
    assert (await api.get("/v1/assets", project_id=project_id)).json()["total"] == 3


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_id_that_cannot_be_one_is_named(api: Api, method):
    for text in ("7", "{" + str(uuid.uuid4()) + "}", uuid.uuid4().hex, "x" * 5000):
        response = await api.call(method, f"/v1/projects/{text}")
        assert error_of(response) == (422, "validation_error")
        assert fields_of(response) == ["path.project_id"]
