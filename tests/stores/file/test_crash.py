"""The process dies between any two changes to the file system."""

import contextlib
import errno
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.stores.file._os import Crash, FailsOnce, Os, Power, seen_by
from tusasgi import StoreFull, StoreUnavailable, Upload, UploadExists, UploadNotFound, Uploads
from tusasgi.stores.file import Durability, FileStore
from tusasgi.testing import Arriving, new_upload

pytestmark = pytest.mark.anyio

DUE = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
FAR_FUTURE = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation, the upload it finds (None: it makes one), and the records allowed after."""

    run: Callable[[FileStore, Upload], Awaitable[object]]
    changed: dict[str, Any] | None = None
    is_created: bool = True
    is_removed: bool = False
    is_whole: bool = False
    """True if it finds all bytes there."""
    durability: Durability = "complete"


REST = b"d" * 1_500_000 + b"ef" + bytes(499_995)
"""What makes the upload of these tests whole, after its first three bytes."""

STEPS = [
    pytest.param(
        Step(run=lambda store, upload: store.create(upload), is_created=False), id="create"
    ),
    pytest.param(
        Step(
            run=lambda store, upload: store.update(
                replace(upload, expires=DUE + timedelta(days=1))
            ),
            changed={"expires": DUE + timedelta(days=1)},
        ),
        id="postpone",
    ),
    pytest.param(
        Step(
            run=lambda store, upload: store.update(replace(upload, facts={"a": 1})),
            changed={"facts": {"a": 1}},
        ),
        id="update",
    ),
    pytest.param(Step(run=lambda store, upload: store.finish(upload), is_whole=True), id="finish"),
    pytest.param(
        Step(
            run=lambda store, upload: store.update(replace(upload, is_complete=True)),
            changed={"is_complete": True},
        ),
        id="complete",
    ),
    pytest.param(
        Step(
            run=lambda store, upload: store.terminate(upload.id),
            changed={"removal": "terminated"},
            is_removed=True,
        ),
        id="terminate",
    ),
    pytest.param(
        Step(run=lambda store, upload: store.append(upload, Arriving(b"d" * 1_500_000, b"ef"))),
        id="append",
    ),
    pytest.param(
        Step(
            run=lambda store, upload: store.append(upload, Arriving(b"d" * 1_500_000, b"ef")),
            durability="append",
        ),
        id="append-flushed",
    ),
    pytest.param(
        Step(
            run=lambda store, upload: store.append(
                upload, Arriving(b"d" * 1_500_000, b"ef"), staged=True
            )
        ),
        id="append-staged",
    ),
    pytest.param(
        Step(run=lambda store, upload: store.append(upload, Arriving(REST[upload.offset - 3 :]))),
        id="append-to-the-end",
    ),
    pytest.param(
        Step(
            run=lambda store, upload: store.append(
                upload, Arriving(REST[upload.offset - 3 :]), staged=True
            )
        ),
        id="append-staged-to-the-end",
    ),
    pytest.param(
        Step(
            run=lambda store, upload: store.update(replace(upload, removal="terminated")),
            changed={"removal": "terminated"},
        ),
        id="remove",
    ),
]

MAX_CHANGES = 60
MAX_CALLS = 200


async def crash_at(change: int, store: FileStore, step: Step, upload: Upload) -> bool:
    """Run the step and let the process die; return False if it was done before that."""
    power = Power(change)
    with contextlib.suppress(Crash, BaseExceptionGroup), seen_by(Os(power.before)):
        await step.run(store, upload)
    return power.is_off


async def crashed(step: Step, folder: Path, change: int, **fields: Any) -> tuple[Upload, bool]:
    store = FileStore(folder, durability=step.durability)
    upload = await prepared(store, step, **fields)
    return upload, await crash_at(change, store, step, upload)


async def prepared(store: FileStore, step: Step, **fields: Any) -> Upload:
    """Return the upload that a step finds."""
    upload = new_upload(length=2_000_000, **fields)
    if step.is_created:
        await store.create(upload)
        upload = await store.append(upload, Arriving(b"abc"))
    if step.is_whole:
        upload = await store.append(upload, Arriving(REST))
    return upload


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("step", STEPS)
async def test_after_a_crash_the_upload_is_as_before_or_as_after(
    step: Step, fast_place: Path
) -> None:
    for change in range(MAX_CHANGES):
        folder = fast_place / str(change)
        upload, was_cut = await crashed(step, folder, change, expires=DUE)
        store = FileStore(folder)
        try:
            kept = await store.get(upload.id)
        except UploadNotFound:
            assert step.is_removed or not step.is_created
        else:
            allowed = [upload, replace(upload, **(step.changed or {}))]
            assert replace(kept, offset=upload.offset) in allowed
            assert kept.offset == 0 if not step.is_created else kept.offset >= 3 or step.is_removed
            sent = b"abc" + REST
            if kept.offset:
                read = [chunk async for chunk in store.read(kept, 0, kept.offset)]
                assert b"".join(read) == sent[: kept.offset]
        if not was_cut:
            assert change > 0
            return
    pytest.fail("the operation changes the disk without end")


@pytest.mark.parametrize("step", STEPS)
async def test_after_a_crash_the_step_can_be_taken_again(step: Step, fast_place: Path) -> None:
    for change in range(MAX_CHANGES):
        folder = fast_place / str(change)
        upload, was_cut = await crashed(step, folder, change, expires=DUE)
        store = FileStore(folder)
        with contextlib.suppress(UploadNotFound):
            upload = replace(upload, offset=(await store.get(upload.id)).offset)
        with contextlib.suppress(UploadExists):
            await step.run(store, upload)
        if step.is_removed:
            with pytest.raises(UploadNotFound):
                await store.get(upload.id)
        else:
            kept = await store.get(upload.id)
            assert replace(kept, offset=0) == replace(upload, offset=0, **(step.changed or {}))
        if not was_cut:
            return


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"expires": DUE}, id="expires"),
        pytest.param({"expires": None}, id="does-not-expire"),
    ],
)
@pytest.mark.parametrize("step", STEPS)
async def test_what_a_crash_leaves_is_removed_by_termination_and_sweep(
    step: Step, fields: dict[str, Any], fast_place: Path
) -> None:
    for change in range(MAX_CHANGES):
        folder = fast_place / str(change)
        upload, was_cut = await crashed(step, folder, change, **fields)
        uploads = Uploads(FileStore(folder), clock=lambda: FAR_FUTURE)
        with contextlib.suppress(UploadNotFound):
            await uploads.terminate(upload.id)
        for _ in range(2):  # a mark may be moved by one sweep and served by the next
            await uploads.sweep()
        assert files_in(folder) == []
        if not was_cut:
            return


@pytest.mark.parametrize("step", STEPS)
async def test_what_a_crash_leaves_of_an_expired_upload_is_removed_by_the_sweep_alone(
    step: Step, fast_place: Path
) -> None:
    for change in range(MAX_CHANGES):
        folder = fast_place / str(change)
        upload, was_cut = await crashed(step, folder, change, expires=DUE)
        store = FileStore(folder)
        uploads = Uploads(store, clock=lambda: FAR_FUTURE)
        for _ in range(2):
            await uploads.sweep()
        try:
            assert (await store.get(upload.id)).is_complete
        except UploadNotFound:
            assert files_in(folder) == []
        if not was_cut:
            return


async def test_after_a_termination_that_crashed_another_upload_with_the_id_begins_empty(
    fast_place: Path,
) -> None:
    step = Step(run=lambda store, upload: store.terminate(upload.id), is_removed=True)
    for change in range(MAX_CHANGES):
        folder = fast_place / str(change)
        upload, was_cut = await crashed(step, folder, change, expires=DUE)
        store = FileStore(folder)
        again = replace(upload, offset=0)
        try:
            await store.create(again)
        except UploadExists:
            kept = await store.get(upload.id)
            assert kept.offset == 3 or kept.removal is not None
        else:
            assert await store.get(upload.id) == again
        if not was_cut:
            return


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(errno.EIO, "Input/output error"), id="broken"),
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), id="full"),
    ],
)
@pytest.mark.parametrize("step", STEPS)
async def test_whichever_call_fails_the_upload_is_as_before_or_as_after_and_goes_on(
    step: Step, error: OSError, fast_place: Path
) -> None:
    for call in range(MAX_CALLS):
        folder = fast_place / str(call)
        store = FileStore(folder, durability=step.durability)
        upload = await prepared(store, step, expires=DUE)
        failing = FailsOnce(call, error)
        try:
            with seen_by(Os(failing.before)):
                await step.run(store, upload)
        except StoreFull:
            assert error.errno == errno.ENOSPC
        except StoreUnavailable:
            assert error.errno == errno.EIO
        # What the disk has lost of the bytes is sent again.
        least = 0 if failing.failed == "fsync" and step.is_whole else 3
        await _check_and_go_on(FileStore(folder), step, upload, least)
        if failing.failed is None:
            return
    pytest.fail("the operation calls the system without end")


async def _check_and_go_on(store: FileStore, step: Step, upload: Upload, least: int) -> None:
    try:
        kept = await store.get(upload.id)
    except UploadNotFound:
        assert step.is_removed or not step.is_created
    else:
        allowed = [upload, replace(upload, **(step.changed or {}))]
        assert replace(kept, offset=upload.offset) in allowed
        assert kept.offset >= least or not step.is_created or step.is_removed
        if kept.offset:
            read = [chunk async for chunk in store.read(kept, 0, kept.offset)]
            assert b"".join(read) == (b"abc" + REST)[: kept.offset]
        upload = kept
        if step.is_whole and not kept.has_all_bytes:
            upload = await store.append(kept, Arriving((b"abc" + REST)[kept.offset :]))
    with contextlib.suppress(UploadExists):
        await step.run(store, upload)
    if not step.is_removed:
        kept = await store.get(upload.id)
        assert replace(kept, offset=0) == replace(upload, offset=0, **(step.changed or {}))


_APPENDER = """
import sys, anyio
from tusasgi.stores.file import FileStore

