"""Clients of the IETF draft, over a network that breaks: all of their bytes, and an end."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.roughy.tools.bad_network import BadNetwork
from tests.clients.needs import HERE, need
from tests.clients.scripts import run
from tests.hosts._process import Server, free_port, running

DATA = bytes(range(256)) * 5_000
DRAFT = {"Upload-Draft-Interop-Version": "9"}
VERSIONS = {"ietf-draft-03": "5", "ietf-draft-05": "6"}
# The first three are in the middle of `whole`, the others there or in `chunked`.
CUTS = [500_000, 200_000, 300_000, 150_000, 150_000]

CONTENTS = {
    "whole": DATA,
    "chunked": DATA,
    "paused": DATA,
    "empty": b"",
    "five": DATA[:5],
    "created": DATA,
    "createdEmpty": b"",
    "createdChunked": DATA,
    "deferred": DATA,
    "streamed": DATA,
    "sized": DATA,
    "reopened": DATA,
}
NAMES = [*(name for name in CONTENTS if name != "reopened"), "terminated", "parallel"]

INTERIM = "tusasgi.server.interim:InterimProtocol"

protocols = pytest.mark.parametrize("protocol", VERSIONS)


class Seen:
    """What the server has seen since it was looked at before."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._before = self._look()

    def _look(self) -> dict[str, Any]:
        seen: dict[str, Any] = self._http.get("/seen").json()
        return seen

    def _news(self, kind: str) -> list[Any]:
        return list(self._look()[kind])[len(self._before[kind]) :]

    @property
    def completed(self) -> list[str]:
        return self._news("completed")

    @property
    def removed(self) -> list[str]:
        return self._news("removed")

    @property
    def films(self) -> list[str]:
        return self._news("films")

    def last_patch(self, url: str) -> dict[str, str]:
        path = httpx.URL(url).path
        patches = [one for one in self._news("requests") if one["method"] == "PATCH"]
        patch: dict[str, str] = [one for one in patches if one["path"] == path][-1]
        return patch

    def check(self, contents: Mapping[str, bytes]) -> None:
        """Fail unless the uploads at these URLs, and no others, are complete, with their content.

        Each was handed to the host once, and nothing is left of what else was created.
        """
        for url, content in contents.items():
            path = httpx.URL(url).path  # the client knows it behind the bad network
            head = self._http.head(path, headers=DRAFT).headers
            assert (path, head["Upload-Complete"]) == (path, "?1")
            assert (path, _digest(self._http.get(path).content)) == (path, _digest(content))
        ids = sorted(map(_id_of, contents))
        assert sorted(self.completed) == ids
        assert sorted(self._news("created")) == sorted([*ids, *self.removed])

    def protocol_of(self, url: str) -> str:
        return str(self._look()["created"][_id_of(url)])


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _id_of(url: str) -> str:
    return url.rpartition("/")[2]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("auto", id="uvicorn"),
        pytest.param(INTERIM, id="uvicorn-with-interim-responses"),
    ],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    port, http = free_port(), request.param
    command = ["-m", "uvicorn", "--factory", "tests.clients.draft_server:create_app"]
    command += ["--port", str(port), "--http", http, "--log-level", "warning"]
    origin = {"TUSASGI_TEST_ORIGIN": f"http://127.0.0.1:{port}"}
    with running(http, command, port, tmp_path_factory.mktemp("draft"), **origin) as server:
        yield server


@pytest.fixture
def seen(server: Server) -> Iterator[Seen]:
    with httpx.Client(base_url=server.url) as http:
        yield Seen(http)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "film"
    path.write_bytes(DATA)
    return path


def in_node(file: Path, options: dict[str, Any], *names: str) -> dict[str, str]:
    need("node", "npm:tus-js-client")
    done = run(["node", str(HERE / "draft_node.mjs"), str(file), json.dumps(options), *names], HERE)
    assert done.returncode == 0, done.stderr
    urls: dict[str, str] = json.loads(done.stdout)
    return urls


def contents_of(urls: Mapping[str, Any]) -> dict[str, bytes]:
    """What has to be at each URL that an upload ended with."""
    return {urls[name]: content for name, content in CONTENTS.items() if name in urls}


