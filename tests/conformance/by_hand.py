"""The statements whose preconditions are prose, one function each, by their ids."""

import contextlib
import sys
import tracemalloc
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import anyio
import anyio.lowlevel
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from tests._stage import OCTETS, TUS, MakeStage, Recorder, Stage
from tests.conformance.generic import EVERY_EXTENSION
from tusasgi import (
    Creation,
    Expiry,
    Request,
    TusApp,
    UnsupportedMedia,
    Upload,
    Uploads,
)
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import DISCONNECT, STALL, ASGIDriver, RecordedResponse, ScriptedExchange

Test = Callable[[MakeStage], Awaitable[None]]

BY_HAND: dict[str, Test] = {}
"""The functions by the id of their statement."""

PATTERN = bytes(range(251)) * 4000
EXPIRY = Expiry(initial=timedelta(hours=1))


def rule(rule_id: str) -> Callable[[Test], Test]:
    def register(test: Test) -> Test:
        assert rule_id not in BY_HAND
        BY_HAND[rule_id] = test
        return test

    return register


# Core


@rule("CORE-003")
async def bad_offsets(make_stage: MakeStage) -> None:
    stage = make_stage()
    upload = await stage.upload()
    before = stage.snapshot()
    arabic = "\u0661".encode().decode("latin-1")
    for value in ("-1", "", "abc", "1.5", "0x1", "1_0", "+1", arabic):
        answer = await stage.patch(upload.id, 0, b"x", {"Upload-Offset": value})
        assert answer.status == 400, value
    assert stage.snapshot() == before


@rule("CORE-012")
async def other_versions(make_stage: MakeStage) -> None:
    stage = make_stage()
    upload = await stage.upload()
    before = stage.snapshot()
    for version in ("0.2.2", "2.0.0", "1.0", "x"):
        own = {"Tus-Resumable": version, "Upload-Length": "5"}
        assert (await stage.patch(upload.id, 0, b"hello", own)).status == 412
        for method, path in (("HEAD", f"/{upload.id}"), ("DELETE", f"/{upload.id}"), ("POST", "")):
            assert (await stage.driver.request(method, path, own)).status == 412
    assert stage.snapshot() == before


@rule("CORE-015")
async def listed_extensions(make_stage: MakeStage) -> None:
    enabled = {"creation", "termination", "expiration"}
    without = set(EVERY_EXTENSION) - enabled
    assert await _extensions(make_stage(engine={"expiry": EXPIRY}, without=without)) == enabled


@rule("CORE-053")
async def each_extension_in_turn(make_stage: MakeStage) -> None:
    for name in EVERY_EXTENSION:
        needs_creation = {"creation"} if name.startswith(("creation", "concat")) else set()
        on = {name} | needs_creation
        without = set(EVERY_EXTENSION) - on
        stage = make_stage(engine={"expiry": EXPIRY}, without=without)
        assert await _extensions(stage) == on


async def _extensions(stage: Stage) -> set[str]:
    answer = await stage.driver.request("OPTIONS", "/", {"Tus-Resumable": None})
    assert answer.status == 204
    return set(answer.headers["tus-extension"].split(","))


@rule("CORE-031")
async def never_stored_by_caches(make_stage: MakeStage) -> None:
    stage = make_stage()
    unfinished, finished = await stage.upload(), await stage.upload(content=b"hello")
    for upload in (unfinished, finished):
        assert (await stage.head(upload.id)).headers["cache-control"] == "no-store"


