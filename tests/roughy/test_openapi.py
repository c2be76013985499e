"""The OpenAPI document: it is one, it lists the routes there are, and answers are as it says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import schemathesis
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import BaseRoute, Mount, Route

from examples.roughy.api.document import DOCUMENT
from examples.roughy.api.errors import CODES
from examples.roughy.app import Roughy
from examples.roughy.settings import MAX_SIZE, MIN_SIZE
from examples.roughy.storage.tables import State

from . import media
from .api import Api, id_of
from .server import KEY, ROOT, Server

pytestmark = pytest.mark.anyio

UNKNOWN = "0190f0d0-0000-7000-8000-000000000000"
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"}
OPERATIONS = {
    operation["operationId"]
    for path in DOCUMENT["paths"].values()
    for operation in path.values()
    if "operationId" in operation
}
_PAGES = re.compile(r"/|/static/.*")


def test_the_document_is_valid_openapi() -> None:
    wrong = [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()]
    assert wrong == []
    assert DOCUMENT["openapi"].startswith("3.1.")


@pytest.mark.parametrize("kind", ["headers", "parameters", "responses", "schemas"])
def test_every_part_of_the_document_is_used(kind: str) -> None:
    text = json.dumps(DOCUMENT)
    parts = DOCUMENT["components"][kind]
    assert [name for name in parts if f'"#/components/{kind}/{name}"' not in text] == []


def test_limits_states_and_codes_are_those_of_the_code() -> None:
    schemas, responses = (DOCUMENT["components"][kind] for kind in ("schemas", "responses"))
    assert schemas["AssetState"]["enum"] == list(State)
    size = resolved(DOCUMENT["paths"]["/v1/assets"]["post"]["requestBody"])["content"][
        "application/json"
    ]["schema"]["properties"]["size_bytes"]
    assert (size["minimum"], size["maximum"]) == (MIN_SIZE, MAX_SIZE)
    codes = {name.removeprefix("upload_") for name in responses}
    assert codes == set(CODES.values()) - {"method_not_allowed"}  # which is said once, in words
    for status in used_statuses(DOCUMENT):
        name = status[1].rpartition("/")[2].removeprefix("upload_")
        assert name == CODES[int(status[0])]


def used_statuses(node: object) -> Iterator[tuple[str, str]]:
    """Yield each status of the document that refers to a response, with what it refers to."""
    if isinstance(node, dict):
        for key, value in node.items():
            if re.fullmatch("[0-9]{3}", key) and "$ref" in value:
                yield key, value["$ref"]
            yield from used_statuses(value)


def resolved(part: dict) -> dict:
    """Follow the reference that a part of the document is, if it is one."""
    if "$ref" not in part:
        return part
    kind, name = part["$ref"].split("/")[-2:]
    return DOCUMENT["components"][kind][name]


# Routes and document


def paths_of(routes: list[BaseRoute]) -> Iterator[str]:
    for route in routes:
        assert isinstance(route, Route | Mount)
        # What is mounted, beside the pages, are the uploads.
        yield route.path + "/{upload_id}" if isinstance(route, Mount) else route.path


async def test_document_and_app_have_the_same_paths(start) -> None:
    roughy: Roughy = await start(ROUGHY_CORS_ORIGINS="")
    there = {path for path in paths_of(roughy.app.routes) if not _PAGES.fullmatch(path)}
    assert there == set(DOCUMENT["paths"])


@pytest.mark.parametrize("path", DOCUMENT["paths"])
async def test_document_and_app_have_the_same_methods(api: Api, path: str) -> None:
    documented = {method.upper() for method in DOCUMENT["paths"][path]} & METHODS
    if "GET" in documented:
        documented.add("HEAD")
    answered = set()
    for method in METHODS:
        # Of uploads the document has TUS; by the draft, GET asks for the offset too.
        answer = await api.tus(method, re.sub(r"\{.*?\}", UNKNOWN, path))
        if answer.status_code != 405:
            answered.add(method)
    assert answered == documented


async def test_whoever_asks_gets_the_document_without_a_key(api: Api) -> None:
    answer = await api.http.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.json() == DOCUMENT


# Answers


OF_UPLOADS = re.compile(r"accept-patch|location|retry-after|www-authenticate|(tus|upload)-.*")


def check_headers(answer: httpx.Response, documented: dict) -> None:
    """What is promised is there, and nothing of uploads that is not promised."""
    headers = {
        name.lower(): resolved(header)
        for name, header in resolved(documented).get("headers", {}).items()
    }
    assert {name for name in headers if headers[name]["required"]} <= answer.headers.keys()
    assert {name for name in answer.headers if OF_UPLOADS.fullmatch(name)} <= headers.keys()


class Checked:
    """Sees to it that every answer of an app is as the document says."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        self._schema = schemathesis.openapi.from_dict(DOCUMENT)
        self._paths = {
            re.compile(re.sub(r"\{.*?\}", "[^/]+", path)): path for path in DOCUMENT["paths"]
        }

    async def __call__(self, answer: httpx.Response) -> None:
        await answer.aread()
        path = urlsplit(str(answer.request.url)).path
        named = next(named for form, named in self._paths.items() if form.fullmatch(path))
        operation = self._schema[named][answer.request.method]
        documented = DOCUMENT["paths"][named][answer.request.method.lower()]
        assert str(answer.status_code) in documented["responses"], answer.text
        operation.validate_response(answer)
        check_headers(answer, documented["responses"][str(answer.status_code)])
        self.seen.add((documented["operationId"], answer.status_code))


