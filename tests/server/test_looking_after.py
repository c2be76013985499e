"""`tusasgi list`, `show`, `remove`, `sweep --json` and `check`: what an operator sees and does."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import fsspec
import pytest
from blockbuster import BlockBuster

from tests.hosts._process import ROOT
from tests.stores.fsspec._filesystems import AsyncDict
from tusasgi import Upload, Uploads
from tusasgi.server import checks
from tusasgi.server.command import main
from tusasgi.server.options import read_arguments
from tusasgi.server.storage import make_store
from tusasgi.stores.file import FileStore, files
from tusasgi.stores.fsspec import FsspecStore
from tusasgi.testing import Arriving

Run = Callable[..., tuple[int, str, str]]

HOSTILE = "a\x1b[2J\u202eb\r\n\x9b"
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def the_loop_is_of_the_command_alone(blockbuster: BlockBuster) -> None:
    blockbuster.deactivate()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(name: str, *words: str, place: tuple[str, str] | None = None) -> tuple[int, str, str]:
        code = 0
        try:
            main([name, *(place or ("--dir", str(tmp_path))), *words])
        except SystemExit as ended:
            code = 1 if isinstance(ended.code, str) else int(ended.code or 0)
            sys.stderr.write(ended.code if isinstance(ended.code, str) else "")
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path)

    async def fill() -> None:
        about: dict[str, Any] = {"metadata": {"filename": HOSTILE.encode(), "x": b"\xff"}}
        half = Upload(
            id="half", length=3_000_000, created=NOW - timedelta(hours=30), owner=HOSTILE,
            expires=NOW + timedelta(days=5, hours=12), facts={"kind": HOSTILE}, **about,
        )  # fmt: skip
        await store.append(await store.create(half), Arriving(bytes(1_500_000)))
        await store.create(Upload(id="whole", length=0, created=NOW, is_complete=True))
        await store.create(Upload(id="open", length=None, created=NOW, owner="alice"))

    anyio.run(fill)
    return store


@pytest.mark.usefixtures("store")
def test_a_list_says_how_far_each_upload_is_and_how_old(run: Run) -> None:
    code, output, errors = run("list")
    assert (code, errors) == (0, "")
    head, *lines, last = output.splitlines()
    assert head.split() == ["ID", "STATE", "BYTES", "CREATED", "EXPIRES", "OWNER", "NAME"]
    assert last == "3 uploads"
    by_id = {line.split()[0]: line for line in lines}
    assert "receiving   1.4 MiB of 2.9 MiB (50 %)   1 day ago       in 5 days" in by_id["half"]
    assert "receiving   0 B of ?" in by_id["open"]
    assert by_id["open"].endswith("alice")
    assert "complete    0 B" in by_id["whole"]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("words", "ids"),
    [
        pytest.param(["--owner", "alice"], {"open"}, id="owner"),
        pytest.param(["--state", "complete"], {"whole"}, id="state"),
        pytest.param(["--owner", "bob"], set(), id="nobody"),
        pytest.param([], {"half", "open", "whole"}, id="all"),
    ],
)
def test_a_list_in_json_has_a_line_for_each_upload_that_is_wanted(
    words: list[str], ids: set[str], run: Run
) -> None:
    code, output, errors = run("list", "--json", *words)
    assert (code, errors) == (0, "")
    assert {json.loads(line)["id"] for line in output.splitlines()} == ids


def test_a_list_of_many_pages_has_all(run: Run, tmp_path: Path) -> None:
    uploads = Uploads(FileStore(tmp_path))

    async def fill() -> None:
        for _ in range(130):
            await uploads.create(length=1)

    anyio.run(fill)
    assert len(run("list", "--json")[1].splitlines()) == 130
    assert run("list")[1].endswith("\n130 uploads\n")


def test_a_list_can_be_cut_and_gone_on_with(run: Run, tmp_path: Path) -> None:
    uploads = Uploads(FileStore(tmp_path))

    async def fill() -> set[str]:
        return {(await uploads.create(length=1)).id for _ in range(110)}

    ids = anyio.run(fill)
    lines = run("list", "--json", "--limit", "105")[1].splitlines()
    first = [json.loads(line)["id"] for line in lines]
    assert len(first) == 105
    rest = run("list", "--json", "--limit", "105", "--after", first[-1])[1].splitlines()
    assert {*first, *(json.loads(line)["id"] for line in rest)} == ids
    assert len(rest) == 5
    code, _, errors = run("list", "--after", "../x")
    assert (code, errors) == (
        1, "tusasgi: the uploads cannot be listed: no upload can have this id",
    )  # fmt: skip


@pytest.mark.usefixtures("store")
def test_show_says_all_that_is_known(run: Run, store: FileStore) -> None:
    code, output, errors = run("show", "half", "open")
    assert (code, errors) == (0, "")
    half, other = output.split("\n\n")
    for line in (
        "id         half",
        "bytes      1.4 MiB of 2.9 MiB (50 %)",
        f"file       {store.path('half')}",
        "metadata x \\xff",
    ):
        assert line in half.splitlines()
    assert "owner      alice" in other
    about = json.loads(run("show", "--json", "half")[1])
    assert about["metadata"] == {"filename": HOSTILE, "x": "\\xff"}
    assert (about["offset"], about["length"], about["state"]) == (1_500_000, 3_000_000, "receiving")
    assert about["owner"] == HOSTILE


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("words", [["list"], ["show", "half"], ["show", "half", HOSTILE]])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_nothing_that_clients_chose_reaches_a_terminal_as_it_is(
    words: list[str], form: list[str], run: Run
) -> None:
    _, output, errors = run(*words, *form)
    for text in (output, errors):
        assert all(one.isprintable() or one == "\n" for one in text)
    assert "\r" not in output


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("name", ["show", "remove"])
def test_an_upload_that_is_not_there_is_told_of_and_keeps_no_other(name: str, run: Run) -> None:
    code, output, errors = run(name, "nothing", "half", "../etc")
    assert code == 1
    assert errors == (
        "tusasgi: upload nothing: there is no such upload\n"
        "tusasgi: upload ../etc: no upload can have this id\n"
    )
    assert "half" in output


def test_remove_removes_finished_and_unfinished_ones(run: Run, store: FileStore) -> None:
    assert run("remove", "half", "whole") == (
        0, "half removed, 1.4 MiB of 2.9 MiB (50 %)\nwhole removed, 0 B\n", "",
    )  # fmt: skip
    assert json.loads(run("remove", "--json", "open")[1]) == {"removed": "open"}
    assert list(Path(store.path("half")).parent.parent.rglob("*.info")) == []


def test_remove_and_sweep_call_the_hooks(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    (tmp_path / "hooks_of_remove.py").write_text(
        "from tusasgi import Forbidden, Hooks\n"
        "class Ours(Hooks):\n"
        "    async def terminating(self, upload):\n"
        "        if upload.id == 'open': raise Forbidden('not\\x1b this one')\n"
        "    async def terminated(self, upload): print('told of', upload.id)\n"
        "hooks = Ours()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code, output, errors = run("remove", "half", "open", "--hooks", "hooks_of_remove:hooks")
    assert (code, output.splitlines()[0]) == (1, "told of half")
    assert errors == "tusasgi: upload open could not be removed: not\\x1b this one\n"
    assert anyio.run(store.get, "open").removal is None


def test_sweep_in_json(run: Run, tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    anyio.run(FileStore(tmp_path).create, Upload(id="old", length=5, created=past, expires=past))
    assert run("sweep", "--json") == (0, '{"removed": 1}\n', "")


@pytest.mark.usefixtures("store")
def test_a_record_that_cannot_be_read_hides_no_other(run: Run, store: FileStore) -> None:
    Path(f"{store.path('open')}.info").write_text("{}")
    code, output, errors = run("list")
    assert (code, errors) == (1, "tusasgi: the record of upload open cannot be read\n")
    assert output.endswith("\n2 uploads\n")
    code, _, errors = run("show", "open")
    assert code == 1
    assert errors.startswith("tusasgi: upload open: ValueError: this is no record")


@pytest.mark.parametrize("name", ["list", "show x", "remove x", "sweep", "check"])
def test_a_folder_that_is_not_there_is_said_in_one_line(name: str, run: Run) -> None:
    code, output, errors = run(*name.split(), place=("--dir", "/nowhere"))
    assert (code, output, errors) == (1, "", "tusasgi: there is no folder /nowhere")


def test_whoever_reads_no_more_ends_a_list_without_a_trace(tmp_path: Path) -> None:
    uploads = Uploads(FileStore(tmp_path))

    async def fill() -> None:
        for _ in range(300):
            await uploads.create(length=1, metadata={"filename": b"x" * 500})

    anyio.run(fill)
    command = [sys.executable, "-m", "tusasgi", "list", "--json", "--dir", str(tmp_path)]
    read, write = os.pipe()
    process = subprocess.Popen(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.read(read, 10)
    os.close(read)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 1


# The place, tried.


@pytest.mark.usefixtures("store")
def test_a_good_folder_holds_all_and_is_left_as_it_was(run: Run, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, output, errors = run("check")
    assert (code, errors) == (0, "")
    *lines, last = output.splitlines()
    assert all(line.startswith(("holds ", "no ")) for line in lines)
    assert len(lines) == 16
    assert last == "All that is needed holds."
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_lacks_something_is_code_1_and_says_what(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "lock", lambda file: None)
    code, output, _ = run("check")
    assert code == 1
    assert "FAILS  a locked file is for one alone                it was locked twice" in output
    assert output.endswith("This is no place for uploads.\n")
    assert list(tmp_path.iterdir()) == []
    code, output, _ = run("check", "--json")
    assert code == 1
    (lock,) = [one for one in map(json.loads, output.splitlines()) if "locked file" in one["name"]]
    assert lock == {
        "name": "a locked file is for one alone", "holds": False, "is_needed": True,
        "detail": "it was locked twice",
    }  # fmt: skip


def test_what_only_helps_is_told_and_is_no_failure(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "is_local", lambda device: False)
    code, output, _ = run("check")
    assert code == 0
    assert "no     the file system is on this machine" in output


def test_a_store_of_fsspec_is_tried_and_left_as_it_was(run: Run) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    code, output, _ = run("check", place=("--store", "memory://checked"))
    assert code == 0, output
    left = [*MemoryFileSystem.store, *MemoryFileSystem.pseudo_dirs]
    assert [path for path in left if path.startswith("/checked/")] == []


# Stores and lockers, by name.


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("gs://b/x", "Please install gcsfs to access Google Storage", id="gs"),
        pytest.param("nothing://b/x", "fsspec knows no nothing://", id="unknown"),
    ],
)
def test_a_store_that_cannot_be_reached_from_here_is_said_in_one_line(
    url: str, message: str, run: Run
) -> None:
    code, output, errors = run("list", place=("--store", url))
    assert (code, output) == (1, "")
    assert errors == f"tusasgi: cannot use the store {url}: {message}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--store https://b/x", "'https://b/x' is no place for uploads: files cannot be written"),
        ("--store file:///srv", "'file:///srv' is no place for uploads: give a folder by --dir"),
        ("--store sftp:/u:pw@h", "is not a store such as s3://bucket/prefix or sftp://host/path"),
        ("--locker redis", "'redis' is not a locker: file, file:/path, memory, or redis://"),
        ("--store memory://x --workers 2 --locker file:/l", "is within one process: it needs"),
        ("--store sftp://h/x --workers 2", "--workers 2 needs a locker for all of them: --locker"),
        ("--dir d --workers 2 --locker memory", "--workers 2 needs a locker for all of them"),
        ("--store sftp://h/x --locker file", "--locker file is for --dir; with --store give"),
    ],
)
def test_a_store_or_locker_that_cannot_be_right_is_a_wrong_option(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_arguments(["serve", *words.split()], {})
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert message in line


def test_pieces_are_large_where_each_call_goes_to_an_object_store() -> None:
    fsspec.register_implementation("asyncdict", AsyncDict, clobber=True)
    for url, size in (("asyncdict://b/x", 8 * 1024 * 1024), ("memory://x", 2 * 1024 * 1024)):
        settings = read_arguments(["serve", "--store", url], {}).settings
        store = make_store(settings)
        assert isinstance(store, FsspecStore)
        assert store._piece_size == size


SECRET = "s3cret"


@pytest.mark.parametrize(
    "words",
    [
        ["--store", f"sftp://bob:{SECRET}@127.0.0.1:1/x", "--locker", f"redis://:{SECRET}@h/0"],
        ["--locker", f"unix:///run/redis?password={SECRET}"],
        ["--locker", f"redis://bob:a/{SECRET}@h/0"],
    ],
)
def test_no_password_is_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_arguments(["serve", "--print-config", *words], {})
    shown = capsys.readouterr().out
    assert "***" in shown
    assert SECRET not in shown
    with pytest.raises(SystemExit):
        read_arguments(["serve", "--store", f"file://bob:{SECRET}@h", *words], {})
    assert SECRET not in "".join(capsys.readouterr())


def test_a_redis_that_is_away_is_one_line_without_its_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = f"redis://:{SECRET}@127.0.0.1:1/0"
    checks.check_locker(read_arguments(["serve", "--locker", url], {}).settings)
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith("Redis at redis://:***@127.0.0.1:1/0 cannot be used for locks; whoever")
    assert "ConnectionError" in line
    assert SECRET not in line


def test_a_url_of_redis_that_is_none_ends_the_command() -> None:
    settings = read_arguments(["serve", "--locker", f"redis://:{SECRET}@h:port/0"], {}).settings
    with pytest.raises(
        SystemExit, match=r"cannot use the locker redis://:\*\*\*@h:port/0"
    ) as ended:
        checks.check_locker(settings)
    assert SECRET not in str(ended.value)
