"""A hand-over on local files: killed at every call, failing at every call, on another disk."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tests.stores.file._os import Counts, Crash, FailsOnce, Os, Power, seen_by
from tusasgi import FinalResponse, Hooks, Rejected, Upload, UploadNotFound, Uploads
from tusasgi.stores import DestinationTaken
from tusasgi.stores.file import FileStore, handing_over
from tusasgi.stores.file.recovery import Recovery
from tusasgi.testing import Arriving, new_upload

pytestmark = pytest.mark.anyio

FAR_FUTURE = datetime(2100, 1, 1, tzinfo=UTC)
CONTENT = bytes(range(251)) * 700
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PLACE = "2026/ada/film.mp4"
MOST_CALLS = 300


@pytest.fixture
def anyio_backend() -> str:
    """One is enough for hundreds of crashes: the calls and their order are the same on both."""
    return "asyncio"


class Host(Hooks):
    """Wants every upload in one place, and says what became of it."""

    def __init__(self, folder: Path, verdict: Callable[["Host", Upload], Any]) -> None:
        self.place = folder / "files" / PLACE
        self.taken: list[str] = []
        self.uploads: Uploads | None = None
        self._verdict = verdict

    async def destination(self, upload: Upload) -> str | None:
        return PLACE

    async def completed(self, upload: Upload) -> FinalResponse | None:
        self.taken.append(await run_sync(self._digest))
        await self._verdict(self, upload)
        return None

    def _digest(self) -> str:
        return hashlib.sha256(self.place.read_bytes()).hexdigest()


async def leaves_it(host: Host, upload: Upload) -> None:
    """As most hosts do."""


async def takes_it(host: Host, upload: Upload) -> None:
    await run_sync(host.place.unlink)


async def takes_its_folder(host: Host, upload: Upload) -> None:
    await run_sync(shutil.rmtree, host.place.parent)


async def rejects_it(host: Host, upload: Upload) -> None:
    raise Rejected("a virus")


async def removes_the_upload(host: Host, upload: Upload) -> None:
    assert host.uploads is not None
    await host.uploads.terminate(upload.id)


@dataclass(frozen=True)
class Case:
    verdict: Callable[[Host, Upload], Any]
    is_left: bool
    """True if the file of the host is there in the end."""
    is_known: bool = True
    """False if the upload is gone in the end."""


LEFT = Case(leaves_it, is_left=True)
TAKEN = Case(takes_it, is_left=False)
EMPTIED = Case(takes_its_folder, is_left=False)
REJECTED = Case(rejects_it, is_left=False, is_known=False)
REMOVED = Case(removes_the_upload, is_left=True, is_known=False)


def on_disks(*cases: tuple[Case, str]) -> Any:
    names = [f"{case.verdict.__name__}-{disk}".replace("_", "-") for case, disk in cases]
    arguments = [(case, disk == "another-disk") for case, disk in cases]
    return pytest.mark.parametrize(("case", "is_far"), arguments, ids=names)


def cannot_link(source: str, target: str, **more: Any) -> None:
    """What the kernel says when the host's files are on another disk."""
    if more.get("dst_dir_fd") is not None and more.get("src_dir_fd") is None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")
    os.link(source, target, **more)


class Scene:
    """A folder with an upload that has all its bytes, about to be completed."""

    def __init__(self, folder: Path, case: Case, *, is_far: bool) -> None:
        self.folder = folder
        self.case = case
        self.host = Host(folder, case.verdict)
        self._instead: dict[str, Any] = {"link": cannot_link} if is_far else {}

    async def prepare(self) -> Upload:
        store = FileStore(self.folder)
        upload = await store.create(new_upload(length=len(CONTENT)))
        await run_sync(Recovery(store._directory).end)  # or the first sweep needs no marks
        return await store.append(upload, Arriving(CONTENT))

    async def complete(self, upload: Upload, before: Callable[..., None] | None = None) -> None:
        """Do what any request for it does, as a process that has just begun."""
        self.host.uploads = Uploads(FileStore(self.folder), hooks=self.host)
        shim = Os(before, **self._instead) if before else Os(**self._instead)
        with seen_by(shim), contextlib.suppress(Rejected):
            await self.host.uploads.get(upload.id)

    async def send_again(self, upload: Upload) -> None:
        """Do what a client does whose bytes a flush that failed has taken back."""
        store = FileStore(self.folder)
        kept = await store.get(upload.id)
        if not kept.has_all_bytes and kept.removal is None:
            await store.append(kept, Arriving(CONTENT[kept.offset :]))

    async def check(self, upload: Upload) -> None:
        """Go on with it as the next request would, and see that all is as it has to be."""
        with contextlib.suppress(UploadNotFound):
            await self.send_again(upload)
            await self.complete(upload)
        assert set(self.host.taken) == {DIGEST}
        store = FileStore(self.folder)
        uploads = Uploads(store, hooks=self.host, clock=lambda: FAR_FUTURE)
        for _ in range(2):  # a mark may be moved by one sweep and served by the next
            with seen_by(Os(**self._instead)):
                await uploads.sweep()
        place = {f"files/{PLACE}"} if self.case.is_left else set()
        if self.case.is_known:
            kept = await store.get(upload.id)
            assert (kept.is_handed_over, kept.offset) == (True, len(CONTENT))
            record = f"{store.path(upload.id)}.info".removeprefix(f"{self.folder}/")
            assert await run_sync(files_in, self.folder) == {record, *place}
            await uploads.terminate(upload.id)
        with pytest.raises(UploadNotFound):
            await store.get(upload.id)
        assert await run_sync(files_in, self.folder) == place
        if self.case.is_left:
            assert await run_sync(self.host._digest) == DIGEST
            assert (await run_sync(self.host.place.stat)).st_nlink == 1


