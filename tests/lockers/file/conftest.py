"""Lockers of one process that know as little of each other as those of several."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tusasgi.lockers.file import inbox, locks


def wait_until_closed() -> None:
    """Return when no lock file is open any more, and nobody listens."""
    for thread in threading.enumerate():
        if thread.name == locks.LISTENER:
            thread.join(5)
            assert not thread.is_alive()
    assert not locks._open


@pytest.fixture(autouse=True)
def closed_soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(inbox, "SILENCE", 0.01)
    yield
    wait_until_closed()


class _Forgetful(dict[Any, Any]):
    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __delitem__(self, key: Any) -> None:
        pass


@pytest.fixture
def apart(closed_soon: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have each locker open the file for itself, as another process would."""
    with monkeypatch.context() as patches:
        patches.setattr(locks, "_open", _Forgetful())
        yield
        wait_until_closed()
