"""How the tests of a store get at one."""

import abc
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tusasgi import Upload
from tusasgi.stores import Store
from tusasgi.testing.faults import cancelled_at, natively_cancelled_at
from tusasgi.testing.stores.tools import MIB, Arriving, read, supports_read

Cancelled = Callable[[int, Coroutine[Any, Any, object]], Awaitable[bool]]
"""Runs an operation and cancels it at its n-th suspension; False if it was done before that."""

Reopened = Callable[[], Awaitable[Store]]
"""Gives what a process finds that starts now."""


class StoreTests(abc.ABC):
    """The fixtures and checks that the tests of every promise share."""

    pytestmark = pytest.mark.anyio

    is_persistent: bool = True
    """False if nothing is left when the store object is gone."""

    memory_bound: int | None = 8 * MIB
    """The most memory one running append may take; None if the store is memory itself."""

    @abc.abstractmethod
    def make_store(self, place: Path) -> Store:
        """Return a store over this place; the same place again is the same uploads."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """An empty folder, for a store that wants one."""
        return tmp_path / "place"

    @pytest.fixture
    def store(self, place: Path) -> Store:
        return self.make_store(place)

    @pytest.fixture
    def reopened(self, store: Store, place: Path) -> Reopened:
        async def reopened() -> Store:
            return await run_sync(self.make_store, place) if self.is_persistent else store

        return reopened

    @pytest.fixture(params=["anyio", "asyncio", "asyncio-twice"])
    def cancelled(self, request: pytest.FixtureRequest, anyio_backend: object) -> Cancelled:
        """What cancels an operation at one of its suspensions, in one of the ways there are."""
        if request.param == "anyio":
            return cancelled_at
        name = anyio_backend if isinstance(anyio_backend, str) else anyio_backend[0]  # type: ignore[index]
        if name != "asyncio":
            pytest.skip("only asyncio has a cancellation of its own")
        return partial(natively_cancelled_at, times=2 if request.param == "asyncio-twice" else 1)

    async def content(self, store: Store, upload: Upload) -> bytes:
        """Return the bytes up to the offset. Override it for a store that cannot read."""
        if upload.offset == 0:
            return b""
        return await read(supports_read(store), upload, 0, upload.offset)

    async def check_beginning(
        self, store: Store, upload: Upload, acknowledged: bytes, sent: bytes
    ) -> None:
        """Check that the store kept a beginning of what was sent, and that it takes more."""
        kept = await store.get(upload.id)
        assert len(acknowledged) <= kept.offset <= len(sent)
        assert await self.content(store, kept) == sent[: kept.offset]
        assert replace(kept, offset=upload.offset) == upload
        kept = await store.append(kept, Arriving(b"more"))
        assert await self.content(store, kept) == sent[: kept.offset - 4] + b"more"
