"""The suite for stores, on filesystems of every kind.

Objects and files on one event loop with the plain ones, on the other with the rest: which loop it
is stays with the store, which calls any filesystem in a thread.
"""

from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from tests.stores.fsspec._filesystems import AsyncDict, Deceiving, Memory, Plain, WithoutOpen
from tusasgi.stores.fsspec import FsspecStore
from tusasgi.stores.fsspec import store as module
from tusasgi.testing import StoreSuite


class FsspecStoreSuite(StoreSuite):
    """Over one filesystem for a test, whatever stores are made of it."""

    # Four pieces of 2 MiB, and one that a thread has written and not let go of yet.
    memory_bound = 10 * 1024 * 1024

    @pytest.fixture
    def place(self, fast_place: Path) -> Path:
        return fast_place / "place"

    @pytest.fixture(autouse=True)
    def _pieces_are_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_LINGER", 0.05)

    def make_store(self, place: Path) -> FsspecStore:
        fs = self.__dict__.setdefault("fs", self.make_fs(place))
        return FsspecStore(fs, self.root(place))

    def make_fs(self, place: Path) -> Any:
        raise NotImplementedError

    def root(self, place: Path) -> str:
        return "bucket/some/folder"


class OnTrio(FsspecStoreSuite):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "trio"


class OnAsyncio(FsspecStoreSuite):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"


class TestMemory(OnTrio):
    memory_bound = None

    def make_fs(self, place: Path) -> Memory:
        return Memory()


class TestLocal(OnTrio):
    def make_store(self, place: Path) -> FsspecStore:
        return FsspecStore(f"file://{place}")


class TestWithoutAppendRenameAndExclusion(OnAsyncio):
    memory_bound = None

    def make_fs(self, place: Path) -> Plain:
        return Plain()


class TestThatPromisesExclusionAndOverwrites(OnAsyncio):
    memory_bound = None

    def make_fs(self, place: Path) -> Deceiving:
        return Deceiving()


class TestAsync(OnAsyncio):
    memory_bound = None

    def make_fs(self, place: Path) -> AsyncDict:
        return AsyncDict()


class TestWithoutOpen(OnAsyncio):
    memory_bound = None

    def make_fs(self, place: Path) -> WithoutOpen:
        return WithoutOpen(Memory())


class TestDirectory(OnAsyncio):
    def make_fs(self, place: Path) -> DirFileSystem:
        return DirFileSystem(path=str(place), fs=LocalFileSystem(skip_instance_cache=True))


class TestWrappedToBeAsync(OnAsyncio):
    def make_fs(self, place: Path) -> AsyncFileSystemWrapper:
        return AsyncFileSystemWrapper(LocalFileSystem(skip_instance_cache=True))

    def root(self, place: Path) -> str:
        return str(place)
