"""Whatever leaves a hook is the hook's own: no type of exception destroys, hides or completes."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import anyio
import pytest

from tests._stage import OCTETS, MakeStage, Recorder, Stage, make_stage
from tusasgi import (
    Event,
    Expiry,
    Fact,
    Forbidden,
    Observer,
    Outcome,
    StoreFull,
    StoreUnavailable,
    TryAgain,
    TusError,
    UnsupportedMedia,
    Upload,
    UploadExpired,
    UploadLocked,
    UploadNotFound,
    UploadPending,
    Uploads,
)
from tusasgi.stores import BytesLost, PartLost, WriteConflict
from tusasgi.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
EXPIRY = Expiry(initial=HOUR)


@pytest.fixture
def make(impatient: None) -> MakeStage:
    """Over memory alone: what leaves a hook does not come to a store."""
    store = MemoryStore()
    return lambda **options: make_stage(store, **options)


class TooManyRequests(TusError):
    status = 429


class BadGateway(TusError):
    status = 502


ANYTHING = [
    pytest.param(UploadExpired("that of another upload"), id="expired"),
    pytest.param(UploadNotFound(), id="not-found"),
    pytest.param(UploadLocked("another upload is held"), id="locked"),
    pytest.param(UploadPending("another upload is pending"), id="pending"),
    pytest.param(StoreUnavailable("another store is away"), id="unavailable"),
    pytest.param(StoreFull("another store is full"), id="full"),
    pytest.param(Forbidden("no"), id="forbidden"),
    pytest.param(WriteConflict(), id="overtaken"),
    pytest.param(PartLost(), id="part-gone"),
    pytest.param(BytesLost(), id="bytes-gone"),
    pytest.param(OSError("the disk"), id="os-error"),
    pytest.param(FileNotFoundError("poster"), id="file-not-found"),
    pytest.param(TimeoutError(), id="timeout"),
    pytest.param(StopAsyncIteration(), id="stop-iteration"),
    pytest.param(ExceptionGroup("two", [UploadExpired("one"), OSError("two")]), id="group"),
]

PASSING = [
    pytest.param(TryAgain("the scanner is busy"), id="try-again"),
    pytest.param(UploadPending("of another upload"), id="pending"),
    pytest.param(UploadLocked("another upload is held"), id="locked"),
    pytest.param(TooManyRequests("slowly"), id="too-many"),
    pytest.param(BadGateway("the scanner is away"), id="bad-gateway"),
]


class Failing(Recorder):
    """Hooks that raise what they are told to."""

    head_size = 3
    min_head_size = 1

    def __init__(self, **raising: Exception) -> None:
        super().__init__()
        self.raising = raising
        self.seen: list[str] = []

    def _call(self, name: str, upload: Upload) -> None:
        self.seen.append(upload.id)
        self.events.append(name)
        if name in self.raising:
            raise self.raising[name]

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        self._call("inspect", upload)
        return {"head": head.decode()}

    async def refused(self, upload: Upload, refusal: TusError) -> None:
        self._call("refused", upload)

    async def completed(self, upload: Upload) -> None:
        self._call("completed", upload)

    async def terminating(self, upload: Upload) -> None:
        self._call("terminating", upload)

    async def terminated(self, upload: Upload) -> None:
        self._call("terminated", upload)

    async def expired(self, upload: Upload) -> None:
        self._call("expired", upload)


async def asked(stage: Stage, method: str, path: str, **more: Any) -> int:
    """Return the status; what rises to the server is the host's to see."""
    exchange = stage.driver.exchange(method, path, **{"body": b"", **more})
    try:
        await exchange.run()
    except Exception:  # looked at by its answer
        assert exchange.is_answered
    return exchange.answer.status


async def patched(stage: Stage, upload_id: str, content: bytes = b"abc") -> int:
    headers = {"Upload-Offset": "0", "Content-Type": OCTETS}
    return await asked(stage, "PATCH", f"/{upload_id}", headers=headers, body=content)


