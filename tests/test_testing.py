"""The tools we give to those who write stores, lockers and apps: the suites find what is broken."""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.engine.test_uploads import CoreStore
from tusasgi import Upload, UploadLocked
from tusasgi.lockers import Locker
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.stores import Store
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import (
    DISCONNECT,
    END,
    STALL,
    ASGIDriver,
    Client,
    LockerSuite,
    ScriptedExchange,
    StoreSuite,
    new_upload,
    request,
)
from tusasgi.testing.faults import cancelled_at
from tusasgi.testing.stores import records as record_tests
from tusasgi.testing.stores import tools

pytestmark = pytest.mark.anyio

Failure = (AssertionError, pytest.fail.Exception, BaseExceptionGroup)


# Stores, each with one thing wrong.


class KeepsWhatWasRefused(MemoryStore):
    async def append(self, upload: Upload, chunks: AsyncIterable[bytes], **options: Any) -> Upload:
        stored = self._bytes_of(upload.id)
        async for chunk in chunks:
            stored += chunk
        return replace(upload, offset=len(stored))


class LosesEmptyEnds(MemoryStore):
    async def append(self, upload: Upload, chunks: AsyncIterable[bytes], **options: Any) -> Upload:
        whole = [chunk async for chunk in chunks]
        self._bytes_of(upload.id).extend(b"".join(whole[:2]))
        return await self.get(upload.id)


class CountsInTheRecord(MemoryStore):
    async def get(self, upload_id: str) -> Upload:
        self._bytes_of(upload_id)
        return self._records[upload_id]


class TakesTakenIds(MemoryStore):
    async def create(self, upload: Upload) -> Upload:
        self._records.pop(upload.id, None)
        return await super().create(upload)


class KeepsWhatIsTerminated(MemoryStore):
    async def terminate(self, upload_id: str) -> None:
        pass


class FindsEverything(MemoryStore):
    async def due(self, now: datetime) -> AsyncIterator[str]:
        for upload_id in self._records:
            yield upload_id


class ReadsOneMore(MemoryStore):
    async def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        async for chunk in super().read(upload, start, stop + 1):
            yield chunk


class NeverReturns(MemoryStore):
    async def finish(self, upload: Upload) -> Upload:
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        return upload


class Suite(StoreSuite):
    is_persistent = False
    memory_bound = 8 * 1024 * 1024  # which memory itself exceeds

    def make_store(self, place: Path) -> MemoryStore:
        return MemoryStore()


@pytest.mark.parametrize(
    ("store", "test", "arguments"),
    [
        pytest.param(
            KeepsWhatWasRefused(),
            Suite.test_an_exception_from_the_chunks_keeps_nothing_of_this_append,
            {"came_before": [b"x"]},
            id="keeps-what-was-refused",
        ),
        pytest.param(
            LosesEmptyEnds(),
            Suite.test_any_split_of_the_bytes_is_the_same_upload,
            {"chunks": [b"ab", b"cd", b"ef"]},
            id="loses-chunks",
        ),
        pytest.param(
            CountsInTheRecord(),
            Suite.test_an_update_replaces_everything_but_the_offset,
            {"fields": {"length": 9}},
            id="counts-in-the-record",
        ),
        pytest.param(
            TakesTakenIds(),
            Suite.test_a_taken_id_is_refused_and_the_upload_that_has_it_stays,
            {},
            id="takes-taken-ids",
        ),
        pytest.param(
            KeepsWhatIsTerminated(),
            Suite.test_a_terminated_upload_is_gone_and_another_may_take_its_id,
            {},
            id="keeps-what-is-terminated",
        ),
        pytest.param(
            KeepsWhatIsTerminated(),
            Suite.test_a_termination_cancelled_at_any_await_can_be_repeated,
            {},
            id="keeps-what-is-terminated-when-cancelled",
        ),
        pytest.param(
            FindsEverything(), Suite.test_exactly_what_is_due_is_found, {}, id="finds-everything"
        ),
        pytest.param(
            ReadsOneMore(), Suite.test_a_range_is_read, {"start": 0, "stop": 5}, id="reads-more"
        ),
        pytest.param(
            MemoryStore(),
            Suite.test_the_memory_of_a_long_append_is_bounded,
            {},
            id="memory-grows",
        ),
        pytest.param(
            NeverReturns(),
            Suite.test_a_finish_cancelled_at_any_await_can_be_repeated,
            {},
            id="suspends-without-end",
        ),
    ],
)
async def test_the_suite_finds_a_store_that_breaks_its_promise(
    store: Store,
    test: Callable[..., Any],
    arguments: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools, "MOST_AWAITS", 20)

    async def reopened() -> Store:
        return store

    if "reopened" in test.__code__.co_varnames:
        arguments = {**arguments, "reopened": reopened}
    if "cancelled" in test.__code__.co_varnames:
        arguments = {**arguments, "cancelled": cancelled_at}
    with pytest.raises(Failure):
        await test(Suite(), store=store, **arguments)


