"""The pages of `tusasgi serve --page`, in Chromium."""

import contextlib
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from examples.roughy.tools.bad_network import BadNetwork
from tests.clients.needs import HERE
from tests.clients.scripts import run
from tests.hosts._process import free_port
from tests.server.test_command import serving
from tusasgi import Uploads
from tusasgi.stores.file import FileStore

pytestmark = pytest.mark.usefixtures("in_chromium", "axe")

SIZE, SLOWLY = 3_000_000, 1_500_000  # bytes, and bytes a second
KEY = "key-of-somebody-0123456789"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a báll.bin"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.bin"
    path.write_bytes(bytes(SIZE + 1))
    return path


@contextlib.contextmanager
def served(folder: Path, *options: str, cuts: tuple[int, ...] = ()) -> Iterator[list[str]]:
    """Serve behind a slow network, and give the addresses of the page and of the monitor."""
    monitor = free_port()
    with (
        serving(folder, "--page", "--monitor", str(monitor), *options) as server,
        BadNetwork(server.port, bytes_per_second=SLOWLY, cuts=cuts) as network,
    ):
        yield [f"{network.url}/", f"http://127.0.0.1:{monitor}/"]


def play(scenario: str, urls: list[str], *files: Path) -> dict[str, Any]:
    done = run(["node", str(HERE / "serve_page.mjs"), scenario, *urls, *map(str, files)], HERE)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    own = [line for line in told["logged"] if "Failed to load resource" not in line]
    assert own == []
    assert told.get("barriers", []) == []
    return told


def test_a_browser_uploads_over_a_bad_network_and_goes_on_after_a_reload(
    tmp_path: Path, file: Path, other: Path
) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "10").write_bytes(b"ten")
    (folder / "inner" / "9").write_bytes(b"nine")
    with served(tmp_path / "data", cuts=(1_200_000,)) as urls:
        told = play("resumed", urls, file, other, folder)
    assert told["focus"] == "files"
    (refusal,) = told["other"]
    assert "This is another file: the upload was begun with a báll.bin" in refusal
    assert (told["digest"], told["name"]) == (
        hashlib.sha256(file.read_bytes()).hexdigest(),
        "a báll.bin",
    )
    assert told["offsets"] == sorted(told["offsets"])
    assert len(set(told["offsets"])) >= 3, "it did not go on where it was"
    assert "Paused in another tab" in told["elsewhere"]
    assert told["remembered"] == "{}"
    assert told["dropped"] == ["9", "10"], "the newest is first"


def test_a_key_is_asked_for_and_refusals_are_shown(
    tmp_path: Path, file: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY} somebody\n")
    monkeypatch.setenv("KEY", KEY)
    options = ["--api-key-file", str(keys), "--max-size", str(SIZE)]
    with served(tmp_path / "data", *options) as urls:
        told = play("key", urls, file, other)
    assert (told["open"], told["errors"]) == (False, [""])
    assert any("3000000" in line for line in told["refused"])


def test_the_monitor_shows_what_is_under_way_and_no_whole_id(tmp_path: Path, file: Path) -> None:
    with served(tmp_path / "data") as urls:
        told = play("live", urls, file)
        page = anyio.run(Uploads(FileStore(tmp_path / "data")).list)
    name, owner, progress, rate, age, state, shown = told["row"]
    assert (name, owner, state) == ("a báll.bin", "", "receiving")
    assert progress.endswith(" of 3 MB")
    assert rate.endswith("B/s")
    assert age.endswith(" s")
    assert len(shown) == 9
    assert shown.endswith("…")
    assert told["wide"] <= 390
    assert told["small"] <= 390
    (upload,) = page.uploads
    assert upload.id not in told["whole"]


def test_what_was_lost_in_a_cut_is_not_counted_as_sent_for_long(tmp_path: Path) -> None:
    with served(tmp_path / "data", cuts=(1_200_000,)) as urls:
        changes = play("told", urls, Path(str(SIZE)))["changes"]
    assert changes[-1] == ["complete", SIZE, SIZE]
    states = [state for state, _, _ in changes]
    after = changes[states.index("retrying") :]
    state, offset, sent = next(one for one in after if one[1] > 0)
    assert (state, sent) == ("uploading", offset)
    assert 0 < offset < 1_200_000
