"""Bytes that are appended, and appends that are refused."""

import json

import pytest

from tests._stage import location_path
from tests.conformance.draft.client import Draft, cut
from tests.conformance.draft.conftest import MakeDraft
from tests.conformance.draft.grounds import everywhere
from tests.conformance.ietf import rule, shows, versions_of
from tusasgi import Limits
from tusasgi.testing import DISCONNECT

pytestmark = pytest.mark.anyio

CONTENT = b"hello world"


@rule("IETF-100", "IETF-109", "IETF-118")
async def test_an_append_adds_its_content_at_the_offset(draft: Draft) -> None:
    path = await draft.begin(b"he")
    for offset, body in ((2, b"ll"), (4, [b"o", b" "])):
        answer = await draft.append(path, offset, body)
        assert (answer.status, draft.is_complete(answer)) == (draft.dialect.partial_status, False)
    assert answer.headers["upload-offset"] == "6"
    assert await draft.state(path) == (6, False)
    assert await draft.content(path) == b"hello "


@rule("IETF-107", "IETF-026")
async def test_after_the_last_append_the_upload_is_complete(draft: Draft) -> None:
    for body in (b" world", [b" wor", b"ld"]):
        path = await draft.begin(b"hello")
        answer = await draft.append(path, 5, body, complete=True)
        assert (answer.status, draft.is_complete(answer)) == (201, True)
        head = await draft.head(path)
        assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("11", "11")
        assert draft.is_complete(head)
        assert await draft.content(path) == CONTENT
    assert draft.stage.events == ["completed"] * 2


@rule("IETF-123")
async def test_an_empty_last_append_completes_what_has_all_its_bytes(draft: Draft) -> None:
    for body in (b"", []):
        path = await draft.begin(CONTENT)
        answer = await draft.append(path, 11, body, complete=True)
        assert (answer.status, draft.is_complete(answer)) == (201, True)
        assert (await draft.head(path)).headers["upload-length"] == "11"
    assert draft.stage.events == ["completed"] * 2


@rule("IETF-124")
async def test_an_empty_append_succeeds_and_changes_nothing(draft: Draft) -> None:
    for content in (b"", b"hello"):
        path = await draft.begin(content)
        for body in (b"", []):
            answer = await draft.append(path, len(content), body)
            assert (answer.status, draft.is_complete(answer)) == (
                draft.dialect.partial_status,
                False,
            )
        assert await draft.state(path) == (len(content), False)


@rule("IETF-112")
async def test_a_length_that_an_append_tells_is_recorded(draft: Draft) -> None:
    for content, body in ((b"", b""), (b"he", b"llo"), (b"he", [b"llo"])):
        path = await draft.begin(content)
        await draft.append(path, len(content), body, length=11)
        assert (await draft.head(path)).headers["upload-length"] == "11"


# Refusals.


@rule("IETF-106")
@pytest.mark.parametrize("complete", [False, True])
async def test_an_append_that_is_refused_changes_nothing(draft: Draft, complete: bool) -> None:
    path = await draft.begin(b"hello", length=11)
    before = draft.stage.snapshot()
    for offset, headers in (
        (4, {}),
        (6, {}),
        (5, {"Upload-Offset": None}),
        (5, {"Upload-Offset": "-1"}),
        (5, {"Upload-Length": "12"}),
    ):
        for body in (b" wor", b" world!"):
            answer = await draft.append(path, offset, body, complete=complete, headers=headers)
            assert 400 <= answer.status < 500
            assert draft.stage.snapshot() == before
    assert draft.stage.events == []


