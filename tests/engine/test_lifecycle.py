"""The life of an upload: one table, which the engine keeps to and the documentation shows."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests._stage import Clock, MakeStage, Recorder, Stage, location_path
from tests.conformance.concatenation import final, partial
from tusasgi import (
    Event,
    Expiry,
    Observer,
    State,
    Upload,
    UploadNotFound,
    UploadPending,
    Uploads,
    state_of,
)
from tusasgi.lifecycle import TRANSITIONS
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import DISCONNECT, STALL

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
UPLOAD = Upload(id="u", length=5, created=NOW)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        pytest.param({}, State.RECEIVING, id="new"),
        pytest.param({"length": None}, State.RECEIVING, id="length-unknown"),
        pytest.param({"parts": ("a", "b")}, State.JOINING, id="final"),
        pytest.param({"offset": 5}, State.COMPLETING, id="filled"),
        pytest.param({"offset": 5, "parts": ("a", "b")}, State.COMPLETING, id="joined"),
        pytest.param({"offset": 5, "is_complete": True}, State.COMPLETE, id="complete"),
        pytest.param({"expires": NOW}, State.EXPIRED, id="past-its-time"),
        pytest.param({"expires": NOW, "offset": 5}, State.COMPLETING, id="filled-in-time"),
        pytest.param(
            {"expires": NOW, "offset": 5, "is_complete": True, "is_partial": True},
            State.EXPIRED,
            id="piece-past-its-time",
        ),
        pytest.param({"removal": "terminated", "expires": NOW}, State.REMOVING, id="removing"),
    ],
)
def test_the_state_follows_from_the_record(fields: dict[str, Any], state: State) -> None:
    assert state_of(replace(UPLOAD, **fields), NOW) is state


def test_the_documentation_shows_the_table_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "lifecycle.md").read_text("utf-8")
    rows = re.findall(r"^\| `?(\w+)`? \| `(\w+)` \| `?(\w+)`? \|", page, re.M)

    def shown(state: State | None) -> str:
        return "none" if state is None else state.value

    wanted = [
        (shown(before), event.value, shown(after)) for (before, event), after in TRANSITIONS.items()
    ]
    assert rows == wanted
    assert all(f"`{state.value}`" in page for state in State)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {after for after in TRANSITIONS.values() if after is not None}
    assert reached | {State.EXPIRED} == set(State)  # the clock alone leads to `expired`
    assert {before for before, _ in TRANSITIONS if before is not None} == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


class Biographer(Observer):
    """Follows each upload through the table."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.states: dict[str, State | None] = {}
        self.seen: set[tuple[State | None, Event]] = set()
        self._clock = clock

    def changed(self, upload: Upload, event: Event) -> None:
        before = self.states.get(upload.id)
        if before is State.RECEIVING and replace(upload, removal=None).is_expired(self._clock()):
            before = State.EXPIRED
        if before is State.COMPLETE and replace(upload, removal=None).is_expired(self._clock()):
            before = State.EXPIRED
        self.seen.add((before, event))
        self.states[upload.id] = TRANSITIONS.get((before, event))


