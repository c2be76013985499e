"""The examples of the pages for client authors, as they are printed there."""

import re
from pathlib import Path

import pytest

from examples.roughy.tools.bad_network import BadNetwork
from tests.clients.needs import need
from tests.clients.roughy import Roughy
from tests.clients.scripts import blocks, printed, run_bash, run_node, run_python
from tests.server.test_command import serving

CUTS = [2_500_000, 1_500_000]

# What a reader does with the function of the page.
_USE = """
import { createReadStream, statSync } from "node:fs"
const path = "/path/to/video.mp4"
try {
  console.log(await upload(createReadStream(path), statSync(path).size))
} catch (error) {
  console.log("refused:", error.message)
}
process.exit()
"""


def test_the_javascript_example_resumes_over_cuts(
    roughy: Roughy, video: Path, tmp_path: Path
) -> None:
    need("node", "npm:tus-js-client")
    (text,) = blocks("clients.md", "js")
    with BadNetwork(roughy.port, cuts=CUTS) as network:
        text = printed(text + _USE, tmp_path, url=network.url, file=video, project=roughy.project)
        asset_id = run_node(text, tmp_path).stdout.strip()
    assert network.cuts_made == CUTS
    roughy.check_same(asset_id, video)


def test_the_javascript_example_stops_at_a_format_rejection_and_says_why(
    roughy: Roughy, document: Path, tmp_path: Path
) -> None:
    need("node", "npm:tus-js-client")
    (text,) = blocks("clients.md", "js")
    project = roughy.new_project("onShouldRetry")
    with_count = text.replace("onShouldRetry,", "onShouldRetry, onAfterResponse: count,")
    assert with_count != text
    count = "function count(request) { console.log(request.getMethod()) }\n"
    done = run_node(
        printed(
            count + with_count + _USE, tmp_path, url=roughy.url, file=document, project=project
        ),
        tmp_path,
    )
    reason = roughy.asset(roughy.only_asset(project)).json()["error_message"]
    assert done.stdout.splitlines() == ["HEAD", "PATCH", f"refused: {reason}"]


def test_the_python_example_resumes_over_cuts(roughy: Roughy, video: Path, tmp_path: Path) -> None:
    (text,) = blocks("clients.md", "python no-run")
    with BadNetwork(roughy.port, cuts=CUTS) as network:
        text = printed(text, tmp_path, url=network.url, file=video, project=roughy.project)
        asset_id = run_python(text, tmp_path).stdout.strip()
    assert network.cuts_made == CUTS
    roughy.check_same(asset_id, video)


@pytest.mark.parametrize("chunk", [64, 1], ids=lambda mib: f"{mib}-MiB-chunks")
def test_the_curl_example_resumes_over_cuts(
    roughy: Roughy, video: Path, tmp_path: Path, chunk: int
) -> None:
    need("bash", "curl")
    (text,) = blocks("clients.md", "sh")
    asset_id = roughy.create(video.stat().st_size)
    cuts = [chunk * 2**20 // 2 if chunk == 1 else 2_500_000]
    with BadNetwork(roughy.port, cuts=cuts) as network:
        text = printed(text, tmp_path, url=network.url, file=video, asset=asset_id)
        done = run_bash(text.replace("64 * 1024", f"{chunk} * 1024"), tmp_path)
    assert network.cuts_made == cuts
    assert "bytes are there" in done.stdout
    roughy.check_same(asset_id, video)


def test_the_curl_example_stops_at_a_refusal_and_shows_it(
    roughy: Roughy, document: Path, tmp_path: Path
) -> None:
    need("bash", "curl")
    (text,) = blocks("clients.md", "sh")
    asset_id = roughy.create(document.stat().st_size)
    text = printed(text, tmp_path, url=roughy.url, file=document, asset=asset_id)
    done = run_bash(text, tmp_path)
    assert done.returncode == 1
    assert '"conflict"' in done.stdout
    again = run_bash(text, tmp_path)  # the upload is not there any more
    assert again.returncode != 0
    assert "bytes are there" not in again.stdout


def test_the_walk_through_by_hand_gets_the_same_bytes(
    roughy: Roughy, video: Path, tmp_path: Path
) -> None:
    need("bash", "curl", "jq")
    text = printed("\n".join(blocks("roughy.md", "sh")), tmp_path, url=roughy.url, file=video)
    done = run_bash(f"set -e\n{text}", tmp_path)
    assert "the same bytes" in done.stdout


def test_both_protocols_can_be_spoken_by_hand(tmp_path: Path) -> None:
    need("bash", "curl", "openssl")
    page = "\n".join(blocks("curl.md", "sh"))
    with serving(tmp_path / "data") as server:
        text = page.replace("http://127.0.0.1:1080", server.url)
        assert text != page
        done = run_bash(f"set -e\n{text}", tmp_path)
        wrong = text.replace("-binary rest", "-binary first-part")  # the digest of other bytes
        assert wrong != text
        refused = run_bash(f"set -e\n{wrong}", tmp_path)
    assert done.returncode == 0, done.stderr
    by_draft, by_tus = "201 204 204 201 204 201", "204 200 204 204"
    statuses = re.findall(r"^HTTP/1.1 ([2-5]\d\d)", done.stdout, re.MULTILINE)
    assert " ".join(statuses) == f"{by_draft} {by_tus}"
    assert done.stdout.count("the same bytes") == 2
    assert (refused.returncode, "the same bytes" in refused.stdout) == (22, False)
    assert "400" in refused.stderr
