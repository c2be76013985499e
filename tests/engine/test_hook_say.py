"""What hooks may say beyond yes and no: after creation, of finished bytes, and with `terminate`."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import anyio
import pytest

from tests._stage import Stage, make_stage
from tusasgi import (
    Append,
    Fact,
    FinalResponse,
    Hooks,
    Rejected,
    TusError,
    Upload,
    UploadNotFound,
    UploadPending,
    Uploads,
)
from tusasgi.asgi.body import Body
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import Client

pytestmark = pytest.mark.anyio


class Told(Hooks):
    """Tells what was called, and does in each hook what the test says."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.uploads: list[Upload] = []
        self.does: dict[str, Callable[[Upload], Awaitable[FinalResponse | None]]] = {}

    async def _call(self, name: str, upload: Upload) -> FinalResponse | None:
        self.calls.append(name)
        self.uploads.append(upload)
        return await self.does[name](upload) if name in self.does else None

    async def created(self, upload: Upload) -> FinalResponse | None:
        return await self._call("created", upload)

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        await self._call("inspect", upload)
        return {}

    async def refused(self, upload: Upload, refusal: TusError) -> None:
        await self._call("refused", upload)

    async def completed(self, upload: Upload) -> FinalResponse | None:
        return await self._call("completed", upload)

    async def terminated(self, upload: Upload) -> None:
        await self._call("terminated", upload)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStore | FileStore:
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path)


@pytest.fixture
def hooks() -> Told:
    return Told()


@pytest.fixture
def stage(store: MemoryStore | FileStore, hooks: Told) -> Stage:
    return make_stage(store, hooks=hooks)


def raising(error: Exception) -> Callable[[Upload], Awaitable[None]]:
    async def hook(upload: Upload) -> None:
        raise error

    return hook


def answering(answer: FinalResponse) -> Callable[[Upload], Awaitable[FinalResponse]]:
    async def hook(upload: Upload) -> FinalResponse:
        return answer

    return hook


# After the creation


async def test_created_is_called_for_what_is_stored(stage: Stage, hooks: Told) -> None:
    async def look(upload: Upload) -> None:
        assert await stage.store.get(upload.id) == upload

    hooks.does["created"] = look
    answer = await stage.driver.request("POST", "/", {"Upload-Length": "5"})
    assert (answer.status, hooks.calls) == (201, ["created"])


async def test_created_comes_before_the_bytes_of_the_same_request(
    stage: Stage, hooks: Told
) -> None:
    hooks.head_size = 1
    headers = {"Upload-Length": "5", "Content-Type": "application/offset+octet-stream"}
    answer = await stage.driver.request("POST", "/", headers, b"hello")
    assert (answer.status, hooks.calls) == (201, ["created", "inspect", "completed"])


async def test_created_comes_before_completed_for_an_empty_upload(
    stage: Stage, hooks: Told
) -> None:
    await stage.uploads.create(length=0)
    assert hooks.calls == ["created", "completed"]


async def test_nothing_is_created_for_a_refused_creation(stage: Stage, hooks: Told) -> None:
    answer = await stage.driver.request("POST", "/", {"Upload-Length": "x"})
    assert (answer.status, hooks.calls) == (400, [])


async def test_what_created_answers_is_in_the_answer_and_in_the_last_one(
    stage: Stage, hooks: Told
) -> None:
    hooks.does["created"] = answering(FinalResponse(headers={"X-Asset": "a1"}))
    answer = await stage.driver.request("POST", "/", {"Upload-Length": "5"})
    assert (answer.status, answer.headers["x-asset"]) == (201, "a1")
    path = answer.headers["location"].rpartition("/")[2]
    last = await stage.patch(path, 0, b"hello")
    assert (last.status, last.headers["x-asset"]) == (204, "a1")


async def test_what_completed_answers_counts_more_than_what_created_did(
    stage: Stage, hooks: Told
) -> None:
    hooks.does["created"] = answering(FinalResponse(headers={"X-Asset": "a1"}))
    hooks.does["completed"] = answering(FinalResponse(body=b"thanks\n"))
    upload = await stage.uploads.create(length=5)
    last = await stage.patch(upload.id, 0, b"hello")
    assert (last.status, last.body, "x-asset" in last.headers) == (200, b"thanks\n", False)


async def test_an_upload_that_could_not_be_made_known_is_removed(
    stage: Stage, hooks: Told, store: MemoryStore | FileStore
) -> None:
    hooks.does["created"] = raising(OSError("the database is away"))
    exchange = stage.driver.exchange("POST", "/", {"Upload-Length": "5"}, b"")
    with pytest.raises(OSError, match="away"):  # the host hears of it
        await exchange.run()
    assert (exchange.answer.status, exchange.answer.headers["retry-after"]) == (503, "5")
    assert hooks.calls == ["created", "terminated"]
    with pytest.raises(UploadNotFound):
        await store.get(hooks.uploads[0].id)


# Of finished bytes


class Infected(Rejected):
    status = 451


