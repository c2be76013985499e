"""The stage of the statements: an app over each store."""

from pathlib import Path
from typing import Any

import pytest

from tests._stage import MakeStage, Stage, make_stage
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore


@pytest.fixture(params=["memory", "file"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStage:
    """A function that sets up one more stage, each with a store of its own."""
    stores = iter([_store(request.param, tmp_path / str(number)) for number in range(10)])

    def make(**options: Any) -> Stage:
        return make_stage(next(stores), **options)

    return make


def _store(kind: str, folder: Path) -> MemoryStore | FileStore:
    return MemoryStore() if kind == "memory" else FileStore(folder)
