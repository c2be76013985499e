"""Each trial of `tusasgi check` fails on a store that lacks just what it is about."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tusasgi import Upload, UploadNotFound
from tusasgi.server.trials import Finding, find_out, trials_of
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


async def finding_of(store: Any, name: str, *, needs_locker: str | None = None) -> Finding:
    trials = {one.name: one for one in trials_of(store, store, needs_locker=needs_locker)}
    return await find_out(trials[name])


async def test_everything_holds_on_a_good_store_and_nothing_is_left(tmp_path: Path) -> None:
    store = await run_sync(FileStore, tmp_path)
    found = [await find_out(trial) for trial in trials_of(store, store, needs_locker=None)]
    assert [one for one in found if not one.holds] == []
    assert [upload_id async for upload_id in store.ids()] == []


class OtherBytes(MemoryStore):
    async def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        async for chunk in super().read(upload, start, stop):
            yield bytes(len(chunk))


class OldListing(MemoryStore):
    async def ids(self, *, after: str | None = None) -> AsyncGenerator[str, None]:
        for upload_id in ():
            yield upload_id


class CreatesTwice(MemoryStore):
    async def create(self, upload: Upload) -> Upload:
        with contextlib.suppress(UploadNotFound):
            await super().terminate(upload.id)
        return await super().create(upload)


class WritesAnywhere(MemoryStore):
    async def append(
        self, upload: Upload, chunks: AsyncIterable[bytes], *, staged: bool = False
    ) -> Upload:
        return await super().append(await self.get(upload.id), chunks, staged=staged)


class KeepsRefused(MemoryStore):
    async def append(
        self, upload: Upload, chunks: AsyncIterable[bytes], *, staged: bool = False
    ) -> Upload:
        async def ended() -> AsyncIterator[bytes]:
            try:
                async for chunk in chunks:
                    yield chunk
            except Exception:  # what this store is about
                return

        return await super().append(upload, ended(), staged=staged)


class LosesParts(MemoryStore):
    async def concat(self, upload: Upload) -> Upload:
        return replace(upload, offset=upload.length or 0)


class KeepsAll(MemoryStore):
    async def terminate(self, upload_id: str) -> None:
        await self.get(upload_id)


class Broken(MemoryStore):
    async def finish(self, upload: Upload) -> Upload:
        raise OSError("no\x1b[2J disk")


ATTRIBUTES = {
    OtherBytes: "what was written is read back",
    OldListing: "a listing has what was just written",
    CreatesTwice: "of many creations at once one succeeds",
    WritesAnywhere: "an append at an old offset is refused",
    KeepsRefused: "a refused append leaves nothing",
    LosesParts: "uploads are joined",
    KeepsAll: "what was removed is gone",
    Broken: "a large upload in parts becomes whole",
}


@pytest.mark.parametrize("kind", ATTRIBUTES, ids=lambda kind: kind.__name__)
async def test_what_a_store_lacks_is_found(kind: type[MemoryStore]) -> None:
    finding = await finding_of(kind(), ATTRIBUTES[kind])
    assert not finding.holds
    assert finding.is_needed
    assert finding.detail


async def test_writers_that_nothing_keeps_apart_are_found_and_need_a_locker() -> None:
    name = "of many writers at once one succeeds"
    finding = await finding_of(MemoryStore(), name, needs_locker="give a locker")
    assert finding == Finding(
        name=name, holds=False, is_needed=False, detail="8 of 8 succeeded: give a locker"
    )
