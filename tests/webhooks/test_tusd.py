"""A receiver that was written by tusd's documentation of hooks works unchanged.

It reads and answers the fields that are documented there, by their names, and knows nothing of us.
"""

import json
from typing import Any

import anyio
import pytest

from tests._stage import Stage, location_path
from tests.webhooks._receiver import Received, Receiver, Reply
from tests.webhooks.conftest import MakeHooked
from tests.webhooks.test_told import delivering, until

pytestmark = pytest.mark.anyio


class Application:
    """Wants a project for each upload, names uploads itself, and files what is finished."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.finished: dict[str, str] = {}
        self.is_gone = False
        self.may_delete = True

    @property
    def types(self) -> list[str]:
        return [call["Type"] for call in self.calls]

    def __call__(self, message: Received) -> Reply:
        call = message.document
        self.calls.append(call)
        handle = getattr(self, "on_" + call["Type"].replace("-", "_"), None)
        answer = {} if handle is None else handle(call["Event"])
        headers = {"Content-Type": "application/json"}
        return Reply(body=json.dumps(answer).encode(), headers=headers)

    def on_pre_create(self, event: dict[str, Any]) -> dict[str, Any]:
        metadata = event["Upload"]["MetaData"]
        if "project" not in metadata:
            return {"RejectUpload": True, "HTTPResponse": self._says(403, "no project")}
        assert event["Upload"]["ID"] == ""
        user = event["HTTPRequest"]["Header"]["X-User"][0]
        return {"ChangeFileInfo": {"ID": "custom-1", "MetaData": {**metadata, "user": user}}}

    def on_post_receive(self, event: dict[str, Any]) -> dict[str, Any]:
        if self.is_gone:
            return {"StopUpload": True, "HTTPResponse": self._says(410, "the project is gone")}
        return {}

    def on_pre_finish(self, event: dict[str, Any]) -> dict[str, Any]:
        assert event["Upload"]["Offset"] == event["Upload"]["Size"]
        return {"HTTPResponse": {"Header": {"Link": "</films/7>; rel=related"}}}

    def on_post_finish(self, event: dict[str, Any]) -> dict[str, Any]:
        upload = event["Upload"]
        self.finished[upload["ID"]] = upload["Storage"]["Path"]
        return {}

    def on_pre_terminate(self, event: dict[str, Any]) -> dict[str, Any]:
        if self.may_delete:
            return {}
        return {"RejectTermination": True, "HTTPResponse": self._says(409, "it is in use")}

    def _says(self, status: int, message: str) -> dict[str, Any]:
        body = json.dumps({"message": message})
        return {"StatusCode": status, "Body": body, "Header": {"Content-Type": "application/json"}}


EVENTS = ["creating", "created", "progressed", "completing", "completed"]
EVENTS += ["terminating", "terminated", "expired"]


@pytest.fixture
def application(receiver: Receiver) -> Application:
    application = Application()
    receiver.behave = application
    return application


@pytest.fixture
def stage(application: Application, hooked: MakeHooked) -> Stage:
    def place(upload: object) -> dict[str, str]:
        return {"Type": "filestore", "Path": "/srv/x", "InfoPath": "/srv/x.info"}

    return hooked(format="tusd", events=EVENTS, place=place)


async def create(stage: Stage, metadata: str) -> Any:
    headers = {"Upload-Length": "5", "Upload-Metadata": metadata, "X-User": "anna"}
    return await stage.driver.request("POST", "", headers)


async def test_a_refused_creation_is_answered_in_the_words_of_the_receiver(
    application: Application, stage: Stage
) -> None:
    answer = await create(stage, "name YQ==")
    assert (answer.status, json.loads(answer.body)) == (403, {"message": "no project"})
    assert answer.headers["content-type"] == "application/json"
    assert application.types == ["pre-create"]


async def test_an_upload_lives_and_the_receiver_follows(
    application: Application, stage: Stage
) -> None:
    async with delivering(stage.uploads):
        answer = await create(stage, "project Nw==")
        assert (answer.status, location_path(answer)) == (201, "/custom-1")
        upload = await stage.store.get("custom-1")
        assert upload.metadata == {"project": b"7", "user": b"anna"}
        answer = await stage.patch("custom-1", 0, b"hello")
        assert answer.headers["link"] == "</films/7>; rel=related"
        await until(lambda: "post-finish" in application.types)
        application.may_delete = False
        refused = await stage.driver.request("DELETE", "/custom-1")
        assert (refused.status, json.loads(refused.body)) == (409, {"message": "it is in use"})
        application.may_delete = True
        assert (await stage.driver.request("DELETE", "/custom-1")).status == 204
        await until(lambda: "post-terminate" in application.types)
    assert application.finished == {"custom-1": "/srv/x"}
    told = [one for one in application.types if one.startswith("post")]
    assert told == ["post-create", "post-finish", "post-terminate"]
    finish = next(call for call in application.calls if call["Type"] == "post-finish")
    assert finish["Event"]["Upload"] == {
        "ID": "custom-1",
        "Size": 5,
        "SizeIsDeferred": False,
        "Offset": 5,
        "MetaData": {"project": "7", "user": "anna"},
        "IsPartial": False,
        "IsFinal": False,
        "PartialUploads": None,
        "Storage": {"Type": "filestore", "Path": "/srv/x", "InfoPath": "/srv/x.info"},
    }
    request = finish["Event"]["HTTPRequest"]
    assert (request["Method"], request["URI"]) == ("PATCH", "/files/custom-1")
    assert request["Header"]["Upload-Offset"] == ["0"]


async def test_a_running_upload_is_stopped_by_the_receiver(
    application: Application, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tusasgi.engine.chunks._PROGRESS_INTERVAL", 0.0)
    application.is_gone = True
    async with delivering(stage.uploads), anyio.create_task_group() as tasks:
        await create(stage, "project Nw==")
        running = stage.exchange("custom-1", 0)
        tasks.start_soon(running.run)
        running.feed(b"he")
        await until(lambda: "post-receive" in application.types)
        while not running.is_answered:
            running.feed(b"")
            await anyio.sleep(0.02)
            if not running.is_answered:
                running.feed(b"l")
                await anyio.sleep(0.1)
        answer = running.answer
        running.end()
        assert (answer.status, json.loads(answer.body)) == (410, {"message": "the project is gone"})
    assert (await stage.head("custom-1")).status == 404


async def test_what_a_receiver_may_not_change_is_not_done_halfway(
    receiver: Receiver, stage: Stage
) -> None:
    for changes in ({"ID": "a/b"}, {"Storage": {"Path": "/elsewhere"}}, {"MetaData": {"a": 1}}):
        receiver.answer(document={"ChangeFileInfo": changes})
        assert (await create(stage, "project Nw==")).status == 503
    receiver.answer(404)
    assert (await create(stage, "project Nw==")).status == 503
    receiver.answer(document={"RejectUpload": True, "HTTPResponse": {"StatusCode": "403"}})
    assert (await create(stage, "project Nw==")).status == 503
    assert (await stage.uploads.list()).uploads == ()
