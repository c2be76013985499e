import os
from pathlib import Path

import pytest
from anyio.to_thread import run_sync

from tusasgi import UploadLocked
from tusasgi.lockers import file as module
from tusasgi.lockers.file import FileLocker
from tusasgi.testing import LockerSuite
from tusasgi.testing._faults import cancelled_at


class TestFileLocker(LockerSuite):
    def make_locker(self, place: Path, *, patience: float) -> FileLocker:
        return FileLocker(place, patience=patience)

    async def leftovers(self, locker: FileLocker, place: Path) -> object:
        return await run_sync(lambda: [*place.glob("*"), *_open_files(place)])


class TestFileLockerThatIsNotWoken(TestFileLocker):
    """As it is on systems other than Linux."""

    is_woken = False

    @pytest.fixture(autouse=True)
    def _nobody_is_woken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_IS_WOKEN", False)

    async def test_a_newcomer_sleeps_between_its_tries(self, impatient: FileLocker) -> None:
        async def give_up() -> None:
            with pytest.raises(UploadLocked):
                async with impatient.lock("a", interrupt=pytest.fail):
                    pytest.fail("two holders")

        async with impatient.lock("a", interrupt=lambda: None):
            tries_too_often = await cancelled_at(20, give_up())
        assert not tries_too_often


def _open_files(place: Path) -> list[str]:
    numbers = os.listdir("/proc/self/fd")
    # The one with which the folder itself was listed is closed by now.
    targets = [os.path.realpath(f"/proc/self/fd/{number}") for number in numbers]
    return [target for target in targets if target.startswith(f"{place}/")]
