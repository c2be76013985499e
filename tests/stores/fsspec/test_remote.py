"""The fsspec store over real servers: OpenSSH's sftp, and two of S3 through s3fs.

On asyncio alone: the servers are called in threads, on either loop.
"""

import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
import s3fs
from anyio.to_thread import run_sync

from tests.stores.fsspec import _sftp as _fsspec_sftp
from tests.stores.fsspec._sftp import SftpServer
from tusasgi import OffsetConflict, StoreUnavailable, UploadExists, UploadNotFound
from tusasgi.stores import WriteConflict
from tusasgi.stores.fsspec import FsspecStore, pieces
from tusasgi.stores.fsspec.pieces import exclusive_name
from tusasgi.testing import Arriving, new_upload

pytestmark = pytest.mark.anyio

NOW = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
MIB = 1024 * 1024
PIECE = MIB

MakeStore = Callable[[], FsspecStore]
"""Makes what a server finds that starts now: with a connection of its own."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def need_sftp() -> None:
    reason = _fsspec_sftp.why_not()
    if reason is not None:
        if os.environ.get("TUSASGI_REQUIRE_SERVICES") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def sftp_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    need_sftp()
    with SftpServer(tmp_path_factory.mktemp("sftp")) as server:
        yield server


def sftp_store(server: SftpServer, folder: Path) -> FsspecStore:
    return FsspecStore(f"sftp://127.0.0.1{folder}", options=server.options, piece_size=PIECE)


@pytest.fixture(params=["sftp", "seaweedfs", "moto"])
async def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeStore]:
    if request.param == "sftp":
        server: SftpServer = request.getfixturevalue("sftp_server")
        made: list[FsspecStore] = []

        def over_sftp() -> FsspecStore:
            made.append(sftp_store(server, tmp_path / "root"))
            return made[-1]

        yield over_sftp
        for store in made:
            await run_sync(close_sftp, store)
        return
    s3: Any = request.getfixturevalue(request.param)
    bucket = await run_sync(s3.new_bucket)
    instances: list[s3fs.S3FileSystem] = []

    def over_s3() -> FsspecStore:
        # With its cache of listings: the store has to do without.
        fs = s3fs.S3FileSystem(
            skip_instance_cache=True,
            endpoint_url=s3.endpoint,
            key=s3.key,
            secret=s3.secret,
            client_kwargs={"region_name": s3.region},
            config_kwargs={"signature_version": "s3v4"},
        )
        instances.append(fs)
        return FsspecStore(fs, f"{bucket}/some/folder", piece_size=PIECE)

    yield over_s3
    for fs in instances:
        if fs._s3 is not None:
            await run_sync(s3fs.S3FileSystem.close_session, fs.loop, fs._s3)


def close_sftp(store: FsspecStore) -> None:
    if store._connection.directory is not None:
        store._connection.directory.files._fs.client.close()


async def test_an_upload_in_several_appends_is_joined_and_read(make_store: MakeStore) -> None:
    sent = random.Random(0).randbytes(MIB + MIB // 2)
    dates = {"expires": NOW, "expires_after": timedelta(hours=2)}
    upload = await make_store().create(new_upload(length=len(sent), **dates))
    cuts = [0, 1, 300_000, 300_001, MIB, len(sent)]
    store = make_store()
    for start, stop in pairwise(cuts):
        upload = await store.append(upload, Arriving(sent[start:stop]), staged=start == MIB)
        assert await store.get(upload.id) == upload
    other = make_store()
    assert await other.get(upload.id) == upload
    for _ in range(2):
        assert await read(other, upload.id, 299_990, MIB + 10) == sent[299_990 : MIB + 10]
        assert await read(other, upload.id, 0, len(sent)) == sent
        await store.finish(upload)
    complete = await store.update(replace(upload, is_complete=True))
    assert await other.get(upload.id) == complete
    assert [found async for found in other.due(NOW + timedelta(days=1))] == []


async def test_records_are_replaced_and_removed(make_store: MakeStore) -> None:
    store, other = make_store(), make_store()
    upload = await store.create(new_upload(expires=NOW))
    with pytest.raises(UploadExists):
        await other.create(upload)
    assert [found async for found in other.due(NOW)] == [upload.id]
    later = await other.update(replace(upload, expires=NOW + timedelta(days=1), facts={"a": 1}))
    assert await store.get(upload.id) == later
    assert [found async for found in store.due(NOW)] == []
    await store.append(later, Arriving(b"abc"))
    await store.terminate(upload.id)
    with pytest.raises(UploadNotFound):
        await other.get(upload.id)
    again = await other.create(upload)
    assert await store.get(upload.id) == again


async def test_many_small_appends_stay_the_same_bytes(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_MANY", 8)
    store = make_store()
    upload = await store.create(new_upload(length=None))
    sent = b""
    for number in range(11):  # the last two after a merge
        upload = await store.append(upload, Arriving(bytes([number]) * (number + 1)))
        sent += bytes([number]) * (number + 1)
    assert await make_store().get(upload.id) == upload
    assert await read(make_store(), upload.id, 0, len(sent)) == sent


async def test_a_refused_append_keeps_nothing(make_store: MakeStore) -> None:
    store = make_store()
    upload = await store.create(new_upload(length=None))
    upload = await store.append(upload, Arriving(b"abc"))
    for staged in (False, True):
        chunks = Arriving(b"x" * MIB, error=ValueError("wrong"))
        with pytest.raises(ValueError, match="wrong"):
            await store.append(upload, chunks, staged=staged)
        assert await make_store().get(upload.id) == upload
    upload = await store.append(upload, Arriving(b"def"))
    assert await read(store, upload.id, 0, 6) == b"abcdef"


async def test_uploads_are_joined(make_store: MakeStore) -> None:
    store = make_store()
    parts, whole = [], b""
    await store.create(new_upload())
    assert store._connection.directory is not None
    # S3 joins parts of this size itself; over sftp every byte is read and written again.
    large = 5 * MIB if store._connection.directory.files.creates_exclusively else 300_000
    for number, size in enumerate((large, 1)):
        content = random.Random(number).randbytes(size)
        part = await store.create(new_upload(length=size, is_partial=True))
        part = await store.append(part, Arriving(content))
        await store.finish(part)
        parts.append(part.id)
        whole += content
    final = await store.create(new_upload(length=len(whole), parts=tuple(parts)))
    joined = await store.concat(final)
    await store.finish(joined)
    assert await make_store().get(final.id) == joined
    assert await read(make_store(), final.id, 0, len(whole)) == whole


async def test_ten_uploads_at_once_do_not_mix(make_store: MakeStore) -> None:
    store = make_store()

    async def one(number: int) -> None:
        upload = await store.create(new_upload(length=None))
        for _ in range(2):
            upload = await store.append(upload, Arriving(bytes([number]) * 300_000))
        assert await read(store, upload.id, 0, 600_000) == bytes([number]) * 600_000

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(one, number)


async def test_where_creation_is_exclusive_a_second_writer_is_refused(
    make_store: MakeStore,
) -> None:
    one, two = make_store(), make_store()
    upload = await one.create(new_upload(length=None))
    if not one._connection.directory or not one._connection.directory.files.creates_exclusively:
        pytest.skip("here a locker is needed")
    await two.get(upload.id)
    assert one._connection.directory and two._connection.directory
    name = exclusive_name(0)
    await run_sync(one._connection.directory.write_piece, upload.id, name, b"first")
    await run_sync(
        one._connection.directory.write_piece, upload.id, name, b"first"
    )  # as a repeated call
    with pytest.raises(WriteConflict):
        await run_sync(two._connection.directory.write_piece, upload.id, name, b"second")
    assert await read(two, upload.id, 0, 6) == b"first"
    with pytest.raises(OffsetConflict):
        await two.append(upload, Arriving(b"second"))


async def test_a_server_that_is_away_is_unavailable_and_found_again(tmp_path: Path) -> None:
    need_sftp()
    with SftpServer(tmp_path / "server") as server:
        store = sftp_store(server, tmp_path / "root")
        upload = await store.create(new_upload(length=None))
        upload = await store.append(upload, Arriving(b"abc"))
        await run_sync(server.kill)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.get(upload.id)
            with pytest.raises(StoreUnavailable):
                await store.append(upload, Arriving(b"def"))
        await run_sync(server.start)
        upload = await store.append(await store.get(upload.id), Arriving(b"def"))
        assert await read(store, upload.id, 0, 6) == b"abcdef"
        await run_sync(close_sftp, store)


async def read(store: FsspecStore, upload_id: str, start: int, stop: int) -> bytes:
    upload = await store.get(upload_id)
    return b"".join([chunk async for chunk in store.read(upload, start, stop)])
