"""What any store depends on, tried with real uploads: each trial makes its own, and removes them.

`one` and `other` are two stores of the same place, as two servers have them, without a locker.
"""

import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import anyio

from tusasgi import OffsetConflict, TusError, Upload, UploadExists, UploadNotFound
from tusasgi.models import utc_now
from tusasgi.server.failures import describe
from tusasgi.stores import StoreError

_MIB = 1024 * 1024
_PART = 8 * _MIB  # of S3, whose parts are the largest
_RACERS = 8
_ROUNDS = 3
_REFUSALS = (OffsetConflict, UploadExists, UploadNotFound, StoreError)


class Unmet(Exception):
    """What was found instead of what a store depends on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Something to find out. `run` raises `Unmet`, or whatever the place raises, if it fails."""

    name: str
    run: Callable[[], Awaitable[None]]
    instead: str | None = None
    """What to do where it does not hold; None where nothing helps, and the place is of no use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    name: str
    holds: bool
    is_needed: bool
    detail: str = ""


async def find_out(trial: Trial) -> Finding:
    """Run a trial; nothing that goes wrong in it keeps others from being run."""
    is_needed = trial.instead is None
    try:
        await trial.run()
    except Unmet as unmet:
        detail = str(unmet)
    except Exception as error:  # of a long list: it is what was to be found out
        detail = describe(error)
    else:
        return Finding(name=trial.name, holds=True, is_needed=is_needed)
    if trial.instead is not None:
        detail = f"{detail}: {trial.instead}"
    return Finding(name=trial.name, holds=False, is_needed=is_needed, detail=detail)


def trials_of(one: Any, other: Any, *, needs_locker: str | None) -> list[Trial]:
    """Return what every store depends on; `needs_locker` says what helps where nothing fences."""
    made = partial(_with_uploads, one, other)
    return [
        Trial(name="what was written is read back", run=made(_reads_back)),
        Trial(name="a listing has what was just written", run=made(_lists)),
        Trial(
            name="of many creations at once one succeeds",
            run=made(_creates_once),
            instead=needs_locker,
        ),
        Trial(
            name="of many writers at once one succeeds",
            run=made(_writes_once),
            instead=needs_locker,
        ),
        Trial(name="an append at an old offset is refused", run=made(_refuses_late)),
        Trial(name="a refused append leaves nothing", run=made(_takes_back)),
        Trial(name="a large upload in parts becomes whole", run=made(_makes_whole)),
        Trial(name="uploads are joined", run=made(_joins)),
        Trial(name="what was removed is gone", run=made(_removes)),
    ]


class _Uploads:
    """Makes uploads for a trial. They expire, so a sweep removes what a killed check leaves."""

    def __init__(self, one: Any, other: Any) -> None:
        self.one = one
        self.other = other
        self._ids: list[str] = []

    def new(self, length: int, **fields: Any) -> Upload:
        upload_id = f"check-{uuid.uuid4().hex}-b0"
        self._ids.append(upload_id)
        now = utc_now()
        expires = now + timedelta(hours=1)
        return Upload(id=upload_id, length=length, created=now, expires=expires, **fields)

    async def created(self, length: int, **fields: Any) -> Upload:
        upload: Upload = await self.one.create(self.new(length, **fields))
        return upload

    async def remove(self) -> None:
        for upload_id in self._ids:
            await self.one.terminate(upload_id)


def _with_uploads(
    one: Any, other: Any, trial: Callable[[_Uploads], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        uploads = _Uploads(one, other)
        try:
            await trial(uploads)
        finally:
            with anyio.CancelScope(shield=True), suppress(UploadNotFound):
                await uploads.remove()

    return run


async def _reads_back(uploads: _Uploads) -> None:
    data = os.urandom(300_000)
    upload = await uploads.created(len(data) + 1)
    await uploads.one.append(upload, _chunks(data))
    found = await uploads.other.get(upload.id)
    expect(
        found.offset == len(data), f"{len(data)} bytes were written, and {found.offset} are seen"
    )
    complete = await _completed(uploads.other, found, b"x")
    await _expect_content(uploads.one, complete, data + b"x")


async def _lists(uploads: _Uploads) -> None:
    upload = await uploads.created(1)
    before = f"{upload.id[:-2]}a0"  # which comes just before it in the order of any store
    async with aclosing(uploads.other.ids(after=before)) as ids:
        async for upload_id in ids:
            expect(upload_id == upload.id, "it is not in the listing")
            return
    raise Unmet("the listing ends before it")


async def _creates_once(uploads: _Uploads) -> None:
    for _ in range(_ROUNDS):
        upload = uploads.new(1)
        wishes = [replace(upload, owner=str(number)) for number in range(_RACERS)]
        stores = [uploads.one, uploads.other] * _RACERS
        creations = [
            partial(store.create, wish) for store, wish in zip(stores, wishes, strict=False)
        ]
        won = await _succeeded(creations)
        expect(len(won) == 1, f"{len(won)} of {_RACERS} succeeded")
        found = await uploads.other.get(upload.id)
        expect(
            found.owner == wishes[won[0]].owner, "another one than the one that succeeded is kept"
        )


async def _writes_once(uploads: _Uploads) -> None:
    for _ in range(_ROUNDS):
        upload = await uploads.created(2_000)
        bodies = [bytes([number]) * 1_000 for number in range(_RACERS)]
        stores = [uploads.one, uploads.other] * _RACERS
        appends = [
            partial(store.append, upload, _chunks(body))
            for store, body in zip(stores, bodies, strict=False)
        ]
        won = await _succeeded(appends)
        expect(len(won) == 1, f"{len(won)} of {_RACERS} succeeded")
        found = await uploads.one.get(upload.id)
        expect(found.offset == 1_000, f"1,000 bytes were kept, and {found.offset} are seen")
        complete = await _completed(uploads.one, found, bytes(1_000))
        await _expect_content(uploads.other, complete, bodies[won[0]] + bytes(1_000))


async def _refuses_late(uploads: _Uploads) -> None:
    upload = await uploads.created(10)
    await uploads.one.append(upload, _chunks(b"12345"))
    with suppress(*_REFUSALS):
        await uploads.other.append(upload, _chunks(b"abcde"))
        raise Unmet("it succeeded")
    expect((await uploads.other.get(upload.id)).offset == 5, "it has changed the offset")


async def _takes_back(uploads: _Uploads) -> None:
    upload = await uploads.created(_PART + 10)
    upload = await uploads.one.append(upload, _chunks(b"12345"))

    async def broken() -> AsyncIterator[bytes]:
        async for chunk in _chunks(bytes(300_000)):
            yield chunk
        raise Unmet("refused")

    with suppress(Unmet):
        await uploads.one.append(upload, broken(), staged=True)
    found = await uploads.other.get(upload.id)
    expect(found.offset == 5, f"5 bytes were kept, and {found.offset} are seen")


async def _makes_whole(uploads: _Uploads) -> None:
    data = os.urandom(_PART + _MIB)
    upload = await uploads.created(len(data))
    upload = await uploads.one.append(upload, _chunks(data[:_MIB]))
    upload = await uploads.other.get(upload.id)
    complete = await _completed(uploads.other, upload, data[_MIB:])
    await _expect_content(uploads.one, complete, data)


async def _joins(uploads: _Uploads) -> None:
    pieces = [os.urandom(_PART), os.urandom(1_000)]
    parts = []
    for piece in pieces:
        part = await uploads.created(len(piece), is_partial=True)
        parts.append((await _completed(uploads.one, part, piece)).id)
    whole = b"".join(pieces)
    final = await uploads.one.create(uploads.new(len(whole), parts=tuple(parts)))
    final = await uploads.one.finish(await uploads.one.concat(final))
    complete = await uploads.one.update(replace(final, is_complete=True))
    await _expect_content(uploads.other, complete, whole)


async def _removes(uploads: _Uploads) -> None:
    upload = await _completed(uploads.one, await uploads.created(5), b"12345")
    await uploads.one.terminate(upload.id)
    with suppress(UploadNotFound):
        await uploads.other.get(upload.id)
        raise Unmet("it is still there")


# Their steps.


def expect(held: bool, otherwise: str) -> None:
    if not held:
        raise Unmet(otherwise)


async def _completed(store: Any, upload: Upload, rest: bytes) -> Upload:
    upload = await store.append(upload, _chunks(rest))
    upload = await store.finish(upload)
    complete: Upload = await store.update(replace(upload, is_complete=True))
    return complete


async def _expect_content(store: Any, upload: Upload, expected: bytes) -> None:
    digest = hashlib.sha256()
    async for chunk in store.read(await store.get(upload.id), 0, len(expected)):
        digest.update(chunk)
    expect(digest.digest() == hashlib.sha256(expected).digest(), "other bytes are read")


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65_536):
        yield data[start : start + 65_536]


async def _succeeded(calls: Sequence[Callable[[], Awaitable[object]]]) -> list[int]:
    """Make all calls at once; return which of them were not refused."""
    won: list[int] = []

    async def run(number: int) -> None:
        with suppress(*_REFUSALS, TusError):
            await calls[number]()
            won.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(len(calls)):
            tasks.start_soon(run, number)
    return won
