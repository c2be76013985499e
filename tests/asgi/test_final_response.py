"""What the `completed` hook says at the end, as clients of both protocols hear it."""

from typing import Any

import pytest

from tests._stage import OCTETS, MakeStage, Recorder, Stage
from tusasgi import FinalResponse, Upload

pytestmark = pytest.mark.anyio

DRAFT = {"Upload-Draft-Interop-Version": "9", "Tus-Resumable": None}
LAST = {**DRAFT, "Upload-Complete": "?1", "Content-Type": "application/partial-upload"}


class Saying(Recorder):
    """Ends each upload with a word of its own."""

    def __init__(self, said: FinalResponse | None) -> None:
        super().__init__()
        self.said = said

    async def completed(self, upload: Upload) -> FinalResponse | None:
        await super().completed(upload)
        return self.said


def saying(make: MakeStage, **said: Any) -> Stage:
    return make(hooks=Saying(FinalResponse(**said)))


async def test_a_client_of_tus_has_the_headers_with_its_204(make: MakeStage) -> None:
    stage = saying(make, headers={"X-Asset": "7"})
    upload = await stage.upload(length=5)
    answer = await stage.patch(upload.id, 0, b"hello")
    assert (answer.status, answer.headers["x-asset"], answer.body) == (204, "7", b"")
    assert answer.headers["upload-offset"] == "5"


async def test_a_client_of_tus_has_the_body_with_a_200(make: MakeStage) -> None:
    stage = saying(make, status=201, headers={"Content-Type": "text/plain"}, body=b"seven")
    upload = await stage.upload(length=5)
    answer = await stage.patch(upload.id, 0, b"hello")
    assert (answer.status, answer.body) == (200, b"seven")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-length"] == "5"


async def test_a_creation_that_brings_everything_has_it_with_its_201(make: MakeStage) -> None:
    stage = saying(make, status=200, body=b"seven")
    answer = await stage.driver.request(
        "POST", "/", {"Upload-Length": "5", "Content-Type": OCTETS}, b"hello"
    )
    assert (answer.status, answer.body) == (201, b"seven")
    assert answer.headers["location"].startswith("/files/")


async def test_the_headers_of_the_protocol_stay(make: MakeStage) -> None:
    stage = saying(make, headers={"Upload-Offset": "99", "tus-resumable": "x"})
    upload = await stage.upload(length=5)
    answer = await stage.patch(upload.id, 0, b"hello")
    assert (answer.headers["upload-offset"], answer.headers["tus-resumable"]) == ("5", "1.0.0")


async def test_who_lost_it_has_it_again(make: MakeStage) -> None:
    stage = saying(make, body=b"seven")
    upload = await stage.upload(length=5)
    first = await stage.patch(upload.id, 0, b"hello")
    again = await stage.patch(upload.id, 5, b"")
    assert (again.status, again.body) == (first.status, first.body) == (200, b"seven")
    assert stage.events == ["completed"]


async def test_nothing_is_said_before_the_end_nor_to_a_head(make: MakeStage) -> None:
    stage = saying(make, headers={"X-Asset": "7"}, body=b"seven")
    upload = await stage.upload(length=5)
    answer = await stage.patch(upload.id, 0, b"hell")
    assert (answer.status, "x-asset" in answer.headers) == (204, False)
    await stage.patch(upload.id, 4, b"o")
    answer = await stage.head(upload.id)
    assert (answer.status, answer.body, "x-asset" in answer.headers) == (200, b"", False)


async def test_a_client_of_the_draft_has_it_as_the_answer_to_its_last_byte(
    make: MakeStage,
) -> None:
    stage = saying(make, status=202, headers={"Location": "/assets/7"}, body=b"seven")
    created = await stage.driver.request(
        "POST", "/", {**DRAFT, "Upload-Complete": "?0", "Content-Length": "0"}
    )
    path = created.headers["location"].removeprefix("/files")
    answer = await stage.driver.request("PATCH", path, {**LAST, "Upload-Offset": "0"}, b"hello")
    assert (answer.status, answer.body) == (202, b"seven")
    assert answer.headers["location"] == "/assets/7"
    assert answer.headers["upload-complete"] == "?1"
    again = await stage.driver.request("PATCH", path, {**LAST, "Upload-Offset": "5"}, b"")
    assert (again.status, again.body) == (202, b"seven")
    assert stage.events == ["completed"]


async def test_a_hook_that_says_nothing_changes_nothing(make: MakeStage) -> None:
    stage = make(hooks=Saying(None))
    upload = await stage.upload(length=5)
    answer = await stage.patch(upload.id, 0, b"hello")
    assert (answer.status, answer.body) == (204, b"")
    assert set(answer.headers) == {"tus-resumable", "upload-offset"}
