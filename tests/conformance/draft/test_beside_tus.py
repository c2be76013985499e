"""Both protocols on the same URLs: which one a request speaks, and what each sees of the other."""

from typing import Any

import pytest

from tests._stage import OCTETS, TUS, Recorder, location_path
from tests.conformance.draft.client import Draft, limits
from tests.conformance.draft.conftest import MakeDraft
from tests.conformance.draft.grounds import everywhere
from tests.conformance.ietf import rule, shows
from tusasgi import Limits, Upload

pytestmark = pytest.mark.anyio

CONTENT = b"hello world"
OF_TUS = ("tus-resumable", "tus-version", "tus-extension", "upload-expires", "upload-metadata")
OF_DRAFT = ("upload-complete", "upload-incomplete", "upload-limit", "upload-draft-interop-version")


def of_urlsession(draft: Draft) -> dict[str, str]:
    """What Apple's URLSession adds to every upload task, those of TUS clients too."""
    version = {"Upload-Draft-Interop-Version": str(draft.dialect.version)}
    return {**version, **draft.says(True)}


@rule("IETF-220")
async def test_requests_of_tus_with_the_drafts_fields_are_of_tus(draft: Draft) -> None:
    tus, added = draft.stage.driver, of_urlsession(draft)
    creation = await tus.request("POST", "/", {"Upload-Length": "11", **added})
    assert (creation.status, creation.headers["tus-resumable"]) == (201, "1.0.0")
    path = location_path(creation)
    head = await tus.request("HEAD", path, added)
    assert (head.status, head.headers["upload-length"]) == (200, "11")
    assert await draft.state(path) == (0, False)
    patch = await draft.stage.patch(path[1:], 0, b"hello", headers=added)
    assert (patch.status, patch.headers["upload-offset"]) == (204, "5")
    assert (await draft.stage.uploads.get(path[1:])).is_complete is False
    assert draft.stage.events == []
    wrong = await tus.request("PATCH", path, {"Upload-Offset": "5", **added}, b"x")
    assert wrong.status == 415
    for answer in (creation, head, patch, wrong):
        assert not set(OF_DRAFT) & set(answer.headers)
    last = await draft.stage.patch(path[1:], 5, b" world", headers=added)
    assert (last.status, draft.stage.events) == (204, ["completed"])
    assert (await tus.request("DELETE", path, added)).status == 204


@shows("IETF-220")
@pytest.mark.parametrize("value", ["0.2.2", "", "2"])
async def test_another_version_of_tus_is_tus_all_the_same(draft: Draft, value: str) -> None:
    headers = {"Tus-Resumable": value, "Upload-Length": "5", **of_urlsession(draft)}
    answer = await draft.stage.driver.request("POST", "/", headers, b"hello")
    assert (answer.status, answer.headers["tus-version"]) == (412, "1.0.0")
    assert draft.stage.snapshot() == {}


@rule("IETF-221")
async def test_one_answer_to_options_describes_both(draft_with: MakeDraft) -> None:
    draft = draft_with(engine={"limits": Limits(max_size=20)})
    for driver in (draft.driver, draft.stage.driver, Draft(draft.stage, None).driver):
        answer = await driver.request("OPTIONS", "/")
        assert answer.status == 204
        assert (answer.headers["tus-version"], answer.headers["tus-max-size"]) == ("1.0.0", "20")
        assert "creation" in answer.headers["tus-extension"]
        assert limits(answer)["max-size"] == 20
        assert answer.headers["accept-patch"] == "application/partial-upload"


@rule("IETF-222")
async def test_the_draft_sees_uploads_of_tus(draft: Draft) -> None:
    path = f"/{(await draft.stage.upload(length=11, content=b'hello')).id}"
    answer = await draft.head(path)
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")
    assert (answer.headers["upload-length"], draft.is_complete(answer)) == ("11", False)
    answer = await draft.append(path, 5, b" world", complete=True)
    assert (answer.status, draft.is_complete(answer)) == (201, True)
    assert draft.stage.events == ["completed"]
    assert await draft.state(path) == (11, True)
    assert await draft.content(path) == CONTENT
    assert (await draft.delete(path)).status == 204


@rule("IETF-222")
async def test_tus_sees_uploads_of_the_draft(draft: Draft) -> None:
    path = await draft.begin(b"hello", length=11)
    answer = await draft.stage.head(path[1:])
    assert (answer.status, answer.headers["upload-offset"]) == (200, "5")
    assert answer.headers["upload-length"] == "11"
    answer = await draft.stage.patch(path[1:], 5, b" world")
    assert (answer.status, answer.headers["upload-offset"]) == (204, "11")
    assert draft.stage.events == ["completed"]
    assert await draft.state(path) == (11, True)
    assert (await draft.stage.driver.request("DELETE", path)).status == 204
    assert (await draft.head(path)).status == 404


