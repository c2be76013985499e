"""What a folder of uploads depends on beyond what every store does: its file system, tried."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from anyio.to_thread import run_sync

from tusasgi import UploadLocked
from tusasgi.lockers.file import FileLocker
from tusasgi.server.trials import Trial, expect
from tusasgi.stores import WriteConflict
from tusasgi.stores.file import files

_SLOWER = "all is right, and each HEAD reads the record again"


def trials_of_folder(folder: str) -> list[Trial]:
    """Return the trials; each makes files in the folder, which has to be there."""

    def in_thread(trial: Callable[[str], None]) -> Callable[[], object]:
        return partial(run_sync, trial, os.path.join(folder, trial.__name__))

    steps: list[tuple[str, Callable[[str], None], str | None]] = [
        ("a file gets a second name, once", _links_once, None),
        ("a file is replaced by renaming", _renames, None),
        ("files and folders are flushed", _flushes, None),
        ("a locked file is for one alone", _locks, None),
        ("times are kept exactly", _keeps_times, _SLOWER),
        ("the file system is on this machine", _is_local, "see --durability, and what mounts it"),
    ]
    found = [
        Trial(name=name, run=in_thread(trial), instead=instead)  # type: ignore[arg-type]
        for name, trial, instead in steps
    ]
    locks = partial(_excludes, os.path.join(folder, "locks"))
    return [*found, Trial(name="a locked range is for one alone", run=locks)]


def _written(path: str, text: str) -> str:
    with open(path, "w") as file:
        file.write(text)
    return path


def _links_once(path: str) -> None:
    _written(path, "1")
    os.link(path, f"{path}-2")
    expect(os.path.samefile(path, f"{path}-2"), "the names are of two files")
    with suppress(FileExistsError):
        os.link(_written(f"{path}-3", "3"), f"{path}-2")
        expect(False, "a name that was taken was given again")


def _renames(path: str) -> None:
    _written(path, "1")
    with open(path) as before:
        os.rename(_written(f"{path}-2", "2"), path)
        with open(path) as after:
            expect((before.read(), after.read()) == ("1", "2"), "the file is not the other one")


def _flushes(path: str) -> None:
    with open(_written(path, "1"), "rb") as file:
        os.fsync(file.fileno())
    files.flush_folder(os.path.dirname(path))


def _locks(path: str) -> None:
    one = os.open(_written(path, "1"), os.O_RDWR)
    other = os.open(path, os.O_RDWR)
    try:
        files.lock(one)
        with suppress(WriteConflict):
            files.lock(other)
            expect(False, "it was locked twice")
        files.close_locked(one)
        files.lock(other)
    finally:
        os.close(other)


def _keeps_times(path: str) -> None:
    file = os.open(_written(path, "1"), os.O_RDWR)
    try:
        files.stamp(file)
        expect(files.is_stamped(os.fstat(file)), "they are rounded")
    finally:
        os.close(file)


def _is_local(path: str) -> None:
    device = os.stat(os.path.dirname(path)).st_dev
    expect(files.is_local(device), "it is on a network, or of a kind that is not known")


async def _excludes(folder: str) -> None:
    one, other = FileLocker(folder), FileLocker(folder)
    async with one.lock("check", interrupt=lambda: None):
        with suppress(UploadLocked):
            async with other.lock("check", interrupt=lambda: None, take_over=False):
                expect(False, "it was locked twice")