@pytest.mark.parametrize(
    "needed",
    [
        tools.supports_local_path,
        tools.supports_read,
        tools.supports_terminate,
        tools.supports_sweep,
        tools.supports_concat,
        tools.supports_defer_length,
    ],
)
async def test_what_a_store_does_not_support_is_skipped(needed: Callable[[Store], Any]) -> None:
    with pytest.raises(pytest.skip.Exception):
        needed(CoreStore())
    assert len(list(record_tests._operations(CoreStore(), new_upload()))) == 6


# Lockers, each with one thing wrong.


class LetsEverybodyIn:
    @asynccontextmanager
    async def lock(
        self, upload_id: str, *, interrupt: Callable[[], None], take_over: bool = True
    ) -> AsyncIterator[None]:
        yield


class LetsEverybodyInAndDisturbs(LetsEverybodyIn):
    holder: Callable[[], None] | None = None

    @asynccontextmanager
    async def lock(
        self, upload_id: str, *, interrupt: Callable[[], None], take_over: bool = True
    ) -> AsyncIterator[None]:
        if self.holder is not None:
            self.holder()
        self.holder = interrupt
        yield


class NeverLetsGo(MemoryLocker):
    @asynccontextmanager
    async def lock(
        self, upload_id: str, *, interrupt: Callable[[], None], take_over: bool = True
    ) -> AsyncIterator[None]:
        if upload_id in self._locks:
            raise UploadLocked("for ever")
        self._locks[upload_id] = None  # type: ignore[assignment]
        yield


class LockSuite(LockerSuite):
    is_shared = False

    def make_locker(self, place: Path, *, patience: float) -> Locker:
        return MemoryLocker(patience=patience)


@pytest.mark.parametrize(
    ("locker", "test"),
    [
        pytest.param(
            LetsEverybodyIn(),
            LockSuite.test_without_take_over_a_held_lock_is_refused_and_nobody_disturbed,
            id="lets-everybody-in",
        ),
        pytest.param(
            LetsEverybodyIn(),
            LockSuite.test_one_holds_the_lock_at_a_time_and_everyone_gets_it,
            id="two-holders",
        ),
        pytest.param(
            LetsEverybodyInAndDisturbs(),
            LockSuite.test_without_take_over_a_held_lock_is_refused_and_nobody_disturbed,
            id="disturbs",
        ),
        pytest.param(
            NeverLetsGo(), LockSuite.test_a_lock_can_be_taken_again_and_again, id="never-lets-go"
        ),
    ],
)
async def test_the_suite_finds_a_locker_that_breaks_its_promise(
    locker: Locker, test: Callable[..., Any]
) -> None:
    arguments: dict[str, Any] = {"locker": locker, "_nothing_is_left": None}
    if "other" in test.__code__.co_varnames:
        arguments["other"] = locker
    with pytest.raises((*Failure, UploadLocked)):
        await test(LockSuite(), **arguments)


async def test_the_suite_finds_a_locker_without_patience_to_lose(tmp_path: Path) -> None:
    with pytest.raises(Failure):
        await LockSuite().test_a_holder_that_does_not_let_go_makes_the_newcomer_give_up(
            place=tmp_path, impatient=LetsEverybodyInAndDisturbs()
        )


def test_a_locker_suite_takes_a_lockers_word_that_nothing_is_left(tmp_path: Path) -> None:
    suite = LockSuite()
    assert anyio.run(suite.leftovers, MemoryLocker(), tmp_path) is None


