"""Finished bytes are handed over to where the hook `destination` says."""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync

from tests._stage import Stage, make_stage
from tusasgi import (
    FinalResponse,
    HandOver,
    Hooks,
    Rejected,
    Upload,
    UploadNotFound,
    UploadPending,
    Uploads,
)
from tusasgi.stores import DestinationTaken
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

CONTENT = b"hello"


class Told(Hooks):
    """Says where, and does in each hook what the test says."""

    def __init__(self) -> None:
        self.says: list[str | None] = ["films/one.txt"]
        self.calls: list[str] = []
        self.does: dict[str, Callable[[Upload], Awaitable[None]]] = {}

    async def destination(self, upload: Upload) -> str | None:
        self.calls.append("destination")
        return self.says.pop(0) if len(self.says) > 1 else self.says[0]

    async def completed(self, upload: Upload) -> FinalResponse | None:
        await self._call("completed", upload)
        return None

    async def terminated(self, upload: Upload) -> None:
        await self._call("terminated", upload)

    async def _call(self, name: str, upload: Upload) -> None:
        self.calls.append(name)
        if name in self.does:
            await self.does[name](upload)


@pytest.fixture
def hooks() -> Told:
    return Told()


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


@pytest.fixture
def stage(store: FileStore, hooks: Told) -> Stage:
    return make_stage(store, hooks=hooks, downloads=True)


async def refused(stage: Stage, upload: Upload) -> None:
    """Send the last bytes, of which the client is told to try again and the host what failed."""
    exchange = stage.exchange(upload.id, 0, CONTENT)
    with contextlib.suppress(Exception):
        await exchange.run()
    answer = exchange.answer
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


@pytest.fixture
def place(tmp_path: Path) -> "Files":
    return Files(tmp_path)


class Files:
    """What is on the disk: looked at and changed by a host. Blocks: in hooks for threads."""

    def __init__(self, root: Path) -> None:
        self._root = root / "files" / "films"

    @property
    def one(self) -> bytes | None:
        return self.content("one.txt")

    def look(self) -> bytes | None:
        return self.one

    def content(self, name: str) -> bytes | None:
        path = self._root / name
        return path.read_bytes() if path.exists() else None

    def take(self) -> None:
        (self._root / "one.txt").unlink()

    def put(self, content: bytes) -> None:
        self._root.mkdir(parents=True)
        (self._root / "one.txt").write_bytes(content)

    @property
    def names(self) -> int:
        return (self._root / "one.txt").stat().st_nlink


def all_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_the_completed_hook_finds_the_bytes_where_they_stay(
    stage: Stage, hooks: Told, place: Files, tmp_path: Path
) -> None:
    async def look(upload: Upload) -> None:
        assert isinstance(stage.store, FileStore)
        assert (upload.destination, upload.is_handed_over) == ("films/one.txt", True)
        assert stage.store.local_path(upload) == str(tmp_path / "files" / "films" / "one.txt")
        assert await run_sync(place.look) == CONTENT
        read = [chunk async for chunk in stage.store.read(upload, 0, 5)]
        assert b"".join(read) == CONTENT

    hooks.does["completed"] = look
    upload = await stage.upload(content=CONTENT)
    assert hooks.calls == ["destination", "completed"]
    assert (upload.is_handed_over, upload.offset) == (True, 5)
    assert all_files(tmp_path) == {
        "files/films/one.txt",
        f"{stage.store.path(upload.id)}.info".removeprefix(f"{tmp_path}/"),
    }
    assert place.names == 1


async def test_an_upload_is_complete_and_can_be_downloaded_as_long_as_the_host_leaves_it(
    stage: Stage, place: Files
) -> None:
    upload = await stage.upload(content=CONTENT)
    got = await stage.driver.request("GET", f"/{upload.id}")
    assert (got.status, got.body) == (200, CONTENT)
    place.take()
    head = await stage.head(upload.id)
    assert (head.status, head.headers["upload-offset"], head.headers["upload-length"]) == (
        200,
        "5",
        "5",
    )
    assert (await stage.patch(upload.id, 5)).status == 204
    got = await stage.driver.request("GET", f"/{upload.id}")
    assert got.status == 404
    assert b"taken" in got.body


@pytest.mark.parametrize("is_there", [True, False], ids=["left-there", "taken-away"])
async def test_deletion_and_expiry_leave_the_file_of_the_host_alone(
    is_there: bool, stage: Stage, hooks: Told, place: Files, tmp_path: Path
) -> None:
    upload = await stage.upload(content=CONTENT)
    if not is_there:
        place.take()
    stage.clock.advance(days=10_000)
    await stage.uploads.sweep()
    assert (await stage.driver.request("DELETE", f"/{upload.id}")).status == 204
    assert (await stage.head(upload.id)).status == 404
    assert all_files(tmp_path) == ({"files/films/one.txt"} if is_there else set())
    assert hooks.calls == ["destination", "completed", "terminated"]


