"""A receiver for each test, and an app whose hooks go there."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests._stage import Stage, make_stage
from tests.webhooks._receiver import SECRET, Receiver
from tusasgi.stores.memory import MemoryStore
from tusasgi.webhooks import WebHooks

MakeHooked = Callable[..., Stage]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def hooked(receiver: Receiver, impatient: None) -> MakeHooked:
    """A function that sets up a stage with hooks of these options."""

    def make(*, engine: dict[str, Any] | None = None, **options: Any) -> Stage:
        options = {"secret": SECRET, "timeout": 5.0, **options}
        hooks = WebHooks(options.pop("url", receiver.url), **options)
        return make_stage(MemoryStore(), hooks=hooks, engine=engine)

    return make


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what failed told and asked again at once."""
    monkeypatch.setattr("tusasgi.engine.telling._SHORTEST", 0.01)
    monkeypatch.setattr("tusasgi.engine.telling._LONGEST", 0.05)
    monkeypatch.setattr("tusasgi.webhooks.hooks._PAUSE", 0.001)