def pattern(start, size):
    return bytes((start + index) * 31 % 251 for index in range(size))

async def endless(start):
    while True:
        yield pattern(start, 65_536)
        start += 65_536
        print("sent", start, flush=True)

async def once(chunk):
    yield chunk

async def main(folder, upload_id):
    store = FileStore(folder)
    upload = await store.get(upload_id)
    for size in (1, 70_000, 300):
        upload = await store.append(upload, once(pattern(upload.offset, size)))
        print("acknowledged", upload.offset, flush=True)
    await store.append(upload, endless(upload.offset))

anyio.run(main, *sys.argv[1:])
"""


async def test_a_process_killed_while_it_appends_loses_nothing_it_acknowledged(
    tmp_path: Path,
) -> None:
    store = FileStore(tmp_path)
    upload = new_upload(length=None)
    await store.create(upload)
    for sent_at_least in (1, 2_000_000):
        acknowledged, sent = await _append_and_kill(tmp_path, upload.id, sent_at_least)
        kept = await store.get(upload.id)
        assert acknowledged <= kept.offset <= sent + 65_536
        content = b"".join([chunk async for chunk in store.read(kept, 0, kept.offset)])
        assert content == bytes(index * 31 % 251 for index in range(kept.offset))


async def _append_and_kill(folder: Path, upload_id: str, sent_at_least: int) -> tuple[int, int]:
    """Return what the process had acknowledged, and what it had sent, before its death."""
    command = [sys.executable, "-c", _APPENDER, str(folder), upload_id]
    reported = {"acknowledged": 0, "sent": 0}
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdout is not None
        output = BufferedByteReceiveStream(process.stdout)
        with anyio.fail_after(30), contextlib.suppress(anyio.IncompleteRead):
            while True:
                what, offset = (await output.receive_until(b"\n", 100)).split()
                reported[what.decode()] = int(offset)
                if reported["sent"] >= reported["acknowledged"] + sent_at_least:
                    with contextlib.suppress(ProcessLookupError):
                        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
    return reported["acknowledged"], reported["sent"]