@rule("CORE-039")
async def everything_in_one_patch(make_stage: MakeStage) -> None:
    stage, size = make_stage(), 64 * 1024 * 1024
    upload = await stage.upload(length=size)
    chunk = bytes(256 * 1024)  # one object: what grows is what the server keeps
    script = [chunk] * (size // len(chunk))
    tracemalloc.start()
    try:
        answer = await stage.patch(upload.id, 0, script)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (answer.status, answer.headers["upload-offset"]) == (204, str(size))
    if isinstance(stage.store, FileStore):  # a memory store is what grows by its nature
        assert peak < 4 * 1024 * 1024


@rule("CORE-040")
async def a_thousand_bytes_one_by_one(make_stage: MakeStage) -> None:
    stage, content = make_stage(), PATTERN[:1000]
    upload = await stage.upload(length=1000)
    for offset in range(1000):
        answer = await stage.patch(upload.id, offset, content[offset : offset + 1])
        assert (answer.status, answer.headers["upload-offset"]) == (204, str(offset + 1))
    assert await stage.content(upload.id) == content


@rule("CORE-045")
async def a_cut_body_is_resumed(make_stage: MakeStage) -> None:
    stage, content = make_stage(), PATTERN[:1_000_000]
    upload = await stage.upload(length=len(content))
    await _cut(stage, upload, content, 300_000)
    offset = await stage.offset(upload.id)
    assert 0 <= offset <= 300_000
    answer = await stage.patch(upload.id, offset, content[offset:])
    assert answer.headers["upload-offset"] == "1000000"
    assert await stage.content(upload.id) == content


@rule("CORE-048")
async def a_cut_body_is_kept(make_stage: MakeStage) -> None:
    stage, content = make_stage(), PATTERN[:1_000_000]
    upload = await stage.upload(length=len(content))
    await _cut(stage, upload, content, 300_000)
    assert await stage.offset(upload.id) == 300_000
    assert await stage.content(upload.id) == content[:300_000]


async def _cut(stage: Stage, upload: Upload, content: bytes, sent: int) -> None:
    chunks = [content[start : start + 60_000] for start in range(0, sent, 60_000)]
    await stage.patch(upload.id, 0, [*chunks, DISCONNECT], {"Content-Length": str(len(content))})


@rule("CORE-046")
async def a_silent_client_is_given_up(make_stage: MakeStage) -> None:
    stage, upload, answer = await _time_out(make_stage)
    assert answer.status == 408
    with anyio.fail_after(1):
        assert await stage.offset(upload.id) == 10
        assert (await stage.patch(upload.id, 10, bytes(90))).status == 204  # not blocked


@rule("CORE-047")
async def a_timeout_closes_the_connection(make_stage: MakeStage) -> None:
    _, _, answer = await _time_out(make_stage)
    assert answer.headers["connection"] == "close"


async def _time_out(make_stage: MakeStage) -> tuple[Stage, Upload, RecordedResponse]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tusasgi.asgi.send._LINGER_SECONDS", 0.01)
        stage = make_stage(receive_timeout=0.05)
        upload = await stage.upload(length=100)
        with anyio.fail_after(5):
            body = [b"0123456789", STALL]
            answer = await stage.patch(upload.id, 0, body, {"Content-Length": "100"})
    return stage, upload, answer


# Creation


@rule("CRE-005")
async def bad_lengths(make_stage: MakeStage) -> None:
    stage = make_stage()
    for value in ("-1", "abc", "", "1.5", "1_0", "1e3", "9" * 40):
        answer = await stage.driver.request("POST", "/", {"Upload-Length": value})
        assert answer.status in (400, 413), value
        assert "location" not in answer.headers
    assert stage.snapshot() == {}


class _NoHtml(Recorder):
    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        if creation.metadata.get("filetype") == b"text/html":
            raise UnsupportedMedia("no HTML here")
        return creation


@rule("CRE-017")
async def a_hook_rejects_metadata(make_stage: MakeStage) -> None:
    stage = make_stage(hooks=_NoHtml())
    own = {"Upload-Length": "5", "Upload-Metadata": "filetype dGV4dC9odG1s"}
    answer = await stage.driver.request("POST", "/", own)
    assert (answer.status, answer.body) == (415, b"no HTML here\n")
    assert "location" not in answer.headers
    assert stage.snapshot() == {}


@rule("CRE-025")
async def location_resolves(make_stage: MakeStage) -> None:
    for public_url in (None, "https://files.example/proxy/api/files"):
        stage = make_stage(public_url=public_url)
        driver = ASGIDriver(stage.app, root_path="/proxy/api/files", headers=TUS)
        answer = await driver.request("POST", "/", {"Upload-Length": "100"})
        assert answer.status == 201
        url = urljoin("https://files.example/proxy/api/files/", answer.headers["location"])
        path = urlsplit(url).path.removeprefix("/proxy/api/files")
        assert (await driver.request("HEAD", path)).headers["upload-length"] == "100"


@rule("CWU-003")
async def creation_with_upload_needs_creation(make_stage: MakeStage) -> None:
    assert await _extensions(make_stage(without=["creation"])) == {"checksum", "termination"}
    # Extensions are only ever switched off: there is no way to ask for the one alone.
    with pytest.raises(ValueError, match="creation-with"):
        make_stage(without=["creation-with"])


@rule("DEF-002")
async def bad_deferrals(make_stage: MakeStage) -> None:
    stage = make_stage()
    for value in ("2", "0", "true", ""):
        answer = await stage.driver.request("POST", "/", {"Upload-Defer-Length": value})
        assert answer.status == 400, value
        assert "location" not in answer.headers
    assert stage.snapshot() == {}


# Expiration and termination


@rule("EXP-001")
async def a_swept_upload_is_gone(make_stage: MakeStage) -> None:
    stage = make_stage(engine={"expiry": EXPIRY})
    upload = await stage.upload(content=b"hel")
    stage.clock.advance(hours=2)
    assert await stage.uploads.sweep() == 1
    assert (await stage.head(upload.id)).status in (404, 410)
    assert stage.snapshot() == {}


@rule("EXP-008")
async def a_date_that_moves(make_stage: MakeStage) -> None:
    window = timedelta(hours=1)
    stage = make_stage(engine={"expiry": Expiry(initial=window, after_append=window)})
    upload = await stage.upload()
    first = await stage.patch(upload.id, 0, b"a")
    stage.clock.advance(minutes=30)
    second = await stage.patch(upload.id, 1, b"b")
    dates = [parsedate_to_datetime(each.headers["upload-expires"]) for each in (first, second)]
    assert dates[1] - dates[0] == timedelta(minutes=30)


@rule("TRM-004")
async def nothing_is_left(make_stage: MakeStage) -> None:
    stage = make_stage(engine={"expiry": EXPIRY})
    upload = await stage.upload(content=b"hel")
    assert stage.snapshot() != {}
    assert (await stage.driver.request("DELETE", f"/{upload.id}")).status == 204
    assert stage.snapshot() == {}
    assert stage.uploads._locks._locker._locks == {}


# Our choices


@rule("EDGE-029")
async def finished_uploads_stay(make_stage: MakeStage) -> None:
    stage = make_stage(engine={"expiry": EXPIRY})
    upload = await stage.upload(content=b"hello")
    stage.clock.advance(days=365)
    await stage.uploads.sweep()
    answer = await stage.head(upload.id)
    assert (answer.status, answer.headers["upload-offset"]) == (200, "5")


@rule("EDGE-031")
async def running_transfers_are_not_reaped(make_stage: MakeStage) -> None:
    stage = make_stage(engine={"expiry": EXPIRY})
    upload = await stage.upload(length=100)
    exchange = stage.exchange(upload.id, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        exchange.feed(bytes(50))
        await exchange.starved()
        stage.clock.advance(hours=2)
        assert await stage.uploads.sweep() == 0
        exchange.end(bytes(50))
    assert exchange.answer.status == 204
    assert exchange.answer.headers["upload-offset"] == "100"


@rule("EDGE-032")
async def expired_and_still_there(make_stage: MakeStage) -> None:
    stage = make_stage(engine={"expiry": EXPIRY})
    upload = await stage.upload()
    before = stage.snapshot()
    stage.clock.advance(hours=2)
    answer = await stage.patch(upload.id, 0, b"x")
    assert (answer.status, answer.receives_before_start) == (410, 1)  # a small rest is drained
    assert stage.snapshot() == before


@rule("EDGE-033")
async def a_holder_that_does_not_yield(make_stage: MakeStage) -> None:
    locker = MemoryLocker(patience=0.02)
    stage = make_stage(engine={"locker": locker})
    upload = await stage.upload()
    async with locker.lock(upload.id, interrupt=lambda: None):
        answer = await stage.patch(upload.id, 0, b"x")
    assert answer.status == 423
    assert await stage.offset(upload.id) == 0


@rule("EDGE-034")
async def a_stale_patch_does_not_block(make_stage: MakeStage) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tusasgi.asgi.send._LINGER_SECONDS", 0.01)
        stage = make_stage()
        upload = await stage.upload(length=100)
        stale = stage.exchange(upload.id, 0, [b"0123456789", STALL], {"Content-Length": "100"})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stale.run)
            await stale.starved()
            with anyio.fail_after(20):
                # HEAD never stops a transfer; a store may take a moment to write what came.
                while await stage.offset(upload.id) != 10:
                    await anyio.lowlevel.checkpoint()
            with anyio.fail_after(20):  # far less than the stale one may be silent
                fresh = await stage.patch(upload.id, 10, bytes(90))
        assert (fresh.status, fresh.headers["upload-offset"]) == (204, "100")
        assert stale.answer.status == 423


@rule("EDGE-039")
async def lists_without_blanks(make_stage: MakeStage) -> None:
    stage = make_stage(engine={"expiry": EXPIRY})
    answer = await stage.driver.request("OPTIONS", "/", {"Tus-Resumable": None})
    assert answer.status == 204
    assert answer.headers["tus-extension"] == ",".join(EVERY_EXTENSION)
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-checksum-algorithm"].startswith("sha1,sha256,sha512,md5")


class _NoText(Recorder):
    head_size = 64

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Any]:
        assert len(head) >= 64
        raise UnsupportedMedia("not a film")