class FailingOnce(Recorder):
    """Each hook fails before it works."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = {"completed", "terminated", "expired"}

    def _record(self, name: str) -> None:
        if name in self.failing:
            self.failing.discard(name)
            raise RuntimeError("the database is away")
        self.events.append(name)

    async def completed(self, upload: Upload) -> None:
        self._record("completed")

    async def terminated(self, upload: Upload) -> None:
        self._record("terminated")

    async def expired(self, upload: Upload) -> None:
        self._record("expired")


@pytest.mark.anyio
async def test_the_engine_keeps_to_the_table(make: MakeStage) -> None:
    biographer = Biographer(Clock())
    hooks = FailingOnce()
    hooks.failing.clear()
    expiry = Expiry(initial=HOUR, after_append=HOUR)
    stage = make(hooks=hooks, engine={"observer": biographer, "expiry": expiry})
    biographer._clock = stage.clock

    async def removed(path: str) -> None:
        assert (await stage.driver.request("DELETE", path)).status == 204

    receiving = await stage.upload()
    assert (await stage.patch(receiving.id, 0, b"he")).status == 204
    complete = await stage.upload(content=b"hello")
    for upload in (receiving, complete):
        await removed(f"/{upload.id}")
    one = await partial(stage, b"hello")
    await removed(location_path(await final(stage, one)))
    await removed(location_path(await final(stage, await partial(stage, b""))))
    hooks.failing = {"completed"}
    completing = await stage.upload()
    with pytest.raises(RuntimeError):
        await stage.patch(completing.id, 0, b"hello")
    await removed(f"/{completing.id}")
    await stage.upload()
    stage.clock.advance(hours=1)
    lapsed = await stage.upload()
    stage.clock.advance(hours=1)
    await stage.uploads.terminate(lapsed.id)
    assert await stage.uploads.sweep() == 3
    assert biographer.seen <= set(TRANSITIONS)
    # Joining that is given up is tested where parts are removed.
    assert set(TRANSITIONS) - biographer.seen == {(State.JOINING, Event.TERMINATED)}
    assert set(biographer.states.values()) == {None}


# Completion.


@pytest.mark.anyio
async def test_a_client_is_not_told_that_it_is_done_before_the_hook_was(make: MakeStage) -> None:
    stage = make(hooks=FailingOnce())
    upload = await stage.upload()
    exchange = stage.exchange(upload.id, 0, b"hello")
    with pytest.raises(RuntimeError, match="the database is away"):
        await exchange.run()  # the server hears of it as it is
    assert exchange.answer.status == 503
    assert exchange.answer.headers["retry-after"] == "5"
    assert "upload-offset" not in exchange.answer.headers
    assert b"database" not in exchange.answer.body
    assert (await stage.head(upload.id)).headers["upload-offset"] == "5"
    assert stage.events == ["completed"]


Ask = Callable[[Stage, str], Awaitable[object]]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda stage, upload_id: stage.head(upload_id), id="head"),
        pytest.param(lambda stage, upload_id: stage.patch(upload_id, 5), id="empty-patch"),
        pytest.param(lambda stage, upload_id: stage.patch(upload_id, 0, b"hello"), id="patch"),
        pytest.param(lambda stage, upload_id: stage.uploads.sweep(), id="sweep"),
    ],
)
async def test_whoever_comes_next_repeats_a_failed_completion(make: MakeStage, ask: Ask) -> None:
    stage = make(hooks=FailingOnce())
    upload = await stage.upload()
    with pytest.raises(RuntimeError):
        await stage.patch(upload.id, 0, b"hello")
    assert stage.events == []
    await ask(stage, upload.id)
    assert stage.events == ["completed"]
    assert (await stage.store.get(upload.id)).is_complete
    assert await stage.uploads.sweep() == 0
    assert stage.events == ["completed"]


class Slow(Recorder):
    """Completion that waits to be let go."""

    def __init__(self) -> None:
        super().__init__()
        self.is_completing, self.may_go_on = anyio.Event(), anyio.Event()

    async def completed(self, upload: Upload) -> None:
        self.is_completing.set()
        await self.may_go_on.wait()
        await super().completed(upload)


@pytest.mark.anyio
async def test_while_it_is_completing_nobody_is_told_that_it_is_done(make: MakeStage) -> None:
    hooks = Slow()
    stage = make(hooks=hooks, engine={"locker": MemoryLocker(patience=0.01)}, downloads=True)
    upload = await stage.upload()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.patch, upload.id, 0, b"hello")
        await hooks.is_completing.wait()
        answers = [
            await stage.head(upload.id),
            await stage.patch(upload.id, 5),
            await stage.patch(upload.id, 0, b"hello"),
            await stage.driver.request("GET", f"/{upload.id}"),
            await stage.driver.request("HEAD", f"/{upload.id}", {"Tus-Resumable": None}),
        ]
        hooks.may_go_on.set()
    assert [answer.status for answer in answers] == [423, 503, 503, 503, 503]
    for answer in answers:
        assert int(answer.headers["retry-after"]) > 0
        assert "upload-offset" not in answer.headers
    assert await stage.offset(upload.id) == 5
    assert hooks.events == ["completed"]


@pytest.mark.anyio
async def test_an_upload_that_was_filled_when_its_process_died_is_completed_by_a_sweep(
    make: MakeStage,
) -> None:
    stage = make()
    upload = await stage.upload()

    async def chunks() -> Any:
        yield b"hello"

    await stage.store.append(upload, chunks())  # and nobody is left to complete it
    assert stage.events == []
    await stage.uploads.sweep()
    assert stage.events == ["completed"]


# Removal.


@pytest.mark.anyio
async def test_a_failed_removal_is_repeated_by_the_next_delete(make: MakeStage) -> None:
    stage = make(hooks=FailingOnce())
    upload = await stage.upload(content=b"he")
    exchange = stage.driver.exchange("DELETE", f"/{upload.id}")
    with pytest.raises(RuntimeError):
        await exchange.run()
    assert (exchange.answer.status, exchange.answer.headers["retry-after"]) == (503, "5")
    assert (await stage.head(upload.id)).status == 404
    assert (await stage.patch(upload.id, 2, b"llo")).status == 404
    assert (await stage.driver.request("DELETE", f"/{upload.id}")).status == 204
    assert stage.events == ["terminated"]
    with pytest.raises(UploadNotFound):
        await stage.store.get(upload.id)


@pytest.mark.anyio
async def test_a_failed_removal_is_repeated_by_the_sweeper(make: MakeStage) -> None:
    stage = make(hooks=FailingOnce())
    upload = await stage.upload(content=b"he")
    with pytest.raises(UploadPending):
        await stage.uploads.terminate(upload.id)
    assert await stage.uploads.sweep() == 1
    assert stage.events == ["terminated"]
    assert await stage.uploads.sweep() == 0


@pytest.mark.anyio
async def test_an_expired_upload_whose_hook_fails_is_gone_all_the_same(make: MakeStage) -> None:
    stage = make(hooks=FailingOnce(), engine={"expiry": Expiry(initial=HOUR)})
    upload = await stage.upload(content=b"he")
    stage.clock.advance(hours=1)
    with pytest.RaisesGroup(UploadPending):
        await stage.uploads.sweep()
    assert (await stage.head(upload.id)).status == 410
    assert await stage.uploads.sweep() == 1
    assert stage.events == ["expired"]
    assert (await stage.head(upload.id)).status == 404


class Vetoing(Recorder):
    async def terminating(self, upload: Upload) -> None:
        raise UploadNotFound("not yours to remove")


@pytest.mark.anyio
async def test_a_host_may_refuse_a_removal_and_the_upload_stays(make: MakeStage) -> None:
    stage = make(hooks=Vetoing())
    upload = await stage.upload(content=b"he")
    assert (await stage.driver.request("DELETE", f"/{upload.id}")).status == 404
    assert (await stage.patch(upload.id, 2, b"llo")).status == 204
    assert stage.events == ["completed"]


# Order.


class Overlapping(Recorder):
    """Fails if two hooks of one upload run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.running: set[str] = set()

    async def _run(self, upload: Upload, name: str) -> None:
        assert upload.id not in self.running
        self.running.add(upload.id)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        self.running.discard(upload.id)
        self.events.append(name)

    async def completed(self, upload: Upload) -> None:
        await self._run(upload, "completed")

    async def terminated(self, upload: Upload) -> None:
        await self._run(upload, "terminated")