@protocols
def test_tus_js_client_in_node(server: Server, seen: Seen, file: Path, protocol: str) -> None:
    with BadNetwork(server.port, cuts=CUTS) as network:
        options = {"endpoint": f"{network.url}/files/", "protocol": protocol}
        urls = in_node(file, options, *NAMES)
    assert network.cuts_made == CUTS
    seen.check(contents_of(urls))
    assert seen.removed == [_id_of(urls["terminated"])]
    assert urls["parallel"] == 400
    # It calls the last piece of a file a part: nothing but the length tells that it is the last.
    last = seen.last_patch(urls["chunked"])
    assert last["upload-draft-interop-version"] == VERSIONS[protocol]
    assert last["upload-complete"] == "?0"


def test_tus_js_client_in_chromium(
    server: Server, seen: Seen, file: Path, in_chromium: None
) -> None:
    need("npm:esbuild", "npm:tus-js-client")
    page = f"{server.url}/page"  # of another origin than either network
    with (
        BadNetwork(server.port, cuts=CUTS) as one,
        BadNetwork(server.port, cuts=CUTS) as other,
    ):
        options = {
            protocol: {"endpoint": f"{network.url}/files/", "protocol": protocol}
            for protocol, network in zip(VERSIONS, (one, other), strict=True)
        }
        command = ["node", str(HERE / "draft_browser.mjs"), page, str(file), json.dumps(options)]
        done = run([*command, *NAMES], HERE)
    assert done.returncode == 0, done.stderr
    assert one.cuts_made == other.cuts_made == CUTS
    by_protocol = json.loads(done.stdout.splitlines()[-1])
    runs = [by_protocol[protocol] for protocol in VERSIONS]
    seen.check({url: content for urls in runs for url, content in contents_of(urls).items()})
    assert seen.removed == [_id_of(urls["terminated"]) for urls in runs]
    for urls in runs:
        assert urls["begun"] == urls["reopened"]
        assert urls["parallel"] == 400
        # It says the length of a stream when nothing is left, and nothing of completeness.
        last = seen.last_patch(urls["streamed"])
        assert last["upload-offset"] == last["upload-length"] == str(len(DATA))
        assert "upload-complete" not in last


@protocols
def test_tus_js_client_goes_on_in_another_process(
    server: Server, seen: Seen, file: Path, protocol: str
) -> None:
    options = {"endpoint": f"{server.url}/files/", "protocol": protocol}
    begun = in_node(file, options, "begin")["begin"]
    assert seen.completed == []
    assert in_node(file, options, "goOn")["goOn"] == begun
    seen.check({begun: DATA})


@protocols
def test_an_endpoint_that_was_made_resumable_gets_each_upload_once(
    server: Server, seen: Seen, file: Path, protocol: str
) -> None:
    names = ["whole", "chunked", "paused", "empty", "five", "createdChunked", "streamed", "sized"]
    if server.name == INTERIM:  # else the app gets such a request as it comes
        names += ["created", "createdEmpty"]
    with BadNetwork(server.port, cuts=CUTS) as network:
        options = {"endpoint": f"{network.url}/films", "protocol": protocol}
        in_node(file, options, *names)
    assert network.cuts_made == CUTS
    assert seen.films == [_digest(CONTENTS[name]) for name in names]


def test_a_tus_client_whose_requests_carry_the_draft_s_fields_speaks_tus(
    server: Server, seen: Seen, file: Path
) -> None:
    # URLSession adds them to every upload task, those of TUSKit too.
    fields = {"Upload-Complete": "?1", "Upload-Draft-Interop-Version": "8"}
    names = ["whole", "chunked", "paused", "created", "five"]
    with BadNetwork(server.port, cuts=CUTS) as network:
        options = {"endpoint": f"{network.url}/files/", "protocol": "tus-v1", "headers": fields}
        urls = in_node(file, options, *names)
    assert network.cuts_made == CUTS
    assert (
        seen.last_patch(urls["chunked"]).items()
        >= {
            "upload-complete": "?1",
            "upload-draft-interop-version": "8",
            "tus-resumable": "1.0.0",
        }.items()
    )
    seen.check(contents_of(urls))
    assert {seen.protocol_of(url) for url in urls.values()} == {"tus"}
