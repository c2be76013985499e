"""The three client examples of Roughy's guide, each over a connection that is cut on the way."""

from pathlib import Path

from examples.roughy.tools.bad_network import BadNetwork
from tests.clients.needs import need
from tests.clients.roughy import Roughy
from tests.clients.scripts import printed, run_bash, run_node, run_python, seed

CUTS = [2_500_000]


def test_tus_js_client_resumes_over_a_cut(roughy: Roughy, video: Path, tmp_path: Path) -> None:
    need("node", "npm:tus-js-client")
    project = roughy.new_project("tus-js-client")
    with BadNetwork(roughy.port, cuts=CUTS) as network:
        text = printed(seed("upload.mjs"), tmp_path, url=network.url, file=video, project=project)
        done = run_node(text, tmp_path)
    assert network.cuts_made == CUTS
    assert "uploaded asset:" in done.stdout
    roughy.check_same(roughy.only_asset(project), video)


def test_tuspy_resumes_over_a_cut(roughy: Roughy, video: Path, tmp_path: Path) -> None:
    project = roughy.new_project("tuspy")
    with BadNetwork(roughy.port, cuts=CUTS) as network:
        text = printed(seed("upload.py"), tmp_path, url=network.url, file=video, project=project)
        done = run_python(text, tmp_path)
    assert network.cuts_made == CUTS
    assert "done" in done.stdout
    roughy.check_same(roughy.only_asset(project), video)


def test_curl_resumes_over_a_cut_with_head(roughy: Roughy, video: Path, tmp_path: Path) -> None:
    need("bash", "curl", "jq")
    project = roughy.new_project("curl")
    with BadNetwork(roughy.port, cuts=CUTS) as network:
        text = printed(seed("upload.sh"), tmp_path, url=network.url, file=video, project=project)
        assert "Uploaded" in run_bash(text, tmp_path).stdout  # which is not true
        asset_id = roughy.only_asset(project)
        assert network.cuts_made == CUTS
        assert roughy.is_pending(asset_id)
        # What went through before the cut was the heads of two requests, and the file.
        offset = roughy.wait_for_offset(asset_id, CUTS[0] - 1000)
        text = printed(seed("resume.sh"), tmp_path, url=network.url, file=video, asset=asset_id)
        done = run_bash(text, tmp_path)
    assert f"Resume from offset {offset}\n" in done.stdout
    assert offset < CUTS[0]
    roughy.check_same(asset_id, video)


def test_curl_uploads_in_one_go(roughy: Roughy, video: Path, tmp_path: Path) -> None:
    need("bash", "curl", "jq")
    project = roughy.new_project("curl without a cut")
    text = printed(seed("upload.sh"), tmp_path, url=roughy.url, file=video, project=project)
    run_bash(text, tmp_path)
    roughy.check_same(roughy.only_asset(project), video)


def test_curl_cancels_twice(roughy: Roughy, video: Path, tmp_path: Path) -> None:
    need("bash", "curl")
    asset_id = roughy.create(video.stat().st_size)
    text = printed(seed("cancel.sh"), tmp_path, url=roughy.url, file=video, asset=asset_id)
    done = run_bash(f"set -ex\n{text}", tmp_path)
    assert done.returncode == 0
    assert "{" not in done.stdout  # no error came
    assert roughy.asset(asset_id).status_code == 404


def test_curl_finds_a_lost_upload_again(roughy: Roughy, video: Path, tmp_path: Path) -> None:
    need("bash", "curl")
    asset_id = roughy.create(video.stat().st_size)
    text = printed(seed("recover.sh"), tmp_path, url=roughy.url, file=video, asset=asset_id)
    done = run_bash(text, tmp_path)
    assert f'"{roughy.url}/v1/uploads/{asset_id}"' in done.stdout


def test_tus_js_client_ends_when_the_format_is_refused(
    roughy: Roughy, document: Path, tmp_path: Path
) -> None:
    need("node", "npm:tus-js-client")
    project = roughy.new_project("tus-js-client, not media")
    text = printed(seed("upload.mjs"), tmp_path, url=roughy.url, file=document, project=project)
    done = run_node(text, tmp_path)
    assert "upload failed:" in done.stderr
    asset = roughy.asset(roughy.only_asset(project)).json()
    assert (asset["state"], asset["error_code"]) == ("failed", "unsupported_media")
