"""No test hangs: whatever it waits for, it fails, and says where it was."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

_CONFTEST = """
from tests import _watchdog
from tests.conftest import *

_watchdog.SHARE, _watchdog.GRACE = 0.25, 2
"""

_BEGIN = """
import subprocess, sys, threading, time, anyio, anyio.to_thread, pytest

def hang_here():
    while True:
        time.sleep(60)
"""

_HANGS = {
    "a-wait": """
@pytest.mark.anyio
async def test_it():
    await hang_here()

async def hang_here():
    await anyio.Event().wait()
""",
    "a-thread": """
@pytest.mark.anyio
async def test_it():
    await anyio.to_thread.run_sync(hang_here)
""",
    "a-child": """
def test_it():
    hang_here()

def hang_here():
    subprocess.run([sys.executable, "-c", "import time; time.sleep(15)"])
""",
    "what-swallows-the-failure": """
def test_it():
    while True:
        try:
            hang_here()
        except BaseException:
            pass
""",
    "a-teardown": """
@pytest.fixture
def thing():
    yield
    hang_here()

def test_it(thing):
    assert False
""",
    "a-thread-after-the-last-test": """
def test_it():
    threading.Thread(target=hang_here).start()
""",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[int, str]]]:
    """Begin all at once, since they wait more than they compute; give code and output of one."""
    with contextlib.ExitStack() as stack:
        runs: dict[str, subprocess.Popen[str]] = {}
        for hang in _HANGS:
            folder = tmp_path_factory.mktemp(hang)
            (folder / "conftest.py").write_text(_CONFTEST)
            (folder / "test_hang.py").write_text(_BEGIN + _HANGS[hang])
            runs[hang] = stack.enter_context(_pytest(folder))
            stack.callback(runs[hang].kill)
        yield lambda hang: (runs[hang].wait(110), runs[hang].stdout.read())


def _pytest(folder: Path) -> subprocess.Popen[str]:
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-o", "timeout=6"]
    # In processes of their own, as in the whole run, and with one that ends of it not begun anew.
    options += ["-n", "1", "--max-worker-restart", "0"]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("hang", _HANGS)
def test_a_test_that_hangs_ends_and_says_where(
    told: Callable[[str], tuple[int, str]], hang: str
) -> None:
    code, output = told(hang)
    assert code != 0 or hang == "a-thread-after-the-last-test", output  # xdist has all it wants
    assert "hang_here" in output
