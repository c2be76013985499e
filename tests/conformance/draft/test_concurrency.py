"""Requests that overlap: the newest goes on, and what it displaced adds nothing any more."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio
import pytest

from tests._stage import Recorder
from tests.conformance.draft.client import Draft
from tests.conformance.draft.conftest import MakeDraft
from tests.conformance.draft.grounds import everywhere
from tests.conformance.ietf import rule, shows
from tusasgi import Creation, Request, Upload
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.testing import RecordedResponse, ScriptedExchange

pytestmark = pytest.mark.anyio

CONTENT = b"hello world"


Ask = Callable[[], Awaitable[RecordedResponse]]


async def displaced(
    transfer: ScriptedExchange, first: bytes, newer: Ask, *, late: bytes | None = b" world"
) -> RecordedResponse:
    """Return the answer to a newer request that comes while a transfer waits for its client.

    What the client of the transfer sends afterwards is late. Without anything late the transfer
    has to end though its client neither sends nor leaves.
    """
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transfer.run)
            transfer.feed(first)
            await transfer.starved()
            answer = await newer()
            if late is not None:
                transfer.end(late)
    return answer


@everywhere
@rule("IETF-151", "IETF-091", "IETF-154")
async def test_head_ends_a_running_append(draft: Draft) -> None:
    path = await draft.begin(b"he")
    transfer = draft.appending(path, 2, None, complete=True, headers={"Content-Length": "9"})
    answer = await displaced(transfer, b"llo", lambda: draft.head(path))
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")
    assert draft.is_complete(answer) is False
    assert (transfer.answer.status, draft.is_complete(transfer.answer)) == (503, False)
    assert await draft.state(path) == (5, False)
    answer = await draft.append(path, 5, b" World", complete=True)
    assert answer.status == 201
    assert await draft.content(path) == b"hello World"
    assert draft.stage.events == ["completed"]


@rule("IETF-091", "IETF-085")
async def test_get_ends_a_running_append_too(draft: Draft) -> None:
    path = await draft.begin(b"he")
    transfer = draft.appending(path, 2, None)
    answer = await displaced(transfer, b"llo", lambda: draft.get(path))
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")
    assert await draft.content(path) == b"hello"


@shows("IETF-091")
async def test_a_head_without_a_version_ends_a_running_append_too(draft: Draft) -> None:
    anyone = Draft(draft.stage, None)
    path = await draft.begin(b"he")
    transfer = draft.appending(path, 2, None)
    answer = await displaced(transfer, b"llo", lambda: anyone.head(path))
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")
    assert await draft.content(path) == b"hello"


@everywhere
@rule("IETF-152", "IETF-154")
async def test_a_newer_append_ends_one_that_waits_for_its_client(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    transfer = draft.appending(path, 5, None, complete=True)
    answer = await displaced(transfer, b"", lambda: draft.append(path, 5, b" World", complete=True))
    assert (answer.status, draft.is_complete(answer)) == (201, True)
    assert (transfer.answer.status, draft.is_complete(transfer.answer)) == (503, False)
    assert await draft.content(path) == b"hello World"
    assert draft.stage.events == ["completed"]


@rule("IETF-150")
async def test_an_append_at_an_offset_that_is_passed_mixes_nothing_in(draft: Draft) -> None:
    path = await draft.begin(b"he")
    transfer = draft.appending(path, 2, None)
    answer = await displaced(transfer, b"llo", lambda: draft.append(path, 2, b"LLO"))
    assert (answer.status, answer.headers["upload-offset"]) == (409, "5")
    offset, _ = await draft.state(path)
    assert await draft.content(path) == CONTENT[:offset]


@everywhere
@rule("IETF-150")
@pytest.mark.parametrize("complete", [False, True])
async def test_of_appends_at_one_offset_one_succeeds(draft: Draft, complete: bool) -> None:
    path = await draft.begin(b"hello")
    contents = [bytes([64 + number]) * 3 for number in range(1, 6)]
    appends = [draft.appending(path, 5, content, complete=complete) for content in contents]
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for append in appends:
                tasks.start_soon(append.run)
    winners = [
        content
        for content, append in zip(contents, appends, strict=True)
        if append.answer.status < 300
    ]
    assert len(winners) == 1
    assert {append.answer.status for append in appends} <= {201, 204, 400, 409, 503}
    assert await draft.content(path) == b"hello" + winners[0]
    assert await draft.state(path) == (8, complete)
    assert draft.stage.events == ["completed"] * complete


@everywhere
@shows("IETF-142", "IETF-151", "IETF-152")
@pytest.mark.parametrize("kind_of_ask", ["head", "append", "delete"])
async def test_a_transfer_that_is_ended_waits_for_its_client_no_more(
    draft: Draft, kind_of_ask: str
) -> None:
    path = await draft.begin(b"hello")
    asks: dict[str, Ask] = {
        "head": lambda: draft.head(path),
        "append": lambda: draft.append(path, 5, b" World"),
        "delete": lambda: draft.delete(path),
    }
    transfer = draft.appending(path, 5, None, complete=True)
    answer = await displaced(transfer, b"", asks[kind_of_ask], late=None)
    assert answer.status == 204
    assert transfer.answer.status == 503


@everywhere
@rule("IETF-153", "IETF-142")
async def test_delete_ends_a_running_append_and_nothing_comes_back(draft: Draft) -> None:
    path = await draft.begin(b"he")
    transfer = draft.appending(path, 2, None, complete=True)
    answer = await displaced(transfer, b"llo", lambda: draft.delete(path))
    assert answer.status == 204
    assert transfer.answer.status in (404, 503)
    assert (await draft.head(path)).status == 404
    assert draft.stage.snapshot() == {}
    assert draft.stage.events == ["terminated"]


@everywhere
@rule("IETF-155")
async def test_a_running_creation_is_ended_like_an_append(draft_with: MakeDraft) -> None:
    draft = draft_with(hooks=Naming())
    creation = draft.creation(None, complete=True, headers={"Content-Length": "11"})
    answer = await displaced(creation, b"hello", lambda: draft.head("/named"))
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")
    assert (creation.answer.status, draft.is_complete(creation.answer)) == (503, False)
    assert await draft.state("/named") == (5, False)
    assert (await draft.append("/named", 5, b" World", complete=True)).status == 201
    assert await draft.content("/named") == b"hello World"


class Naming(Recorder):
    """Names the upload, so that others know it while its creation still runs."""

    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        return replace(creation, upload_id="named")


@rule("IETF-155")
async def test_a_creation_that_an_append_has_displaced_takes_nothing_away(
    draft_with: MakeDraft,
) -> None:
    draft = draft_with(hooks=Naming())
    creation = draft.creation(None, complete=True)
    answer = await displaced(
        creation, b"", lambda: draft.append("/named", 0, b"Hello", complete=False)
    )
    assert answer.status == draft.dialect.partial_status
    assert creation.answer.status == 503
    assert await draft.state("/named") == (5, False)
    assert await draft.content("/named") == b"Hello"


@shows("IETF-155")
async def test_nor_does_a_creation_of_tus(draft_with: MakeDraft) -> None:
    draft = draft_with(hooks=Naming())
    headers = {
        "Upload-Length": "11",
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": "11",
    }
    creation = draft.stage.driver.exchange("POST", "/", headers, None)
    answer = await displaced(creation, b"", lambda: draft.stage.patch("named", 0, b"Hello"))
    assert (answer.status, creation.answer.status) == (204, 423)
    assert await draft.stage.offset("named") == 5


@rule("IETF-153")
async def test_delete_ends_a_running_creation(draft_with: MakeDraft) -> None:
    draft = draft_with(hooks=Naming())
    creation = draft.creation(None, complete=True)
    answer = await displaced(creation, b"hello", lambda: draft.delete("/named"))
    assert answer.status == 204
    assert creation.answer.status in (404, 503)
    assert draft.stage.snapshot() == {}
    assert draft.stage.events == ["terminated"]


@everywhere
@shows("IETF-150")
async def test_requests_that_end_it_at_once_complete_it_once(draft: Draft) -> None:
    path = await draft.begin(CONTENT)
    asks = [draft.appending(path, 11, complete=True) for _ in range(4)]
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for ask in asks:
                tasks.start_soon(ask.run)
    assert {ask.answer.status for ask in asks} <= {201, 503}
    assert 201 in {ask.answer.status for ask in asks}
    assert draft.stage.events == ["completed"]


# Who has all bytes is being completed, and that is not ended.


class Waiting(Recorder):
    """Takes as long over the end of an upload as the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun, self.may_end = anyio.Event(), anyio.Event()

    async def completed(self, upload: Upload) -> None:
        self.has_begun.set()
        await self.may_end.wait()
        await super().completed(upload)


@shows("IETF-151")
async def test_head_does_not_wait_for_what_follows_on_the_last_byte(
    draft_with: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tusasgi.engine.uploads._TURN", 0.01)
    hooks = Waiting()
    draft = draft_with(hooks=hooks, engine={"locker": MemoryLocker(patience=60)})
    path = await draft.begin(b"hello")
    last = draft.appending(path, 5, b" world", complete=True)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(last.run)
            await hooks.has_begun.wait()
            answer = await draft.head(path)
            hooks.may_end.set()
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert (last.answer.status, draft.is_complete(last.answer)) == (201, True)
    assert await draft.state(path) == (11, True)
    assert hooks.events == ["completed"]
