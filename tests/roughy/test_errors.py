"""Checklist E: one envelope for everything, and what a browser may see of it."""

import httpx
import pytest

from examples.roughy.api.errors import CODES

from .api import ORIGIN, PATCH_TYPE, Api, error_of
from .conftest import ON_SQLITE

pytestmark = pytest.mark.anyio


async def test_every_error_has_the_envelope(api: Api, mp4):  # E01, E02, U32
    url = await api.new_upload(len(mp4))
    await api.patch(url, 0, mp4[:100])
    json = {"Content-Type": "application/json"}
    answers = [
        await api.http.get("/v1/assets"),
        await api.http.head("/v1/assets"),
        await api.http.patch(url),
        await api.get("/v1/nothing"),
        await api.get("/nothing"),
        await api.call("PUT", "/v1/assets"),
        await api.call("GET", url),
        await api.call("PATCH", url),
        await api.call("POST", "/v1/uploads", headers={"Tus-Resumable": "1.0.0"}),
        await api.patch(url, 7, b"x"),
        await api.patch(url, 100, mp4),
        await api.patch(url, 100, mp4, **{"Content-Type": "text/plain"}),
        await api.patch("/v1/uploads/7", 0, mp4),
        await api.call("POST", "/v1/assets", content=b"{", headers=json),
        await api.call("POST", "/v1/assets", content=b"{}"),
        await api.post("/v1/assets", {}),
        await api.get("/v1/assets?limit=0"),
        await api.get("/downloads/x"),
        await api.get("/static/nothing.js"),
    ]
    assert {answer.status_code for answer in answers} >= {400, 401, 403, 404, 405, 409, 412, 413}
    for answer in answers:
        status = answer.status_code
        assert answer.headers["content-type"] == "application/json", answer.request.url
        if answer.request.method == "HEAD":
            assert answer.content == b""
            continue
        assert answer.json().keys() == {"error"}
        error = answer.json()["error"]
        assert error["code"] == CODES[status]
        assert error["message"]
        assert "\n" not in error["message"]
        if status == 422:
            assert error.keys() == {"code", "message", "fields"}
            for field in error["fields"]:
                assert field.keys() == {"field", "message"}
                assert field["field"].partition(".")[0] in ("body", "query", "path")
        else:
            assert error.keys() == {"code", "message"}


async def test_a_405_names_every_method(api: Api):
    allowed = (await api.call("PUT", "/v1/assets")).headers["allow"]
    assert set(allowed.split(", ")) == {"GET", "HEAD", "POST"}
    answer = await api.call("GET", await api.new_upload(500))
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) >= {"HEAD", "PATCH", "DELETE", "OPTIONS"}


@ON_SQLITE
@pytest.mark.parametrize("where", ["rest", "upload", "upload-head"])
async def test_a_bug_is_a_500_that_tells_nothing(api: Api, roughy, monkeypatch, where, mp4):  # U32
    url = await api.new_upload(len(mp4))

    async def broken(*arguments, **more):
        raise RuntimeError("/secret/path and a password")

    monkeypatch.setattr(roughy.uploads, "create", broken)
    monkeypatch.setattr(roughy.store, "append", broken)
    monkeypatch.setattr(roughy.store, "get", broken)
    project_id = await api.new_project()
    transport = httpx.ASGITransport(roughy.app, raise_app_exceptions=False)
    api.http = httpx.AsyncClient(transport=transport, base_url="http://roughy.test")
    api.headers["Origin"] = ORIGIN
    async with api.http:
        if where == "rest":
            answer = await api.create(1000, project_id=project_id)
        elif where == "upload":
            answer = await api.patch(url, 0, mp4)
        else:
            answer = await api.head(url)
    # To a HEAD, what stands in the way for now is 423: clients keep the upload then.
    assert answer.status_code == (423 if where == "upload-head" else 500)
    assert answer.headers["content-type" if where != "upload-head" else "cache-control"]
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    if where == "upload-head":
        assert answer.content == b""
    else:
        assert error_of(answer) == (500, "internal_error")
        assert "secret" not in answer.text


async def test_successes_are_not_wrapped(api: Api):  # E04
    project = (await api.post("/v1/projects", {"name": "x"})).json()
    assert project["name"] == "x"


DRAFT = "upload-draft-interop-version"
PREFLIGHTS = [
    ("POST", "/v1/assets", "authorization,content-type"),
    ("GET", "/v1/assets/x", "authorization"),
    ("HEAD", "/v1/uploads/x", "authorization,tus-resumable"),
    ("PATCH", "/v1/uploads/x", "authorization,content-type,tus-resumable,upload-offset"),
    ("DELETE", "/v1/uploads/x", "authorization,tus-resumable"),
    ("POST", "/v1/uploads/x", "tus-resumable,x-http-method-override,x-request-id"),
    ("HEAD", "/v1/uploads/x", f"authorization,{DRAFT}"),
    (
        "PATCH",
        "/v1/uploads/x",
        f"authorization,content-digest,content-type,upload-complete,upload-offset,{DRAFT}",
    ),
]


@ON_SQLITE
@pytest.mark.parametrize(("method", "path", "headers"), PREFLIGHTS)
async def test_a_page_of_a_known_origin_may_ask(api: Api, method, path, headers):  # U31
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }
    answer = await api.http.options(path, headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert method in answer.headers["access-control-allow-methods"]
    foreign = await api.http.options(path, headers={**asked, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


async def test_a_page_sees_the_headers_of_every_answer(api: Api, mp4):  # U31
    url = await api.new_upload(len(mp4))
    api.headers["Origin"] = ORIGIN
    answers = [
        await api.create(len(mp4)),
        await api.head(url),
        await api.patch(url, 0, mp4[:100]),
        await api.patch(url, 0, mp4[:100]),
        await api.patch(url, 100, mp4, **{"Content-Type": "text/plain"}),
        await api.call("HEAD", url),
        await api.get("/nothing"),
        await api.http.get("/v1/assets", headers={"Origin": ORIGIN}),
        await api.http.options("/v1/uploads", headers={"Origin": ORIGIN}),
    ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [201, 200, 204, 409, 415, 412, 404, 401, 204]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["vary"] == "Origin"
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {
            "Location",
            "Upload-Offset",
            "Upload-Length",
            "Upload-Expires",
            "Tus-Resumable",
            "Tus-Version",
            "Tus-Extension",
            "Tus-Max-Size",
            "Upload-Complete",
            "Upload-Limit",
            "Upload-Draft-Interop-Version",
        } <= set(exposed)


async def test_without_origins_no_page_may_ask(start, clock):
    roughy = await start(ROUGHY_CORS_ORIGINS="")
    transport = httpx.ASGITransport(roughy.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://roughy.test") as http:
        answer = await http.get("/v1/assets", headers={"Origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers


async def test_a_patch_may_come_as_a_post(api: Api, mp4):
    """`X-HTTP-Method-Override`, for networks that let only GET and POST through."""
    url = await api.new_upload(len(mp4))
    headers = {"Upload-Offset": "0", "Content-Type": PATCH_TYPE}
    override = {"X-HTTP-Method-Override": "PATCH", **headers}
    assert (await api.tus("POST", url, mp4, **override)).status_code == 204


async def test_health_asks_the_database(api: Api):
    answer = await api.http.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