async def swept(stage: Stage) -> int:
    try:
        return await stage.uploads.sweep()
    except ExceptionGroup:
        return 0


@pytest.mark.parametrize("failure", ANYTHING)
async def test_a_completed_hook_that_fails_costs_the_upload_nothing(
    make: MakeStage, failure: Exception
) -> None:
    hooks = Failing(completed=failure)
    stage = make(hooks=hooks, engine={"expiry": EXPIRY})
    upload = await stage.upload(length=3)
    assert await patched(stage, upload.id) == 503
    for hours in (0, 2):
        stage.clock.advance(hours=hours)
        assert await swept(stage) == 0
        assert await asked(stage, "HEAD", f"/{upload.id}") in (423, 503)
        assert await patched(stage, upload.id) == 503
    hooks.raising.clear()
    assert await stage.offset(upload.id) == 3
    assert await stage.content(upload.id) == b"abc"
    assert "terminated" not in hooks.events and "expired" not in hooks.events


@pytest.mark.parametrize("failure", ANYTHING)
async def test_a_pending_answer_has_the_failure_of_the_hook_as_its_cause(
    failure: Exception,
) -> None:
    uploads = Uploads(MemoryStore(), hooks=Failing(completed=failure))
    with pytest.raises(UploadPending) as pending:
        await uploads.create(length=0)
    assert pending.value.__cause__ is failure


async def test_a_hook_that_asks_for_time_says_when_to_come_again_and_is_no_bug(
    make: MakeStage,
) -> None:
    stage = make(hooks=Failing(completed=TryAgain("the scanner is busy", retry_after=77)))
    upload = await stage.upload(length=3)
    answer = await stage.patch(upload.id, 0, b"abc")  # and nothing rises to the server
    assert (answer.status, answer.headers["retry-after"]) == (503, "77")


@pytest.mark.parametrize("failure", ANYTHING)
async def test_a_terminated_hook_that_fails_is_called_again_and_the_upload_is_gone(
    make: MakeStage, failure: Exception
) -> None:
    hooks = Failing(terminated=failure)
    stage = make(hooks=hooks)
    upload = await stage.upload(length=3, content=b"a")
    assert await asked(stage, "DELETE", f"/{upload.id}") == 503
    assert await asked(stage, "HEAD", f"/{upload.id}") == 404
    assert await swept(stage) == 0
    hooks.raising.clear()
    assert await stage.uploads.sweep() == 1
    assert hooks.events[-3:] == ["terminated"] * 3
    with pytest.raises(UploadNotFound):
        await stage.store.get(upload.id)


@pytest.mark.parametrize("failure", ANYTHING)
async def test_an_expired_hook_that_fails_is_called_again_and_no_other_in_its_place(
    make: MakeStage, failure: Exception
) -> None:
    hooks = Failing(expired=failure)
    stage = make(hooks=hooks, engine={"expiry": EXPIRY})
    upload = await stage.upload(length=3, content=b"a")
    stage.clock.advance(hours=2)
    for _ in range(2):
        with pytest.RaisesGroup(UploadPending):
            await stage.uploads.sweep()
    assert await asked(stage, "HEAD", f"/{upload.id}") == 410
    hooks.raising.clear()
    assert await asked(stage, "DELETE", f"/{upload.id}") == 204
    assert hooks.events == ["inspect", "expired", "expired", "expired"]
    with pytest.raises(UploadNotFound):
        await stage.store.get(upload.id)


@pytest.mark.parametrize("failure", ANYTHING)
async def test_a_refused_hook_that_fails_leaves_the_upload_to_be_judged_again(
    make: MakeStage, failure: Exception
) -> None:
    hooks = Failing(inspect=UnsupportedMedia("no"), refused=failure)
    stage = make(hooks=hooks)
    upload = await stage.upload(length=3)
    assert await patched(stage, upload.id) == 503
    assert await stage.offset(upload.id) == 0
    hooks.raising.clear()
    assert await patched(stage, upload.id) == 204
    assert await stage.content(upload.id) == b"abc"


