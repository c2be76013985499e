"""`python -m examples.roughy.tools.upload`."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from examples.roughy.tools import upload
from examples.roughy.tools.bad_network import BadNetwork
from tests.clients.roughy import Roughy
from tests.clients.scripts import run
from tests.hosts._process import ROOT, free_port

SLOWLY = 4_000_000


class Uploader:
    """The command, with a memory of its own."""

    def __init__(self, account: Roughy, folder: Path) -> None:
        self._environment = {
            "ROUGHY_API_KEY": account.key,
            "XDG_STATE_HOME": str(folder),
            "PYTHONWARNINGS": "error",
        }

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return run(_command(*arguments), ROOT, **{**self._environment, **environment})

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            _command(*arguments),
            cwd=ROOT,
            env={**os.environ, **self._environment},
            stderr=subprocess.PIPE,
            text=True,
        )


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "examples.roughy.tools.upload", *map(str, arguments)]


@pytest.fixture
def uploader(account: Roughy, tmp_path: Path) -> Uploader:
    return Uploader(account, tmp_path)


def test_it_resumes_over_cuts_and_prints_the_asset(
    account: Roughy, uploader: Uploader, video: Path
) -> None:
    cuts = [3_000_000, 1_000_000]
    with BadNetwork(account.port, cuts=cuts) as network:
        done = uploader.run(video, "--host", network.url)
    assert network.cuts_made == cuts
    assert done.returncode == 0
    assert "the connection was lost; trying again in 0 s" in done.stderr
    asset = json.loads(done.stdout)
    assert asset["state"] == "ready"
    account.check_same(asset["id"], video)


def test_what_was_interrupted_goes_on_by_the_printed_command(
    account: Roughy, uploader: Uploader, video: Path
) -> None:
    with BadNetwork(account.port, bytes_per_second=SLOWLY) as network:
        told = interrupt(account, uploader, video, network.url)
        asset_id = account.only_asset()
        assert account.is_pending(asset_id)
        assert account.key not in told
        words = shlex.split(told.partition("go on with:")[2])
        assert words[:3] == ["python", "-m", "examples.roughy.tools.upload"]
        assert words[-2:] == ["--resume", asset_id]
        assert uploader.run(*words[3:]).returncode == 0
    account.check_same(asset_id, video)


def test_the_same_command_again_goes_on_too(
    account: Roughy, uploader: Uploader, video: Path
) -> None:
    with BadNetwork(account.port, bytes_per_second=SLOWLY) as network:
        interrupt(account, uploader, video, network.url)
        asset_id = account.only_asset()
        done = uploader.run(video, "--host", network.url)
        assert json.loads(done.stdout)["id"] == asset_id
        account.check_same(account.only_asset(), video)
        # What is done is done: another run is another asset.
        done = uploader.run(video, "--host", network.url)
        assert json.loads(done.stdout)["id"] != asset_id


def interrupt(account: Roughy, uploader: Uploader, video: Path, url: str) -> str:
    """Press Ctrl-C in the middle of an upload; return what is printed then."""
    process = uploader.start(video, "--host", url)
    account.wait_for_offset(account.wait_for_asset(), 200_000)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    return told


def test_another_file_is_not_added_to_an_upload(
    account: Roughy, uploader: Uploader, video: Path, document: Path
) -> None:
    asset_id = account.create(video.stat().st_size)
    done = uploader.run(document, "--host", account.url, "--resume", asset_id)
    assert done.returncode == 1
    assert "this is another file" in done.stderr
    assert account.offset(asset_id) == 0


def test_a_refused_format_is_told_in_one_line(
    account: Roughy, uploader: Uploader, document: Path
) -> None:
    for _ in range(2):  # a failed asset is not gone on with
        done = uploader.run(document, "--host", account.url)
        assert done.returncode == 1
        reason = account.asset(account.assets()[0]["id"]).json()["error_message"]
        assert f"upload: unsupported_media: {reason}" in done.stderr.splitlines()
        assert "Traceback" not in done.stderr
    assert len(account.assets()) == 2


def test_a_memory_that_cannot_be_kept_is_told_in_one_line(
    account: Roughy, uploader: Uploader, video: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = uploader.run(video, "--host", account.url, XDG_STATE_HOME=str(tmp_path / "file"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("upload: ")
    assert "Traceback" not in done.stderr


def test_a_project_can_be_named(account: Roughy, uploader: Uploader, video: Path) -> None:
    done = uploader.run(video, "--host", account.url, "--project", account.project)
    assert json.loads(done.stdout)["project_id"] == account.project


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        pytest.param(["{video}", "--key", "sk_wrong"], 1, r"upload: 401 unauth", id="wrong-key"),
        pytest.param(["{video}", "--project", "1"], 1, r"upload: 422 .*project", id="no-uuid"),
        pytest.param(["{video}", "--resume", "1"], 1, r"upload: 422 .*asset_id", id="no-asset"),
        pytest.param(["{tiny}"], 1, r"upload: 422 .*size_bytes", id="too-small"),
        pytest.param(["/no/such/file"], 2, r".*there is no file /no/such/file", id="no-file"),
        pytest.param(["{video}", "--key", ""], 2, r".*an API key is needed", id="no-key"),
        pytest.param(["{video}", "--host", "x"], 2, r".*--host must begin with", id="no-url"),
        pytest.param(["{video}", "--host", "{gone}"], 3, r"upload: cannot reach", id="no-server"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(
    account: Roughy,
    uploader: Uploader,
    video: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    line: str,
) -> None:
    tiny = tmp_path / "tiny.mp4"
    tiny.write_bytes(b"tiny")
    gone = f"http://127.0.0.1:{free_port()}"
    words = [word.format(video=video, tiny=tiny, gone=gone) for word in arguments]
    done = uploader.run("--host", account.url, *words)
    assert done.returncode == code
    assert re.search(f"^{line}", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert account.assets() == []


class _BusyTwice(BaseHTTPRequestHandler):
    """HEAD as it is answered while an upload is being completed."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        is_busy = len(self.asked) < 3
        self.send_response(423 if is_busy else 200)
        self.send_header("Retry-After" if is_busy else "Upload-Length", "5")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


def test_an_upload_that_is_being_completed_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload, "DELAYS", (0, 0, 0))
    with HTTPServer(("127.0.0.1", 0), _BusyTwice) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        api = upload.Api(f"http://127.0.0.1:{server.server_port}", "sk_test")
        try:
            assert api.length("/v1/uploads/1") == 5
        finally:
            api.close()
            server.shutdown()
            thread.join()
    assert len(_BusyTwice.asked) == 3