def files_in(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}


@on_disks(
    (LEFT, "one-disk"),
    (TAKEN, "one-disk"),
    (EMPTIED, "one-disk"),
    (REJECTED, "one-disk"),
    (REMOVED, "one-disk"),
    (LEFT, "another-disk"),
    (REJECTED, "another-disk"),
    (REMOVED, "another-disk"),
)
async def test_a_process_that_dies_anywhere_has_handed_over_what_the_next_one_completes(
    case: Case, is_far: bool, fast_place: Path
) -> None:
    for change in range(MOST_CALLS):
        scene = Scene(fast_place / str(change), case, is_far=is_far)
        upload = await scene.prepare()
        power = Power(change)
        with contextlib.suppress(Crash, BaseExceptionGroup, Exception):
            await scene.complete(upload, power.before)
        await scene.check(upload)
        if not power.is_off:
            assert change > 15
            return
    pytest.fail("it calls the system without end")


@on_disks((TAKEN, "one-disk"), (REJECTED, "one-disk"), (LEFT, "another-disk"))
async def test_whichever_call_fails_the_next_request_brings_it_to_its_end(
    case: Case, is_far: bool, fast_place: Path
) -> None:
    for call in range(MOST_CALLS):
        scene = Scene(fast_place / str(call), case, is_far=is_far)
        upload = await scene.prepare()
        failing = FailsOnce(call, OSError(errno.EIO, "Input/output error"))
        with contextlib.suppress(Exception):
            await scene.complete(upload, failing.before)
        await scene.check(upload)
        if failing.failed is None:
            return
    pytest.fail("it calls the system without end")


async def test_a_crash_and_a_termination_leave_nothing_of_what_was_never_complete(
    fast_place: Path,
) -> None:
    async def fails(host: Host, upload: Upload) -> None:
        raise RuntimeError("the database is away")

    for change in range(MOST_CALLS):
        scene = Scene(fast_place / str(change), Case(fails, is_left=False), is_far=False)
        upload = await scene.prepare()
        power = Power(change)
        with contextlib.suppress(Crash, BaseExceptionGroup, Exception):
            await scene.complete(upload, power.before)
        uploads = Uploads(FileStore(scene.folder), hooks=scene.host)
        with contextlib.suppress(UploadNotFound):
            await uploads.terminate(upload.id)
        await Uploads(FileStore(scene.folder), clock=lambda: FAR_FUTURE).sweep()
        assert await run_sync(files_in, scene.folder) == set()
        if not power.is_off:
            return
    pytest.fail("it calls the system without end")


async def test_no_byte_is_copied_on_one_disk(fast_place: Path) -> None:
    scene = Scene(fast_place, Case(leaves_it, is_left=True), is_far=False)
    upload = await scene.prepare()
    inode = (await run_sync(os.stat, FileStore(fast_place).path(upload.id))).st_ino
    counts = Counts()
    await scene.complete(upload, counts.before)
    assert (await run_sync(scene.host.place.stat)).st_ino == inode
    assert not counts.calls["copy_file_range"]


# What stands in the way.


async def finished(store: FileStore, destination: str) -> Upload:
    upload = await store.append(await store.create(new_upload(length=3)), Arriving(b"abc"))
    return await store.update(replace(await store.finish(upload), destination=destination))


@pytest.fixture
def store(fast_place: Path) -> FileStore:
    (fast_place / "outside").mkdir()
    (fast_place / "store" / "files").mkdir(parents=True)
    return FileStore(fast_place / "store")