async def test_nothing_is_handed_over_where_the_hook_says_none(
    stage: Stage, hooks: Told, tmp_path: Path
) -> None:
    hooks.says = [None]
    upload = await stage.upload(content=CONTENT)
    assert (upload.destination, upload.is_complete) == (None, True)
    assert len(all_files(tmp_path)) == 2


async def test_partial_uploads_stay_and_the_final_one_is_handed_over(
    stage: Stage, hooks: Told, place: Files
) -> None:
    piece = await stage.driver.request(
        "POST", "", {"Upload-Length": "5", "Upload-Concat": "partial"}
    )
    path = piece.headers["location"]
    await stage.patch(path.rpartition("/")[2], 0, CONTENT)
    assert hooks.calls == []
    final = await stage.driver.request("POST", "", {"Upload-Concat": f"final;{path} {path}"})
    assert final.status == 201
    assert place.one == 2 * CONTENT


async def test_another_file_at_the_destination_is_not_overwritten_and_the_hook_asked_again(
    stage: Stage, hooks: Told, place: Files
) -> None:
    place.put(b"of somebody else")
    hooks.says = ["films/one.txt", "films/one.txt", "films/two.txt"]
    upload = await stage.uploads.create(length=5)
    await refused(stage, upload)
    with pytest.raises(ExceptionGroup) as swept:
        await stage.uploads.sweep()
    (failure,) = swept.value.exceptions
    assert isinstance(failure, UploadPending)
    assert str(failure.__cause__) == "files/films/one.txt is there already"
    assert hooks.calls == ["destination", "destination"]
    assert (await stage.head(upload.id)).headers["upload-offset"] == "5"
    assert place.one == b"of somebody else"
    assert place.content("two.txt") == CONTENT


async def test_of_two_uploads_that_want_one_place_one_gets_it(
    stage: Stage, hooks: Told, place: Files
) -> None:
    uploads = [await stage.uploads.create(length=5) for _ in range(2)]
    answers: list[int] = []

    async def send(upload: Upload) -> None:
        exchange = stage.exchange(upload.id, 0, CONTENT)
        with contextlib.suppress(UploadPending, DestinationTaken):
            await exchange.run()
        answers.append(exchange.answer.status)

    async with anyio.create_task_group() as tasks:
        for upload in uploads:
            tasks.start_soon(send, upload)
    assert sorted(answers) == [204, 503]
    assert place.one == CONTENT


@pytest.mark.parametrize("path", ["../one", "/one", "a\0b", "con", 5])
async def test_what_is_no_destination_is_a_failure_that_names_the_hook(
    path: str, stage: Stage, hooks: Told, tmp_path: Path
) -> None:
    hooks.says = [path]
    upload = await stage.uploads.create(length=5)
    await refused(stage, upload)
    with pytest.raises(UploadPending) as pending:
        await stage.uploads.get(upload.id)
    assert "what the hook destination returns must be" in str(pending.value.__cause__)
    hooks.says = ["one"]
    assert (await stage.uploads.get(upload.id)).is_handed_over


async def test_the_place_is_asked_for_once_however_often_the_rest_fails(
    stage: Stage, hooks: Told, place: Files
) -> None:
    failing = True

    async def fail(upload: Upload) -> None:
        if failing:
            raise RuntimeError("the table is locked")

    hooks.does["completed"] = fail
    upload = await stage.uploads.create(length=5)
    await refused(stage, upload)
    hooks.says = ["elsewhere"]
    failing = False
    assert (await stage.uploads.get(upload.id)).destination == "films/one.txt"
    assert hooks.calls == ["destination", "completed", "completed"]
    assert place.one == CONTENT


async def test_a_hook_that_takes_the_file_away_and_fails_finds_it_again(
    stage: Stage, hooks: Told, place: Files
) -> None:
    taken: list[bytes | None] = []

    async def take(upload: Upload) -> None:
        taken.append(await run_sync(place.look))
        await run_sync(place.take)
        if len(taken) == 1:
            raise RuntimeError("died after it")

    hooks.does["completed"] = take
    upload = await stage.uploads.create(length=5)
    await refused(stage, upload)
    assert (await stage.uploads.get(upload.id)).is_complete
    assert taken == [CONTENT, CONTENT]


