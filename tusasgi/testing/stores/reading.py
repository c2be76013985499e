"""What a store promises to readers."""

import random

import anyio
import pytest

from tusasgi import UploadNotFound
from tusasgi.stores import Store
from tusasgi.testing.stores.base import StoreTests
from tusasgi.testing.stores.tools import (
    completed,
    created,
    new_upload,
    read,
    supports_local_path,
    supports_read,
)


class ReadingTests(StoreTests):
    @pytest.mark.parametrize(
        ("start", "stop"),
        [
            pytest.param(0, 600_000, id="all"),
            pytest.param(0, 0, id="none"),
            pytest.param(0, 1, id="first-byte"),
            pytest.param(599_999, 600_000, id="last-byte"),
            pytest.param(1, 599_999, id="middle"),
            pytest.param(262_143, 262_145, id="across-256-KiB"),
            pytest.param(262_144, 524_288, id="exactly-256-KiB"),
        ],
    )
    async def test_a_range_is_read(self, start: int, stop: int, store: Store) -> None:
        reading = supports_read(store)
        content = random.Random(0).randbytes(600_000)
        upload = await created(store, content, length=600_000)
        assert await read(reading, upload, start, stop) == content[start:stop]

    async def test_the_file_of_a_complete_upload_has_its_bytes(self, store: Store) -> None:
        on_files = supports_local_path(store)
        path = on_files.local_path(await completed(store, b"hello", length=5))
        assert path.startswith("/")
        async with await anyio.open_file(path, "rb") as file:
            assert await file.read() == b"hello"

    async def test_an_unknown_upload_cannot_be_read(self, store: Store) -> None:
        reading = supports_read(store)
        with pytest.raises(UploadNotFound):
            await read(reading, new_upload(), 0, 1)
