"""What becomes of locks when a disk is full, away or somebody else's, and descriptors run out."""

import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from tests.lockers.file.conftest import wait_until_closed
from tests.lockers.file.test_processes import _HOLDER, child
from tusasgi import StoreFull, StoreUnavailable, TusError, UploadLocked
from tusasgi.lockers.file import FileLocker, lock_file

pytestmark = pytest.mark.anyio

_LOCK_ONCE = """
import sys, anyio
from tusasgi.lockers.file import FileLocker

async def main(folder):
    async with FileLocker(folder).lock("a", interrupt=print, take_over=False):
        print("had it")

anyio.run(main, sys.argv[1])
"""

_NOBODY = 65534


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def _mount(place: Path, kind: str, image: Path) -> None:
    place.mkdir(exist_ok=True)
    if kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=40", "tmpfs", place)
    else:
        _run("truncate", "-s", "4M", image)
        _run("mkfs.ext4", "-q", "-N", "64", image)
        _run("mount", "-o", "loop", image, place)


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk that is soon full."""
    place = tmp_path / "disk"
    if os.geteuid():
        pytest.skip("only root may mount a disk")
    try:
        _mount(place, request.param, tmp_path / "image")
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"no {request.param} can be mounted here: {error}")
    yield place
    subprocess.run(["umount", "-l", place], check=False)  # a test may have done it


def _use_up_inodes(disk: Path) -> None:
    number = 0
    try:
        while True:
            (disk / f"filler-{number}").touch()
            number += 1
    except OSError as error:
        assert error.errno == errno.ENOSPC
    assert os.statvfs(disk).f_ffree == 0


def _use_up_blocks(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler:
        for size in (4096, 1):
            try:
                while True:
                    filler.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
    assert os.statvfs(disk).f_bavail == 0


def _use_up_both(disk: Path) -> None:
    _use_up_inodes(disk)
    _use_up_blocks_of(disk / "filler-0")


def _use_up_blocks_of(path: Path) -> None:
    with path.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(1024))
        except OSError as error:
            assert error.errno == errno.ENOSPC


fillings = pytest.mark.parametrize("use_up", [_use_up_inodes, _use_up_blocks, _use_up_both])


async def _set_up(locker: FileLocker) -> None:
    async with locker.lock("first", interrupt=_unexpected):
        pass
    await run_sync(wait_until_closed)


def _unexpected() -> None:
    raise AssertionError("nobody has asked for this lock")


@fillings
async def test_a_full_disk_keeps_nobody_from_a_lock(
    use_up: Callable[[Path], None], disk: Path
) -> None:
    folder = disk / "locks"
    locker = FileLocker(folder)
    await _set_up(locker)
    use_up(disk)
    async with locker.lock("a", interrupt=_unexpected), locker.lock("b", interrupt=_unexpected):
        for other in (locker, FileLocker(folder)):
            with pytest.raises(UploadLocked):
                async with other.lock("a", interrupt=_unexpected, take_over=False):
                    pytest.fail("two holders")
    fresh = await anyio.run_process([sys.executable, "-c", _LOCK_ONCE, str(folder)])
    assert fresh.stdout == b"had it\n"


@fillings
async def test_on_a_full_disk_locks_are_handed_over_through_the_pipes_that_were_there(
    use_up: Callable[[Path], None], disk: Path, apart: None
) -> None:
    folder = disk / "locks"
    one, other = FileLocker(folder), FileLocker(folder, patience=30)
    async with one.lock("a", interrupt=_unexpected), other.lock("b", interrupt=_unexpected):
        pass
    use_up(disk)
    async with child(_HOLDER, folder, "lets-go") as holder:
        await holder.holds()
        with anyio.fail_after(1):
            async with other.lock("a", interrupt=_unexpected):
                await holder.says("interrupted")


async def test_on_a_full_disk_without_pipes_a_lock_is_waited_for_and_had_when_it_is_free(
    disk: Path,
) -> None:
    folder = disk / "locks"
    await _set_up(FileLocker(folder))
    (folder / "1.pipe").unlink()
    _use_up_inodes(disk)
    async with child(_HOLDER, folder, "holds-on") as holder:
        await holder.holds()
        async with anyio.create_task_group() as tasks:
            got_it = anyio.Event()
            tasks.start_soon(_take, folder, got_it)
            await anyio.sleep(0.2)
            assert not got_it.is_set()
            holder.process.kill()
            with anyio.fail_after(1):
                await got_it.wait()


async def _take(folder: Path, got_it: anyio.Event) -> None:
    async with FileLocker(folder, patience=30).lock("a", interrupt=_unexpected):
        got_it.set()


async def test_a_full_disk_on_which_there_were_no_locks_is_told_as_such(disk: Path) -> None:
    (disk / "locks").mkdir()
    _use_up_inodes(disk)
    for folder in (disk / "locks", disk / "data" / "locks"):
        with pytest.raises(StoreFull, match="no room left"):
            async with FileLocker(folder).lock("a", interrupt=_unexpected):
                pytest.fail("locked")


async def test_a_disk_that_is_unmounted_is_away_and_nothing_is_made_below_it(disk: Path) -> None:
    locker, folder = FileLocker(disk / "data" / "locks"), disk / "data" / "locks"
    await _set_up(locker)
    _run("umount", disk)  # no lock, no open file
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            async with locker.lock("a", interrupt=_unexpected):
                pytest.fail("locked")
    assert os.listdir(disk) == []
    folder.mkdir(parents=True)  # as somebody has done who wants it there
    (folder / "locks").touch()
    await _set_up(locker)


async def test_a_disk_that_is_taken_away_meanwhile_frees_no_lock_and_gives_none(
    disk: Path,
) -> None:
    locker = FileLocker(disk / "locks")
    async with locker.lock("a", interrupt=_unexpected):
        _run("umount", "-l", disk)
        for upload_id in ("a", "b"):
            with pytest.raises((StoreUnavailable, UploadLocked)):
                async with locker.lock(upload_id, interrupt=_unexpected, take_over=False):
                    pytest.fail("locked")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EMFILE, StoreUnavailable),
        (errno.ENFILE, StoreUnavailable),
        (errno.ENOLCK, StoreUnavailable),
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
        (errno.ENOTCONN, StoreUnavailable),
        (errno.EROFS, StoreUnavailable),
        (errno.EACCES, PermissionError),
        (errno.ELOOP, OSError),
    ],
)
@pytest.mark.parametrize("call", ["os.open", "os.stat", "fcntl.fcntl"])
async def test_whatever_the_disk_fails_with_is_said_clearly_and_leaves_nothing(
    call: str, number: int, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (call, number) == ("fcntl.fcntl", errno.EACCES):
        pytest.skip("that is how some systems say that somebody else has the lock")
    locker = FileLocker(tmp_path)
    await _set_up(locker)
    module, name = call.split(".")
    real = getattr(getattr(lock_file, module), name)

    def fail(*arguments: Any, **options: Any) -> Any:
        if arguments[0] == str(tmp_path / "locks") or module == "fcntl":
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    with monkeypatch.context() as patches:
        patches.setattr(getattr(lock_file, module), name, fail)
        with pytest.raises(kind) as raised:
            async with locker.lock("a", interrupt=_unexpected):
                pytest.fail("locked")
    if isinstance(raised.value, TusError):
        assert str(tmp_path) not in str(raised.value)
    await run_sync(wait_until_closed)
    await _set_up(locker)


async def test_without_descriptors_a_lock_is_refused_for_now_and_held_ones_stay(
    tmp_path: Path,
) -> None:
    locker = FileLocker(tmp_path)
    await _set_up(locker)
    limits, taken = resource.getrlimit(resource.RLIMIT_NOFILE), []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(StoreUnavailable, match="too many files open") as raised:
            async with locker.lock("a", interrupt=_unexpected):
                pytest.fail("locked")
        assert raised.value.headers["Retry-After"]
        for _ in range(2):  # for the file and the inbox
            os.close(taken.pop())
        async with (
            locker.lock("a", interrupt=_unexpected),
            locker.lock("b", interrupt=_unexpected),
        ):
            pass
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    await _set_up(locker)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
async def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, _NOBODY, _NOBODY)
    before = os.umask(0o077)
    try:
        await _set_up(FileLocker(tmp_path / "data" / "locks"))
    finally:
        os.umask(before)
    made = _all_below(tmp_path)
    assert sorted(path.name for path in made) == ["1.pipe", "data", "locks", "locks"]
    for path in made:
        assert path.stat().st_uid == _NOBODY
        assert path.stat().st_mode & stat.S_IWUSR


def _all_below(place: Path) -> list[Path]:
    return list(place.rglob("*"))
