"""Checklist A: keys and ownership."""

import asyncio
import hashlib
import uuid

import pytest
from sqlalchemy import text, update

from examples.roughy.storage.accounts import revoke_key
from examples.roughy.storage.tables import ApiKey, Asset

from .api import Api, error_of, id_of
from .conftest import ALICE, ON_SQLITE

pytestmark = pytest.mark.anyio

ENDPOINTS = [
    ("POST", "/v1/projects"),
    ("GET", "/v1/projects"),
    ("GET", "/v1/projects/{id}"),
    ("PATCH", "/v1/projects/{id}"),
    ("DELETE", "/v1/projects/{id}"),
    ("POST", "/v1/assets"),
    ("GET", "/v1/assets"),
    ("GET", "/v1/assets/{id}"),
    ("DELETE", "/v1/assets/{id}"),
    ("HEAD", "/v1/uploads/{id}"),
    ("PATCH", "/v1/uploads/{id}"),
    ("DELETE", "/v1/uploads/{id}"),
    ("DELETE", "/v1/uploads/not-an-id"),
    ("GET", "/v1/credits/balance"),
    ("GET", "/v1/credits/history"),
]


@ON_SQLITE
@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="A01-none"),
        pytest.param("Bearer sk_nobody_0123456789abcdef", id="A02-unknown"),
        pytest.param("Bearer", id="A02-no-key"),
        pytest.param("Bearer ", id="A02-empty"),
        pytest.param(ALICE, id="A02-no-scheme"),
        pytest.param(f"Basic {ALICE}", id="A02-other-scheme"),
        pytest.param(f"Bearer {ALICE}x", id="A02-one-character-more"),
        pytest.param(f"Bearer {ALICE}, Bearer {ALICE}", id="A02-two-keys"),
        pytest.param("Bearer sk_\xe4\xf6\xfc\x80", id="A02-not-ascii"),
    ],
)
async def test_every_endpoint_wants_a_valid_key(api: Api, authorization):
    url = await api.new_upload(1000)
    async with api.nothing_stored():
        for method, path in ENDPOINTS:
            headers = {"Tus-Resumable": "1.0.0"}
            if authorization is not None:
                headers["Authorization"] = authorization.encode("latin-1")
            response = await api.http.request(method, path.format(id=id_of(url)), headers=headers)
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"] == "Bearer"
            if method != "HEAD":
                assert error_of(response) == (401, "unauthenticated")


async def test_the_scheme_is_bearer_in_any_case(api: Api):
    response = await api.http.get("/v1/projects", headers={"Authorization": f"bEaReR  {ALICE}"})
    assert response.status_code == 200


async def test_the_key_of_the_creation_works_for_the_whole_upload(api: Api, mp4):  # A03
    url = await api.new_upload(len(mp4))
    assert (await api.patch(url, 0, mp4[:100])).status_code == 204
    assert (await api.head(url)).status_code == 200
    assert (await api.cancel(url)).status_code == 204


async def test_capabilities_need_no_key(api: Api):  # A04
    for path in ("/v1/uploads", "/v1/uploads/", f"/v1/uploads/{uuid.uuid4()}"):
        response = await api.http.options(path)
        assert response.status_code == 204
        assert response.headers["tus-version"] == "1.0.0"


async def test_what_belongs_to_others_looks_like_what_does_not_exist(api: Api, other: Api, mp4):
    # A05: the same status, headers and body, so nothing tells one from the other.
    project_id = await api.new_project()
    url = await api.new_upload(len(mp4), project_id=project_id)
    unknown = str(uuid.uuid4())
    read = [
        ("GET", "/v1/projects/{id}", project_id, {}),
        ("PATCH", "/v1/projects/{id}", project_id, {"json": {"name": "mine now"}}),
        ("DELETE", "/v1/projects/{id}", project_id, {}),
        ("GET", "/v1/assets/{id}", id_of(url), {}),
        ("DELETE", "/v1/assets/{id}", id_of(url), {}),
    ]
    async with api.nothing_stored():
        for method, path, theirs, more in read:
            foreign = await other.call(method, path.format(id=theirs), **more)
            missing = await other.call(method, path.format(id=unknown), **more)
            assert error_of(foreign) == (404, "not_found")
            assert _all_of(foreign) == _all_of(missing)
        for ask in (other.head, lambda url: other.patch(url, 0, mp4)):
            foreign, missing = await ask(url), await ask(url.replace(id_of(url), unknown))
            assert foreign.status_code == 404
            assert _all_of(foreign) == _all_of(missing)