@rule("EDGE-047")
async def a_rejected_head_ends_the_upload(make_stage: MakeStage) -> None:
    stage = make_stage(hooks=_NoText())
    upload = await stage.upload(length=100)
    answer = await stage.patch(upload.id, 0, bytes(100))
    assert (answer.status, answer.body) == (415, b"not a film\n")
    assert (await stage.head(upload.id)).status in (404, 410)
    assert stage.events == ["terminated"]
    assert stage.snapshot() == {}


# ASGI


@rule("ASGI-001")
async def a_disconnect_is_a_cut(make_stage: MakeStage) -> None:
    for send_fails_from in (None, 0):
        stage = make_stage()
        upload = await stage.upload(length=5)
        exchange = stage.exchange(
            upload.id, 0, [b"he", b"llo", DISCONNECT], send_fails_from=send_fails_from
        )
        with contextlib.suppress(RuntimeError):  # of the driver: there may be no answer to see
            await exchange.run()
        record = await stage.store.get(upload.id)
        assert record.offset == 5
        assert await stage.content(upload.id) == b"hello"
    stage = make_stage()
    upload = await stage.upload(length=10)
    await stage.patch(upload.id, 0, [b"he", b"llo", DISCONNECT])
    record = await stage.store.get(upload.id)
    assert (record.offset, record.is_complete, stage.events) == (5, False, [])


