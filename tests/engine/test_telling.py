"""What hooks tell others: recorded with what happened, at least once, in order, behind clients."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

import anyio
import pytest

from tests._stage import MakeStage, Stage, location_path
from tusasgi import (
    Event,
    Expiry,
    Hooks,
    Rejected,
    TryAgain,
    Upload,
    UploadNotFound,
    UploadPending,
    Uploads,
)
from tusasgi.lifecycle import TOLD
from tusasgi.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


class Teller(Hooks):
    """Tells everything, unless it is `down`."""

    tells = TOLD

    def __init__(self) -> None:
        self.told: list[str] = []
        self.tried: list[str] = []
        self.down: Exception | None = None

    async def tell(self, upload: Upload, event: Event, at: datetime) -> None:
        self.tried.append(event.value)
        if self.down is not None:
            raise self.down
        await anyio.lowlevel.checkpoint()
        self.told.append(event.value)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what failed told again at once."""
    monkeypatch.setattr("tusasgi.engine.telling._SHORTEST", 0.001)
    monkeypatch.setattr("tusasgi.engine.telling._LONGEST", 0.01)


def on_stage(make: MakeStage, **engine: object) -> tuple[Stage, Teller]:
    hooks = Teller()
    return make(hooks=hooks, engine=engine), hooks


@asynccontextmanager
async def delivering(uploads: Uploads) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(uploads.deliver)
        await anyio.wait_all_tasks_blocked()
        yield
        tasks.cancel_scope.cancel()


