"""A client of the draft on the ground of its version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests._stage import MakeStage, Stage, make_stage
from tests.conformance.draft.client import Draft
from tests.conformance.draft.grounds import GROUNDS
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore


@pytest.fixture
def version() -> int:
    """The interop version, where a test does not name its own."""
    return 9


@pytest.fixture
def anyio_backend(version: int) -> str:
    return GROUNDS[version % len(GROUNDS)][0]


@pytest.fixture
def kind(version: int) -> str:
    """The kind of store."""
    return GROUNDS[version % len(GROUNDS)][1]


@pytest.fixture
def make(kind: str, tmp_path: Path, impatient: None) -> MakeStage:
    """A function that sets up a stage over the one store of a test."""
    store = MemoryStore() if kind == "memory" else FileStore(tmp_path / "store")
    return lambda **options: make_stage(store, **options)


@pytest.fixture
def stage(make: MakeStage) -> Stage:
    return make()


@pytest.fixture
def draft(stage: Stage, version: int) -> Draft:
    """A client of the version, on a stage without options."""
    return Draft(stage, version)


MakeDraft = Callable[..., Draft]


@pytest.fixture
def draft_with(make: MakeStage, version: int) -> MakeDraft:
    """A function that returns a client of the version, on a stage with these options."""

    def draft(**options: Any) -> Draft:
        return Draft(make(**options), version)

    return draft
