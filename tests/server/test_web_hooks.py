"""`--hook`: the server asks and tells a receiver, and so does the sweeper; no secret shows."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts._process import ROOT, free_port, running
from tests.hosts._wire import TUS, UPLOAD, Client
from tests.server.test_monitor import ask
from tests.webhooks._receiver import SECRET, Receiver
from tusasgi.server.options import read_arguments
from tusasgi.server.settings import Settings
from tusasgi.server.sweeper import sweep_interval
from tusasgi.stores.file import FileStore

URL = "https://example.com/hooks"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


def command(*words: str) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "-m", "tusasgi", *words)
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=90)


def wait_until(is_true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_server_asks_and_tells_and_a_sweep_tells_what_it_could_not(
    tmp_path: Path, secret: Path
) -> None:
    port, folder = free_port(), tmp_path / "data"
    with Receiver() as receiver:
        hook = ["--hook", receiver.url, "--hook-secret-file", str(secret)]
        words = ["-m", "tusasgi", "serve", "--dir", str(folder), "--port", str(port), *hook]
        monitor = free_port()
        ready = f"http://127.0.0.1:{monitor}/ready"
        words += ["--monitor", str(monitor)]
        with running("with a receiver", words, port, folder) as server:
            client = Client(port)
            assert ask(ready) == (200, "ok\n")
            receiver.answer(402, body=b"pay first")
            refused = client.request("POST", "/files/", {**TUS, "Upload-Length": "5"})
            assert (refused.status, refused.body) == (402, b"pay first\n")
            receiver.answer(document={"owner": "anna"})
            path = client.create(5)
            wait_until(lambda: "upload.created" in receiver.types())
            receiver.stop()
            assert ask(ready) == (503, "the receiver of the web hooks cannot be reached\n")
            append = {**UPLOAD, "Upload-Offset": "0"}
            assert client.request("PATCH", path, append, b"hello").status == 204
            assert client.request("DELETE", path, TUS).status == 204
            os.killpg(server.process.pid, signal.SIGKILL)
            server.wait()
        receiver.received.clear()
        done = command("sweep", "--dir", str(folder), *hook)
        assert done.returncode == 1
        assert "not everything could be done: TryAgain: ConnectError" in done.stderr
        receiver.start()
        done = command("sweep", "--dir", str(folder), *hook)
        assert (done.returncode, done.stderr) == (0, "")
    told = [(one.type, one.upload["id"]) for one in receiver.received]
    upload_id = path.rpartition("/")[2]
    kinds = ["upload.created", "upload.completed", "upload.terminated"]
    assert told[-2:] == [(kind, upload_id) for kind in kinds[-2:]]
    assert receiver.received[-1].upload["owner"] == "anna"
    place = receiver.received[-1].upload["place"]
    assert place == {"Type": "filestore", "Path": FileStore(folder).path(upload_id)}
    assert SECRET not in server.output()


WRONG = [
    pytest.param(["--hook-events", "complete"], "did you mean 'completed'?", id="event"),
    pytest.param(["--hook-secret-file", "/nothing"], "--hook-secret-file /nothing: No such file",
                 id="no-file"),
    pytest.param(["--hook-secret-file", __file__], "a secret is whsec_ and base64", id="secret"),
    pytest.param(["--hook-format", "tusd", "--hook-events", "authorize"], "no counterpart",
                 id="tusd"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_receiver_that_cannot_be_used_ends_the_command_with_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from tusasgi.server.command import main

    with pytest.raises(SystemExit) as ended:
        main(["sweep", "--dir", str(tmp_path), "--hook", URL, *words])
    assert str(ended.value).startswith("tusasgi: --hook")
    assert message in str(ended.value)
    assert "\n" not in str(ended.value)


CONTRADICTIONS = [
    pytest.param(["--hook", URL, "--hooks", "a:b"], "exclude each other", id="both"),
    pytest.param(["--hook-events", "created"], "need --hook", id="alone"),
    pytest.param(["--hook", "https://a:b@example.com/"], "without user and password", id="user"),
    pytest.param(["--hook", "ftp://example.com/"], "is not a URL", id="ftp"),
    pytest.param(["--hook", URL, "--hook-forward-headers", "a b"], "a b", id="header"),
]


@pytest.mark.parametrize(("words", "message"), CONTRADICTIONS)
def test_wrong_words_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_arguments(["serve", *words], {})
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_no_secret_is_shown_and_a_variable_names_its_file(
    secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"TUSASGI_HOOK": URL, "TUSASGI_HOOK_SECRET_FILE": str(secret)}
    environment["TUSASGI_HOOK_EVENTS"] = "created,completed"
    with pytest.raises(SystemExit):
        read_arguments(["serve", "--print-config"], environment)
    shown = capsys.readouterr().out
    assert f'hook-secret-file = "{secret}"' in shown
    assert 'hook-events = ["created", "completed"]' in shown
    assert SECRET not in shown
    assert SECRET.removeprefix("whsec_") not in shown


def test_what_a_worker_that_died_has_not_told_is_told_within_a_minute() -> None:
    assert sweep_interval(Settings(hook=URL)) == 60
    assert sweep_interval(Settings(hook=URL, expires_after=86400)) == 60
    assert sweep_interval(Settings(hook=URL, expires_after=100)) == 10