# The driver.


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path, and with the body as it came."""
    chunks = []
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        chunks.append(message.get("body", b"<left>"))
    await send({"type": "http.response.start", "status": 200, "headers": scope["headers"]})
    await send({"type": "http.response.body", "body": scope["raw_path"], "more_body": True})
    await send({"type": "http.response.body", "body": b"|" + b",".join(chunks)})


@pytest.mark.parametrize(
    ("body", "seen", "receives"),
    [
        pytest.param(b"", b"/a|", 1, id="empty"),
        pytest.param(b"abc", b"/a|abc", 1, id="whole"),
        pytest.param([], b"/a|", 1, id="no-chunks"),
        pytest.param([b"ab", b"", b"c"], b"/a|ab,,c,", 4, id="chunks"),
        pytest.param([b"ab", END], b"/a|ab,", 2, id="ended"),
        pytest.param([b"ab", DISCONNECT], b"/a|ab,<left>", 2, id="left"),
    ],
)
async def test_a_script_arrives_as_written(body: Any, seen: bytes, receives: int) -> None:
    answer = await request(echo, "POST", "/a", body=body)
    assert (answer.status, answer.body) == (200, seen)
    assert answer.receives == answer.receives_before_start == receives


@pytest.mark.parametrize(
    ("method", "headers", "body", "scope", "framed"),
    [
        pytest.param("POST", {}, b"abc", {}, {"content-length": "3"}, id="whole"),
        pytest.param("PATCH", {}, b"", {}, {"content-length": "0"}, id="empty"),
        pytest.param("GET", {}, b"", {}, {}, id="get"),
        pytest.param("POST", {}, [b"a"], {}, {"transfer-encoding": "chunked"}, id="chunks"),
        pytest.param("POST", {}, [b"a"], {"http_version": "2"}, {}, id="http-2"),
        pytest.param("POST", {"Content-Length": "9"}, b"a", {}, {"content-length": "9"}, id="lie"),
        pytest.param("POST", [("Content-Length", None)], b"a", {}, {}, id="not-given"),
    ],
)
async def test_a_body_is_framed_unless_the_test_says_how(
    method: str, headers: Any, body: Any, scope: Any, framed: dict[str, str]
) -> None:
    answer = await request(echo, method, "/a", headers, body, scope=scope)
    assert dict(answer.headers) == framed


async def test_a_driver_adds_its_mount_and_headers_which_a_request_may_replace() -> None:
    driver = ASGIDriver(echo, root_path="/files", headers={"A": "1", "B": "2", "C": "3"})
    answer = await driver.request("GET", "/x", {"b": "other", "c": None})
    assert answer.body == b"/files/x|"
    assert dict(answer.headers) == {"a": "1", "b": "other"}


async def test_an_exchange_is_fed_step_by_step() -> None:
    exchange = ScriptedExchange(echo, "POST", "/a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        for receives, chunk in enumerate([b"a", b"b"], start=1):
            await exchange.starved()
            assert exchange.receives == receives
            exchange.feed(chunk)
        await exchange.starved()
        assert not exchange.is_answered
        with pytest.raises(RuntimeError, match="not sent a complete response"):
            _ = exchange.answer
        exchange.end(b"c")
    assert exchange.is_answered
    assert exchange.answer.body == b"/a|a,b,c,"


async def test_a_stalled_client_stays_silent_until_it_is_gone() -> None:
    client = Client([b"a", STALL])
    assert (await client.receive())["body"] == b"a"
    with anyio.move_on_after(0) as scope:
        await client.receive()
    assert scope.cancelled_caught
    gone = Client()
    gone.disconnect()
    for _ in range(2):
        assert await gone.receive() == {"type": "http.disconnect"}


async def test_after_the_body_receive_waits_for_the_answer_as_servers_do() -> None:
    after: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def look() -> None:
            after.append((await receive())["type"])

        await receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await anyio.wait_all_tasks_blocked()
            assert after == []
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    await request(app, "POST", "/", body=b"abc")
    assert after == ["http.disconnect"]


async def test_a_send_to_a_client_that_left_fails_from_the_message_that_is_named() -> None:
    exchange = ScriptedExchange(echo, "POST", "/a", body=b"abc", send_fails_from=1)
    with pytest.raises(OSError, match="client has left"):
        await exchange.run()
    assert [message["type"] for message in exchange.sent] == ["http.response.start"]


START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b""}


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        pytest.param([BODY], "out of order", id="body-first"),
        pytest.param([START, START], "out of order", id="two-starts"),
        pytest.param([START, BODY, BODY], "out of order", id="after-the-end"),
        pytest.param([{**START, "headers": [(b"A", b"")]}], "lower-case", id="upper-case"),
        pytest.param([{**START, "headers": [("a", "")]}], "lower-case", id="text"),
    ],
)
async def test_an_app_that_breaks_asgi_gets_an_error(
    messages: list[dict[str, Any]], complaint: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    with pytest.raises(RuntimeError, match=complaint):
        await request(app, "GET", "/")


INTERIM = {"type": "http.response.informational", "status": 104, "headers": [(b"a", b"b")]}


async def test_interim_responses_are_offered_and_recorded_for_who_takes_them() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert INTERIM["type"] in scope["extensions"]
        await send(INTERIM)
        await receive()
        await send({**INTERIM, "status": 103})
        await send(START)
        await send(BODY)

    exchange = ASGIDriver(app, takes_interims=True).exchange("POST", "/", body=b"abc")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        second = await exchange.interim(1)
        assert (second.status, second.receives) == (103, 1)
    first, _ = exchange.answer.interims
    assert (first.status, first.headers["a"], first.receives) == (104, "b", 0)
    assert (exchange.answer.status, exchange.answer.receives_before_start) == (200, 1)
    with pytest.raises(RuntimeError, match="sent 2"):
        await exchange.interim(2)


@pytest.mark.parametrize(
    ("takes_interims", "messages"),
    [
        pytest.param(False, [INTERIM], id="not-offered"),
        pytest.param(True, [START, INTERIM], id="after-the-start"),
        pytest.param(True, [START, BODY, INTERIM], id="after-the-end"),
    ],
)
async def test_an_interim_response_out_of_order_is_an_error(
    takes_interims: bool, messages: list[dict[str, Any]]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    driver = ASGIDriver(app, takes_interims=takes_interims)
    with pytest.raises(RuntimeError, match="out of order"):
        await driver.request("GET", "/")
