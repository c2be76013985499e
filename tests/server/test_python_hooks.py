"""The hooks of a module: asked and told by the server and by the sweeper, or refused at once."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from anyio.to_thread import run_sync

from tests.hosts._process import ROOT, free_port, running
from tests.hosts._wire import TUS, UPLOAD, Client
from tusasgi import Expiry, Uploads
from tusasgi.stores.file import FileStore

MODULE = """
from pathlib import Path

from tusasgi import Hooks, Unauthorized


class OurHooks(Hooks):
    def __init__(self, log):
        self._log = Path(log)

    async def authorize(self, request, operation, upload):
        if request.headers.get("authorization") != "Bearer secret":
            raise Unauthorized("a key is needed")

    async def completed(self, upload):
        self._tell(f"completed {upload.id}")

    async def expired(self, upload):
        self._tell(f"expired {upload.id}")

    def _tell(self, line):
        with self._log.open("a") as log:
            log.write(line + "\\n")


class Here:
    hooks = OurHooks(Path(__file__).with_name("log"))


class Misspelt(Hooks):
    async def complete(self, upload): ...


misspelt = Misspelt()
"""


KEY = {"Authorization": "Bearer secret"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a module, and what it writes."""
    (tmp_path / "our_hooks.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    return tmp_path


def told(place: Path) -> list[str]:
    log = place / "log"
    return log.read_text().splitlines() if log.exists() else []


def command(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the folder of the module."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = (sys.executable, "-m", "tusasgi", *words)
    return subprocess.run(
        words, cwd=place, env=environment, capture_output=True, text=True, timeout=90
    )


@pytest.mark.parametrize("server", ["uvicorn", "granian"])
def test_every_worker_asks_and_tells_the_hooks(server: str, place: Path) -> None:
    port = free_port()
    words = ["-m", "tusasgi", "serve", "--dir", str(place / "data"), "--port", str(port)]
    words += ["--server", server, "--workers", "2", "--hooks", "our_hooks:Here.hooks"]
    environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{place}"}
    with running("with hooks", words, port, place / "data", **environment):
        client = Client(port)
        for _ in range(8):  # whichever worker it is
            assert client.request("POST", "/files/", {**TUS, "Upload-Length": "5"}).status == 401
        path = client.create(5, **KEY)
        append = {**UPLOAD, "Upload-Offset": "0", **KEY}
        assert client.request("PATCH", path, append, b"hello").status == 204
    assert told(place) == [f"completed {path.rpartition('/')[2]}"]


@pytest.mark.anyio
async def test_the_sweeper_tells_the_hooks_too(place: Path) -> None:
    store = await run_sync(FileStore, place / "data")
    long_ago = datetime(2024, 2, 29, tzinfo=UTC)
    uploads = Uploads(store, expiry=Expiry(initial=timedelta(hours=1)), clock=lambda: long_ago)
    upload = await uploads.create(length=5)
    words = ("sweep", "--dir", "data", "--hooks", "our_hooks:Here.hooks")
    done = await run_sync(command, place, *words)
    assert (done.returncode, done.stdout) == (0, "1 expired upload removed\n"), done.stderr
    assert told(place) == [f"expired {upload.id}"]


WRONG = [
    ("nothing_here:hooks", "ModuleNotFoundError: No module named 'nothing_here'"),
    ("broken:hooks", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    ("our_hooks:nothing", "AttributeError: module 'our_hooks' has no attribute 'nothing'"),
    ("our_hooks:OurHooks", "our_hooks:OurHooks must be an object, not a class: give OurHooks(…)"),
    ("our_hooks:MODULE_PATH", "has no attribute 'MODULE_PATH'"),
    ("our_hooks:misspelt", "Misspelt.complete would never be called: did you mean completed?"),
    ("our_hooks:Path", "must be an object, not a class"),
]


@pytest.mark.parametrize("name", ["serve", "sweep"])
@pytest.mark.parametrize(("reference", "message"), WRONG)
def test_what_are_no_hooks_ends_the_command_with_one_line(
    name: str, reference: str, message: str, place: Path
) -> None:
    (place / "data").mkdir()
    done = command(place, name, "--dir", "data", "--hooks", reference)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"tusasgi: cannot use the hooks {reference}: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reference_without_an_object_is_a_wrong_option(place: Path) -> None:
    done = command(place, "serve", "--hooks", "our_hooks")
    assert done.returncode == 2
    assert "'our_hooks' is not an object of a module such as package.module:hooks" in done.stderr
