"""The observer hears of bytes while they arrive, and not too often."""

import itertools
from collections.abc import Iterator

import pytest

from tusasgi import Append, Body, Observer, Upload, Uploads
from tusasgi.engine import chunks
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import Client

pytestmark = pytest.mark.anyio


class Watching(Observer):
    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.uploads: set[str] = set()

    def progressed(self, upload: Upload) -> None:
        self.uploads.add(upload.id)
        self.offsets.append(upload.offset)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """Time goes on by a tenth of a second each time that it is asked for."""
    times = itertools.count()

    class Time:
        def monotonic(self) -> float:
            return next(times) / 10

    monkeypatch.setattr(chunks, "time", Time())
    return iter(())


@pytest.mark.usefixtures("clock")
async def test_progress_is_told_once_a_second_with_what_has_come() -> None:
    observer = Watching()
    uploads = Uploads(MemoryStore(), observer=observer)
    upload = await uploads.create(length=1000)
    await uploads.append(upload.id, Append(offset=0), Body(Client([b"x"] * 10).receive))
    assert observer.offsets == [10]
    await uploads.append(upload.id, Append(offset=10), Body(Client([b"yy"] * 30).receive))
    assert observer.uploads == {upload.id}
    assert observer.offsets == [10, 30, 50, 70]  # each tenth chunk comes after a second


async def test_a_short_append_tells_no_progress() -> None:
    observer = Watching()
    uploads = Uploads(MemoryStore(), observer=observer)
    upload = await uploads.create(length=5)
    await uploads.append(upload.id, Append(offset=0), Body(Client([b"hello"]).receive))
    assert observer.offsets == []


async def test_an_observer_that_fails_stops_no_bytes(clock: object) -> None:
    class Failing(Observer):
        def progressed(self, upload: Upload) -> None:
            raise RuntimeError("a bug")

    uploads = Uploads(MemoryStore(), observer=Failing())
    upload = await uploads.create(length=30)
    done = await uploads.append(upload.id, Append(offset=0), Body(Client([b"x"] * 30).receive))
    assert done.is_complete