async def test_every_answer_in_a_life_is_as_documented(api: Api, other: Api, mp4: bytes) -> None:
    checked = Checked()
    api.http.event_hooks["response"] = other.http.event_hooks["response"] = [checked]
    project = await api.new_project()
    one = f"/v1/projects/{project}"
    for body in ({"name": "films"}, {"state": "archived"}, {}, {"name": 7}):
        await api.send_json("PATCH", one, body)
    await api.get(one)
    await api.get("/v1/projects")
    await api.get("/v1/projects?state=archived")
    url = await api.new_upload(len(mp4), project_id=project, language="DE")
    await api.tus("OPTIONS", url)
    await api.tus("OPTIONS", "/v1/uploads")
    await api.head(url)
    await api.asset(id_of(url))
    await api.patch(url, 0, mp4[:63])
    await api.patch(url, 7, mp4)
    await api.patch(url, 0, mp4 + b"x")
    await api.patch(url, 0, mp4, **{"Content-Type": "text/plain"})
    await api.patch(url, 0, mp4, **{"Upload-Offset": "x"})
    await api.patch(url, 0, mp4, **{"Tus-Resumable": "0.2.2"})
    await api.patch(url, 0, mp4[:100])
    await api.head(url)
    await other.head(url)
    await other.patch(url, 100, mp4[100:])
    await api.patch(url, 100, mp4[100:])
    await api.cancel(url)
    await api.work()
    ready = await api.asset(id_of(url))
    for wanted in ("bytes=0-9", "bytes=-5", "bytes=999999999-"):
        await api.http.get(ready["download_url"], headers={"Range": wanted})
    await api.http.get(ready["download_url"])
    refused = await api.new_upload(len(media.PDF), project_id=project)
    await api.patch(refused, 0, media.PDF)
    await api.head(refused)
    await api.prepared(mp4[:200], project_id=project)
    await api.cancel(await api.new_upload(100, project_id=project))
    await api.get("/v1/assets")
    await api.get("/v1/assets?state=failed&limit=1&offset=1")
    await api.get("/v1/credits/history")
    await api.get("/v1/credits/balance")
    await api.top_up(-await api.balance())
    await api.create(100, project_id=project)
    await api.call("DELETE", f"/v1/assets/{id_of(url)}")
    await api.http.get(ready["download_url"])
    await api.call("DELETE", one)
    await api.get(one)
    await api.get("/health")
    await api.get("/openapi.json")
    successes = {operation for operation, status in checked.seen if status < 300}
    assert successes == OPERATIONS
    assert {("download", status) for status in (200, 206, 404, 416)} <= checked.seen
    assert {("patchUpload", status) for status in (204, 400, 404, 409, 412, 413, 415, 422)} <= (
        checked.seen
    )
    assert ("createAsset", 402) in checked.seen


# Generated requests, against the real server


def run_schemathesis(server: Server, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "schemathesis.cli"]
    command += ["--config-file", str(ROOT / "tests/roughy/schemathesis.toml")]
    command += ["run", f"http://127.0.0.1:{server.port}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {KEY}"]
    return subprocess.run(
        command,
        cwd=folder,  # it keeps notes where it runs
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )


@pytest.mark.timeout(300)  # of which a quick machine takes 40
def test_generated_requests_get_what_is_documented_and_no_5xx(tmp_path: Path) -> None:
    """Lawful and hostile ones, some of them without the key; the seed is in the report."""
    with Server(tmp_path / "data", ROUGHY_INITIAL_CREDITS="1000") as server:
        run = run_schemathesis(server, tmp_path)
    assert run.returncode == 0, run.stdout
    assert f"Tested: {len(OPERATIONS)}" in run.stdout
    assert "Traceback" not in server.log
    answered = set(re.findall(r'"([A-Z]+) /v1/(\w+)\S* HTTP/1.1" (\d+)', server.log))
    # It got in, too.
    assert {("POST", "assets", "201"), ("HEAD", "uploads", "200")} <= answered
