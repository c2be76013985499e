"""A refused client is still sending 100 MB, and has to see why, whatever client it is."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

from tests.hosts._process import Server
from tests.hosts._wire import TUS, UPLOAD, Client, Connection

HERE = Path(__file__).parent
SIZE = 100_000_000
# What a refusal may cost: 8 MiB that are read and dropped, and what the kernel has buffered.
BOUND = 32_000_000

# The key decides what is refused before the body; the file begins with what `inspect` refuses.
REFUSALS = [
    pytest.param("Bearer me", 415, "this is not what we collect", id="415-by-its-content"),
    pytest.param("Bearer 401", 401, "your key has run out", id="401-before-the-body"),
    pytest.param("Bearer 409", 409, "somebody else was here", id="409-before-the-body"),
]


def _need(*needs: str | Path | None) -> None:
    """Skip where a client is not installed, or fail where they all have to be."""
    for need in needs:
        if need is None or (isinstance(need, Path) and not need.exists()):
            reason = "needs Node.js, Chromium or curl, and `npm install` in tests/hosts"
            if os.environ.get("TUSASGI_REQUIRE_CLIENTS") == "1":
                pytest.fail(reason)
            pytest.skip(reason)


def _run(*command: str) -> str:
    return subprocess.run(
        command, cwd=HERE, check=True, capture_output=True, text=True, timeout=60
    ).stdout


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("refused") / "large.bin"
    with path.open("wb") as file:
        file.write(b"NO")
        file.truncate(SIZE)
    yield path
    path.unlink()


@pytest.fixture
def url(server: Server) -> str:
    return server.url + Client(server.port, "/picky/").create(SIZE)


@pytest.mark.parametrize(("key", "status", "reason"), REFUSALS)
def test_tus_js_client_on_node_sees_the_refusal(
    url: str, file: Path, key: str, status: int, reason: str
) -> None:
    node = shutil.which("node")
    _need(node, HERE / "node_modules/tus-js-client")
    outcome = json.loads(_run(str(node), "refused.mjs", url, str(file), key))
    assert (outcome["status"], outcome["body"]) == (status, f"{reason}\n"), outcome


def test_tus_js_client_in_chromium_sees_the_refusals(server: Server) -> None:
    node, chromium = shutil.which("node"), shutil.which("chromium")
    _need(node, chromium, HERE / "node_modules/playwright-core")
    wanted = [refusal.values for refusal in REFUSALS]
    uploads = []
    for key, _, _ in wanted:
        uploads += [server.url + Client(server.port, "/picky/").create(SIZE), str(key)]
    page = f"{server.url}/page"
    output = _run(str(node), "refused_in_browser.mjs", str(chromium), page, str(SIZE), *uploads)
    outcomes = [json.loads(line) for line in output.splitlines()]
    seen = [(outcome.get("status"), outcome.get("body")) for outcome in outcomes]
    assert seen == [(status, f"{reason}\n") for _, status, reason in wanted], outcomes


@pytest.mark.parametrize(("key", "status", "reason"), REFUSALS)
def test_tuspy_sees_the_refusal(url: str, file: Path, key: str, status: int, reason: str) -> None:
    client = TusClient("http://unused.invalid/", headers={"Authorization": key})
    with pytest.raises(TusCommunicationError) as refused, file.open("rb") as stream:
        client.uploader(file_stream=stream, url=url).upload()
    assert refused.value.status_code == status
    assert reason in str(refused.value.response_content)


@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
@pytest.mark.parametrize(("key", "status", "reason"), REFUSALS)
def test_curl_sees_the_refusal(
    url: str, file: Path, key: str, status: int, reason: str, expect: str
) -> None:
    curl = shutil.which("curl")
    _need(curl)
    headers = {**UPLOAD, "Upload-Offset": "0", "Authorization": key}
    arguments = [word for item in headers.items() for word in ("-H", ": ".join(item))]
    arguments += ["-H", expect, "--data-binary", f"@{file}", "-w", "%{http_code} %{size_upload}"]
    body, told = _run(str(curl), "-sS", "-X", "PATCH", *arguments, url).split("\n")
    assert (body, int(told.split()[0])) == (reason, status)
    assert int(told.split()[1]) < BOUND


def test_a_refused_upload_is_gone(server: Server, url: str, file: Path) -> None:
    with file.open("rb") as stream:
        headers = {**UPLOAD, "Upload-Offset": "0", "Authorization": "Bearer me"}
        answer = requests.patch(url, data=stream, headers=headers, timeout=30)
    assert answer.status_code == 415
    assert requests.head(url, headers=TUS, timeout=30).status_code == 404
    assert not list(server.folder.rglob(f"{url.rpartition('/')[2]}*"))


def test_a_small_refused_body_does_not_cost_the_connection(server: Server) -> None:
    path = Client(server.port, "/picky/").create(10_000)
    headers = {**UPLOAD, "Upload-Offset": "0", "Content-Length": "10000"}
    with Connection(server.port) as connection:
        connection.start("PATCH", path, {**headers, "Authorization": "Bearer 409"})
        connection.send(bytes(10_000))
        answer = connection.answer()
        assert (answer.status, answer.headers["Connection"]) in [(409, None), (409, "keep-alive")]
        connection.start("HEAD", path, TUS)
        assert connection.answer().status == 200


def test_a_client_that_waits_no_more_for_its_100_sees_the_refusal(server: Server) -> None:
    # As curl does after a second, and as others do at once. It reads when all is sent.
    size = 4_000_000
    path = Client(server.port, "/picky/").create(size)
    expecting = {"Upload-Offset": "0", "Content-Length": str(size), "Expect": "100-continue"}
    # granian closes as soon as the answer is complete: there the rest finds nobody.
    expected = [ConnectionError] if server.name == "granian" else []
    with Connection(server.port) as connection:
        connection.start("PATCH", path, {**UPLOAD, **expecting, "Authorization": "Bearer 409"})
        with contextlib.suppress(*expected):
            for _ in range(size // 100_000):
                connection.send(bytes(100_000))
                time.sleep(0.005)  # so that the answer comes while it is sending
        answer = connection.answer()
        assert (answer.status, answer.body) == (409, b"somebody else was here\n")
