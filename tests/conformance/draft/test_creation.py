"""Uploads that a request creates: of all bytes, of some, or of none."""

import pytest

from tests._stage import Recorder, location_path
from tests.conformance.draft.client import Draft, limits
from tests.conformance.draft.conftest import MakeDraft
from tests.conformance.draft.grounds import everywhere
from tests.conformance.ietf import rule, shows, versions_of
from tusasgi import FinalResponse, UnsupportedMedia, Upload
from tusasgi.protocols.dialects import DIALECTS

pytestmark = pytest.mark.anyio

CONTENT = b"hello world"


@rule("IETF-026", "IETF-054")
async def test_a_creation_with_everything_is_complete(draft: Draft) -> None:
    answer = await draft.create(CONTENT, complete=True)
    assert (answer.status, draft.is_complete(answer)) == (201, True)
    path = location_path(answer)
    assert await draft.state(path) == (11, True)
    assert await draft.content(path) == CONTENT
    assert draft.stage.events == ["completed"]


@rule("IETF-055", "IETF-056", "IETF-057", "IETF-058")
async def test_a_creation_of_a_part_is_answered_with_where_the_rest_goes(draft: Draft) -> None:
    answer = await draft.create(b"hello", complete=False)
    assert (answer.status, draft.is_complete(answer)) == (201, False)
    assert limits(answer) == {"min-size": 0}
    path = location_path(answer)
    assert await draft.state(path) == (5, False)
    assert await draft.content(path) == b"hello"
    assert draft.stage.events == []