@pytest.mark.parametrize("refusal", [Rejected("a virus"), Infected("a virus")])
async def test_rejected_bytes_are_removed_and_the_client_is_told_why(
    refusal: Rejected, stage: Stage, hooks: Told
) -> None:
    hooks.does["completed"] = raising(refusal)
    upload = await stage.uploads.create(length=5)
    answer = await stage.patch(upload.id, 0, b"hello")
    assert (answer.status, answer.body) == (refusal.status, b"a virus\n")
    assert hooks.calls[1:] == ["completed", "refused", "terminated"]
    assert (await stage.head(upload.id)).status == 404
    assert await stage.uploads.sweep() == 0


async def test_rejected_bytes_of_a_whole_creation_are_removed(stage: Stage, hooks: Told) -> None:
    hooks.does["completed"] = raising(Rejected("a virus"))
    headers = {"Upload-Length": "5", "Content-Type": "application/offset+octet-stream"}
    answer = await stage.driver.request("POST", "/", headers, b"hello")
    assert (answer.status, answer.body) == (422, b"a virus\n")
    assert (await stage.head(hooks.uploads[0].id)).status == 404


async def test_a_sweep_removes_what_is_rejected(stage: Stage, hooks: Told) -> None:
    hooks.does["completed"] = raising(OSError("the scanner is away"))
    upload = await stage.uploads.create(length=5)
    with pytest.raises(UploadPending):
        await stage.uploads.append(upload.id, Append(offset=0), _source(b"hello"))
    hooks.does["completed"] = raising(Rejected("a virus"))
    assert await stage.uploads.sweep() == 1
    with pytest.raises(UploadNotFound):
        await stage.uploads.get(upload.id)


async def test_a_rejection_that_could_not_be_told_is_repeated(stage: Stage, hooks: Told) -> None:
    hooks.does["completed"] = raising(Rejected("a virus"))
    hooks.does["refused"] = raising(OSError("the database is away"))
    upload = await stage.uploads.create(length=5)
    with pytest.raises(UploadPending):
        await stage.uploads.append(upload.id, Append(offset=0), _source(b"hello"))
    del hooks.does["refused"]
    with pytest.raises(Rejected):
        await stage.uploads.get(upload.id)
    assert hooks.calls[1:] == ["completed", "refused", "completed", "refused", "terminated"]


# `terminate` in a hook


async def test_completed_may_terminate_its_upload_and_the_client_hears_of_a_success(
    store: MemoryStore | FileStore, hooks: Told
) -> None:
    stage = make_stage(store, hooks=hooks, engine={"locker": MemoryLocker(patience=30)})

    async def take(upload: Upload) -> None:
        await stage.uploads.terminate(upload.id)
        await stage.uploads.terminate(upload.id, missing_ok=True)
        with pytest.raises(UploadNotFound):
            await stage.uploads.terminate(upload.id)

    hooks.does["completed"] = take
    upload = await stage.uploads.create(length=5)
    with anyio.fail_after(10):
        answer = await stage.patch(upload.id, 0, b"hello")
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")
    assert hooks.calls[1:] == ["completed", "terminated"]
    assert (await stage.head(upload.id)).status == 404


@pytest.mark.parametrize("where", ["created", "inspect", "refused", "terminated"])
async def test_any_hook_may_terminate_its_upload_at_once(
    where: str, store: MemoryStore | FileStore, hooks: Told
) -> None:
    stage = make_stage(store, hooks=hooks, engine={"locker": MemoryLocker(patience=30)})
    hooks.head_size = 1

    async def end(upload: Upload) -> None:
        await stage.uploads.terminate(upload.id, missing_ok=True)

    if where == "refused":
        hooks.does["completed"] = raising(Rejected("a virus"))
    hooks.does[where] = end
    with anyio.fail_after(10):
        upload = await stage.uploads.create(length=5)
        if where == "terminated":
            await stage.uploads.terminate(upload.id)
        else:
            answer = await stage.patch(upload.id, 0, b"hello")
            assert answer.status == (422 if where == "refused" else 404)
    assert hooks.calls.count("terminated") == 1
    assert (await stage.head(upload.id)).status == 404


async def test_a_task_that_outlives_its_hook_has_no_right_to_the_lock_any_more(
    store: MemoryStore | FileStore, hooks: Told
) -> None:
    uploads = Uploads(store, hooks=hooks)
    seen: list[bool] = []
    goes_on = anyio.Event()

    async def later(upload_id: str) -> None:
        await goes_on.wait()
        seen.append(uploads._locks.is_held_here(upload_id))

    async with anyio.create_task_group() as tasks:

        async def begin(upload: Upload) -> None:
            seen.append(uploads._locks.is_held_here(upload.id))
            tasks.start_soon(later, upload.id)

        hooks.does["completed"] = begin
        await uploads.create(length=0)
        goes_on.set()
    assert seen == [True, False]


def _source(data: bytes) -> Body:
    return Body(Client(data).receive)
