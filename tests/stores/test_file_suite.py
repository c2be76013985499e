from pathlib import Path

import pytest

from tusasgi.stores.file import FileStore
from tusasgi.testing import StoreSuite


class FileStoreSuite(StoreSuite):
    @pytest.fixture
    def place(self, fast_place: Path) -> Path:
        return fast_place / "place"


class TestFileStore(FileStoreSuite):
    def make_store(self, place: Path) -> FileStore:
        return FileStore(place)


class TestFileStoreThatFlushesEachAppend(FileStoreSuite):
    def make_store(self, place: Path) -> FileStore:
        return FileStore(place, durability="append")
