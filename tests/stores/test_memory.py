from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from tusasgi import UploadNotFound
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import StoreSuite, new_upload


class TestMemoryStore(StoreSuite):
    is_persistent = False
    memory_bound = None

    def make_store(self, place: Path) -> MemoryStore:
        return MemoryStore()


@pytest.mark.anyio
async def test_an_append_to_an_upload_that_is_removed_meanwhile_brings_nothing_back() -> None:
    store = MemoryStore()
    upload = await store.create(new_upload(length=6))

    async def removed_on_the_way() -> AsyncGenerator[bytes, None]:
        yield b"abc"
        await store.terminate(upload.id)
        yield b"def"

    async with aclosing(removed_on_the_way()) as chunks:
        with pytest.raises(UploadNotFound):
            await store.append(upload, chunks)
    with pytest.raises(UploadNotFound):
        await store.get(upload.id)
