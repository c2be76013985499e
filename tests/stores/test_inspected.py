"""The first bytes of an upload, judged for longer than it would live: over every kind of store."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from tests.stores.s3._scenes import new_place
from tusasgi import (
    Append,
    Body,
    Expiry,
    Fact,
    Hooks,
    UnsupportedMedia,
    Upload,
    UploadExpired,
    UploadNotFound,
    Uploads,
)
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import Client

pytestmark = pytest.mark.anyio


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Scanner(Hooks):
    """Takes its time to judge, and refuses what begins with `no`."""

    head_size = 4

    def __init__(self) -> None:
        self.is_asked, self.may_end = anyio.Event(), anyio.Event()

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        self.is_asked.set()
        await self.may_end.wait()
        if head.startswith(b"no"):
            raise UnsupportedMedia("not this")
        return {"kind": "scanned"}


@pytest.fixture(params=["memory", "file", "s3"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    if request.param != "s3":
        yield MemoryStore() if request.param == "memory" else await run_sync(FileStore, tmp_path)
        return
    store = new_place(request.getfixturevalue("moto")).store()
    yield store
    await store.aclose()


async def _until_it_lives(uploads: Uploads, upload: Upload, clock: Clock) -> None:
    """Let its time pass, and wait until its date has moved."""
    clock.now += timedelta(seconds=0.9)
    with anyio.fail_after(10):
        while (await uploads.store.get(upload.id)).expires == upload.expires:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    clock.now += timedelta(seconds=0.9)
    assert (await uploads.get(upload.id)).offset == 0


@pytest.mark.parametrize("head", [b"yes!", b"no!!"], ids=["taken", "refused"])
async def test_an_upload_whose_first_bytes_are_judged_does_not_expire(
    head: bytes, kept: Any, clock: Clock
) -> None:
    scanner, window = Scanner(), timedelta(seconds=1)
    uploads = Uploads(
        kept, hooks=scanner, clock=clock, expiry=Expiry(initial=window, after_append=window)
    )
    upload = await uploads.create(length=6)
    client = Client()
    source = Body(client.receive, timeout=None)
    async with anyio.create_task_group() as tasks:

        async def append() -> None:
            with contextlib.nullcontext() if head == b"yes!" else pytest.raises(UnsupportedMedia):
                await uploads.append(upload.id, Append(offset=0), source)

        tasks.start_soon(append)
        client.feed(head[:2])
        await _until_it_lives(uploads, upload, clock)
        client.feed(head[2:])
        await scanner.is_asked.wait()
        await _until_it_lives(uploads, await kept.get(upload.id), clock)
        scanner.may_end.set()
        client.end(b"??")
    if head == b"yes!":
        done = await uploads.get(upload.id)
        assert (done.is_complete, done.facts) == (True, {"kind": "scanned"})
    else:
        with pytest.raises(UploadNotFound):
            await kept.get(upload.id)


async def test_an_upload_expires_while_nothing_of_its_first_bytes_comes(
    kept: Any, clock: Clock
) -> None:
    uploads = Uploads(
        kept,
        hooks=Scanner(),
        clock=clock,
        expiry=Expiry(initial=timedelta(seconds=1)),
    )
    upload = await uploads.create(length=6)
    client = Client()
    async with anyio.create_task_group() as tasks:
        append = Append(offset=0)
        tasks.start_soon(uploads.append, upload.id, append, Body(client.receive, timeout=None))
        await client.starved()
        clock.now += timedelta(seconds=2)
        await anyio.sleep(0.6)  # longer than it takes to look at the date
        with pytest.raises(UploadExpired):
            await uploads.get(upload.id)
        client.disconnect()
