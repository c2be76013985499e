"""`scripts/demo`, without its first step, which makes the environment."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest

from tests.clients.scripts import run
from tests.hosts._process import ROOT

_COMMAND = [sys.executable, "-W", "error", "-m", "examples.roughy.tools.demo", "--seconds", "1"]


def test_the_demo_cuts_resumes_and_compares_on_a_port_that_is_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        done = run([*_COMMAND, "--exit", "--port", taken, "--data", str(tmp_path)], ROOT)
    assert done.returncode == 0
    assert f"{taken} is taken" in done.stdout
    (video,) = tmp_path.glob("demo-*.mp4")
    size = video.stat().st_size
    resumed_at = number(r"HEAD said ([\d,]+) bytes are safe", done.stdout)
    assert 0 < resumed_at < number(r"broke after ([\d,]+) bytes", done.stdout) < size
    assert '"state": "ready"' in done.stdout
    assert f"downloaded {size:,} bytes, sha256 the same" in done.stdout
    port = number(r"Server +http://127.0.0.1:(\d+)", done.stdout)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/")


def test_two_demos_at_once_each_talk_to_their_own_server(tmp_path: Path) -> None:
    """Also in one folder, and though both want the same port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
    command = [*_COMMAND, "--exit", "--port", port, "--data", str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    demos = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    told = [demo.communicate(timeout=120)[0] for demo in demos]
    assert [demo.returncode for demo in demos] == [0, 0], told
    ports = {number(r"Server +http://127.0.0.1:(\d+)", one) for one in told}
    assert len(ports) == 2
    assert int(port) in ports


@pytest.mark.parametrize(
    ("number_of_signal", "code"),
    [pytest.param(signal.SIGINT, 0, id="ctrl-c"), pytest.param(signal.SIGTERM, 143, id="term")],
)
def test_the_page_stays_open_until_the_demo_is_ended(
    tmp_path: Path, number_of_signal: signal.Signals, code: int
) -> None:
    command = [*_COMMAND, "--data", str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        (page,) = (line.split()[1] for line in until("Ctrl-C", demo.stdout) if "#key=" in line)
        url, _, key = page.partition("#key=")
        assert "<title>Roughy</title>" in httpx.get(url).text
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{url}v1/assets", headers=headers).json()["total"] == 1
        demo.send_signal(number_of_signal)
        demo.communicate(timeout=30)
    assert demo.returncode == code
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def until(word: str, lines: Iterable[str]) -> list[str]:
    """Read lines up to the one with the word."""
    found = []
    for line in lines:
        found.append(line)
        if word in line:
            break
    return found


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return int(found[1].replace(",", ""))
