"""Uploads whose end is told by a request, and not found by counting: those of the IETF draft."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests._stage import Clock, Recorder
from tusasgi import (
    Append,
    Body,
    Checksum,
    ChecksumMismatch,
    Creation,
    Expiry,
    FinalResponse,
    InvalidRequest,
    LengthConflict,
    Limits,
    Overrun,
    TooLarge,
    TooSmall,
    Upload,
    UploadNotFound,
    UploadPending,
    Uploads,
)
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import DISCONNECT, STALL, Client

pytestmark = pytest.mark.anyio

CONTENT = b"hello world"


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStore | FileStore:
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "store")


@pytest.fixture
def hooks() -> Recorder:
    return Recorder()


@pytest.fixture
def uploads(store: MemoryStore | FileStore, hooks: Recorder) -> Uploads:
    return Uploads(store, hooks=hooks)


async def opened(uploads: Uploads, length: int | None = None, **more: Any) -> Upload:
    return await uploads.create_from(Creation(length=length, is_open=True, **more))


def body(*script: Any) -> Body:
    return Body(Client(list(script) or b"").receive)


async def append(
    uploads: Uploads, upload: Upload, content: bytes, *, is_last: bool | None, **more: Any
) -> Upload:
    """Append with a size that is known beforehand."""
    wish = Append(offset=upload.offset, size=len(content), is_last=is_last, **more)
    if is_last and "length" not in more:
        wish = replace(wish, length=upload.offset + len(content))
    return await uploads.append(upload.id, wish, body(content) if content else body())


async def test_an_upload_that_reached_its_length_is_complete_when_an_append_says_so(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await opened(uploads, 5)
    upload = await append(uploads, upload, b"hello", is_last=False)
    assert (upload.offset, upload.is_complete) == (5, False)
    assert await uploads.get(upload.id) == upload
    assert hooks.events == []
    upload = await append(uploads, upload, b"", is_last=True)
    assert upload.is_complete
    assert hooks.events == ["completed"]


async def test_an_empty_upload_is_complete_when_an_append_says_so(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await opened(uploads, 0)
    assert not upload.is_complete
    upload = await append(uploads, upload, b"", is_last=True)
    assert (upload.is_complete, upload.length, hooks.events) == (True, 0, ["completed"])


async def test_a_last_append_of_known_size_records_the_length_before_its_end(
    uploads: Uploads,
) -> None:
    upload = await opened(uploads)
    wish = Append(offset=0, length=11, size=11, is_last=True)
    upload = await uploads.append(upload.id, wish, body(b"hello", DISCONNECT))
    assert (upload.offset, upload.length, upload.is_complete) == (5, 11, False)
    assert await uploads.get(upload.id) == upload
    upload = await append(uploads, upload, b" world", is_last=True)
    assert upload.is_complete


async def test_nothing_is_recorded_of_a_last_append_that_broke_before_its_first_byte(
    uploads: Uploads,
) -> None:
    upload = await opened(uploads)
    wish = Append(offset=0, length=11, size=11, is_last=True)
    await uploads.append(upload.id, wish, body(DISCONNECT))
    assert await uploads.get(upload.id) == upload


async def test_a_last_append_of_unknown_size_ends_the_upload_where_it_ends(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await opened(uploads)
    wish = Append(offset=0, is_last=True)
    upload = await uploads.append(upload.id, wish, body(b"hello", b" world"))
    assert (upload.length, upload.is_complete) == (11, True)
    assert hooks.events == ["completed"]


@pytest.mark.parametrize("script", [[b"hello", DISCONNECT], [DISCONNECT]], ids=["cut", "at-once"])
async def test_a_last_append_of_unknown_size_that_is_cut_ends_nothing(
    uploads: Uploads, script: list[Any]
) -> None:
    upload = await opened(uploads)
    upload = await uploads.append(upload.id, Append(offset=0, is_last=True), body(*script))
    assert (upload.length, upload.is_complete) == (None, False)
    assert await uploads.get(upload.id) == upload
    upload = await append(uploads, upload, CONTENT, is_last=True)
    assert (upload.length, upload.is_complete) == (upload.offset, True)


@pytest.mark.parametrize("size", [5, None], ids=["known", "chunked"])
async def test_a_last_append_that_ends_before_the_length_keeps_nothing(
    uploads: Uploads, size: int | None
) -> None:
    upload = await opened(uploads, 11)
    with pytest.raises(LengthConflict, match="cannot end at 5: its length is 11"):
        await uploads.append(upload.id, Append(offset=0, size=size, is_last=True), body(b"hello"))
    assert await uploads.get(upload.id) == upload
    upload = await append(uploads, upload, CONTENT, is_last=True)
    assert upload.is_complete


async def test_a_length_that_is_known_does_not_change(uploads: Uploads) -> None:
    upload = await opened(uploads, 11)
    with pytest.raises(LengthConflict, match="is 11 and cannot become 12"):
        await append(uploads, upload, b"hello", is_last=False, length=12)
    assert await uploads.get(upload.id) == upload


async def test_a_late_length_may_come_without_bytes(uploads: Uploads) -> None:
    upload = await opened(uploads)
    upload = await append(uploads, upload, b"", is_last=False, length=5)
    assert (upload.length, upload.is_open) == (5, True)
    assert await uploads.get(upload.id) == upload


@pytest.mark.parametrize("size", [6, None], ids=["known", "chunked"])
async def test_an_append_past_the_length_may_end_the_upload_for_good(
    uploads: Uploads, hooks: Recorder, size: int | None
) -> None:
    upload = await opened(uploads, 5)
    wish = Append(offset=0, size=size, is_last=False, overrun_terminates=True)
    with pytest.raises(Overrun):
        await uploads.append(upload.id, wish, body(b"hello!"))
    with pytest.raises(UploadNotFound):
        await uploads.get(upload.id)
    assert hooks.events == ["terminated"]


@pytest.mark.parametrize("size", [6, None], ids=["known", "chunked"])
async def test_an_append_past_the_length_leaves_any_other_upload_as_it_is(
    uploads: Uploads, size: int | None
) -> None:
    upload = await opened(uploads, 5)
    with pytest.raises(Overrun):
        await uploads.append(upload.id, Append(offset=0, size=size, is_last=False), body(b"hello!"))
    assert await uploads.get(upload.id) == upload


@pytest.mark.parametrize("size", [1, None], ids=["known", "chunked"])
async def test_a_complete_upload_survives_whatever_is_appended(
    uploads: Uploads, size: int | None
) -> None:
    upload = await append(uploads, await opened(uploads), b"hello", is_last=True)
    wish = Append(offset=5, size=size, is_last=False, overrun_terminates=True)
    with pytest.raises(Overrun):
        await uploads.append(upload.id, wish, body(b"!"))
    assert await uploads.get(upload.id) == upload


@pytest.mark.parametrize("is_last", [True, False, None])
async def test_an_empty_append_to_a_complete_upload_changes_nothing(
    uploads: Uploads, hooks: Recorder, is_last: bool | None
) -> None:
    upload = await append(uploads, await opened(uploads), b"hello", is_last=True)
    assert await append(uploads, upload, b"", is_last=is_last) == upload
    assert await uploads.get(upload.id) == upload
    assert hooks.events == ["completed"]


async def test_more_than_the_maximum_is_too_large_and_ends_no_upload(
    store: MemoryStore | FileStore,
) -> None:
    uploads = Uploads(store, limits=Limits(max_size=4))
    upload = await opened(uploads)
    with pytest.raises(TooLarge) as refusal:
        await append(uploads, upload, b"hello", is_last=False, overrun_terminates=True)
    assert not isinstance(refusal.value, Overrun)
    assert await uploads.get(upload.id) == upload


@pytest.mark.parametrize("size", [3, None], ids=["known", "chunked"])
async def test_a_last_append_ends_no_upload_under_the_minimum(
    store: MemoryStore | FileStore, hooks: Recorder, size: int | None
) -> None:
    uploads = Uploads(store, hooks=hooks, limits=Limits(min_size=4))
    upload = await opened(uploads)
    with pytest.raises(TooSmall, match="3 bytes are less than the minimum of 4"):
        await uploads.append(upload.id, Append(offset=0, size=size, is_last=True), body(b"abc"))
    assert await uploads.get(upload.id) == upload
    assert hooks.events == []
    assert (await append(uploads, upload, b"abcd", is_last=True)).is_complete


async def test_one_append_may_bring_so_many_bytes_at_most(store: MemoryStore | FileStore) -> None:
    uploads = Uploads(store, limits=Limits(max_append=4))
    upload = await opened(uploads)
    for size in (5, None):
        with pytest.raises(TooLarge, match="at most 4 bytes"):
            await uploads.append(
                upload.id, Append(offset=0, size=size, is_last=False), body(b"hello")
            )
    assert await uploads.get(upload.id) == upload
    upload = await append(uploads, upload, b"hell", is_last=False)
    assert (await append(uploads, upload, b"o", is_last=True)).is_complete


async def test_a_last_byte_that_was_not_recorded_as_such_is_told_again(
    store: MemoryStore | FileStore, hooks: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(store, hooks=hooks)
    upload = await opened(uploads)

    async def dies(_: Upload) -> Upload:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(store, "update", dies)
        with pytest.raises(RuntimeError):
            await uploads.append(upload.id, Append(offset=0, is_last=True), body(CONTENT))
    upload = await uploads.get(upload.id)
    assert (upload.offset, upload.is_complete, hooks.events) == (11, False, [])
    assert (await append(uploads, upload, b"", is_last=True)).is_complete


# Both protocols on one upload: the newest append says what ends it.


async def test_an_append_that_leaves_it_to_the_length_ends_an_open_upload_there(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await opened(uploads, 11)
    upload = await append(uploads, upload, b"hello", is_last=False)
    upload = await append(uploads, upload, b" world", is_last=None)
    assert (upload.is_complete, hooks.events) == (True, ["completed"])


async def test_an_append_that_says_more_will_come_keeps_any_upload_open(uploads: Uploads) -> None:
    upload = await uploads.create(length=5)
    upload = await append(uploads, upload, b"hello", is_last=False)
    assert not upload.is_complete
    assert not (await uploads.get(upload.id)).is_complete


async def test_an_empty_append_that_leaves_it_to_the_length_ends_a_full_upload(
    uploads: Uploads,
) -> None:
    upload = await opened(uploads, 5)
    upload = await append(uploads, upload, b"hello", is_last=False)
    assert (await append(uploads, upload, b"", is_last=None)).is_complete


# An offset that holds.


async def test_whoever_appends_is_stopped_with_its_bytes_kept(uploads: Uploads) -> None:
    upload = await opened(uploads, 11)
    client = Client([b"hello", STALL])
    stopped: list[Upload] = []

    async def stop() -> None:
        await client.starved()
        stopped.append(await uploads.stop(upload.id))

    source = Body(client.receive)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)
            wish = Append(offset=0, size=11, is_last=True, length=11)
            left = await uploads.append(upload.id, wish, source)
    assert left.offset == 5
    assert [found.offset for found in stopped] == [5]
    client.feed(b" world")
    assert (await uploads.get(upload.id)).offset == 5


async def test_what_nobody_appends_to_is_found_as_it_is(uploads: Uploads) -> None:
    upload = await opened(uploads, 11)
    assert await uploads.stop(upload.id) == upload
    with pytest.raises(UploadNotFound):
        await uploads.stop("unknown")


# What all bytes must hash to.


def sha(content: bytes, algorithm: str = "sha256") -> Checksum:
    return Checksum(algorithm=algorithm, digest=hashlib.new(algorithm, content).digest())


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_an_upload_with_the_checksum_that_was_said_is_completed(
    uploads: Uploads, algorithm: str
) -> None:
    upload = await opened(uploads, checksum=sha(CONTENT, algorithm))
    upload = await append(uploads, upload, CONTENT, is_last=True)
    assert upload.is_complete


async def test_an_upload_with_another_checksum_is_removed_and_never_handed_on(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await opened(uploads, checksum=sha(b"something else"))
    with pytest.raises(ChecksumMismatch, match="another sha256"):
        await append(uploads, upload, CONTENT, is_last=True)
    assert hooks.events == ["terminated"]
    with pytest.raises(UploadNotFound):
        await uploads.get(upload.id)


async def test_a_sweep_that_finds_another_checksum_removes_the_upload(
    store: MemoryStore | FileStore, hooks: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = store._clock = Clock()
    uploads = Uploads(store, hooks=hooks, clock=clock, expiry=Expiry(initial=timedelta(hours=1)))
    upload = await opened(uploads, checksum=sha(b"something else"))

    async def dies(_: Upload) -> Upload:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(store, "finish", dies)
        with pytest.raises(UploadPending):
            await append(uploads, upload, CONTENT, is_last=True)
    assert await uploads.sweep() == 1
    assert hooks.events == ["terminated"]


# What the host says at the end.


class Saying(Recorder):
    """Ends each upload with a word of its own."""

    said: Any = FinalResponse(status=200, headers={"X-Asset": "7"}, body=b"seven")

    async def completed(self, upload: Upload) -> Any:
        await super().completed(upload)
        return self.said


async def test_what_the_completed_hook_returns_is_kept_with_the_upload(
    store: MemoryStore | FileStore,
) -> None:
    uploads = Uploads(store, hooks=Saying())
    upload = await append(uploads, await opened(uploads), CONTENT, is_last=True)
    assert upload.final_response == Saying.said
    assert (await store.get(upload.id)).final_response == Saying.said


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"headers": {"X-A": "a\r\nX-B: b"}}, id="a-value-with-an-end-of-line"),
        pytest.param({"headers": {"X A": "a"}}, id="a-name-with-a-blank"),
        pytest.param({"headers": {"X-A": "\u0142"}}, id="a-value-beyond-latin-1"),
        pytest.param({"headers": {"content-Length": "1"}}, id="a-length-of-another-body"),
        pytest.param({"status": 104}, id="an-interim-status"),
        pytest.param({"body": bytes(16 * 1024 + 1)}, id="a-body-too-long-for-a-record"),
    ],
)
def test_a_final_response_that_could_not_be_kept_or_sent_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match=r"final response|can be sent|follows from the body"):
        FinalResponse(**said)


async def test_a_length_conflict_is_an_invalid_request() -> None:
    assert issubclass(LengthConflict, InvalidRequest)
    assert issubclass(Overrun, TooLarge)
