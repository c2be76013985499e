"""What every test shares: both event loops, and nothing that blocks them unseen."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

from tests._stage import MakeStage, make_stage
from tests._watchdog import (
    pytest_configure,
    pytest_pyfunc_call,
    pytest_runtest_protocol,
    pytest_unconfigure,
)
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore

__all__ = [
    "pytest_configure",
    "pytest_pyfunc_call",
    "pytest_runtest_protocol",
    "pytest_unconfigure",
]

# How quick the machine is says nothing about the code.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def detector() -> BlockBuster:
    """What notices a call that blocks; making it takes too long to do it for each test."""
    detector = BlockBuster("tusasgi")
    for function in detector.functions.values():
        # It has an event loop of its own, in a thread, so as not to block ours.
        function.can_block_in("tusasgi/stores/s3/client.py", "_read_files")
    # What the system knows of a file of a local file system is asked in the event loop.
    detector.functions["os.stat"].can_block_in("tusasgi/stores/file/directory.py", "recall")
    return detector


@pytest.fixture(autouse=True)
def blockbuster(detector: BlockBuster) -> Iterator[BlockBuster]:
    """Fail a test in which our code blocks the event loop; it may allow some, for itself alone."""
    functions = detector.functions.values()
    allowed = [list(function.can_block_functions) for function in functions]
    detector.activate()
    try:
        yield detector
    finally:
        detector.deactivate()
        for function, before in zip(functions, allowed, strict=True):
            function.can_block_functions[:] = before


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a refusal wait for the rest of a body for no time to speak of."""
    monkeypatch.setattr("tusasgi.asgi.send._LINGER_SECONDS", 0.01)


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path, impatient: None) -> MakeStage:
    """A function that sets up a stage over the one store of a test."""
    store = MemoryStore() if request.param == "memory" else FileStore(tmp_path / "store")
    return lambda **options: make_stage(store, **options)
