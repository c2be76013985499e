import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tusasgi.stores.file import FileStore
from tusasgi.testing import StoreSuite


def open_below(place: Path) -> list[str]:
    """Return the files below a folder that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [path for path in found if path.startswith(f"{place}/")]


class FileStoreSuite(StoreSuite):
    @pytest.fixture
    def place(self, fast_place: Path) -> Path:
        return fast_place / "place"

    @pytest.fixture(autouse=True)
    def no_file_stays_open(self, place: Path) -> Iterator[None]:
        yield
        assert open_below(place) == []


class TestFileStore(FileStoreSuite):
    def make_store(self, place: Path) -> FileStore:
        return FileStore(place)


class TestFileStoreThatFlushesEachAppend(FileStoreSuite):
    def make_store(self, place: Path) -> FileStore:
        return FileStore(place, durability="append")