async def test_lists_show_nothing_of_others(api: Api, other: Api):  # A05
    project_id = await api.new_project()
    await api.new_upload(1000, project_id=project_id)
    for path in ("/v1/projects", "/v1/assets", f"/v1/assets?project_id={project_id}"):
        assert (await other.get(path)).json()["total"] == 0


async def test_a_revoked_key_opens_nothing_and_the_account_stays(api: Api, roughy, clock):
    async with roughy.db.writing() as session:
        assert await revoke_key(session, ALICE, clock())
    assert error_of(await api.get("/v1/projects")) == (401, "unauthenticated")


async def test_a_revoked_key_opens_nothing_after_a_restart_either(api: Api, start, clock, caplog):
    """It may still be in the environment; it gets no new account with new credits."""
    before = await api.stored()
    async with api.roughy.db.writing() as session:
        assert await revoke_key(session, ALICE, clock())
    again = await start()
    assert "was revoked" in caplog.text
    assert ALICE not in caplog.text
    after = await api.stored()
    assert after["accounts"] == before["accounts"]
    assert after["ledger"] == before["ledger"]
    assert error_of(await api.get("/v1/projects")) == (401, "unauthenticated")
    async with again.db.writing() as session:
        assert not await revoke_key(session, ALICE, clock())  # once is enough


async def make_older(roughy) -> None:
    """Take back what version 2 of the tables, and tables that were added before it, are about."""
    async with roughy.db.writing() as session:
        for statement in (
            "ALTER TABLE assets DROP COLUMN attempts",
            "UPDATE schema_version SET version = 1",
            "DROP TABLE revoked_keys",
        ):
            await session.execute(text(statement))


async def test_a_database_from_before_goes_on(api: Api, start, other: Api, mp4):
    """Tables that were added since are made beside those that are there, and columns are added."""
    asset_id = await api.upload(mp4)
    await make_older(api.roughy)
    await asyncio.gather(*(start() for _ in range(3)))  # processes that are started at once
    await api.work()
    assert (await api.asset(asset_id))["state"] == "ready"
    async with api.roughy.db.writing() as session:
        assert await revoke_key(session, ALICE, api.clock())
        assert await session.scalar(text("SELECT version FROM schema_version")) == 2
    assert error_of(await api.get("/v1/projects")) == (401, "unauthenticated")
    assert await other.balance() == 100


async def test_attempts_that_were_counted_before_still_count(api: Api, start, mp4):
    """They were in a table of their own; a replica of before may still add assets meanwhile."""
    asset_id = uuid.UUID(await api.upload(mp4))
    await make_older(api.roughy)
    async with api.roughy.db.writing() as session:
        kind = "CHAR(32)" if session.bind.dialect.name == "sqlite" else "UUID"
        await session.execute(
            text(f"CREATE TABLE given_up_assets (asset_id {kind} PRIMARY KEY, times BIGINT)")
        )
        await session.execute(text("INSERT INTO given_up_assets SELECT id, 2 FROM assets"))
    await start()
    untouched = uuid.UUID(await api.upload(mp4))
    async with api.roughy.db.reading() as session:
        assert (await session.get(Asset, asset_id)).attempts == 2
        assert (await session.get(Asset, untouched)).attempts == 0


async def test_a_key_is_compared_as_a_whole(api: Api, roughy):
    """Two digests may begin alike: what the index finds is no more than a candidate."""
    unknown = "sk_mallory_0123456789abcdef"
    start = hashlib.sha256(unknown.encode()).hexdigest()[:8]
    async with roughy.db.writing() as session:
        await session.execute(update(ApiKey).values(start=start))
    answer = await api.http.get("/v1/projects", headers={"Authorization": f"Bearer {unknown}"})
    assert error_of(answer) == (401, "unauthenticated")


async def test_keys_are_not_in_the_database(api: Api):
    kept = repr(await api.stored())
    assert "api_keys" in kept
    assert ALICE not in kept
    assert ALICE[3:] not in kept


def _all_of(response):
    return response.status_code, sorted(response.headers.multi_items()), response.content