@pytest.mark.parametrize("failure", PASSING)
async def test_an_inspection_that_cannot_judge_now_keeps_nothing_and_the_upload(
    make: MakeStage, failure: TusError
) -> None:
    hooks = Failing(inspect=failure)
    stage = make(hooks=hooks)
    upload = await stage.upload(length=None)
    headers = {"Upload-Offset": "0", "Content-Type": OCTETS, "Upload-Length": "3"}
    answer = await stage.driver.request("PATCH", f"/{upload.id}", headers, b"abc")
    assert answer.status == failure.status
    assert await stage.store.get(upload.id) == upload
    hooks.raising.clear()
    answer = await stage.driver.request("PATCH", f"/{upload.id}", headers, b"abc")
    assert answer.status == 204
    assert hooks.events == ["inspect", "inspect", "completed"]


@pytest.mark.parametrize("signal", [WriteConflict(), PartLost(), BytesLost()], ids=repr)
async def test_a_signal_of_a_store_that_an_inspection_lets_out_is_a_bug_of_the_host(
    make: MakeStage, signal: Exception
) -> None:
    stage = make(hooks=Failing(inspect=signal))
    upload = await stage.upload(length=3)
    assert await patched(stage, upload.id) == 500
    assert await stage.store.get(upload.id) == upload


@pytest.mark.parametrize("failure", PASSING)
async def test_of_a_creation_whose_bytes_cannot_be_judged_now_nothing_is_left(
    make: MakeStage, failure: TusError
) -> None:
    hooks = Failing(inspect=failure)
    stage = make(hooks=hooks)
    headers = {"Upload-Length": "3", "Content-Type": OCTETS}
    assert await asked(stage, "POST", "/", headers=headers, body=b"abc") == failure.status
    with pytest.raises(UploadNotFound):
        await stage.store.get(hooks.seen[0])


@pytest.mark.parametrize("failure", ANYTHING)
async def test_a_creation_that_brought_all_its_bytes_is_not_thrown_away_for_a_failing_hook(
    make: MakeStage, failure: Exception
) -> None:
    hooks = Failing(completed=failure)
    stage = make(hooks=hooks)
    headers = {"Upload-Length": "3", "Content-Type": OCTETS}
    assert await asked(stage, "POST", "/", headers=headers, body=b"abc") == 503
    hooks.raising.clear()
    assert await stage.uploads.sweep() == 0
    assert (await stage.store.get(hooks.seen[0])).is_complete
    assert await stage.content(hooks.seen[0]) == b"abc"


class Full(MemoryStore):
    is_full = True

    async def finish(self, upload: Upload) -> Upload:
        if self.is_full:
            raise StoreFull("no room")
        return await super().finish(upload)


async def test_a_creation_whose_store_cannot_finish_it_now_is_not_thrown_away() -> None:
    store, hooks = Full(), Failing()
    stage = make_stage(store, hooks=hooks)
    headers = {"Upload-Length": "3", "Content-Type": OCTETS}
    assert await asked(stage, "POST", "/", headers=headers, body=b"abc") == 507
    store.is_full = False
    assert await stage.uploads.sweep() == 0
    assert (await store.get(hooks.seen[0])).is_complete


@pytest.mark.parametrize(
    "refusal", [UploadNotFound(), UploadExpired("not this one"), Forbidden("it is kept")]
)
async def test_a_termination_that_the_hook_refuses_is_not_told_as_done(
    make: MakeStage, refusal: TusError
) -> None:
    stage = make(hooks=Failing(terminating=refusal), idempotent_delete=True)
    upload = await stage.upload(length=3, content=b"a")
    assert await asked(stage, "DELETE", f"/{upload.id}") == refusal.status
    assert await stage.offset(upload.id) == 1


# Hooks that do not end.