async def test_a_file_that_is_rejected_does_not_stay_where_it_was_handed_over(
    stage: Stage, hooks: Told, place: Files, tmp_path: Path
) -> None:
    async def reject(upload: Upload) -> None:
        assert await run_sync(place.look) is not None
        raise Rejected("a virus")

    async def gone(upload: Upload) -> None:
        assert await run_sync(place.look) is None

    hooks.does = {"completed": reject, "terminated": gone}
    upload = await stage.uploads.create(length=5)
    assert (await stage.patch(upload.id, 0, CONTENT)).status == 422
    assert hooks.calls == ["destination", "completed", "terminated"]
    assert all_files(tmp_path) == set()


async def test_a_host_that_takes_the_file_may_remove_the_upload_in_the_same_breath(
    stage: Stage, hooks: Told, place: Files, tmp_path: Path
) -> None:
    async def forget(upload: Upload) -> None:
        await stage.uploads.terminate(upload.id)

    hooks.does["completed"] = forget
    upload = await stage.uploads.create(length=5)
    assert (await stage.patch(upload.id, 0, CONTENT)).status == 204
    assert hooks.calls == ["destination", "completed", "terminated"]
    assert (await stage.head(upload.id)).status == 404
    assert all_files(tmp_path) == {"files/films/one.txt"}
    assert place.one == CONTENT


async def test_what_is_removed_before_it_was_complete_is_taken_back(
    stage: Stage, hooks: Told, tmp_path: Path
) -> None:
    async def fail(upload: Upload) -> None:
        raise RuntimeError("never")

    hooks.does["completed"] = fail
    upload = await stage.uploads.create(length=5)
    await refused(stage, upload)
    assert "files/films/one.txt" in all_files(tmp_path)
    assert (await stage.driver.request("DELETE", f"/{upload.id}")).status == 204
    assert all_files(tmp_path) == set()


async def test_one_line_hands_every_upload_over(store: FileStore, tmp_path: Path) -> None:
    uploads = Uploads(store, hooks=HandOver("{date}/{owner}/{id}.{extension}"))
    upload = await uploads.create(
        length=0, upload_id="u1", owner="a/b", metadata={"filename": b"x.Txt"}
    )
    assert upload.destination == f"{upload.created:%Y-%m-%d}/a%2Fb/u1.txt"
    assert f"files/{upload.destination}" in all_files(tmp_path)


async def test_the_digest_is_known_before_the_place_is_asked_for(store: FileStore) -> None:
    class ByDigest(Hooks):
        async def destination(self, upload: Upload) -> str | None:
            return upload.sha256

    hooks = ByDigest()
    stage = make_stage(store, hooks=hooks, engine={"digest": "sha256"})
    upload = await stage.upload(content=CONTENT)
    assert upload.destination == hashlib.sha256(CONTENT).hexdigest()


async def test_requests_meet_a_hand_over_at_any_moment_and_nothing_is_lost(
    stage: Stage, hooks: Told, place: Files
) -> None:
    """HEAD, GET, PATCH and the sweeper come while the hook is running."""
    is_running, may_end = anyio.Event(), anyio.Event()

    async def wait(upload: Upload) -> None:
        is_running.set()
        await may_end.wait()

    hooks.does["completed"] = wait
    upload = await stage.uploads.create(length=5)
    statuses: dict[str, int] = {}

    async def ask(name: str, request: Callable[[], Awaitable[object]]) -> None:
        statuses[name] = (await request()).status  # type: ignore[attr-defined]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "patch", lambda: stage.patch(upload.id, 0, CONTENT))
        await is_running.wait()
        async with anyio.create_task_group() as others:
            url = f"/{upload.id}"
            others.start_soon(ask, "head", lambda: stage.head(upload.id))
            others.start_soon(ask, "get", lambda: stage.driver.request("GET", url))
            others.start_soon(stage.uploads.sweep)
        may_end.set()
    assert statuses == {"patch": 204, "head": 423, "get": 503}
    assert hooks.calls == ["destination", "completed"]
    assert (await stage.driver.request("GET", f"/{upload.id}")).body == CONTENT


async def test_a_store_that_cannot_is_refused_with_the_hook() -> None:
    with pytest.raises(ValueError, match="MemoryStore cannot hand uploads over"):
        Uploads(MemoryStore(), hooks=HandOver("{id}"))


async def test_a_deletion_while_the_hook_runs_waits_for_its_end(
    stage: Stage, hooks: Told, place: Files
) -> None:
    is_running, may_end = anyio.Event(), anyio.Event()

    async def wait(upload: Upload) -> None:
        is_running.set()
        await may_end.wait()

    hooks.does["completed"] = wait
    upload = await stage.uploads.create(length=5)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.patch, upload.id, 0, CONTENT)
        await is_running.wait()
        tasks.start_soon(stage.uploads.terminate, upload.id)
        await anyio.wait_all_tasks_blocked()
        may_end.set()
    with pytest.raises(UploadNotFound):
        await stage.store.get(upload.id)
    assert place.one == CONTENT  # it was the host's when the deletion came