async def until(is_true: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(30):
        while True:
            found = is_true()
            if found if isinstance(found, bool) else await found:
                return
            await anyio.sleep(0.002)


async def is_gone(stage: Stage, upload: Upload) -> bool:
    try:
        await stage.store.get(upload.id)
    except UploadNotFound:
        return True
    return False


async def swept(stage: Stage) -> None:
    with anyio.fail_after(30):
        try:
            await stage.uploads.sweep()
        except* Exception:
            pass


async def test_what_happens_is_told_at_once_and_in_order(make: MakeStage) -> None:
    stage, hooks = on_stage(make)
    async with delivering(stage.uploads):
        upload = await stage.upload(content=b"hello")
        assert (await stage.driver.request("DELETE", f"/{upload.id}")).status == 204
        await until(lambda: len(hooks.told) == 3)
        assert hooks.told == ["created", "completed", "terminated"]

        await until(partial(is_gone, stage, upload))


async def test_what_happens_twice_before_its_turn_is_told_once(
    make: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tusasgi.engine.telling._AT_ONCE", 1)
    gate = anyio.Event()

    class Gated(Teller):
        async def tell(self, upload: Upload, event: Event, at: datetime) -> None:
            await gate.wait()
            await super().tell(upload, event, at)

    hooks = Gated()
    stage = make(hooks=hooks)
    async with delivering(stage.uploads):
        await stage.upload(length=9)  # the one that is told, while the next has to wait
        upload = await stage.upload(content=b"hello")
        await stage.uploads.terminate(upload.id)
        gate.set()
        await until(lambda: len(hooks.told) == 4)
        await stage.upload(length=9)
        await until(lambda: len(hooks.told) == 5)
    assert hooks.told == ["created", "created", "completed", "terminated", "created"]


async def test_what_was_told_is_recorded_and_not_told_again(make: MakeStage) -> None:
    stage, hooks = on_stage(make)
    upload = await stage.upload(content=b"hello")
    assert list((await stage.store.get(upload.id)).untold) == ["created", "completed"]
    await stage.uploads.sweep()
    assert hooks.told == ["created", "completed"]
    assert (await stage.store.get(upload.id)).untold == {}
    await stage.uploads.sweep()
    assert hooks.told == ["created", "completed"]


@pytest.mark.parametrize("failure", [TryAgain("away"), RuntimeError("wrong")], ids=type)
async def test_nobody_who_uploads_meets_a_failing_tell(make: MakeStage, failure: Exception) -> None:
    stage, hooks = on_stage(make)
    hooks.down = failure
    async with delivering(stage.uploads):
        answer = await stage.driver.request("POST", headers={"Upload-Length": "5"})
        assert answer.status == 201
        path = location_path(answer)
        assert (await stage.patch(path[1:], 0, b"hello")).status == 204
        assert (await stage.driver.request("DELETE", path)).status == 204
        assert (await stage.driver.request("HEAD", path)).status == 404
    assert hooks.told == []


@pytest.mark.usefixtures("quickly")
async def test_what_failed_is_told_again_until_it_succeeds_and_nothing_before_it(
    make: MakeStage,
) -> None:
    stage, hooks = on_stage(make)
    hooks.down = RuntimeError("wrong")
    async with delivering(stage.uploads):
        await stage.upload(content=b"hello")
        await until(lambda: len(hooks.tried) > 3)
        assert set(hooks.tried) == {"created"}
        hooks.down = None
        await until(lambda: len(hooks.told) == 2)
    assert hooks.told == ["created", "completed"]


@pytest.mark.usefixtures("quickly")
async def test_it_is_not_told_again_before_the_time_that_was_asked_for(make: MakeStage) -> None:
    stage, hooks = on_stage(make)
    hooks.down = TryAgain("away", retry_after=1000)
    async with delivering(stage.uploads):
        await stage.upload()
        await until(lambda: bool(hooks.tried))
        await anyio.sleep(0.1)
    assert hooks.tried == ["created"]


async def test_a_sweep_tells_what_a_process_that_died_did_not(make: MakeStage) -> None:
    stage, _ = on_stage(make)
    upload = await stage.upload(content=b"hello")
    await stage.uploads.terminate(upload.id)
    hooks = Teller()
    hooks.down = RuntimeError("wrong")
    later = make(hooks=hooks)
    with pytest.raises(ExceptionGroup):
        await later.uploads.sweep()
    assert hooks.tried == ["created"]
    assert (await later.store.get(upload.id)).removal == "terminated"
    hooks.down = None
    await later.uploads.sweep()
    assert hooks.told == ["created", "completed", "terminated"]
    with pytest.raises(UploadNotFound):
        await later.store.get(upload.id)


async def test_a_sweep_tells_of_what_is_there_still(make: MakeStage) -> None:
    stage, _ = on_stage(make)
    begun, done = await stage.upload(content=b"he"), await stage.upload(content=b"hello")
    later, hooks = on_stage(make)
    await later.uploads.sweep()
    assert sorted(hooks.told) == ["completed", "created", "created"]
    for upload in (begun, done):
        assert (await later.store.get(upload.id)).untold == {}


@pytest.mark.parametrize("is_told_late", [False, True], ids=["by-the-sweep", "by-a-delivery"])
async def test_a_removal_is_neither_told_nor_ended_before_its_own_hook_was_done(
    make: MakeStage, quickly: None, is_told_late: bool
) -> None:
    class Failing(Teller):
        is_broken = True

        async def terminated(self, upload: Upload) -> None:
            if self.is_broken:
                raise RuntimeError("try again")
            self.told.append("hook")

    hooks = Failing()
    stage = make(hooks=hooks)
    upload = await stage.upload(length=9)
    if is_told_late:  # the creation is under way while the removal fails
        hooks.down = RuntimeError("down")
    async with delivering(stage.uploads):
        await swept(stage)
        if not is_told_late:
            await until(lambda: hooks.told == ["created"])
        with pytest.raises(UploadPending):
            await stage.uploads.terminate(upload.id)
        hooks.down = None
        await swept(stage)
        await until(lambda: "created" in hooks.told)
        await anyio.sleep(0.05)  # for what must not come
        assert hooks.told == ["created"]
        hooks.is_broken = False
        await swept(stage)
        await until(partial(is_gone, stage, upload))
    assert hooks.told == ["created", "hook", "terminated"]


async def test_an_expired_upload_goes_when_it_was_told(make: MakeStage) -> None:
    expiry = Expiry(initial=timedelta(hours=1))
    stage, hooks = on_stage(make, expiry=expiry)
    upload = await stage.upload(content=b"he")
    stage.clock.advance(hours=2)
    hooks.down = RuntimeError("wrong")
    await swept(stage)
    assert (await stage.store.get(upload.id)).removal == "expired"
    hooks.down = None
    await swept(stage)
    assert hooks.told == ["created", "expired"]
    with pytest.raises(UploadNotFound):
        await stage.store.get(upload.id)


@pytest.mark.usefixtures("quickly")
async def test_what_is_told_of_an_upload_that_takes_bytes_is_told_once(make: MakeStage) -> None:
    stage, hooks = on_stage(make)
    async with delivering(stage.uploads), anyio.create_task_group() as tasks:
        upload = await stage.uploads.create(length=5)
        running = stage.exchange(upload.id, 0)
        tasks.start_soon(running.run)
        running.feed(b"he")
        await until(lambda: hooks.told == ["created"])
        await stage.uploads.sweep()
        await anyio.sleep(0.05)
        assert hooks.told == ["created"]
        running.end(b"llo")
        await until(lambda: len(hooks.told) == 2)

        async def is_recorded() -> bool:
            return (await stage.store.get(upload.id)).untold == {}

        await until(is_recorded)
    assert hooks.told == ["created", "completed"]


async def test_an_upload_that_its_completed_hook_removes_stays_removed(make: MakeStage) -> None:
    class Removing(Teller):
        async def completed(self, upload: Upload) -> None:
            await stage.uploads.terminate(upload.id)

    hooks = Removing()
    stage = make(hooks=hooks)
    upload = await stage.uploads.create(length=5)
    assert (await stage.patch(upload.id, 0, b"hello")).status == 204
    assert (await stage.head(upload.id)).status == 404
    await stage.uploads.sweep()
    assert hooks.told == ["created", "terminated"]
    with pytest.raises(UploadNotFound):
        await stage.store.get(upload.id)


async def test_what_a_tell_raises_about_another_upload_is_a_failure(make: MakeStage) -> None:
    stage, hooks = on_stage(make)
    hooks.down = UploadNotFound()
    upload = await stage.upload(content=b"hello")
    with pytest.raises(ExceptionGroup):
        await stage.uploads.sweep()
    assert list((await stage.store.get(upload.id)).untold) == ["created", "completed"]


async def test_only_what_is_wanted_is_recorded(make: MakeStage) -> None:
    class Few(Teller):
        tells = (Event.COMPLETED,)

    hooks = Few()
    stage = make(hooks=hooks)
    upload = await stage.upload(content=b"hello")
    assert list((await stage.store.get(upload.id)).untold) == ["completed"]
    await stage.uploads.terminate(upload.id)
    await stage.uploads.sweep()
    assert hooks.told == ["completed"]


async def test_nothing_more_is_told_in_a_sweep_when_it_is_no_time_for_it(make: MakeStage) -> None:
    stage, hooks = on_stage(make)
    hooks.down = TryAgain("away")
    for _ in range(50):
        await stage.uploads.create(length=5)
    await swept(stage)
    assert 16 <= len(hooks.tried) <= 32


@pytest.mark.parametrize("tells", [("completd",), (Event.APPENDED,)])
def test_what_cannot_be_told_is_refused(tells: tuple[str, ...]) -> None:
    class Wrong(Hooks):
        pass

    Wrong.tells = tells  # type: ignore[assignment]
    with pytest.raises(ValueError, match="is none of created, completed, terminated, expired"):
        Uploads(MemoryStore(), hooks=Wrong())


async def test_the_progress_of_an_append_is_told_and_may_end_it(
    make: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tusasgi.engine.chunks._PROGRESS_INTERVAL", 0.0)
    seen: list[int] = []

    class Watching(Teller):
        async def progressed(self, upload: Upload) -> None:
            seen.append(upload.offset)
            if upload.offset >= 4:
                raise Rejected("the project is gone")
            raise RuntimeError("nobody minds")

    hooks = Watching()
    stage = make(hooks=hooks)
    upload = await stage.uploads.create(length=9)
    async with delivering(stage.uploads), anyio.create_task_group() as tasks:
        running = stage.exchange(upload.id, 0)
        tasks.start_soon(running.run)
        running.feed(b"he")
        await until(lambda: seen == [2])
        running.feed(b"ll")
        await until(lambda: seen == [2, 4])
        running.feed(b"o")
        running.end()
        await until(lambda: running.is_answered)
        answer = running.answer
        assert (answer.status, answer.body) == (422, b"the project is gone\n")
        await until(lambda: len(hooks.told) == 2)
    assert hooks.told == ["created", "terminated"]
    assert (await stage.head(upload.id)).status == 404
