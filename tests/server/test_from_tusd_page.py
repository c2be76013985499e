"""The page for teams that come from tusd: its commands, in their order, on a folder of tusd."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.scripts import blocks
from tests.hosts._process import ROOT, free_port, running
from tests.hosts._wire import Client
from tests.server.tusd_folder import ALL, DEFERRED, UNFINISHED, write_folder

STUB = '#!/bin/sh\necho "$*" >> {log}\n'


@pytest.fixture
def srv(tmp_path: Path) -> Path:
    """Have a machine as the page has it, below a folder, and its commands to be found."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "systemctl").write_text(STUB.format(log=tmp_path / "systemctl.log"))
    (tools / "tusasgi").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tusasgi "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    write_folder(tmp_path / "tusd")
    return tmp_path


def on_the_page(text: str, srv: Path) -> str:
    return text.replace("/srv/", f"{srv}/")


def sh(text: str, srv: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", on_the_page(text, srv)],
        env={
            **os.environ,
            "PATH": f"{srv / 'tools'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_team_that_follows_the_page_loses_nothing(srv: Path) -> None:
    (settings,) = blocks("from-tusd.md", "toml")
    port = free_port()
    config = srv / "tusasgi.toml"
    config.write_text(on_the_page(settings, srv).replace("8080", str(port)))
    look, switch, show, clean = blocks("from-tusd.md", "sh")
    assert sh(look, srv) == blocks("from-tusd.md", "text")[0]
    assert "7 uploads taken" in sh(switch, srv)
    assert (srv / "systemctl.log").read_text() == "stop tusd\nstart tusasgi\n"
    shown = sh(show, srv)
    assert UNFINISHED in shown
    assert DEFERRED in shown
    command = ["-m", "tusasgi", "serve", "--config", str(config)]
    with running("tusasgi of the page", command, port, srv / "uploads"):
        client = Client(port)
        path = f"/files/{UNFINISHED}"
        assert client.offset(path) == 5
        assert client.patch(path, 5, b" world").status == 204
        assert client.get(path).body == b"hello world"
    assert (srv / "tusd" / UNFINISHED).read_bytes() == b"hello world"  # the way back
    assert "7 there already" in sh(clean, srv)
    assert list((srv / "tusd").iterdir()) == []
    assert len(list((srv / "uploads").glob("uploads/*/*.info"))) == len(ALL)


def test_the_table_names_options_that_are_there() -> None:
    from tusasgi.server.options import _parser

    page = (ROOT / "docs" / "from-tusd.md").read_text()
    named = set(re.findall(r"`(--[a-z][a-z0-9-]*)", page))
    known = {
        word
        for command in _parser()[1].values()
        for action in command._actions
        for word in action.option_strings
    }
    assert named - known == set()
