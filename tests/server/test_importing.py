"""`tusasgi import --from-tusd`: a folder of tusd becomes uploads of ours."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from tests.hosts._process import ROOT
from tests.server.tusd_folder import (
    ALL,
    COMPLETE,
    DEFERRED,
    EMPTY,
    FINAL,
    PARTS,
    UNFINISHED,
    write_folder,
    write_upload,
)
from tusasgi import Upload, UploadNotFound, Uploads
from tusasgi.server.command import main
from tusasgi.server.commands import importing
from tusasgi.server.tusd import TusdFolder
from tusasgi.stores import Store
from tusasgi.stores.file import FileStore
from tusasgi.stores.fsspec import FsspecStore
from tusasgi.testing import Arriving

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tusd(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tusd")


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return tmp_path / "ours"


@pytest.fixture
def run(tusd: Path, ours: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, place: tuple[str, str] | None = None) -> tuple[int, str, str]:
        code = 0
        try:
            main(["import", "--from-tusd", str(tusd), *(place or ("--dir", str(ours))), *words])
        except SystemExit as ended:
            code = 1 if isinstance(ended.code, str) else int(ended.code or 0)
            sys.stderr.write(ended.code if isinstance(ended.code, str) else "")
        return code, *capsys.readouterr()

    return run


def get(store: Store, upload_id: str) -> Upload:
    return anyio.run(store.get, upload_id)


def content(store: Any, upload: Upload) -> bytes:
    async def read() -> bytes:
        return b"".join([chunk async for chunk in store.read(upload, 0, upload.offset)])

    return anyio.run(read)


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_uploads_of_every_kind_are_as_tusd_has_them(run: Run, ours: Path) -> None:
    assert run() == (0, "7 uploads taken (25 B, 2 unfinished), 0 there already, 0 not taken\n", "")
    store = FileStore(ours)
    unfinished = get(store, UNFINISHED)
    assert (unfinished.offset, unfinished.length, unfinished.is_complete) == (5, 11, False)
    assert unfinished.metadata == {"filename": "naïve.txt".encode(), "empty": b""}
    assert get(store, DEFERRED).length is None
    assert content(store, get(store, DEFERRED)) == b"abc"
    for upload_id, data in ((COMPLETE, b"world"), (FINAL, b"onetwo"), (EMPTY, b"")):
        upload = get(store, upload_id)
        assert upload.is_complete
        assert content(store, upload) == data
    for part in PARTS:
        assert get(store, part).is_partial
        assert get(store, part).concat_header == "partial"
    final = get(store, FINAL)
    assert final.parts == PARTS
    assert final.concat_header == f"final;/files/{PARTS[0]} /files/{PARTS[1]}"


def test_clients_go_on_and_tusd_could_still_be_started_again(
    run: Run, tusd: Path, ours: Path
) -> None:
    run()
    store = FileStore(ours)
    uploads = Uploads(store)

    async def go_on() -> Upload:
        await store.append(await store.get(UNFINISHED), Arriving(b" world"))
        return await uploads.get(UNFINISHED)

    assert anyio.run(go_on).is_complete
    assert content(store, get(store, UNFINISHED)) == b"hello world"
    assert (tusd / UNFINISHED).read_bytes() == b"hello world"  # its offset is the size


def test_parts_can_be_joined_here(run: Run, ours: Path) -> None:
    run()
    uploads = Uploads(FileStore(ours))

    async def join() -> Upload:
        from tusasgi import Creation

        return await uploads.create_from(Creation(length=None, parts=PARTS[::-1]))

    assert content(uploads.store, anyio.run(join)) == b"twoone"


def test_nothing_in_the_folder_of_tusd_is_changed_and_no_byte_is_copied(
    run: Run, tusd: Path, ours: Path
) -> None:
    before = snapshot(tusd)
    run()
    assert snapshot(tusd) == before
    store = FileStore(ours)
    assert all(os.path.samefile(store.path(one), tusd / one) for one in ALL)


def test_a_second_import_takes_nothing_and_keeps_what_clients_have_done(
    run: Run, ours: Path
) -> None:
    run()
    store = FileStore(ours)

    async def go_on() -> None:
        upload = await store.append(await store.get(UNFINISHED), Arriving(b" world"))
        await store.update(replace(upload, is_complete=True, facts={"ours": True}))

    anyio.run(go_on)
    code, output, errors = run()
    assert (code, errors) == (0, "")
    assert output == "0 uploads taken (0 B, 0 unfinished), 7 there already, 0 not taken\n"
    assert get(store, UNFINISHED).facts == {"ours": True}


@pytest.mark.parametrize("words", [(), ("--copy",)], ids=["link", "copy"])
def test_a_dry_run_says_the_same_and_makes_nothing(
    words: tuple[str, ...], run: Run, tusd: Path, ours: Path
) -> None:
    before = snapshot(tusd)
    code, output, _ = run("--dry-run", "--move", *words)
    assert code == 0
    assert output == (
        "7 uploads would be taken (25 B, 2 unfinished), 0 there already, 0 not taken\n"
    )
    assert not ours.exists()
    assert snapshot(tusd) == before


def test_a_move_leaves_what_was_not_taken_and_nothing_else(run: Run, tusd: Path) -> None:
    write_upload(tusd, "project/one", b"12", 3)
    (tusd / f"{COMPLETE}.lock").write_text("0")  # left behind by a crash
    code, output, errors = run("--move")
    assert code == 1
    assert output == "7 uploads taken (25 B, 2 unfinished), 0 there already, 1 not taken\n"
    assert errors.startswith("tusasgi: project/one is not taken: ids here have letters, digits")
    assert sorted(snapshot(tusd)) == ["project/one", "project/one.info"]


@pytest.mark.parametrize("at", range(15))
def test_a_move_that_is_broken_off_is_brought_to_its_end_by_the_next(
    at: int, run: Run, tusd: Path, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    removed: list[str] = []

    def unlink(path: str) -> None:
        if len(removed) == at:
            raise Crash
        removed.append(path)
        os.unlink(path)

    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr(importing, "_unlink", unlink)
        run("--move")
    run("--move")
    assert snapshot(tusd) == {}
    assert {one: get(FileStore(ours), one).offset for one in ALL} == {
        UNFINISHED: 5, COMPLETE: 5, DEFERRED: 3, PARTS[0]: 3, PARTS[1]: 3, FINAL: 6, EMPTY: 0,
    }  # fmt: skip


def test_parts_are_taken_before_what_is_joined_of_them(tmp_path: Path) -> None:
    write_upload(tmp_path, "0", b"on", 6, IsFinal=True, PartialUploads=list(PARTS))
    for part in PARTS:
        write_upload(tmp_path, part, b"one", 3, IsPartial=True)
    names = TusdFolder(str(tmp_path), path="/files/", window=None).names()
    assert names == [*PARTS, "0"]  # a sweep would remove one whose parts are not there yet


def test_what_is_moved_is_on_the_disk_before_anything_is_removed(
    run: Run, tusd: Path, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def sync() -> None:
        seen.append((len(list(tusd.iterdir())), len(list(ours.glob("uploads/*/*.info")))))

    monkeypatch.setattr(os, "sync", sync)
    run("--move")
    assert seen == [(14, 7)]


def _locked(tusd: Path) -> None:
    (tusd / f"{COMPLETE}.lock").write_text(f"{os.getpid()}")


def _no_json(tusd: Path) -> None:
    (tusd / f"{COMPLETE}.info").write_text('{"ID": "0000')


def _endless(tusd: Path) -> None:
    (tusd / f"{COMPLETE}.info").write_text("[" * 100_000)


def _huge(tusd: Path) -> None:
    (tusd / f"{COMPLETE}.info").write_text(f'{{"ID": "{COMPLETE}", "x": "{"x" * 1_100_000}"}}')


def _link(tusd: Path) -> None:
    secret = tusd.parent / "secret"
    secret.write_text("world")
    (tusd / COMPLETE).unlink()
    (tusd / COMPLETE).symlink_to(secret)


def _outside(tusd: Path) -> None:
    secret = tusd.parent / "secret"
    secret.write_text("world")
    (tusd / COMPLETE).unlink()
    write_upload(tusd, COMPLETE, None, 5, Storage={"Type": "filestore", "Path": str(secret)})


def _missing(tusd: Path) -> None:
    (tusd / COMPLETE).unlink()


def _with(**more: Any) -> Callable[[Path], None]:
    return lambda tusd: write_upload(tusd, COMPLETE, b"world", more.pop("length", 5), **more)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(_locked, "is at work on it: stop tusd first", id="locked"),
        pytest.param(_no_json, "its .info cannot be read", id="cut-short"),
        pytest.param(_endless, "its .info cannot be read", id="nested"),
        pytest.param(_huge, "its .info is none of tusd", id="huge"),
        pytest.param(_link, "its bytes are no plain file", id="link"),
        pytest.param(_outside, "its bytes are outside of the folder", id="outside"),
        pytest.param(_missing, "its bytes are missing", id="no-bytes"),
        pytest.param(_with(ID="other"), "none of tusd, or of another upload", id="other-id"),
        pytest.param(_with(length=4), "5 bytes, more than its length of 4", id="too-long"),
        pytest.param(_with(Size="5"), "lacks what tusd writes", id="size-no-number"),
        pytest.param(_with(Storage={"Type": "s3store"}), "its bytes are in a s3store", id="s3"),
        pytest.param(_with(MetaData={"a b": "c"}), "the metadata key 'a b' must", id="metadata"),
        pytest.param(
            _with(length=9, IsFinal=True, PartialUploads=["gone"]),
            "it was not joined to its end, and its parts are gone",
            id="half-joined",
        ),
    ],
)
def test_what_is_not_taken_is_told_with_the_reason_and_keeps_nothing_else(
    spoil: Callable[[Path], None], reason: str, run: Run, tusd: Path, ours: Path
) -> None:
    spoil(tusd)
    code, output, errors = run()
    assert code == 1
    assert ", 0 there already, 1 not taken\n" in output
    (line,) = errors.splitlines()
    assert line.startswith(f"tusasgi: {COMPLETE} is not taken: ")
    assert reason in line
    with pytest.raises(UploadNotFound):
        get(FileStore(ours), COMPLETE)
    assert all(get(FileStore(ours), one) for one in ALL - {COMPLETE})


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell")
def test_a_file_that_somebody_has_open_to_write_is_not_taken(run: Run, tusd: Path) -> None:
    with (tusd / UNFINISHED).open("ab"):
        code, _, errors = run()
    assert (code, errors) == (
        1,
        f"tusasgi: {UNFINISHED} is not taken: it is being written to: stop tusd first\n",
    )
    assert run()[0] == 0


def test_ids_that_nobody_can_have_here_are_told_without_their_control_characters(
    run: Run, tusd: Path
) -> None:
    for name in ("a.b", "x" * 65, "\x1b[2J"):
        write_upload(tusd, name, b"12", 3)
    code, _, errors = run()
    assert code == 1
    assert len(errors.splitlines()) == 3
    assert "\x1b" not in errors


def test_bytes_that_a_hook_has_put_elsewhere_in_the_folder_are_found(
    run: Run, tusd: Path, ours: Path
) -> None:
    (tusd / "sub").mkdir()
    (tusd / COMPLETE).rename(tusd / "sub" / "named")
    storage = {"Type": "filestore", "Path": str(tusd / "sub" / "named")}
    write_upload(tusd, COMPLETE, None, 5, Storage=storage)
    assert run()[0] == 0
    assert content(FileStore(ours), get(FileStore(ours), COMPLETE)) == b"world"


def test_a_joining_that_tusd_has_not_finished_is_finished_here(
    run: Run, tusd: Path, ours: Path
) -> None:
    (tusd / FINAL).write_bytes(b"onet")
    run()
    uploads = Uploads(FileStore(ours))
    anyio.run(uploads.sweep)
    final = get(uploads.store, FINAL)
    assert final.is_complete
    assert content(uploads.store, final) == b"onetwo"


def test_unfinished_uploads_expire_by_when_their_last_byte_came(
    run: Run, tusd: Path, ours: Path
) -> None:
    write_upload(tusd, "fresh", b"", 5)
    old = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
    for path in tusd.iterdir():
        os.utime(path, (old.timestamp(), old.timestamp()))
    run("--expires-after", "14400")
    store = FileStore(ours)
    for upload_id in (UNFINISHED, "fresh"):
        assert get(store, upload_id).expires == old + timedelta(hours=4)
    assert get(store, COMPLETE).expires is None
    uploads = Uploads(store, clock=lambda: old + timedelta(hours=5))
    assert anyio.run(uploads.sweep) == 5  # three unfinished ones, and two parts
    assert get(store, COMPLETE).is_complete
    assert (tusd / UNFINISHED).read_bytes() == b"hello"


def test_json_has_a_line_for_each_upload_and_one_for_all(run: Run, tusd: Path) -> None:
    write_upload(tusd, "project/one", b"12", 3)
    code, output, errors = run("--json")
    assert (code, errors) == (1, "")
    *each, last = map(json.loads, output.splitlines())
    by_id = {one["id"]: one for one in each}
    assert by_id["project/one"]["result"] == "not taken"
    assert by_id[UNFINISHED]["result"] == "taken"
    assert (by_id[UNFINISHED]["offset"], by_id[UNFINISHED]["length"]) == (5, 11)
    assert last == {
        "taken": 7, "there_already": 0, "not_taken": 1, "unfinished": 2, "bytes": 25,
        "is_dry_run": False,
    }  # fmt: skip


@pytest.mark.parametrize("is_terminal", [True, False])
def test_whoever_sits_at_a_terminal_sees_how_far_it_is(
    is_terminal: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_TOLD_EVERY", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    code, output, errors = run()
    assert (code, output.count("\n")) == (0, 1)
    assert ("tusasgi: 3 of 7 uploads\n" in errors) == is_terminal
    assert (errors == "") == (not is_terminal)


# Elsewhere, by copying.


def test_another_file_system_needs_copy_and_says_so_in_one_line(
    run: Run, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_device_of", hash)
    code, output, errors = run()
    assert (code, output) == (1, "")
    assert "is on another file system than" in errors
    assert errors.endswith(": add --copy")
    assert run("--copy")[0] == 0
    assert get(FileStore(ours), UNFINISHED).offset == 5


@pytest.mark.parametrize("kind", ["folder", "fsspec"])
def test_a_copy_is_the_same_and_goes_on_where_it_was_broken_off(
    kind: str, run: Run, tusd: Path, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("--store", "memory://imported") if kind == "fsspec" else ("--dir", str(ours))
    words = ("--copy",) if kind == "folder" else ()
    store: Any = FsspecStore("memory://imported") if kind == "fsspec" else FileStore(ours)
    write_upload(tusd, COMPLETE, b"w" * 3_000_000, 3_000_000)
    (tusd / FINAL).write_bytes(b"onet")  # to be joined here

    with monkeypatch.context() as patched:
        patched.setattr(importing, "_read", _short)
        code, _, errors = run(*words, place=place)
        assert code == 1
        assert "its file has changed: stop tusd first" in errors
    assert run(*words, place=place)[0] == 0
    assert get(store, COMPLETE).is_complete
    assert content(store, get(store, COMPLETE)) == b"w" * 3_000_000
    assert get(store, UNFINISHED).offset == 5
    anyio.run(Uploads(store).sweep)
    assert content(store, get(store, FINAL)) == b"onetwo"
    output = run(*words, place=place)[1]
    assert output == "0 uploads taken (0 B, 0 unfinished), 7 there already, 0 not taken\n"


async def _short(path: str, start: int, stop: int) -> Any:
    """Read less than there is, as of a file that somebody cuts."""
    data = await run_sync(Path(path).read_bytes)
    yield data[start : start + (stop - start) // 2]


# What a person gets wrong.


def test_folders_within_each_other_are_refused(run: Run, tusd: Path) -> None:
    for place in (tusd, tusd / "ours", tusd.parent):
        code, output, errors = run(place=("--dir", str(place)))
        assert (code, output) == (1, "")
        assert "must lie outside of each other" in errors
    assert not (tusd / "ours").exists()


def test_a_folder_of_tusd_that_is_not_there_is_refused(
    ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="there is no folder /nowhere"):
        main(["import", "--from-tusd", "/nowhere", "--dir", str(ours)])
    assert not ours.exists()


# Under kills.


def test_an_import_that_is_killed_again_and_again_takes_everything_once(
    tmp_path: Path,
) -> None:
    tusd, ours = tmp_path / "tusd", tmp_path / "ours"
    ids = {f"{number:032x}": os.urandom(number % 50) for number in range(150)}
    for upload_id, data in ids.items():
        write_upload(tusd, upload_id, data, 40)
        if len(data) > 40:
            write_upload(tusd, upload_id, data, None)
    command = [sys.executable, "-m", "tusasgi", "import", "--from-tusd", str(tusd)]
    command += ["--dir", str(ours), "--move"]
    for count in (20, 100):
        _kill_at(command, ours, count)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert list(tusd.iterdir()) == []
    store = FileStore(ours)

    async def check() -> None:
        assert {one async for one in store.ids()} == set(ids)
        for upload_id, data in ids.items():
            upload = await store.get(upload_id)
            assert b"".join([chunk async for chunk in store.read(upload, 0, len(data))]) == data
            assert upload.offset == len(data)

    anyio.run(check)


def _kill_at(command: list[str], ours: Path, count: int) -> None:
    """Run the import, and kill it when so many uploads are there."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and len(list(ours.glob("uploads/*/*.info"))) < count:
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
