"""Roughy on a real server, a real video, and a network that breaks: shared by all clients."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.roughy.tools.sample import make_video
from tests.clients.needs import HERE, chromium, need
from tests.clients.roughy import KEY, Roughy
from tests.hosts._process import free_port, running

KEYS = [f"sk_test_account_number_{number:04}" for number in range(50)]


@pytest.fixture(scope="session")
def roughy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roughy]:
    port, folder = free_port(), tmp_path_factory.mktemp("roughy")
    command = ["-m", "examples.roughy", "--port", str(port), "--data", str(folder)]
    # Any origin: the tests of pages from elsewhere do not know theirs before.
    settings = {"ROUGHY_API_KEYS": ",".join([KEY, *KEYS]), "ROUGHY_CORS_ORIGINS": "*"}
    with running("roughy", command, port, folder, **settings), Roughy(port) as roughy:
        yield roughy


@pytest.fixture
def account(roughy: Roughy) -> Iterator[Roughy]:
    """The same server as an account sees it that has nothing yet."""
    with Roughy(roughy.port, KEYS.pop()) as account:
        yield account


@pytest.fixture(scope="session")
def browser() -> Iterator[str]:
    """Where a Chromium is for all tests; each scenario has a profile of its own in it."""
    need("node", "chromium", "npm:playwright-core")
    command = ["node", str(HERE / "chromium.mjs"), chromium() or ""]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # its input ends with the block
        assert process.stdout is not None
        yield process.stdout.readline().strip()


@pytest.fixture
def in_chromium(browser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell the scripts of a test where it is."""
    monkeypatch.setenv("CHROMIUM", browser)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About four megabytes of H.264 and AAC."""
    return make_video(tmp_path_factory.mktemp("video") / "clip.mp4", seconds=4)


@pytest.fixture(scope="session")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is not media."""
    path = tmp_path_factory.mktemp("document") / "letter.pdf"
    path.write_bytes(b"%PDF-1.7\n" + b"not a film\n" * 20_000)
    return path


@pytest.fixture(scope="session")
def axe() -> None:
    need("npm:axe-core")