@rule("ASGI-002")
async def nobody_listens(make_stage: MakeStage) -> None:
    for first_failure in (0, 1):
        stage = make_stage()
        upload = await stage.upload(length=10)
        exchange = stage.exchange(
            upload.id, 0, [b"hello", DISCONNECT], send_fails_from=first_failure
        )
        with pytest.raises(RuntimeError, match="has not sent a complete response"):
            await exchange.run()  # raised by the driver, which misses an answer; not by the app
        assert stage.uploads._locks._locker._locks == {}
        assert await stage.offset(upload.id) == 5


@rule("ASGI-005")
async def messages_without_their_optional_keys(make_stage: MakeStage) -> None:
    stage = make_stage()
    upload = await stage.upload()

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        async def receive_bare() -> dict[str, str]:
            return {"type": (await receive())["type"]}

        await stage.app(scope, receive_bare, send)

    own = {**TUS, "Upload-Offset": "0", "Content-Type": OCTETS}
    answer = await ScriptedExchange(bare, "PATCH", f"/{upload.id}", headers=own, body=[]).run()
    assert (answer.status, answer.headers["upload-offset"]) == (204, "0")


class _SlowStore(MemoryStore):
    """Takes one chunk, and then its time: `pending` is how many chunks wait meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0
        self.pending: list[int] = []
        self.exchange: ScriptedExchange | None = None

    async def append(self, upload: Upload, chunks: AsyncIterable[bytes], **options: Any) -> Upload:
        return await super().append(upload, self._slowly(chunks))

    async def _slowly(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        assert self.exchange is not None
        async for chunk in chunks:
            self.taken += 1
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            self.pending.append(self.exchange.receives - self.taken)
            yield chunk


@rule("ASGI-006")
async def nothing_is_read_ahead(make_stage: MakeStage) -> None:
    store, size = _SlowStore(), 64 * 1024 * 1024
    app = TusApp(Uploads(store))
    upload = await app.uploads.create(length=size)
    own = {**TUS, "Upload-Offset": "0", "Content-Type": OCTETS, "Content-Length": str(size)}
    chunk = bytes(1024 * 1024)
    store.exchange = ScriptedExchange(
        app, "PATCH", f"/{upload.id}", headers=own, body=[chunk] * (size // len(chunk))
    )
    assert (await store.exchange.run()).status == 204
    assert len(store.pending) == 64
    assert set(store.pending) == {0}


@rule("ASGI-007")
async def cancellation_is_truthful(make_stage: MakeStage) -> None:
    await _cancel_while_receiving(make_stage())
    await _cancel_while_storing(make_stage())


async def _cancel_while_receiving(stage: Stage) -> None:
    upload = await stage.upload(length=100)
    exchange = stage.exchange(upload.id, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        exchange.feed(bytes(50))
        await exchange.starved()
        tasks.cancel_scope.cancel()
    await _check_truth(stage, upload, exchange, 50)


async def _cancel_while_storing(stage: Stage) -> None:
    upload = await stage.upload(length=100)
    exchange = stage.exchange(upload.id, 0)
    append, is_raised, is_hanging = stage.store.append, [], anyio.Event()

    async def append_and_hang(
        upload: Upload, chunks: AsyncIterable[bytes], **options: Any
    ) -> Upload:
        await append(upload, chunks)
        try:
            is_hanging.set()
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            is_raised.append(True)
            raise

    stage.store.append = append_and_hang
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        exchange.feed(bytes(50))
        exchange.end()
        await is_hanging.wait()
        tasks.cancel_scope.cancel()
    assert is_raised == [True]
    stage.store.append = append
    await _check_truth(stage, upload, exchange, 50)


async def _check_truth(stage: Stage, upload: Upload, exchange: ScriptedExchange, most: int) -> None:
    assert exchange.sent == []  # cancelled, and not answered as if it had failed
    assert stage.uploads._locks._locker._locks == {}
    offset = await stage.offset(upload.id)
    assert 0 <= offset <= most
    assert await stage.content(upload.id) == bytes(offset)
    assert (await stage.patch(upload.id, offset, bytes(100 - offset))).status == 204


@rule("ASGI-008")
async def a_killed_process_loses_nothing(make_stage: MakeStage) -> None:
    stage = make_stage()
    if not isinstance(stage.store, FileStore):
        # What is in memory dies with its process: it promises nothing else.
        assert "nothing when the process ends" in (MemoryStore.__doc__ or "")
        return
    upload = await stage.upload(length=1_000_000)
    root = stage.store.path(upload.id).removesuffix(f"/uploads/{upload.id[-2:]}/{upload.id}")
    command = [sys.executable, "-m", "tests.conformance.killed", root, upload.id]
    async with await anyio.open_process(command, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        lines = BufferedByteReceiveStream(process.stdout)
        try:
            with anyio.fail_after(20):
                assert await lines.receive_until(b"\n", 100) == b"acknowledged 300000"
                assert await lines.receive_until(b"\n", 100) == b"receiving"
        finally:
            process.kill()
    offset = await stage.offset(upload.id)
    assert 300_000 <= offset <= 500_000
    assert await stage.content(upload.id) == PATTERN[:offset]
    assert (await stage.patch(upload.id, offset, PATTERN[offset:1_000_000])).status == 204
    assert await stage.content(upload.id) == PATTERN[:1_000_000]


@rule("ASGI-009")
async def the_id_is_found_in_every_scope(make_stage: MakeStage) -> None:
    stage = make_stage()
    upload = await stage.upload()
    for path, root_path, raw_path in (
        (f"/api/files/{upload.id}", "/api/files", f"/api/files/{upload.id}"),
        (f"/{upload.id}/", "", f"/api/files/{upload.id}"),
        (f"/{upload.id}/", "/proxy", f"/proxy/api/files/{upload.id}"),
        (f"/api/files/{upload.id}", "/ext/api/files", f"/api/files/{upload.id}"),
    ):
        scope = {"root_path": root_path, "raw_path": raw_path.encode()}
        answer = await ScriptedExchange(
            stage.app, "HEAD", path, headers=TUS, scope=scope, body=b""
        ).run()
        assert answer.status == 200, path


@rule("ASGI-011")
async def location_under_a_root_path(make_stage: MakeStage) -> None:
    for public_url in (None, "https://files.example/proxy/files/"):
        stage = make_stage(public_url=public_url)
        driver = ASGIDriver(stage.app, root_path="/proxy/files", headers=TUS)
        answer = await driver.request("POST", "/", {"Upload-Length": "1"})
        base = public_url or "/proxy/files/"
        assert answer.status == 201
        assert answer.headers["location"].startswith(base)
        assert "/" not in answer.headers["location"].removeprefix(base)


@rule("ASGI-012")
async def a_minimal_scope(make_stage: MakeStage) -> None:
    stage, answers = make_stage(), []
    upload = await stage.upload()

    async def send(message: Any) -> None:
        answers.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing to receive")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "HEAD",
        "path": f"/{upload.id}",
        "query_string": b"",
        "headers": [(b"tus-resumable", b"1.0.0")],
    }
    await stage.app(scope, receive, send)
    assert answers[0]["status"] == 200


@rule("ASGI-013")
async def other_scopes(make_stage: MakeStage) -> None:
    stage, sent = make_stage(), []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await stage.app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(ValueError, match="serves http, not websocket"):
        await stage.app({"type": "websocket"}, receive, send)


@rule("ASGI-014")
async def header_names_in_mixed_case(make_stage: MakeStage) -> None:
    stage = make_stage()
    upload = await stage.upload()

    async def shouting(scope: Any, receive: Any, send: Any) -> None:
        headers = [(name.title(), value) for name, value in scope["headers"]]
        assert (b"Upload-Offset", b"0") in headers
        await stage.app({**scope, "headers": headers}, receive, send)

    own = {**TUS, "Upload-Offset": "0", "Content-Type": OCTETS}
    answer = await ScriptedExchange(
        shouting, "PATCH", f"/{upload.id}", headers=own, body=b"hello"
    ).run()
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")


@rule("ASGI-016")
async def a_refusal_does_not_wait_for_the_body(make_stage: MakeStage) -> None:
    stage, size = make_stage(), 64 * 1024 * 1024
    upload = await stage.upload()
    chunk = bytes(64 * 1024)
    exchange = stage.exchange(
        upload.id, 99, [chunk] * (size // len(chunk)), {"Content-Length": str(size)}
    )
    with anyio.fail_after(1):
        answer = await exchange.run()
    assert (answer.status, answer.receives_before_start) == (409, 0)
    assert answer.headers["connection"] == "close"
    assert answer.receives <= 2 * 8 * 1024 * 1024 // len(chunk)
    with anyio.fail_after(1):
        # Nor for one that says nothing any more.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tusasgi.asgi.send._LINGER_SECONDS", 0.01)
            own = {"Content-Length": str(size)}
            silent = await stage.patch(upload.id, 99, [chunk, STALL], own)
    assert silent.status == 409


@rule("ASGI-019")
async def long_metadata(make_stage: MakeStage) -> None:
    stage = make_stage()
    header = "k " + "QUJD" * 2000
    own = {"Upload-Length": "1", "Upload-Metadata": header}
    answer = await stage.driver.request("POST", "/", own)
    assert answer.status == 201
    upload_id = answer.headers["location"].rpartition("/")[2]
    assert (await stage.head(upload_id)).headers["upload-metadata"] == header
    assert (await stage.store.get(upload_id)).metadata == {"k": b"ABC" * 2000}