@pytest.mark.anyio
async def test_hooks_of_one_upload_never_overlap_and_keep_their_order(make: MakeStage) -> None:
    stage = make(hooks=Overlapping())
    for _ in range(5):
        stage.events.clear()
        upload = await stage.upload()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.patch, upload.id, 0, b"hello")
            tasks.start_soon(stage.head, upload.id)
            tasks.start_soon(stage.driver.request, "DELETE", f"/{upload.id}")
            tasks.start_soon(stage.uploads.sweep)
        assert stage.events in (["completed", "terminated"], ["terminated"])


# Shutdown.


@pytest.mark.anyio
async def test_a_shutdown_keeps_what_came_and_lets_go_at_once(make: MakeStage) -> None:
    stage = make()
    upload = await stage.upload(length=9)
    exchange = stage.exchange(upload.id, 0, [b"hello", STALL])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        await exchange.starved()
        stage.uploads.shutdown()
    assert (exchange.answer.status, exchange.answer.headers["retry-after"]) == (503, "5")
    assert (await stage.store.get(upload.id)).offset == 5
    refused = await stage.patch(upload.id, 5, b"more")
    assert refused.status == 503
    assert (await stage.head(upload.id)).headers["upload-offset"] == "5"


@pytest.mark.anyio
async def test_a_shutdown_leaves_what_has_arrived_whole_alone(make: MakeStage) -> None:
    stage = make(hooks=Slow())
    assert isinstance(stage.hooks, Slow)
    upload = await stage.upload()
    exchange = stage.exchange(upload.id, 0, b"hello")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        await stage.hooks.is_completing.wait()
        stage.uploads.shutdown()
        stage.hooks.may_go_on.set()
    assert exchange.answer.status == 204
    assert stage.events == ["completed"]


@pytest.mark.anyio
async def test_a_client_that_left_is_not_in_the_way_of_a_shutdown(make: MakeStage) -> None:
    stage = make()
    upload = await stage.upload(length=9)
    await stage.patch(upload.id, 0, [b"hello", DISCONNECT])
    stage.uploads.shutdown()
    assert stage.uploads._locks._sources == set()


def test_the_engine_is_told_apart_from_another_kind_of_digest() -> None:
    with pytest.raises(ValueError, match="sha256"):
        Uploads(MemoryStore(), digest="md5")  # type: ignore[arg-type]