@shows("IETF-222")
@pytest.mark.parametrize("version", [4, 7, 9])
async def test_an_upload_of_no_length_gets_one_by_either(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    head = await draft.stage.head(path[1:])
    assert head.headers["upload-defer-length"] == "1"
    answer = await draft.stage.patch(path[1:], 5, b" world", headers={"Upload-Length": "11"})
    assert (answer.status, draft.stage.events) == (204, ["completed"])
    path = f"/{(await draft.stage.upload(length=None, content=b'hello')).id}"
    assert (await draft.append(path, 5, b" world", complete=True)).status == 201
    head = await draft.stage.head(path[1:])
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("11", "11")


# A client of TUS takes a length that is reached for success: it is not told that of an upload
# which waits for its end.


@everywhere
@shows("IETF-222")
@pytest.mark.parametrize("is_of_tus", [True, False], ids=["of-tus", "of-the-draft"])
async def test_tus_is_told_no_success_of_what_is_not_complete(
    draft: Draft, is_of_tus: bool
) -> None:
    if is_of_tus:
        path = f"/{(await draft.stage.upload(length=11, content=b'hello')).id}"
    else:
        path = await draft.begin(b"hello", length=11)
    answer = await draft.append(path, 5, b" world", complete=False)
    assert draft.is_complete(answer) is False
    head = await draft.stage.head(path[1:])
    assert (head.status, head.headers["upload-offset"]) == (200, "11")
    assert "upload-length" not in head.headers
    assert head.headers["upload-defer-length"] == "1"
    assert draft.stage.events == []
    # Whoever says where it ends, ends it: the one by its length, the other by its word.
    if is_of_tus:
        answer = await draft.stage.patch(path[1:], 11, headers={"Upload-Length": "11"})
        assert answer.status == 204
    else:
        assert (await draft.append(path, 11, complete=True)).status == 201
    assert draft.stage.events == ["completed"]
    head = await draft.stage.head(path[1:])
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("11", "11")


@shows("IETF-222")
async def test_a_final_upload_of_tus_takes_nothing_and_is_seen(draft: Draft) -> None:
    tus = draft.stage.driver
    headers = {"Upload-Concat": "partial", "Upload-Length": "5", "Content-Type": OCTETS}
    part = (await tus.request("POST", "/", headers, b"hello")).headers["location"]
    headers = {"Upload-Concat": f"final;{part} {part}"}
    path = location_path(await tus.request("POST", "/", headers))
    assert await draft.state(path) == (10, True)
    for body in (b"", b"!"):
        assert (await draft.append(path, 10, body, complete=True)).status == 403
    assert await draft.content(path) == b"hellohello"


@rule("IETF-223")
async def test_answers_have_the_fields_of_their_own_protocol(draft: Draft) -> None:
    path = await draft.begin(b"he", length=5)
    for answer in (
        await draft.create(CONTENT, complete=True),
        await draft.create(
            CONTENT, complete=False, headers=draft.says(True) | {"Upload-Length": "x"}
        ),
        await draft.head(path),
        await draft.get(path),
        await draft.append(path, 2, b"l"),
        await draft.append(path, 2, b"l"),
        await draft.append(path, 3, b"l", headers={"Upload-Offset": None}),
        await draft.append(path, 3, b"lo", complete=True),
        await draft.delete(path),
        await draft.head(path),
        await draft.driver.request("PUT", path, draft.says(True), b"x"),
    ):
        assert not set(OF_TUS) & set(answer.headers)
    path = await draft.begin(b"he", length=5)
    tus = draft.stage
    for answer in (
        await tus.head(path[1:]),
        await tus.patch(path[1:], 3, b"l"),
        await tus.patch(path[1:], 2, b"llo!"),
        await tus.patch(path[1:], 2, b"llo"),
        await tus.driver.request("PUT", path),
        await tus.driver.request("DELETE", path),
        await tus.head(path[1:]),
    ):
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert not set(OF_DRAFT) & set(answer.headers)


@rule("IETF-222", "IETF-066")
async def test_hooks_see_one_kind_of_upload(draft_with: MakeDraft) -> None:
    class Seeing(Recorder):
        async def completed(self, upload: Upload) -> None:
            seen.append(_seen(upload))

    def _seen(upload: Upload) -> dict[str, Any]:
        return {
            "metadata": dict(upload.metadata),
            "length": upload.length,
            "offset": upload.offset,
            "is_complete": upload.is_complete,
        }

    seen: list[dict[str, Any]] = []
    draft = draft_with(hooks=Seeing())
    described = {
        "Content-Type": "text/plain",
        "Content-Disposition": "attachment; filename*=UTF-8''h%C3%A9.txt",
    }
    await draft.create(CONTENT, complete=True, headers=described)
    path = await draft.begin(b"hello", headers=described)
    await draft.append(path, 5, b" world", complete=True)
    metadata = {"Upload-Metadata": "filename aMOpLnR4dA==,filetype dGV4dC9wbGFpbg=="}
    headers = {**TUS, **metadata, "Upload-Length": "11", "Content-Type": OCTETS}
    await draft.stage.driver.request("POST", "/", headers, CONTENT)
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]["metadata"] == {"filename": "hé.txt".encode(), "filetype": b"text/plain"}
