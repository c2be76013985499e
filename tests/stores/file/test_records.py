"""A record is parsed once, and whatever changes it in whatever way is seen by the next look."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tusasgi import Append, Upload, Uploads
from tusasgi.stores.file import FileStore, records
from tusasgi.testing import Arriving, new_upload

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def nothing_parsed() -> Iterator[None]:
    records._parse.cache_clear()
    yield
    records._parse.cache_clear()


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """On the file system itself, whose times stand still for some milliseconds."""
    return FileStore(tmp_path / "place")


async def created(store: FileStore, **fields: Any) -> Upload:
    return await store.create(new_upload(**{"length": None, **fields}))


class Ended(Arriving):
    """Chunks as a source has them."""

    ending = None

    def interrupt(self) -> None:
        raise AssertionError("nobody else is here")


async def test_the_record_of_an_upload_is_parsed_once_in_many_appends(store: FileStore) -> None:
    uploads = Uploads(store)
    upload = await uploads.create(length=100)
    for offset in range(20):
        admitted = await store.get(upload.id)
        append = Append(offset=offset)
        await uploads.append(upload.id, append, Ended(b"x"), admitted=admitted)
    parsed = records._parse.cache_info()
    assert parsed.misses == 1
    assert parsed.hits >= 3 * 20 - 1


async def test_the_parsed_records_that_are_kept_are_bounded(store: FileStore) -> None:
    for _ in range(records._PARSED + 10):
        await store.get((await created(store)).id)
    assert records._parse.cache_info().currsize == records._PARSED


_UPDATE = """
import sys, anyio
from dataclasses import replace
from tusasgi.stores.file import FileStore

async def main(folder, upload_id):
    store = FileStore(folder)
    await store.update(replace(await store.get(upload_id), owner="another"))

anyio.run(main, *sys.argv[1:])
"""


async def test_a_record_that_another_process_replaced_is_the_new_one(
    store: FileStore, tmp_path: Path
) -> None:
    upload = await created(store, owner="someone")
    assert await store.get(upload.id) == upload
    command = [sys.executable, "-c", _UPDATE, str(tmp_path / "place"), upload.id]
    await run_sync(lambda: subprocess.run(command, cwd=Path(__file__).parents[3], check=True))
    assert (await store.get(upload.id)).owner == "another"


async def test_of_records_that_replace_each_other_at_once_the_last_one_is_seen(
    store: FileStore,
) -> None:
    upload = await created(store, owner="000")
    path = Path(f"{store.path(upload.id)}.info")

    def replaced_and_read() -> None:
        """By files of the same size, whose inodes were in use a moment ago."""
        text, new = path.read_bytes(), path.with_suffix(".new")
        for number in range(500):
            for owner in (number, number + 500):  # two: the second one gets the inode of the last
                new.write_bytes(text.replace(b'"000"', b'"%03d"' % owner))
                os.rename(new, path)
            assert store._directory.load(upload.id).upload.owner == f"{number + 500:03}"

    await run_sync(replaced_and_read)


async def test_a_record_that_is_written_over_in_its_place_is_read_anew_each_time(
    store: FileStore,
) -> None:
    upload = await created(store)

    def written_over_and_read() -> None:
        file = os.open(f"{store.path(upload.id)}.info", os.O_WRONLY)
        for first, removal in [(b"t", "terminated"), (b"e", "expired"), (b"{", None)] * 200:
            os.pwrite(file, first, 0)
            assert store._directory.load(upload.id).upload.removal == removal
        os.close(file)

    await run_sync(written_over_and_read)


async def test_a_record_that_cannot_be_read_is_not_remembered_as_such(store: FileStore) -> None:
    upload = await created(store)
    path = Path(f"{store.path(upload.id)}.info")
    text = await run_sync(path.read_bytes)
    for _ in range(3):
        await run_sync(path.write_bytes, b"{}" + text)
        with pytest.raises(ValueError, match="Extra data"):
            await store.get(upload.id)
        await run_sync(path.write_bytes, text)
        assert await store.get(upload.id) == upload