@pytest.fixture
def elsewhere(fast_place: Path) -> Path:
    return fast_place / "outside"


@pytest.mark.parametrize("way", ["a-link-to-a-folder", "a-link-to-nothing", "a-file"])
async def test_no_folder_is_passed_that_is_none_of_ours(
    way: str, store: FileStore, fast_place: Path, elsewhere: Path
) -> None:
    gate = fast_place / "store" / "files" / "gate"
    if way == "a-file":
        await run_sync(gate.write_bytes, b"")
    else:
        await run_sync(gate.symlink_to, elsewhere if way == "a-link-to-a-folder" else "nothing")
    upload = await finished(store, "gate/x")
    for operation in (store.hand_over, store.take_back):
        with contextlib.suppress(DestinationTaken):
            await operation(upload)
    with pytest.raises(DestinationTaken, match="'gate' in the way"):
        await store.hand_over(upload)
    assert await run_sync(files_in, elsewhere) == set()


@pytest.mark.parametrize("what", ["link", "link-to-the-very-bytes", "folder", "file"])
async def test_whatever_has_the_name_stays_as_it_is(
    what: str, store: FileStore, fast_place: Path, elsewhere: Path
) -> None:
    place = fast_place / "store" / "files" / "x"
    upload = await finished(store, "x")
    match what:
        case "link":
            await run_sync(place.symlink_to, elsewhere / "nothing")
        case "link-to-the-very-bytes":
            await run_sync(place.symlink_to, store.path(upload.id))
        case "folder":
            await run_sync(place.mkdir)
        case _:
            await run_sync(place.write_bytes, b"abc")
    before = await run_sync(place.lstat)
    with pytest.raises(DestinationTaken, match="files/x is there already"):
        await store.hand_over(upload)
    await store.take_back(upload)
    assert os.path.samestat(before, await run_sync(place.lstat))
    assert await run_sync(files_in, elsewhere) == set()


async def test_a_reader_follows_no_link_that_somebody_put_there(
    store: FileStore, fast_place: Path, elsewhere: Path
) -> None:
    upload = await finished(store, "a/x")
    await store.hand_over(upload)
    upload = await store.update(replace(upload, is_complete=True))
    await run_sync((elsewhere / "x").write_bytes, b"secret")
    files = fast_place / "store" / "files"
    for path, target in ((files / "a" / "x", elsewhere / "x"), (files / "a", elsewhere)):
        await run_sync(path.rename, fast_place / f"moved-{path.name}")
        await run_sync(path.symlink_to, target)
        with pytest.raises(UploadNotFound, match="taken from where"):
            async for _ in store.read(upload, 0, 3):
                pass


async def test_the_folder_of_the_host_may_be_a_link_to_another_disk(
    store: FileStore, fast_place: Path, elsewhere: Path
) -> None:
    files = fast_place / "store" / "files"
    await run_sync(files.rmdir)
    await run_sync(files.symlink_to, elsewhere)
    upload = await finished(store, "a/x")
    await store.hand_over(upload)
    upload = await store.update(replace(upload, is_complete=True))
    assert await run_sync((elsewhere / "a" / "x").read_bytes) == b"abc"
    assert [chunk async for chunk in store.read(upload, 0, 3)] == [b"abc"]


async def test_a_folder_that_is_exchanged_for_a_link_meanwhile_leads_nowhere(
    store: FileStore, fast_place: Path, elsewhere: Path
) -> None:
    """Between the opening of the folder and the link: what was opened is what counts."""
    upload = await finished(store, "a/x")
    folder = fast_place / "store" / "files" / "a"

    def exchange(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "link":
            folder.rename(fast_place / "moved")
            folder.symlink_to(elsewhere)

    with seen_by(Os(exchange)):
        await store.hand_over(upload)
    assert await run_sync(files_in, elsewhere) == set()
    assert await run_sync((fast_place / "moved" / "x").read_bytes) == b"abc"


async def test_nobody_else_can_change_what_is_being_handed_over(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await finished(store, "x")
    bring = handing_over.HandOver.bring
    refusals: list[str] = []

    def meanwhile(hand_over: handing_over.HandOver) -> None:
        other = FileStore(store._directory.root)
        for step in (other._terminate, other._take_back):
            try:
                step(upload.id if step == other._terminate else upload)  # type: ignore[arg-type]
            except Exception as error:
                refusals.append(type(error).__name__)
        bring(hand_over)

    monkeypatch.setattr(handing_over.HandOver, "bring", meanwhile)
    await store.hand_over(upload)
    assert refusals == ["WriteConflict", "WriteConflict"]