@rule("IETF-101")
async def test_content_of_another_type_is_not_appended(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    for value in (None, "application/offset+octet-stream", "video/mp4", "application/partial"):
        answer = await draft.append(path, 5, b"x", headers={"Content-Type": value})
        assert answer.status == 415
        assert answer.headers["accept-patch"] == "application/partial-upload"
    assert await draft.content(path) == b"hello"


@rule("IETF-102", "IETF-103")
async def test_another_offset_is_told_the_right_one(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    for offset in (0, 4, 6, 10**15 - 1):
        answer = await draft.append(path, offset, b"x")
        assert (answer.status, answer.headers["upload-offset"]) == (409, "5")
        assert draft.is_complete(answer) is False
        problem = json.loads(answer.body)
        assert (problem["expected-offset"], problem["provided-offset"]) == (5, offset)
    assert await draft.content(path) == b"hello"


@rule("IETF-104")
async def test_another_offset_on_a_complete_upload_is_a_conflict_too(draft: Draft) -> None:
    path = location_path(await draft.create(CONTENT, complete=True))
    answer = await draft.append(path, 5, b" world", complete=True)
    assert (answer.status, answer.headers["upload-offset"]) == (409, "11")
    assert draft.is_complete(answer) is False
    assert await draft.state(path) == (11, True)


@rule("IETF-121", "IETF-010")
async def test_an_append_without_an_offset_is_refused(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    for value in (None, "", "-5", "5.0", "five", "1234567890123456"):
        answer = await draft.append(path, 5, b"x", headers={"Upload-Offset": value})
        assert answer.status == 400
    assert await draft.content(path) == b"hello"
    assert (await draft.append(path, 5, b"!", headers={"Upload-Offset": "05;a=b"})).status < 300


@rule("IETF-122")
async def test_an_append_that_says_nothing_of_the_end_is_the_last_in_version_3_alone(
    draft: Draft,
) -> None:
    path = await draft.begin(b"hello")
    answer = await draft.append(path, 5, b"!", complete=None)
    is_last = draft.dialect.version == 3
    assert answer.status == (201 if is_last else draft.dialect.partial_status)
    assert await draft.state(path) == (6, is_last)


@rule("IETF-125")
async def test_an_append_to_no_upload_is_refused(draft: Draft) -> None:
    for path in ("/unknown", "/a/b"):
        for complete in (False, True):
            answer = await draft.append(path, 0, b"x", complete=complete)
            assert answer.status == 404
            assert "upload-offset" not in answer.headers
    assert draft.stage.snapshot() == {}


@rule("IETF-126")
async def test_an_append_is_not_redirected(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    answer = await draft.append(f"{path}/", 5, b"x")
    assert answer.status == draft.dialect.partial_status


@rule("IETF-130")
async def test_what_needs_no_content_is_refused_before_it_is_asked_for(
    draft_with: MakeDraft,
) -> None:
    draft = draft_with(engine={"limits": Limits(max_size=20, max_append=10)})
    path = await draft.begin(b"hello", length=11)
    asks = [
        draft.appending("/unknown", 0, b"x" * 4),
        draft.appending(path, 4, b"x" * 4),
        draft.appending(path, 5, b"x" * 4, headers={"Upload-Offset": None}),
        draft.appending(path, 5, b"x" * 4, length=12),
        draft.appending(path, 5, b"x" * 4, complete=True),
        draft.appending(path, 5, b"x" * 11),
        draft.creation(b"x" * 4, complete=False, length=21),
        draft.creation(b"x" * 21, complete=True),
        draft.creation(b"x" * 4, complete=True, length=5),
        draft.creation(b"x" * 4, complete=False, headers=_no_completeness(draft)),
    ]
    for ask in asks:
        lines = dict(ask._scope["headers"])
        ask._scope["headers"] = [*lines.items(), (b"expect", b"100-continue")]
        await ask.run()
        assert 400 <= ask.answer.status < 500, lines
        assert ask.answer.receives_before_start == 0, lines


def _no_completeness(draft: Draft) -> dict[str, str | None]:
    return {draft.dialect.completeness: "maybe"}


# Lengths.


@rule("IETF-030")
async def test_a_last_request_tells_the_length_though_it_is_cut(draft: Draft) -> None:
    path = await draft.begin(b"he")
    headers = {"Content-Length": "9"}
    await draft.append(path, 2, [b"llo", DISCONNECT], complete=True, headers=headers)
    answer = await draft.head(path)
    assert (answer.headers["upload-offset"], answer.headers["upload-length"]) == ("5", "11")
    assert draft.is_complete(answer) is False
    answer = await draft.append(path, 5, b" world", complete=True)
    assert answer.status == 201


@rule("IETF-033")
async def test_a_known_length_stays(draft: Draft) -> None:
    path = await draft.begin(b"hello", length=11)
    for length in (10, 12, 4, 0):
        answer = await draft.append(path, 5, b" ", length=length)
        assert answer.status == 400
        assert await draft.state(path) == (5, False)
    assert (await draft.append(path, 5, b" ", length=11)).status < 300
    assert (await draft.head(path)).headers["upload-length"] == "11"
    path = await draft.begin(b"hello")
    for length in (4, 0):
        assert (await draft.append(path, 5, b" ", length=length)).status == 400
    assert await draft.state(path) == (5, False)
    assert "upload-length" not in (await draft.head(path)).headers


@rule("IETF-034")
@pytest.mark.parametrize("is_chunked", [False, True], ids=["by-length", "chunked"])
async def test_a_last_request_ends_at_the_length(draft: Draft, is_chunked: bool) -> None:
    path = await draft.begin(b"he", length=11)
    for content in (b"llo", b""):
        body = [content] if is_chunked else content
        answer = await draft.append(path, 2, body, complete=True)
        assert (answer.status, draft.is_complete(answer)) == (400, False)
        assert await draft.state(path) == (2, False)
    creation = await draft.create([b"hello"] if is_chunked else b"hello", complete=True, length=11)
    assert creation.status == 400
    assert draft.stage.events.count("completed") == 0
    assert await draft.content(path) == b"he"
    assert (await draft.append(path, 2, CONTENT[2:], complete=True)).status == 201


@rule("IETF-113", "IETF-115")
@pytest.mark.parametrize("is_chunked", [False, True], ids=["by-length", "chunked"])
async def test_no_request_takes_the_offset_past_the_length(draft: Draft, is_chunked: bool) -> None:
    path = await draft.begin(b"hello", length=11)
    content = b" world and more"
    answer = await draft.append(path, 5, [b" w", content] if is_chunked else content)
    assert (answer.status, draft.is_complete(answer)) == (400, False)
    head = await draft.head(path)
    if draft.dialect.overrun_terminates:
        assert head.status == 404
    else:
        assert head.headers["upload-offset"] == "5"
        assert await draft.content(path) == b"hello"
    answer = await draft.create(
        [CONTENT, b"!"] if is_chunked else CONTENT + b"!", complete=False, length=11
    )
    assert answer.status == 400
    assert "completed" not in draft.stage.events


@everywhere
@shows("IETF-115")
@pytest.mark.parametrize("version", [4, 9])
async def test_chunked_content_is_counted_as_it_comes(draft: Draft) -> None:
    path = await draft.begin(b"he", length=5)
    answer = await draft.append(path, 2, [b"l", b"l", b"o", b"!"], complete=True)
    assert answer.status == 400
    if draft.dialect.overrun_terminates:
        assert (await draft.head(path)).status == 404
    else:
        assert await draft.state(path) == (2, False)
        assert await draft.content(path) == b"he"


@rule("IETF-114")
@pytest.mark.parametrize("is_chunked", [False, True], ids=["by-length", "chunked"])
async def test_an_upload_that_was_to_run_past_its_length_is_over(
    draft: Draft, is_chunked: bool
) -> None:
    path = await draft.begin(b"hello", length=11)
    await draft.append(path, 5, [CONTENT] if is_chunked else CONTENT)
    for answer in (
        await draft.head(path),
        await draft.append(path, 5, b" world", complete=True),
        await draft.delete(path),
    ):
        assert answer.status == 404
    assert draft.stage.events == ["terminated"]
    assert draft.stage.snapshot() == {}


# Cuts.


@rule("IETF-119")
async def test_of_an_append_that_is_cut_the_beginning_is_kept(draft: Draft) -> None:
    path = await draft.begin(b"he")
    await draft.append(path, 2, [b"l", b"lo", DISCONNECT], headers=cut(b"llo"))
    await draft.append(path, 5, [b" wo", DISCONNECT])
    assert await draft.state(path) == (8, False)
    assert await draft.content(path) == b"hello wo"


@everywhere
@rule("IETF-120")
async def test_an_append_that_is_cut_completes_nothing(draft: Draft) -> None:
    path = await draft.begin(b"he")
    for offset, body, headers in (
        (2, [b"llo", DISCONNECT], {"Content-Length": "9"}),
        (5, [b" ", DISCONNECT], {}),
        (6, [DISCONNECT], {"Content-Length": "5"}),
        (6, [b"wor", DISCONNECT], {}),
    ):
        await draft.append(path, offset, body, complete=True, headers=headers)
        _, is_complete = await draft.state(path)
        assert is_complete is False
        assert draft.stage.events == []
    answer = await draft.append(path, 9, b"ld", complete=True)
    assert (answer.status, draft.stage.events) == (201, ["completed"])
    assert await draft.content(path) == CONTENT


@versions_of("IETF-120")
async def test_chunked_content_that_is_cut_where_the_length_is_reached_completes_nothing(
    draft: Draft,
) -> None:
    path = await draft.begin(b"hello", length=11)
    await draft.append(path, 5, [b" world", DISCONNECT], complete=True)
    assert await draft.state(path) == (11, False)
    assert draft.stage.events == []
    assert (await draft.append(path, 11, complete=True)).status == 201
    assert draft.stage.events == ["completed"]


# Complete uploads.


@rule("IETF-110", "IETF-025")
async def test_nothing_is_appended_to_a_complete_upload(draft: Draft) -> None:
    path = location_path(await draft.create(CONTENT, complete=True))
    before = draft.stage.snapshot()
    for body in (b"!", [b"!"], b"!" * 100):
        for complete in (False, True):
            answer = await draft.append(path, 11, body, complete=complete)
            assert answer.status == 400
    for length in (11, 12):
        answer = await draft.append(path, 11, b"!", length=length)
        assert answer.status == 400
    assert draft.stage.snapshot() == before
    assert await draft.state(path) == (11, True)
    assert draft.stage.events == ["completed"]


@shows("IETF-110")
@pytest.mark.parametrize("version", [6, 7, 8])
@pytest.mark.parametrize("complete", [False, True])
async def test_in_some_versions_not_even_nothing_is_appended_to_a_complete_upload(
    draft: Draft, complete: bool
) -> None:
    path = location_path(await draft.create(CONTENT, complete=True))
    answer = await draft.append(path, 11, complete=complete)
    assert answer.status == 400
    assert json.loads(answer.body)["type"].endswith("#completed-upload")
    assert draft.stage.events == ["completed"]


@rule("IETF-111")
async def test_an_empty_last_append_has_the_last_answer_again(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    first = await draft.append(path, 5, b" world", complete=True)
    for body in (b"", []):
        again = await draft.append(path, 11, body, complete=True)
        assert (again.status, again.headers, again.body) == (
            first.status,
            first.headers,
            first.body,
        )
    assert draft.stage.events == ["completed"]
