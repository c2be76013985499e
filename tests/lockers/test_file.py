from pathlib import Path

from anyio.to_thread import run_sync

from tusasgi.lockers.file import FileLocker
from tusasgi.testing import LockerSuite


class TestFileLocker(LockerSuite):
    def make_locker(self, place: Path, *, patience: float) -> FileLocker:
        return FileLocker(place, patience=patience)

    async def leftovers(self, locker: FileLocker, place: Path) -> object:
        return await run_sync(lambda: list(place.glob("*")))
