"""What a receiver is asked: it refuses and amends, and nothing is allowed while it cannot."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tests._stage import Stage, location_path, make_stage
from tests.webhooks._receiver import Receiver, Reply
from tests.webhooks.conftest import MakeHooked
from tusasgi import Upload
from tusasgi.server.access import Access
from tusasgi.server.api_keys import ApiKeys
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import RecordedResponse
from tusasgi.webhooks import WebHooks

pytestmark = pytest.mark.anyio

URL = "http://localhost/hooks"


async def create(stage: Stage, headers: Mapping[str, str] | None = None) -> RecordedResponse:
    wanted = {"Upload-Length": "5", "Upload-Metadata": "name YS50eHQ=", **(headers or {})}
    return await stage.driver.request("POST", "", wanted)


async def created(stage: Stage) -> Upload:
    answer = await create(stage)
    assert answer.status == 201, answer
    return await stage.store.get(location_path(answer)[1:])


async def stored(stage: Stage) -> int:
    return len((await stage.uploads.list()).uploads)


async def test_a_receiver_may_refuse_with_status_headers_and_message(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    stage = hooked()
    receiver.answer(
        402,
        body=b'{"error": "pay first"}',
        headers={"Content-Type": "application/json", "X-Plan": "free", "Set-Cookie": "a=b"},
    )
    answer = await create(stage)
    assert (answer.status, answer.body) == (402, b'{"error": "pay first"}\n')
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-plan"] == "free"
    assert "set-cookie" not in answer.headers
    assert await stored(stage) == 0


async def test_a_receiver_is_told_what_is_to_be_created_and_by_which_request(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    await created(hooked())
    [asked] = receiver.received
    assert asked.type == "upload.creating"
    assert asked.upload["length"] == 5
    assert asked.upload["metadata"] == {"name": "a.txt"}
    request = asked.document["data"]["request"]
    assert (request["method"], request["uri"]) == ("POST", "/files")
    assert request["headers"]["upload-length"] == "5"


async def test_a_receiver_may_amend_a_creation(receiver: Receiver, hooked: MakeHooked) -> None:
    receiver.answer(
        document={
            "owner": "anna",
            "id": "chosen",
            "metadata": {"name": "b.txt"},
            "limits": {"max_size": 10},
            "expiry": {"initial": 60},
            "facts": {"project": 7},
        }
    )
    upload = await created(hooked())
    assert (upload.owner, upload.id, upload.facts) == ("anna", "chosen", {"project": 7})
    assert (upload.metadata, upload.metadata_header) == ({"name": b"b.txt"}, None)
    assert upload.max_size == 10
    assert upload.expires == upload.created + timedelta(minutes=1)


async def test_limits_of_a_receiver_refuse_what_is_beyond(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    receiver.answer(document={"limits": {"max_size": 4}})
    stage = hooked()
    assert (await create(stage)).status == 413
    assert await stored(stage) == 0


WRONG = [
    pytest.param(Reply(status=500), id="500"),
    pytest.param(Reply(body=b"OK"), id="no-json"),
    pytest.param(Reply(body=b"[]"), id="no-object"),
    pytest.param(Reply(body=b'{"maxsize": 1}'), id="unknown-name"),
    pytest.param(Reply(body=b'{"limits": {"max_size": "1"}}'), id="wrong-limits"),
    pytest.param(Reply(body=b'{"limits": {"size": 1}}'), id="unknown-limit"),
    pytest.param(Reply(body=b'{"limits": 5}'), id="limits-of-no-kind"),
    pytest.param(Reply(body=b'{"expiry": {"initial": -1}}'), id="wrong-expiry"),
    pytest.param(Reply(body=b'{"expiry": {"initial": 1e300}}'), id="expiry-for-ever"),
    pytest.param(Reply(body=b'{"id": "../up"}'), id="wrong-id"),
    pytest.param(Reply(body=b'{"owner": 5}'), id="wrong-owner"),
    pytest.param(Reply(body=b'{"metadata": {"a b": "c"}}'), id="wrong-key"),
    pytest.param(Reply(body=b'{"metadata": {"a": 1}}'), id="wrong-metadata"),
    pytest.param(Reply(body=b'{"facts": {"a": []}}'), id="wrong-fact"),
    pytest.param(Reply(body=b"[" * 60_000), id="deep"),
    pytest.param(Reply(body=b" " * 70_000 + b"{}"), id="too-long"),
    pytest.param(Reply(headers={"Content-Encoding": "gzip"}, body=b"x"), id="compressed"),
    pytest.param(Reply(is_cut=True), id="cut"),
    pytest.param(Reply(delay=1), id="slow"),
    pytest.param(Reply(body=b"{}" + b" " * 50, pause=0.02), id="slow-to-the-end"),
]


@pytest.mark.parametrize("reply", WRONG)
async def test_nothing_is_allowed_by_a_receiver_that_fails(
    receiver: Receiver, hooked: MakeHooked, reply: Reply
) -> None:
    stage = hooked(timeout=0.4)
    receiver.behave = lambda _: reply
    answer = await create(stage)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.body == b"this cannot be decided for now; try again\n"
    assert await stored(stage) == 0


async def test_no_redirect_leads_anywhere(receiver: Receiver, hooked: MakeHooked) -> None:
    away = Reply(status=307, headers={"Location": "/elsewhere"})
    receiver.behave = lambda message: away if message.path == "/hooks" else Reply()
    assert (await create(hooked())).status == 503
    assert {message.path for message in receiver.received} == {"/hooks"}


async def test_nothing_is_allowed_by_a_receiver_that_is_down_until_it_comes_back(
    receiver: Receiver, hooked: MakeHooked, caplog: pytest.LogCaptureFixture
) -> None:
    stage = hooked()
    receiver.stop()
    with caplog.at_level(logging.WARNING, logger="tusasgi.webhooks"):
        assert [(await create(stage)).status for _ in range(3)] == [503, 503, 503]
        assert await stored(stage) == 0
        receiver.start()
        assert (await create(stage)).status == 201
    lines = [one.getMessage() for one in caplog.records if one.name == "tusasgi.webhooks"]
    assert len(lines) == 2
    assert "cannot be used for now: ConnectError" in lines[0]


async def test_a_question_that_got_no_answer_is_asked_again_under_the_same_id(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    replies = iter([Reply(is_cut=True), Reply(status=503), Reply()])
    receiver.behave = lambda _: next(replies)
    assert (await create(hooked())).status == 201
    assert len(receiver.received) == 3
    assert len({message.id for message in receiver.received}) == 1


async def test_authorize_asks_about_each_request(receiver: Receiver, hooked: MakeHooked) -> None:
    stage = hooked(events=["authorize"])
    upload = await created(stage)
    assert (await stage.head(upload.id)).status == 200
    receiver.answer(404, body=b"there is no such upload")
    assert (await stage.head(upload.id)).status == 404
    assert (await stage.patch(upload.id, 0, b"hello")).status == 404
    operations = [message.document["data"]["operation"] for message in receiver.received]
    assert operations == ["create", "get", "get", "append"]
    assert receiver.received[1].upload["id"] == upload.id
    receiver.stop()
    assert (await stage.patch(upload.id, 0, b"hello")).status == 503
    assert (await stage.store.get(upload.id)).offset == 0


async def test_access_is_judged_before_a_receiver_is_asked(
    receiver: Receiver, hooked: MakeHooked, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-anna-1234 anna\n")
    hooks = Access(hooked().hooks, [await run_sync(ApiKeys, str(keys))])
    stage = make_stage(MemoryStore(), hooks=hooks)
    assert (await create(stage)).status == 401
    assert receiver.received == []
    answer = await create(stage, {"Authorization": "Bearer a-key-of-anna-1234"})
    assert answer.status == 201
    assert [message.type for message in receiver.received] == ["upload.creating"]
    assert receiver.received[0].upload["owner"] == "anna"
    await stage.uploads.sweep()
    assert receiver.types()[1:] == ["upload.created"]


async def test_completing_may_reject_a_file_for_good(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    stage = hooked(events=["completing"])
    upload = await created(stage)
    receiver.answer(422, body=b"it carries a virus")
    answer = await stage.patch(upload.id, 0, b"hello")
    assert (answer.status, answer.body) == (422, b"it carries a virus\n")
    assert await stored(stage) == 0


async def test_completing_may_add_to_the_answer_and_is_asked_until_it_is_answered(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    stage = hooked(events=["completing"])
    upload = await created(stage)
    receiver.answer(500)
    assert (await stage.patch(upload.id, 0, b"hello")).status == 503
    receiver.answer(document={"headers": {"X-Film": "7"}, "body": "thanks"})
    answer = await stage.patch(upload.id, 5, b"")
    assert (answer.status, answer.headers["x-film"]) == (200, "7")
    assert answer.body == b"thanks"


async def test_terminating_may_be_refused(receiver: Receiver, hooked: MakeHooked) -> None:
    stage = hooked(events=["terminating"])
    upload = await created(stage)
    receiver.answer(403, body=b"it is in use")
    answer = await stage.driver.request("DELETE", f"/{upload.id}")
    assert (answer.status, answer.body) == (403, b"it is in use\n")
    receiver.answer(204)
    assert (await stage.driver.request("DELETE", f"/{upload.id}")).status == 204


async def test_credentials_are_passed_on_only_if_they_are_named(
    receiver: Receiver, hooked: MakeHooked
) -> None:
    client = {"Authorization": "Bearer abc", "Cookie": "id=7", "X-Other": "x"}
    await create(hooked(), client)
    await create(hooked(forward_headers=["Authorization", "X-Other"]), client)
    [without, with_them] = receiver.received
    assert "authorization" not in without.headers
    assert without.document["data"]["request"]["headers"]["x-other"] == "x"
    assert "Bearer" not in str(without.document)
    assert with_them.headers["authorization"] == "Bearer abc"
    assert with_them.headers["x-other"] == "x"
    assert with_them.document["data"]["request"]["headers"]["authorization"] == "Bearer abc"
    assert "id=7" not in str(with_them.document) + str(with_them.headers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"url": "/hooks"}, "url must be a whole URL", id="no-url"),
        pytest.param({"url": "file:///etc/passwd"}, "url must be a whole URL", id="file"),
        pytest.param({"url": "http://a:b@c/"}, "give a secret instead", id="password"),
        pytest.param({"events": ["complete"]}, "did you mean 'completed'", id="event"),
        pytest.param({"format": "tus"}, "did you mean 'tusd'", id="format"),
        pytest.param({"format": "tusd", "events": ["authorize"]}, "no counterpart", id="tusd"),
        pytest.param({"secret": "abc"}, "a secret is whsec_ and base64", id="secret"),
        pytest.param({"secret": "whsec_YWJj"}, "at least 16 bytes", id="short-secret"),
        pytest.param({"secret": " "}, "the secret is empty", id="no-secret"),
        pytest.param({"timeout": 0}, "timeout must be a positive number", id="timeout"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WebHooks(**{"url": URL, **options})
