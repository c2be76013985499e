"""The upload of Roughy's guide in a page of another origin, in Chromium."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples.roughy.tools.bad_network import BadNetwork
from tests.clients.needs import HERE, NODE_MODULES, need
from tests.clients.roughy import Roughy
from tests.clients.scripts import printed, run, seed

_PAGE = """<!doctype html>
<input type="file">
<script src="tus.min.js"></script>
<script type="importmap">{ "imports": { "tus-js-client": "./tus.mjs" } }</script>
<script type="module" src="upload.mjs"></script>
"""
# In a page the file comes from an <input>.
_FILE = """
const ROUGHY_API_KEY = "sk_…"
const input = document.querySelector("input")
await new Promise((resolve) => input.addEventListener("change", resolve))
const file = input.files[0]
"""
_END = """
for (const name of ["onSuccess", "onError"]) {
  const then = upload.options[name]
  upload.options[name] = (...all) => (then(...all), (document.title = "ended"))
}
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def _elsewhere(folder: Path, script: str) -> Iterator[str]:
    """Serve the page on a port of its own."""
    (folder / "index.html").write_text(_PAGE)
    (folder / "upload.mjs").write_text(script)
    (folder / "tus.mjs").write_text("export const { Upload } = window.tus\n")
    shutil.copy(NODE_MODULES / "tus-js-client" / "dist" / "tus.min.js", folder)
    handler = partial(_Quiet, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _upload(url: str, account: Roughy, file: Path, folder: Path) -> list[str]:
    """Run the guide's upload on a page of another origin; return what it logged."""
    folder.mkdir()
    above, _, code = seed("upload.mjs").partition(f"// {'-' * 76}\n")
    assert "readFileSync" in above
    before, start = code.rsplit("upload.start()", 1)
    script = printed(
        f"{_FILE}{before}{_END}upload.start(){start}".replace("sk_…", account.key),
        folder,
        url=url,
        file=file,
        project=account.project,
    )
    # An import has to stay at the top of a module, so wherever it stands it comes first.
    with _elsewhere(folder, script) as page:
        done = run(["node", str(HERE / "elsewhere.mjs"), page, str(file)], HERE)
    assert done.returncode == 0, done.stderr
    lines: list[str] = json.loads(done.stdout.splitlines()[-1])["lines"]
    return lines


@pytest.fixture(autouse=True)
def page(in_chromium: None) -> None:
    need("npm:tus-js-client")


def test_a_page_of_an_allowed_origin_uploads_over_a_cut(
    account: Roughy, video: Path, tmp_path: Path
) -> None:
    with BadNetwork(account.port, cuts=[2_500_000]) as network:
        lines = _upload(network.url, account, video, tmp_path / "page")
    asset_id = account.only_asset()
    assert network.cuts_made == [2_500_000]
    assert f"uploaded asset: {asset_id}" in lines
    account.check_same(asset_id, video)


def test_a_page_of_an_allowed_origin_can_read_a_refusal(
    account: Roughy, document: Path, tmp_path: Path
) -> None:
    lines = _upload(account.url, account, document, tmp_path / "page")
    # The guide's upload asks again after a 409, and is told 404 then.
    (failure,) = [line for line in lines if line.startswith("upload failed:")]
    assert "response code: 404" in failure
    assert account.asset(account.only_asset()).json()["error_code"] == "unsupported_media"
