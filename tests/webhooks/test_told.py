"""What a receiver is told: at least once, in order, signed, and behind the backs of clients."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from standardwebhooks.webhooks import Webhook

from tests._stage import Stage
from tests.webhooks._receiver import SECRET, Receiver, Reply
from tests.webhooks.conftest import MakeHooked
from tusasgi import Uploads

pytestmark = pytest.mark.anyio

TOLD = ["created", "completed", "terminated"]


@asynccontextmanager
async def delivering(uploads: Uploads) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(uploads.deliver)
        await anyio.wait_all_tasks_blocked()
        yield
        tasks.cancel_scope.cancel()


async def until(is_true: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while True:
            if is_true():
                return
            await anyio.sleep(0.005)


async def live(stage: Stage) -> str:
    """Have an upload created, completed and terminated by a client, who meets with no trouble."""
    upload = await stage.upload(content=b"hello", metadata={"name": b"a.txt"})
    assert (await stage.driver.request("DELETE", f"/{upload.id}")).status == 204
    return upload.id


async def test_the_life_of_an_upload_is_told_in_order(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    stage = hooked(events=TOLD, place=lambda upload: {"path": f"/srv/{upload.id}"})
    async with delivering(stage.uploads):
        upload_id = await live(stage)
        await until(lambda: len(receiver.received) == 3)
    assert receiver.types() == ["upload.created", "upload.completed", "upload.terminated"]
    assert len({message.id for message in receiver.received}) == 3
    told = receiver.received[1]
    assert told.upload["id"] == upload_id
    assert told.upload["metadata"] == {"name": "a.txt"}
    assert told.upload["place"] == {"path": f"/srv/{upload_id}"}
    assert told.document["timestamp"] == "2026-11-25T12:00:00Z"
    assert "request" not in told.document["data"]


@pytest.mark.parametrize("reply", [Reply(status=500), Reply(status=404), Reply(is_cut=True)])
async def test_what_a_receiver_does_not_take_is_repeated_under_the_same_id(
    receiver: Receiver, hooked: MakeHooked, reply: Reply
) -> None:
    stage = hooked(events=TOLD)
    receiver.behave = lambda _: reply
    async with delivering(stage.uploads):
        await live(stage)
        await until(lambda: len(receiver.received) >= 3)
        assert set(receiver.types()) == {"upload.created"}
        receiver.answer(204)
        await until(lambda: "upload.terminated" in receiver.types())
    ids: dict[str, str] = {}
    for message in receiver.received:
        assert ids.setdefault(message.type, message.id) == message.id
    assert list(ids) == ["upload.created", "upload.completed", "upload.terminated"]


async def test_a_receiver_that_is_down_loses_nothing_and_holds_up_nobody(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    stage = hooked(events=TOLD)
    receiver.stop()
    async with delivering(stage.uploads):
        ids = [await live(stage) for _ in range(5)]
        receiver.start()
        await until(lambda: len(receiver.received) == 15)
    for upload_id in ids:
        told = [one.type for one in receiver.received if one.upload["id"] == upload_id]
        assert told == ["upload.created", "upload.completed", "upload.terminated"]


async def test_a_slow_receiver_holds_up_nobody(receiver: Receiver, hooked: MakeHooked) -> None:
    stage = hooked(events=TOLD, timeout=30)
    held = anyio.Event()
    receiver.answer(delay=0.5)
    async with delivering(stage.uploads):
        await live(stage)
        held.set()
        assert len(receiver.received) <= 1


async def test_an_answer_that_never_ends_is_not_waited_for(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    stage = hooked(events=["created"], timeout=0.3)
    upload = await stage.upload()
    receiver.answer(body=b" " * 40, pause=0.05)
    with pytest.raises(ExceptionGroup) as failed:
        await stage.uploads.sweep()
    assert "no answer within 0.3 seconds" in str(failed.value.exceptions[0].__cause__)
    assert list((await stage.store.get(upload.id)).untold) == ["created"]


async def test_a_retry_after_is_waited_for(receiver: Receiver, hooked: MakeHooked) -> None:
    stage = hooked(events=TOLD)
    receiver.answer(429, headers={"Retry-After": "1000"})
    async with delivering(stage.uploads):
        await live(stage)
        await until(lambda: bool(receiver.received))
        await anyio.sleep(0.3)
    assert len(receiver.received) == 1


async def test_a_sweep_tells_what_is_still_to_be_told(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    stage = hooked(events=TOLD)
    await live(stage)
    assert receiver.received == []
    await stage.uploads.sweep()
    assert receiver.types() == ["upload.created", "upload.completed", "upload.terminated"]


async def test_messages_are_signed_with_each_of_two_secrets(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    other = "whsec_YW5vdGhlciBzZWNyZXQgb2YgdGhlIHRlc3RzIQ=="
    stage = hooked(events=["created"], secret=f"{other}\n{SECRET}\n")
    await stage.upload()
    await stage.uploads.sweep()
    [told] = receiver.received
    signatures = told.headers["webhook-signature"].split()
    assert len(signatures) == 2
    assert all(signature.startswith("v1,") for signature in signatures)
    assert Webhook(other).sign is not None


async def test_without_a_secret_a_message_has_an_id_and_no_signature(hooked: MakeHooked) -> None:
    with Receiver(secret=None) as receiver:
        stage = hooked(url=receiver.url, secret=None, events=["created"])
        await stage.upload()
        await stage.uploads.sweep()
        [told] = receiver.received
    assert told.headers["webhook-id"].startswith("msg_")
    assert "webhook-signature" not in told.headers


async def test_progress_is_told_and_may_be_lost(
    receiver: Receiver, hooked: MakeHooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tusasgi.engine.chunks._PROGRESS_INTERVAL", 0.0)
    stage = hooked(events=["progressed"])
    upload = await stage.uploads.create(length=5)
    async with delivering(stage.uploads), anyio.create_task_group() as tasks:
        running = stage.exchange(upload.id, 0)
        tasks.start_soon(running.run)
        running.feed(b"he")
        await until(lambda: bool(receiver.received))
        receiver.stop()
        running.feed(b"ll")
        await running.starved()
        running.end(b"o")
        await until(lambda: running.is_answered)
        assert running.answer.status == 204
    assert receiver.received[0].type == "upload.progressed"
    assert receiver.received[0].upload["offset"] == 2
