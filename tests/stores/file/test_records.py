"""A record is parsed once, and whatever changes it in whatever way is seen by the next look."""

import os
import subprocess
import sys
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tusasgi import Append, FinalResponse, Upload, Uploads
from tusasgi.models import Checksum, Target
from tusasgi.stores.file import FileStore, files, known, records
from tusasgi.testing import Arriving, new_upload
from tusasgi.testing.stores import NOW

pytestmark = pytest.mark.anyio


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was parsed of the records of this test."""
    texts = []

    def load(text: bytes) -> records.Record:
        texts.append(text)
        return load_record(text)

    load_record = records.load
    monkeypatch.setattr(records, "load", load)
    return texts


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


async def test_the_record_of_an_upload_that_this_process_wrote_is_not_parsed(
    store: FileStore, parsed: list[bytes]
) -> None:
    uploads = Uploads(store)
    upload = await uploads.create(length=100)
    for offset in range(20):
        admitted = await store.get(upload.id)
        append = Append(offset=offset)
        await uploads.append(upload.id, append, Ended(b"x"), admitted=admitted)
    assert parsed == []


BARE = new_upload()
FULL = Upload(
    id="full",
    length=9,
    created=NOW,
    offset=4,
    metadata={"name": b"\xffa.bin", "": b""},
    metadata_header="name /2EuYmlu",
    max_size=99,
    min_size=1,
    owner="somebody \u00e9",
    facts={"kind": "audio", "seconds": 0.1, "tracks": 2, "is_long": True, "title": None},
    expires=NOW + timedelta(microseconds=1),
    expires_after=timedelta(days=3, microseconds=7),
    grace=timedelta(seconds=61.5),
    is_partial=True,
    parts=("a", "b"),
    concat_header="final;/a /b",
    sha256="00" * 32,
    is_complete=True,
    removal="expired",
    protocol="ietf",
    is_open=True,
    checksum=Checksum(algorithm="sha256", digest=b"\x01\xff"),
    final_response=FinalResponse(status=299, headers={"X-A": "b"}, body=b"\xff"),
    target=Target(
        method="PUT", path="/p", raw_path=b"/%70", query_string=b"q", headers=(("a", "b"),)
    ),
    version="of another store",
    untold={"created": NOW, "completed": NOW + timedelta(seconds=1)},
    destination="a/b.bin",
)


def test_the_full_upload_has_a_value_in_each_field() -> None:
    bare = Upload(id="", length=None, created=NOW + timedelta(1))
    names = [one.name for one in fields(Upload)]
    assert [name for name in names if getattr(FULL, name) == getattr(bare, name)] == []


@pytest.mark.parametrize("upload", [BARE, FULL], ids=["bare", "full"])
def test_what_is_remembered_of_a_record_is_what_is_read_of_it(upload: Upload) -> None:
    record = records.Record(upload=upload, flushed=3, boot="this", expires=upload.expires)
    assert records.as_read(record) == records.load(records.dump(record))


async def test_a_known_upload_is_found_without_a_thread(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await created(store, length=9)
    monkeypatch.setattr(store._reading, "run", None)
    assert await store.get(upload.id) == upload
    upload = await store.append(upload, Arriving(b"abc"))
    assert await store.get(upload.id) == upload


async def test_what_another_process_made_needs_a_thread_once(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await run_sync(FileStore, tmp_path / "place")
    upload = await created(other)
    assert await store.get(upload.id) == upload
    monkeypatch.setattr(store._reading, "run", None)
    assert await store.get(upload.id) == upload
    upload = await other.append(upload, Arriving(b"abc"))
    assert await store.get(upload.id) == upload


async def check_it_is_read_each_time(store: FileStore, parsed: list[bytes]) -> None:
    upload = await created(store)
    for _ in range(2):
        parsed.clear()
        assert await store.get(upload.id) == upload
        assert parsed


async def test_on_a_file_system_that_may_be_on_a_network_every_look_takes_a_thread(
    store: FileStore, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "is_local", lambda device: False)
    await check_it_is_read_each_time(store, parsed)


async def test_on_a_file_system_that_rounds_times_every_look_takes_a_thread(
    store: FileStore, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_times(file: int, *, ns: tuple[int, int]) -> None:
        second = 1_000_000_000
        utime(file, ns=(ns[0] // second * second, ns[1] // second * second))

    utime = os.utime
    monkeypatch.setattr(os, "utime", set_times)
    await check_it_is_read_each_time(store, parsed)


async def test_what_another_process_replaces_twice_at_once_is_seen(
    store: FileStore, tmp_path: Path
) -> None:
    other = await run_sync(lambda: FileStore(tmp_path / "place", durability="none"))
    upload = await created(store, owner="00")
    for number in range(20):
        assert await store.get(upload.id) == upload
        for owner in (number, number + 50):  # two: the second one gets the inode of the last
            upload = await other.update(replace(upload, owner=f"{owner:02}"))
        assert await store.get(upload.id) == upload


async def test_a_record_is_later_than_the_one_that_it_replaces_though_the_clock_stands_still(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.time, "time_ns", lambda: 1_700_000_000_000_000_000)
    upload = await created(store, owner="0")
    times = set()
    for number in range(1, 4):
        upload = await store.update(replace(upload, owner=str(number)))
        times.add((await run_sync(os.stat, f"{store.path(upload.id)}.info")).st_mtime_ns)
        assert await store.get(upload.id) == upload
    assert len(times) == 3


async def test_the_records_that_are_known_are_bounded(store: FileStore) -> None:
    for _ in range(known._MOST + 10):
        await created(store)
    assert len(store._directory.known._known) == known._MOST


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
            assert store._directory.recall(upload.id) is None  # that is for files of ours

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
