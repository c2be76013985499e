"""Disks that are full or not there, no more descriptors, and files that root makes."""

import contextlib
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from anyio.to_thread import run_sync

from tests.stores.file._os import Os, seen_by
from tusasgi import StoreFull, StoreUnavailable, TusApp, Upload, UploadNotFound, Uploads
from tusasgi.lockers.file.lock_file import make_lock_file
from tusasgi.stores.file import FileStore
from tusasgi.testing import Arriving, new_upload, request

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)
ROOT = Path(__file__).parents[3]
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


async def created(store: FileStore, *chunks: bytes, **fields: Any) -> Upload:
    upload = new_upload(**{"length": None, **fields})
    await store.create(upload)
    return await store.append(upload, Arriving(*chunks)) if chunks else upload


def mounted(what: list[str], folder: Path) -> None:
    folder.mkdir()
    try:
        subprocess.run(["mount", *what, str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a file system: {error}")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the disk is full whoever finds it so


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 16 MiB and 200 inodes."""
    folder = tmp_path / "disk"
    if request.param == "tmpfs":
        mounted(["-t", "tmpfs", "-o", "size=16m,nr_inodes=200", "tmpfs"], folder)
    else:
        image = tmp_path / "image"
        try:
            subprocess.run(["truncate", "-s", "16M", image], check=True)
            make = ["mkfs.ext4", "-q", "-m", "0", "-N", "200", image]
            subprocess.run(make, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"cannot make a file system: {error}")
        mounted(["-o", "loop", str(image)], folder)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def use_up_blocks(folder: Path) -> None:
    with (folder / "ballast").open("wb", buffering=0) as ballast:
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(size))


def use_up_inodes(folder: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        for number in range(1000):
            (folder / f"ballast{number}").touch()


full = pytest.mark.parametrize(
    "use_up", [use_up_blocks, use_up_inodes], ids=["no-blocks", "no-inodes"]
)


def files_of(upload: Upload, folder: Path) -> list[Path]:
    return [path for path in folder.rglob(f"{upload.id}*") if path.is_file()]


def sweep_by_command(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tusasgi", "sweep", "--dir", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@full
@pytest.mark.parametrize("begun", [b"", b"x" * 1_000_000], ids=["not-begun", "begun"])
@pytest.mark.parametrize("way", ["delete", "sweep", "command"])
async def test_a_full_disk_is_emptied_by_every_means_there_is(
    way: str, begun: bytes, use_up: Callable[[Path], None], disk: Path
) -> None:
    store = await run_sync(FileStore, disk / "place")
    uploads = Uploads(store)
    if way == "command":
        # Where a server has run, the locker of the command has its file.
        await run_sync(make_lock_file, str(disk / "place/locks/locks"))
    chunks = [begun] if begun else []
    expired = await created(store, *chunks, expires=NOW - timedelta(hours=3))
    kept = await created(store, b"y" * 1000)
    await run_sync(use_up, disk)
    with pytest.raises(StoreFull):
        await store.create(new_upload())
    if way == "delete":
        deleting = replace(expired, expires=None)
        answer = await request(
            TusApp(Uploads(store, clock=lambda: expired.created)), "DELETE", f"/{deleting.id}", TUS
        )
        assert answer.status == 204, answer
    elif way == "sweep":
        assert await uploads.sweep() == 1
    else:
        swept = await run_sync(sweep_by_command, disk / "place")
        assert swept.returncode == 0, swept.stderr
    with pytest.raises(UploadNotFound):
        await store.get(expired.id)
    assert await run_sync(files_of, expired, disk) == []
    assert await store.get(kept.id) == kept
    if begun:
        # There is space again: for one that needs no folder more than that one.
        again = await created(store, b"z" * 500_000, id=f"again{expired.id[-2:]}")
        assert again.offset == 500_000


@full
async def test_on_a_full_disk_nothing_acknowledged_changes_and_changes_are_refused(
    use_up: Callable[[Path], None], disk: Path
) -> None:
    store = await run_sync(FileStore, disk / "place")
    begun, new = await created(store, b"abc"), await created(store)
    await run_sync(use_up, disk)
    for upload in (begun, new):
        with pytest.raises(StoreFull):
            await store.append(upload, Arriving(b"x" * 700_000), staged=True)
        with pytest.raises(StoreFull):
            await store.append(replace(upload, facts={"a": 1}), Arriving(b"x"))
        with pytest.raises(StoreFull):
            await store.update(replace(upload, facts={"a": 1}))
        assert await store.get(upload.id) == upload


async def test_a_removal_that_broke_off_on_a_full_disk_is_taken_up(disk: Path) -> None:
    store = await run_sync(FileStore, disk / "place")
    upload = await created(store, b"x" * 1000, expires=NOW + timedelta(days=1))
    await run_sync(use_up_inodes, disk)
    removed = await store.update(replace(upload, removal="expired"))
    assert await (await run_sync(FileStore, disk / "place")).get(upload.id) == removed
    assert await Uploads(store, clock=lambda: NOW + timedelta(days=2)).sweep() == 1
    assert await run_sync(files_of, upload, disk) == []


async def test_bytes_that_did_not_fit_leave_the_record_as_it_was(tmp_path: Path) -> None:
    store = await run_sync(FileStore, tmp_path)
    upload = await created(store)

    def full(*arguments: Any) -> int:
        if arguments[1][0][:1] == b"{":
            return os.pwritev(*arguments)  # a record
        raise OSError(errno.ENOSPC, "No space left on device")

    given = replace(upload, facts={"kind": "audio"}, length=9)
    with seen_by(Os(pwritev=full)), pytest.raises(StoreFull):
        await store.append(given, Arriving(b"abc"))
    assert await store.get(upload.id) == upload


# A disk that is not there.


async def test_a_store_whose_disk_is_unmounted_is_away_and_not_empty(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    mounted(["-t", "tmpfs", "tmpfs"], disk)
    try:
        store = await run_sync(FileStore, disk)
        upload = await created(store, b"abc")
    finally:
        await run_sync(lambda: subprocess.run(["umount", str(disk)], check=True))
    for refused in (
        lambda: store.get(upload.id),
        lambda: store.create(new_upload()),
        lambda: store.append(upload, Arriving(b"x")),
        lambda: store.append(upload, Arriving(b"x"), staged=True),
        lambda: store.update(upload),
        lambda: store.finish(upload),
        lambda: store.terminate(upload.id),
        lambda: anext(store.read(upload, 0, 3)),
        lambda: anext(store.due(NOW)),
    ):
        with pytest.raises(StoreUnavailable):
            await refused()
    assert await run_sync(os.listdir, disk) == []
    answer = await request(TusApp(Uploads(store)), "HEAD", f"/{upload.id}", TUS)
    assert answer.status not in (404, 410)


async def test_a_store_that_only_looked_knows_that_it_was_there(tmp_path: Path) -> None:
    upload = await created(await run_sync(FileStore, tmp_path / "store"), b"abc")
    store = await run_sync(FileStore, tmp_path / "store")
    await store.get(upload.id)
    await run_sync((tmp_path / "store").rename, tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable):
        await store.get(upload.id)
    await run_sync((tmp_path / "elsewhere").rename, tmp_path / "store")
    assert await store.get(upload.id) == upload


async def test_a_folder_that_another_request_makes_meanwhile_was_never_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await run_sync(FileStore, tmp_path / "store")
    look, upload, other = os.path.isdir, new_upload(), new_upload()

    def looked_too_early(path: str) -> bool:
        found = look(path)
        monkeypatch.setattr(os.path, "isdir", look)
        portal.call(store.create, other)
        portal.call(store.get, other.id)
        return found

    async with BlockingPortal() as portal:
        monkeypatch.setattr(os.path, "isdir", looked_too_early)
        await store.create(upload)
    assert [await store.get(created.id) for created in (upload, other)] == [upload, other]


@pytest.mark.parametrize("code", [errno.ENOTCONN, errno.ESTALE, errno.EIO, errno.EMFILE])
async def test_a_disk_or_system_that_fails_for_now_is_reported_as_that(
    code: int, tmp_path: Path
) -> None:
    store = await run_sync(FileStore, tmp_path)
    upload = await created(store, b"abc", length=6)

    def broken(*arguments: Any) -> int:
        raise OSError(code, os.strerror(code))

    with seen_by(Os(open=broken)):
        for refused in (
            lambda: store.create(new_upload()),
            lambda: store.append(upload, Arriving(b"x")),
            lambda: store.update(upload),
            lambda: store.finish(upload),
            lambda: store.terminate(upload.id),
            lambda: anext(store.read(upload, 0, 3)),
        ):
            with pytest.raises(StoreUnavailable):
                await refused()
    assert await store.get(upload.id) == upload


async def test_without_descriptors_requests_are_asked_to_come_again(tmp_path: Path) -> None:
    store = await run_sync(FileStore, tmp_path)
    upload = await created(store, b"abc")
    assert await store.get(upload.id) == upload  # which starts the thread
    unknown = await created(await run_sync(FileStore, tmp_path), b"abc")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        assert await store.get(upload.id) == upload
        with pytest.raises(StoreUnavailable):
            await store.get(unknown.id)
        with pytest.raises(StoreUnavailable):
            await store.append(upload, Arriving(b"x"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (await store.append(upload, Arriving(b"x"))).offset == 4


async def test_a_new_record_that_vanishes_ends_the_creation_and_no_thread_spins(
    tmp_path: Path,
) -> None:
    store = await run_sync(FileStore, tmp_path)

    def link(source: str, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(source)
        os.link(source, target)

    with seen_by(Os(link=link)), pytest.raises(StoreUnavailable):
        await store.create(new_upload())


async def test_a_sweeper_whose_clock_is_ahead_removes_nothing_that_is_under_way(
    tmp_path: Path,
) -> None:
    store = await run_sync(FileStore, tmp_path)
    upload = await created(store)

    async def chunks() -> Any:
        yield b"x" * 600_000
        assert [found async for found in store.due(NOW + timedelta(days=9))] == []
        yield b"y" * 600_000

    assert (await store.append(upload, chunks(), staged=True)).offset == 1_200_000


# Whose the files are.


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
async def test_what_root_makes_belongs_to_whom_the_folder_belongs_to(tmp_path: Path) -> None:
    store = await run_sync(FileStore, tmp_path / "place")
    (tmp_path / "place").mkdir()
    os.chown(tmp_path / "place", 1234, 1235)
    await created(store, b"abc", expires=NOW - timedelta(hours=3))
    await store.finish(await created(store, b"abcdef", length=6))
    await store.append(await created(store), Arriving(b"a"), staged=True)
    await Uploads(store).sweep()
    made = await run_sync(lambda: [path.stat() for path in tmp_path.rglob("place/**/*")])
    assert {(status.st_uid, status.st_gid) for status in made} == {(1234, 1235)}


# Where it cannot run.


def test_without_flock_one_line_says_what_is_needed(tmp_path: Path) -> None:
    script = "import sys; sys.modules['fcntl'] = None; import tusasgi.stores.file"
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ") and "POSIX" in last
    assert "During handling" not in run.stderr