@everywhere
@shows("IETF-054", "IETF-055")
async def test_a_part_and_the_rest_are_one_upload(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    answer = await draft.append(path, 5, b" world", complete=True)
    assert (answer.status, draft.is_complete(answer)) == (201, True)
    assert await draft.content(path) == CONTENT
    assert draft.stage.events == ["completed"]


@rule("IETF-064")
async def test_a_last_creation_without_content_is_an_empty_upload(draft: Draft) -> None:
    answer = await draft.create(complete=True)
    assert (answer.status, draft.is_complete(answer)) == (201, True)
    answer = await draft.head(location_path(answer))
    assert answer.headers["upload-length"] == "0"
    assert draft.stage.events == ["completed"]


@rule("IETF-065")
async def test_a_creation_of_nothing_makes_an_upload_and_nothing_else(draft: Draft) -> None:
    path = await draft.begin()
    assert await draft.state(path) == (0, False)
    assert "upload-length" not in (await draft.head(path)).headers
    assert await draft.content(path) == b""
    assert draft.stage.events == []


@rule("IETF-059", "IETF-031", "IETF-082")
async def test_a_length_that_a_creation_tells_is_recorded(draft: Draft) -> None:
    for content in (b"", b"hello"):
        path = await draft.begin(content, length=11)
        assert (await draft.head(path)).headers["upload-length"] == "11"


@rule("IETF-032")
async def test_a_creation_with_two_lengths_creates_nothing(draft: Draft) -> None:
    answer = await draft.create(CONTENT, complete=True, length=12)
    assert answer.status == 400
    assert draft.stage.snapshot() == {}


@rule("IETF-050")
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_any_method_that_brings_content_creates_an_upload(draft: Draft, method: str) -> None:
    answer = await draft.create(CONTENT, complete=True, method=method)
    assert answer.status == 201
    assert await draft.content(location_path(answer)) == CONTENT


@versions_of("IETF-050")
async def test_a_creation_that_begins_elsewhere_than_at_0_creates_nothing(draft: Draft) -> None:
    for method in ("POST", "PATCH"):
        answer = await draft.create(
            b"world", complete=False, method=method, headers={"Upload-Offset": "6"}
        )
        assert answer.status == 400
    assert draft.stage.snapshot() == {}


@rule("IETF-068")
async def test_a_creation_of_a_part_is_not_redirected(draft: Draft) -> None:
    for body in (b"", b"hello", [b"hello"]):
        answer = await draft.create(body, complete=False)
        assert answer.status == 201


@rule("IETF-069")
async def test_each_upload_has_a_url_of_its_own(draft: Draft) -> None:
    first = await draft.begin(b"hello")
    await draft.delete(first)
    paths = [await draft.begin(b"hello") for _ in range(5)]
    assert len({first, *paths}) == 6
    assert (await draft.head(first)).status == 404


@rule("IETF-071", "IETF-191")
async def test_chunked_content_is_taken_by_creations_and_appends(draft: Draft) -> None:
    path = await draft.begin([b"he", b"llo"])
    assert await draft.state(path) == (5, False)
    assert (await draft.append(path, 5, [b" w", b"or"])).status in (201, 204)
    answer = await draft.append(path, 9, [b"l", b"d"], complete=True)
    assert draft.is_complete(answer) is not False
    assert await draft.content(path) == CONTENT
    answer = await draft.create([b"he", b"llo"], complete=True)
    head = await draft.head(location_path(answer))
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("5", "5")


@rule("IETF-190")
async def test_bytes_in_a_content_coding_are_counted_and_kept_as_they_are(draft: Draft) -> None:
    coded = b"\x1f\x8b no gzip at all"
    for body in (coded, [coded]):
        answer = await draft.create(body, complete=True, headers={"Content-Encoding": "gzip"})
        path = location_path(answer)
        assert await draft.state(path) == (len(coded), True)
        assert await draft.content(path) == coded
        upload = await draft.stage.uploads.get(path[1:])
        assert upload.metadata["content-encoding"] == b"gzip"


# What the host says of it.


@rule("IETF-108")
async def test_the_last_answer_is_the_hosts_however_the_bytes_came(draft_with: MakeDraft) -> None:
    class Host(Recorder):
        async def completed(self, upload: Upload) -> FinalResponse:
            return FinalResponse(status=200, headers={"X-Asset": "7"}, body=b"stored")

    draft = draft_with(hooks=Host())
    answers = [
        await draft.create(CONTENT, complete=True),
        await draft.create([CONTENT], complete=True),
        await draft.append(await draft.begin(), 0, CONTENT, complete=True),
        await draft.append(await draft.begin(b"hello"), 5, [b" world"], complete=True),
        await draft.append(await draft.begin(CONTENT), 11, complete=True),
    ]
    for answer in answers:
        assert (answer.status, answer.headers["x-asset"], answer.body) == (200, "7", b"stored")
        assert draft.is_complete(answer) is not False


class Judge(Recorder):
    """Takes only what begins with a capital letter."""

    head_size = 1

    async def inspect(self, upload: Upload, head: bytes) -> None:
        if not head.isupper():
            raise UnsupportedMedia("this is none of ours")


@rule("IETF-029")
async def test_what_the_host_refuses_by_its_first_bytes_is_over(draft_with: MakeDraft) -> None:
    draft = draft_with(hooks=Judge())
    answer = await draft.create(CONTENT, complete=False, length=100)
    assert (answer.status, draft.is_complete(answer)) == (415, True)
    path = await draft.begin(length=100)
    answer = await draft.append(path, 0, [b"hello"])
    assert (answer.status, draft.is_complete(answer)) == (415, True)
    assert (await draft.head(path)).status == 404
    assert (await draft.append(path, 0, b"Hello")).status == 404
    assert draft.stage.snapshot() == {}
    assert "completed" not in draft.stage.events


# Versions.


@rule("IETF-008")
async def test_an_upload_goes_on_in_any_other_version(draft: Draft) -> None:
    path = await draft.begin(b"h")
    others = [Draft(draft.stage, version) for version in [*DIALECTS, None]]
    for offset, other in enumerate(others, start=1):
        assert await other.state(path) == (offset, False)
        answer = await other.append(path, offset, b"x")
        assert answer.status == other.dialect.partial_status
    answer = await others[0].append(path, 9, b"!", complete=True)
    assert answer.status == 201
    for other in others:
        assert await other.state(path) == (10, True)


@rule("IETF-006")
async def test_every_answer_names_the_version_of_the_request(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    answers = [
        await draft.head(path),
        await draft.append(path, 5, b" "),
        await draft.append(path, 5, b"?"),
        await draft.append(path, 6, b"world", complete=True),
        await draft.delete(path),
        await draft.head(path),
    ]
    for answer in answers:
        assert answer.headers["upload-draft-interop-version"] == str(draft.dialect.version)


@shows("IETF-007")
async def test_a_client_without_a_version_comes_all_the_way(draft: Draft) -> None:
    anyone = Draft(draft.stage, None)
    answer = await anyone.create(b"hello", complete=False, length=11)
    path = location_path(answer)
    assert await anyone.state(path) == (5, False)
    assert (await anyone.get(path)).headers["upload-offset"] == "5"
    answer = await anyone.append(path, 5, b" world", complete=True)
    assert (answer.status, anyone.is_complete(answer)) == (201, True)
    assert (await anyone.delete(path)).status == 204
    assert (await anyone.head(path)).status == 404
    for name in answer.headers:
        assert name not in ("tus-resumable", "upload-draft-interop-version")


@shows("IETF-007")
async def test_a_request_without_a_mark_is_one_of_what_created_the_upload(draft: Draft) -> None:
    anyone = Draft(draft.stage, None)
    path = f"/{(await draft.stage.upload(length=5)).id}"
    assert (await anyone.head(path)).status == 412
    assert (await anyone.get(path)).status == 405
    assert (await anyone.delete(path)).status == 412
    assert await draft.stage.offset(path[1:]) == 0


# One request, as Apple's URLSession sends it.


@rule("IETF-231")
async def test_one_request_of_the_apps_own_type_is_an_upload_like_any_other(draft: Draft) -> None:
    headers = {
        "Content-Type": "video/mp4",
        "Content-Disposition": 'attachment; filename="a.mp4"',
        "User-Agent": "App/1 CFNetwork/3826 Darwin/25.0.0",
    }
    answer = await draft.create(CONTENT, complete=True, headers=headers)
    assert (answer.status, draft.is_complete(answer)) == (201, True)
    upload = await draft.stage.uploads.get(location_path(answer)[1:])
    assert (upload.offset, upload.is_complete) == (11, True)
    assert upload.metadata == {"filetype": b"video/mp4", "filename": b"a.mp4"}


@rule("IETF-230")
async def test_tus_js_client_finds_what_it_takes_for_granted(draft: Draft) -> None:
    answer = await draft.create(complete=False, length=0)
    assert answer.headers["upload-offset"] == "0"
    assert draft.stage.events == ["completed"]
    answer = await draft.create(b"he", complete=False, length=5)
    assert answer.headers["upload-offset"] == "2"
    path = location_path(answer)
    answer = await draft.append(path, 2, b"l")
    assert answer.headers["upload-offset"] == "3"
    answer = await draft.append(path, 3, b"lo", complete=True)
    assert answer.headers["upload-offset"] == "5"
    answer = await draft.create(b"hello", complete=True, length=5)
    assert answer.headers["upload-offset"] == "5"
    assert draft.stage.events == ["completed"] * 3


@rule("IETF-230")
async def test_a_last_byte_that_tus_js_client_calls_a_part_is_the_end(draft: Draft) -> None:
    path = await draft.begin(b"he", length=5, headers={"Upload-Metadata": "filename YS5tcDQ="})
    answer = await draft.append(path, 2, b"llo", complete=False)
    assert (answer.status, draft.is_complete(answer)) == (201, True)
    assert await draft.state(path) == (5, True)
    assert draft.stage.events == ["completed"]


@shows("IETF-230")
@pytest.mark.parametrize("version", [5, 6])
async def test_what_tus_js_client_says_of_a_file_is_its_metadata(draft: Draft) -> None:
    path = await draft.begin(length=5, headers={"Upload-Metadata": "filename YS5tcDQ="})
    upload = await draft.stage.uploads.get(path[1:])
    assert upload.metadata["filename"] == b"a.mp4"
