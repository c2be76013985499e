import errno
import fcntl
import os
from pathlib import Path

import pytest
from anyio.to_thread import run_sync

from tests.lockers.file.conftest import wait_until_closed
from tusasgi.lockers.file import FileLocker, inbox, lock_file, locks
from tusasgi.testing import LockerSuite


class TestFileLocker(LockerSuite):
    @pytest.fixture(autouse=True)
    def _nobody_looks_for_himself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "_RETRY", 60.0)  # so that messages have to be received

    def make_locker(self, place: Path, *, patience: float) -> FileLocker:
        return FileLocker(place, patience=patience)

    async def leftovers(self, locker: FileLocker, place: Path) -> object:
        await run_sync(wait_until_closed)
        return await run_sync(_open_files, place)


class TestFileLockersOfSeveralProcesses(TestFileLocker):
    """As it is where each locker is of a process of its own, and they share but the folder."""

    @pytest.fixture(autouse=True)
    def _nobody_shares(self, apart: None) -> None:
        pass


class TestFileLockerWithLocksOfProcesses(TestFileLocker):
    """As it is where the kernel knows no locks of open files."""

    @pytest.fixture(autouse=True)
    def _processes_have_locks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lock_file, "_SET", fcntl.F_SETLK)
        monkeypatch.setattr(lock_file, "_GET", fcntl.F_GETLK)


class TestFileLockerWithoutPipes(TestFileLocker):
    """As it is where no pipe can be made: processes cannot ask each other, but themselves."""

    @pytest.fixture(autouse=True)
    def _no_pipe_can_be_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, "no room")

        monkeypatch.setattr(inbox.os, "mkfifo", refuse)


def _open_files(place: Path) -> list[str]:
    numbers = os.listdir("/proc/self/fd")
    # The one with which the folder itself was listed is closed by now.
    targets = [os.path.realpath(f"/proc/self/fd/{number}") for number in numbers]
    return [target for target in targets if target.startswith(f"{place}/")]
