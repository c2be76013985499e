"""The process dies between any two calls to the filesystem, or any one of them fails."""

import contextlib
import copy
import errno
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tests.stores.fsspec._filesystems import (
    Watched,
    copy_below,
    names_below,
    over_files,
    over_memory,
)
from tusasgi import (
    StoreFull,
    StoreUnavailable,
    Upload,
    UploadExists,
    UploadNotFound,
    Uploads,
)
from tusasgi.stores.fsspec import FsspecStore
from tusasgi.stores.fsspec.directory import Directory
from tusasgi.stores.fsspec.filesystem import Filesystem
from tusasgi.testing import Arriving, new_upload

pytestmark = pytest.mark.anyio

DUE = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
FAR_FUTURE = datetime(2100, 1, 1, tzinfo=UTC)

LENGTH = 200_000
SENT = random.Random(0).randbytes(LENGTH)
"""All bytes of the upload of these tests; with the smallest piece size they are four pieces."""

BROKEN = OSError(errno.EIO, "Input/output error")
FULL = OSError(errno.ENOSPC, "No space left on device")
AWAY = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

CHANGES = frozenset({"open", "write", "close", "pipe_file", "rm_file", "rmdir", "makedirs", "mv"})
MOST_CALLS = 500
ENDLESS = "the operation calls the filesystem without end"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation, the upload it finds (None: it makes one), and the records allowed after."""

    run: Callable[[FsspecStore, Upload], Awaitable[object]]
    before: list[int] = field(default_factory=lambda: [3])
    """Sizes of the appends that came before."""
    changed: dict[str, Any] | None = None
    is_created: bool = True
    is_removed: bool = False


def rest(upload: Upload, size: int = LENGTH) -> Iterable[bytes]:
    """Return the bytes that follow, as chunks."""
    more = SENT[upload.offset : upload.offset + size]
    return [more[at : at + 30_000] for at in range(0, len(more), 30_000)]


def append(size: int, staged: bool = False, **fields: Any) -> Callable[..., Awaitable[object]]:
    return lambda store, upload: store.append(
        replace(upload, **fields), Arriving(*rest(upload, size)), staged=staged
    )


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
    pytest.param(
        Step(run=lambda store, upload: store.finish(upload), before=[3, LENGTH]), id="finish"
    ),
    pytest.param(Step(run=lambda store, upload: store.finish(upload)), id="finish-too-early"),
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
            before=[3, 150_000],
            is_removed=True,
        ),
        id="terminate",
    ),
    pytest.param(Step(run=append(150_000)), id="append"),
    pytest.param(Step(run=append(150_000, staged=True)), id="append-staged"),
    pytest.param(Step(run=append(10, staged=True)), id="append-staged-in-one-piece"),
    pytest.param(Step(run=append(LENGTH)), id="append-to-the-end"),
    pytest.param(Step(run=append(LENGTH, staged=True)), id="append-staged-to-the-end"),
    pytest.param(Step(run=append(10), before=[30] * 65), id="append-that-merges"),
    pytest.param(
        Step(run=append(150_000, facts={"a": 1}), changed={"facts": {"a": 1}}),
        id="append-with-facts",
    ),
    pytest.param(
        Step(
            run=lambda store, upload: store.update(replace(upload, removal="terminated")),
            changed={"removal": "terminated"},
        ),
        id="remove",
    ),
]


class Crash(BaseException):
    """The process has died."""


class Power:
    """Fails before the n-th change, from 0; nothing works from then on."""

    def __init__(self, change: int) -> None:
        self._left = change
        self.is_off = False

    def before(self, name: str, path: str) -> None:
        if name in CHANGES and not self.is_off:
            self.is_off = self._left == 0
            self._left -= 1
        if self.is_off:
            raise Crash


class FailsOnce:
    """Lets the n-th call fail, from 0."""

    def __init__(self, call: int, error: Exception) -> None:
        self._left = call
        self._error = error
        self.has_failed = False

    def before(self, name: str, path: str) -> None:
        if not self.has_failed:
            self.has_failed = self._left == 0
            self._left -= 1
            if self.has_failed:
                raise self._error


class Scene:
    """A filesystem with one upload, and a step that is about to be taken."""

    def __init__(self, origin: "Origin", root: str) -> None:
        self.watched = origin.watched
        self.root = root
        self.step = origin.step
        self._origin = origin

    def store(self) -> FsspecStore:
        """What a process finds that starts now."""
        return self._origin.store(self.watched.fs, self.root)

    async def take(self, upload: Upload, before: Callable[[str, str], None]) -> None:
        self.watched.before = before
        try:
            await self.step.run(self._origin.store(self.watched, self.root), upload)
        finally:
            self.watched.before = lambda name, path: None

    async def crash(self, upload: Upload, change: int) -> bool:
        """Take the step and let the process die; return False if it was done before that."""
        power = Power(change)
        with contextlib.suppress(Crash, BaseExceptionGroup):
            await self.take(upload, power.before)
        return power.is_off

    async def check(self, upload: Upload) -> Upload:
        """Check that the upload is as before or as after, and return it as it is."""
        store, step = self.store(), self.step
        try:
            kept = await store.get(upload.id)
        except UploadNotFound:
            assert step.is_removed or not step.is_created
            return upload
        allowed = [upload, replace(upload, **(step.changed or {}))]
        assert replace(kept, offset=upload.offset) in allowed
        assert kept.offset >= upload.offset
        assert await content(store, kept) == SENT[: kept.offset]
        return kept

    async def check_again(self, upload: Upload) -> None:
        """Check that the step can be taken once more, and then does what it has to."""
        store, step = self.store(), self.step
        with contextlib.suppress(UploadExists):
            await step.run(store, upload)
        if step.is_removed:
            with pytest.raises(UploadNotFound):
                await store.get(upload.id)
            return
        kept = await self.check(upload)
        assert replace(kept, offset=0) == replace(upload, offset=0, **(step.changed or {}))
        if kept.offset < LENGTH:
            kept = await store.append(kept, Arriving(*rest(kept)))
        await store.finish(kept)
        assert kept.offset == LENGTH
        assert await content(store, kept) == SENT


class Origin:
    """Sets scenes: the upload is made once, and copied for each of them."""

    def __init__(self, watched: Watched, parent: str, step: Step) -> None:
        self.watched = watched
        self.step = step
        self._parent = parent
        self._count = 0
        self._probed: dict[int, Filesystem] = {}

    def store(self, fs: Any, root: str) -> FsspecStore:
        """Return a store that need not find out what the filesystem can, as one did before."""
        if id(fs) not in self._probed:
            files = Filesystem(fs, self._parent)
            files.probe()
            self._probed[id(fs)] = files
        files = copy.copy(self._probed[id(fs)])
        files.root = root
        store = FsspecStore(fs, root, piece_size=64 * 1024)
        store._connection.directory = Directory(files)
        return store

    async def upload(self, **fields: Any) -> Upload:
        # In a thread: the first store looks at the filesystem.
        store = await run_sync(self.store, self.watched.fs, f"{self._parent}/origin")
        await run_sync(self.store, self.watched, self._parent)
        upload = new_upload(length=LENGTH, **fields)
        if self.step.is_created:
            await store.create(upload)
            for size in self.step.before:
                upload = await store.append(upload, Arriving(*rest(upload, size)))
        return upload

    def scene(self) -> Scene:
        self._count += 1
        root = f"{self._parent}/{self._count}"
        copy_below(self.watched.fs, f"{self._parent}/origin", root)
        return Scene(self, root)


async def content(store: FsspecStore, upload: Upload) -> bytes:
    return b"".join([chunk async for chunk in store.read(upload, 0, upload.offset)])


MakeOrigin = Callable[[Step], Origin]


@pytest.fixture(params=["objects", "files"])
def make_origin(request: pytest.FixtureRequest, fast_place: Path) -> MakeOrigin:
    make = over_memory if request.param == "objects" else over_files
    return lambda step: Origin(make(), str(fast_place), step)


@pytest.fixture
def anyio_backend() -> str:
    """One is enough for thousands of crashes: the calls and their order are the same on both."""
    return "asyncio"


@pytest.mark.parametrize("step", STEPS)
async def test_after_a_crash_the_upload_is_as_before_or_as_after_and_goes_on(
    step: Step, make_origin: MakeOrigin
) -> None:
    origin = make_origin(step)
    upload = await origin.upload(expires=DUE)
    for change in range(MOST_CALLS):
        scene = await run_sync(origin.scene)
        was_cut = await scene.crash(upload, change)
        await scene.check_again(await scene.check(upload))
        if not was_cut:
            return
    pytest.fail(ENDLESS)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        *(pytest.param(*step.values, BROKEN, id=f"{step.id}-broken") for step in STEPS),
        *(
            pytest.param(*step.values, error, id=f"{step.id}-{error}")
            for step in STEPS
            if step.id in ("create", "append-to-the-end", "append-staged-to-the-end", "finish")
            for error in (FULL, AWAY)
        ),
    ],
)
async def test_whichever_call_fails_the_upload_is_as_before_or_as_after_and_goes_on(
    step: Step, error: OSError, make_origin: MakeOrigin
) -> None:
    expected = {FULL: StoreFull, AWAY: StoreUnavailable}.get(error, OSError)
    origin = make_origin(step)
    upload = await origin.upload(expires=DUE)
    for call in range(MOST_CALLS):
        scene = await run_sync(origin.scene)
        failing = FailsOnce(call, error)
        with contextlib.suppress(expected):
            await scene.take(upload, failing.before)
        await scene.check_again(await scene.check(upload))
        if not failing.has_failed:
            return
    pytest.fail(ENDLESS)


@pytest.mark.parametrize("expires", [DUE, None], ids=["expires", "does-not-expire"])
@pytest.mark.parametrize("step", STEPS)
async def test_what_a_crash_leaves_is_removed_by_termination_and_sweep(
    step: Step, expires: datetime | None, make_origin: MakeOrigin
) -> None:
    origin = make_origin(step)
    upload = await origin.upload(expires=expires)
    for change in range(MOST_CALLS):
        scene = await run_sync(origin.scene)
        was_cut = await scene.crash(upload, change)
        uploads = Uploads(scene.store(), clock=lambda: FAR_FUTURE)
        with contextlib.suppress(UploadNotFound):
            await uploads.terminate(upload.id)
        for _ in range(2):  # a mark may be moved by one sweep and served by the next
            await uploads.sweep()
        assert names_below(scene.watched, scene.root) == []
        if not was_cut:
            return
    pytest.fail(ENDLESS)


@pytest.mark.parametrize("step", STEPS)
async def test_what_a_crash_leaves_of_an_expired_upload_is_removed_by_the_sweep_alone(
    step: Step, make_origin: MakeOrigin
) -> None:
    origin = make_origin(step)
    upload = await origin.upload(expires=DUE)
    for change in range(MOST_CALLS):
        scene = await run_sync(origin.scene)
        was_cut = await scene.crash(upload, change)
        store = scene.store()
        uploads = Uploads(store, clock=lambda: FAR_FUTURE)
        for _ in range(2):
            await uploads.sweep()
        try:
            assert (await store.get(upload.id)).is_complete
        except UploadNotFound:
            assert names_below(scene.watched, scene.root) == []
        if not was_cut:
            return
    pytest.fail(ENDLESS)


async def test_after_a_termination_that_crashed_another_upload_with_the_id_begins_empty(
    make_origin: MakeOrigin,
) -> None:
    origin = make_origin(
        Step(
            run=lambda store, upload: store.terminate(upload.id),
            before=[3, LENGTH],
            is_removed=True,
        )
    )
    upload = await origin.upload(expires=DUE)
    for change in range(MOST_CALLS):
        scene = await run_sync(origin.scene)
        was_cut = await scene.crash(upload, change)
        store = scene.store()
        again = replace(upload, offset=0)
        try:
            await store.create(again)
        except UploadExists:
            assert (await store.get(upload.id)).offset == LENGTH
        else:
            assert await store.get(upload.id) == again
            kept = await store.append(again, Arriving(*rest(again)))
            assert await content(store, kept) == SENT
        if not was_cut:
            return
    pytest.fail(ENDLESS)


async def test_a_joining_that_crashed_is_taken_up_again(make_origin: MakeOrigin) -> None:
    origin = make_origin(Step(run=lambda store, upload: store.concat(upload), is_created=False))
    await origin.upload()
    scene = origin.scene()
    parts = []
    for each in (SENT[:90_000], SENT[90_000:]):
        part = await scene.store().create(new_upload(length=len(each), is_partial=True))
        part = await scene.store().append(part, Arriving(each))
        await scene.store().finish(part)
        parts.append(part.id)
    for change in range(MOST_CALLS):
        final = await scene.store().create(new_upload(length=LENGTH, parts=tuple(parts)))
        was_cut = await scene.crash(final, change)
        store = scene.store()
        assert (await store.get(final.id)).offset in (0, LENGTH)
        joined = await store.concat(await store.get(final.id))
        assert joined == replace(final, offset=LENGTH)
        assert await content(store, joined) == SENT
        if not was_cut:
            assert change > 0
            return
    pytest.fail(ENDLESS)
