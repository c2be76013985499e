"""What a store has a say in of the protocol, and any life of any uploads, over the fsspec store."""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from tests._stage import MakeStage, Stage, make_stage
from tests.conformance.generic import run_rule
from tests.conformance.test_conformance import STORED, test_statement_by_hand
from tests.engine.test_state_machine import LivesOfUploads, settled
from tests.stores.fsspec._filesystems import AsyncDict, Memory, names_below
from tusasgi.stores.fsspec import FsspecStore

__all__ = ["test_statement_by_hand"]

pytestmark = pytest.mark.anyio

FAR_FUTURE = datetime(2100, 1, 1, tzinfo=UTC)


class FsspecStage(Stage):
    """A stage whose store is over a filesystem of the test's own."""

    fs: Any
    root: str

    def snapshot(self) -> dict[str, Any]:
        names = names_below(self.fs, self.root)
        # When a mark was made is no state.
        return {name: "/due/" in name or self.fs.cat_file(name) for name in names}


@pytest.fixture
def stage(anyio_backend: str, fast_place: Path) -> MakeStage:
    """A function that sets up one more stage, each with a store of its own.

    On one event loop the stores keep objects, on the other files.
    """
    roots = iter([str(fast_place / str(number)) for number in range(10)])
    is_file = anyio_backend == "trio"
    fs: Any = LocalFileSystem(skip_instance_cache=True) if is_file else AsyncDict()

    def make(**options: Any) -> Stage:
        root = next(roots)
        store: Any = FsspecStore(fs, root)
        stage = make_stage(store, **options)
        stage.__class__ = FsspecStage
        assert isinstance(stage, FsspecStage)
        stage.fs, stage.root = fs, root
        return stage

    return make


@pytest.mark.parametrize("rule_id", STORED)
async def test_statement(rule_id: str, stage: MakeStage) -> None:
    await run_rule(rule_id, stage)


class OverFsspec(LivesOfUploads):
    """The lives of `LivesOfUploads`; a restart begins with what the filesystem kept."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="tusasgi-")
        self.fs = self.make_fs()
        super().__init__()

    def make_fs(self) -> Any:
        raise NotImplementedError

    def open_store(self) -> Any:
        return FsspecStore(self.fs, self.folder, clock=lambda: self.now)

    def teardown(self) -> None:
        try:
            self._sweep_all()
        finally:
            shutil.rmtree(self.folder)

    def _sweep_all(self) -> None:
        """Of what is terminated or has expired no file is left."""
        self.now = FAR_FUTURE
        for _ in range(2):
            self.run(self.uploads.sweep)
        for upload_id in [key for key, one in self.model.items() if not one.is_expired(self.now)]:
            self.run(lambda: self.uploads.terminate(upload_id))  # noqa: B023
        assert names_below(self.fs, self.folder) == []


class OverObjects(OverFsspec):
    def make_fs(self) -> Memory:
        return Memory()


class OverFiles(OverFsspec):
    def make_fs(self) -> LocalFileSystem:
        return LocalFileSystem(skip_instance_cache=True)


class OverObjectsOnTrio(OverObjects):
    backend = "trio"


class OverFilesOnTrio(OverFiles):
    backend = "trio"


TestOverObjects = settled(OverObjects, 25)
TestOverObjectsOnTrio = settled(OverObjectsOnTrio, 10)
TestOverFiles = settled(OverFiles, 20)
TestOverFilesOnTrio = settled(OverFilesOnTrio, 10)