class Hanging(Recorder):
    """Hooks that never end for one upload."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = ""
        self.calls: list[str] = []
        self.all_called = anyio.Event()

    async def completed(self, upload: Upload) -> None:
        await self._call(upload)

    async def expired(self, upload: Upload) -> None:
        await self._call(upload)

    async def _call(self, upload: Upload) -> None:
        self.calls.append(upload.id)
        if len(set(self.calls)) == 30:
            self.all_called.set()
        if upload.id == self.stuck:
            await anyio.sleep_forever()


async def test_a_hook_that_hangs_keeps_a_sweep_from_no_other_upload(make: MakeStage) -> None:
    hooks = Hanging()
    stage = make(hooks=hooks, engine={"expiry": EXPIRY})
    ids = [(await stage.upload(length=3)).id for _ in range(30)]
    hooks.stuck = ids[0]
    stage.clock.advance(hours=2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.uploads.sweep)
        with anyio.fail_after(10):
            await hooks.all_called.wait()
        await anyio.sleep(0.2)  # the last ones are on their way out
        tasks.cancel_scope.cancel()
    for upload_id in ids[1:]:
        with pytest.raises(UploadNotFound):
            await stage.store.get(upload_id)


async def test_a_hook_that_hangs_has_failed_after_its_time_and_is_called_again(
    make: MakeStage,
) -> None:
    hooks = Hanging()
    stage = make(hooks=hooks, engine={"expiry": EXPIRY, "hook_timeout": 0.05})
    stuck, other = await stage.upload(length=3), await stage.upload(length=3)
    hooks.stuck = stuck.id
    assert await patched(stage, stuck.id) == 503
    assert await patched(stage, other.id) == 204
    with anyio.fail_after(10), pytest.RaisesGroup(UploadPending):
        await stage.uploads.sweep()
    hooks.stuck = ""
    assert await stage.offset(stuck.id) == 3
    assert hooks.calls.count(stuck.id) == 3


@pytest.mark.parametrize("seconds", [0, -1.0])
def test_a_hook_has_a_time_that_is_one(seconds: float) -> None:
    with pytest.raises(ValueError, match="hook_timeout must be a positive number"):
        Uploads(MemoryStore(), hook_timeout=seconds)


async def test_a_sweep_whose_list_breaks_off_looks_after_what_it_has_found() -> None:
    class Breaking(MemoryStore):
        async def due(self, now: Any) -> Any:
            async for upload_id in super().due(now):
                yield upload_id
            raise StoreUnavailable("the list broke off")

    now = [Recorder()]
    uploads = Uploads(Breaking(), hooks=now[0], expiry=Expiry(initial=timedelta(microseconds=1)))
    upload = await uploads.create(length=3)
    with pytest.RaisesGroup(StoreUnavailable):
        await uploads.sweep()
    assert now[0].events == ["expired"]
    with pytest.raises(UploadNotFound):
        await uploads.store.get(upload.id)


# Observers.


class Broken(Observer):
    """Raises what would steer an engine that believed it."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def request_began(self, operation: str) -> None:
        raise self.failure

    def request_ended(self, outcome: Outcome) -> None:
        raise self.failure

    def changed(self, upload: Upload, event: Event) -> None:
        raise self.failure

    def lock_waited(self, seconds: float) -> None:
        raise self.failure

    def swept(self, removed: int, failed: int) -> None:
        raise self.failure


@pytest.mark.parametrize("failure", ANYTHING)
async def test_an_observer_that_fails_changes_nothing_and_is_logged(
    make: MakeStage, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    stage = make(engine={"observer": Broken(failure), "expiry": EXPIRY})
    upload = await stage.upload(length=3, content=b"abc")
    assert await stage.offset(upload.id) == 3
    unfinished = await stage.upload(length=3)
    stage.clock.advance(hours=2)
    assert await stage.uploads.sweep() == 1
    with pytest.raises(UploadNotFound):
        await stage.store.get(unfinished.id)
    assert (await stage.driver.request("DELETE", f"/{upload.id}")).status == 204
    logged = [record for record in caplog.records if record.name == "tusasgi.observer"]
    assert logged and all(record.exc_info for record in logged)
