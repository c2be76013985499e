"""The IETF draft as pure functions: requests to values, uploads to responses, in each version."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.ietf import rule, shows, versions_of
from tusasgi import (
    Append,
    Creation,
    FinalResponse,
    Forbidden,
    Headers,
    InvalidRequest,
    Limits,
    OffsetConflict,
    Response,
    StoreUnavailable,
    TooLarge,
    TusError,
    UnsupportedContentType,
    UnsupportedMedia,
    Upload,
    UploadExpired,
    UploadLocked,
    UploadNotFound,
)
from tusasgi.errors import ChecksumMismatch, LengthConflict, Overrun, TooSmall
from tusasgi.models import Checksum, Target
from tusasgi.protocols.contract import Codec, Interim
from tusasgi.protocols.dialects import DIALECTS, NEWEST
from tusasgi.protocols.ietf import (
    CONTENT_TYPE,
    MAX_DESCRIPTION,
    Ietf,
    capabilities,
    format_limits,
    named_version,
)
from tusasgi.protocols.structured import format_item, parse_dictionary

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
LOCATION = "/files/u"
VERSION = "Upload-Draft-Interop-Version"
PROBLEMS = "https://iana.org/assignments/http-problem-types#"

OPEN = Upload(id="u", length=None, offset=5, created=NOW, protocol="ietf", is_open=True)
COMPLETE = replace(OPEN, length=5, is_open=False, is_complete=True)

every_version = pytest.mark.parametrize("version", [*DIALECTS, None])
"""None: of a request that names no version."""


def headers(lines: dict[str, str] | None = None, **more: str) -> Headers:
    named = {**(lines or {}), **{name.replace("_", "-"): value for name, value in more.items()}}
    return Headers((name.encode(), value.encode("latin-1")) for name, value in named.items())


def ietf(version: int | None = 9, lines: Headers | None = None, **offered: object) -> Ietf:
    """The codec for a request of this version."""
    named = {} if version is None else {VERSION: str(version)}
    raw = [(name.encode(), value.encode()) for name, value in {**named, **(lines or {})}.items()]
    options = {"limits": Limits(), "can_defer_length": True, "can_terminate": True, **offered}
    return Ietf.of(Headers(raw), **options)


def says(version: int | None, *, complete: bool) -> dict[str, str]:
    """The field of completeness, as it is in this version."""
    if version == 3:
        return {"Upload-Incomplete": format_item(not complete)}
    return {"Upload-Complete": format_item(complete)}


def create(
    version: int | None, lines: dict[str, str], **offered: object
) -> tuple[Creation, Append | None]:
    return ietf(version, **offered).parse_creation(headers(lines), lambda url: url)


def append(
    version: int | None, lines: dict[str, str], upload: Upload = OPEN, **offered: object
) -> Append:
    base = {"Content-Type": CONTENT_TYPE, "Upload-Offset": "5"}
    return ietf(version, **offered).parse_append(headers({**base, **lines}), upload)


def refused(
    error: TusError,
    *,
    version: int | None = 9,
    method: str = "PATCH",
    upload: Upload | None = None,
    rendered: Response | None = None,
    **offered: object,
) -> Response:
    if rendered is None:
        rendered = Response(
            status=error.status, headers={"Content-Type": "text/plain"}, body=b"by the host"
        )
    return ietf(version, **offered).refused(error, rendered, method=method, upload=upload)


def completeness(response: Response, version: int | None) -> str | None:
    """What a response says of completeness, as `Upload-Complete` would."""
    if version != 3:
        return response.headers.get("Upload-Complete")
    assert "Upload-Complete" not in response.headers
    value = response.headers.get("Upload-Incomplete")
    return None if value is None else {"?0": "?1", "?1": "?0"}[value]


def answers(version: int | None) -> list[Response]:
    """One answer of each kind."""
    codec = ietf(version)
    return [
        codec.created(OPEN, LOCATION, NOW),
        codec.created(COMPLETE, LOCATION, NOW),
        codec.appended(OPEN, LOCATION, NOW),
        codec.appended(COMPLETE, LOCATION, NOW),
        codec.described(OPEN, NOW),
        codec.terminated(),
        refused(Forbidden("no"), version=version),
        refused(OffsetConflict("no", offset=5), version=version),
    ]


def interims(version: int | None) -> list[Interim | None]:
    codec = ietf(version)
    return [codec.announced(OPEN, LOCATION, NOW), codec.progressed(5)]


# The version


def test_it_is_a_codec() -> None:
    codec: Codec = ietf()
    assert codec.name == "ietf"
    assert codec.offset_ends_append
    assert codec.method_of("POST", headers(X_HTTP_Method_Override="PATCH")) == "POST"
    assert not codec.depends_on_first_byte(headers(Transfer_Encoding="chunked"))


@shows("IETF-001")
def test_a_request_without_a_version_gets_no_interim_response() -> None:
    assert interims(None) == [None, None]


@shows("IETF-002")
@pytest.mark.parametrize("value", ["9, 8", "abc", "", "10", "2", "-9", "9.0", "?1", '"9"'])
def test_a_version_that_is_none_of_ours_counts_as_none(value: str) -> None:
    given_headers = headers({VERSION: value})
    codec = Ietf.of(given_headers, limits=Limits(), can_defer_length=True, can_terminate=True)
    assert named_version(given_headers) is None
    assert codec == ietf(None)


@pytest.mark.parametrize("value", ["8", "8;a=b", "08"])
def test_a_version_may_have_parameters(value: str) -> None:
    assert named_version(headers({VERSION: value})) == 8


@rule("IETF-003", "IETF-006")
def test_what_is_sent_names_the_version_of_the_request(version: int) -> None:
    sent = [*answers(version), *(interim for interim in interims(version) if interim is not None)]
    assert {message.headers[VERSION] for message in sent} == {str(version)}


@shows("IETF-007")
def test_a_request_without_a_version_is_served_by_the_newest_rules() -> None:
    codec = ietf(None)
    assert (codec.dialect, codec.version) == (NEWEST, None)
    assert not any(VERSION in answer.headers for answer in answers(None))


@versions_of("IETF-008")
def test_nothing_of_a_version_is_kept_in_an_upload(version: int) -> None:
    for complete in (True, False):
        lines = {"Content-Length": "7", "Upload-Length": "7", "Content-Type": "text/plain"}
        of_version, _ = create(version, {**lines, **says(version, complete=complete)})
        of_newest, _ = create(9, {**lines, **says(9, complete=complete)})
        assert of_version == of_newest


@rule("IETF-223")
def test_answers_have_the_fields_of_the_draft_only(version: int) -> None:
    names = {name for answer in answers(version) for name in answer.headers}
    assert not any(name.startswith("Tus-") for name in names)
    assert "Upload-Expires" not in names


# Creation


@versions_of("IETF-030")
def test_a_last_creation_tells_the_length_by_its_size(version: int) -> None:
    creation, first = create(
        version,
        {"Content-Length": "7", "Content-Type": "video/mp4", **says(version, complete=True)},
    )
    assert creation == Creation(
        length=7, size=7, metadata={"filetype": b"video/mp4"}, protocol="ietf", is_open=True
    )
    assert first is not None
    assert (first.offset, first.size, first.is_last) == (0, 7, True)


@rule("IETF-031")
def test_upload_length_tells_the_length_at_creation(version: int) -> None:
    creation, first = create(
        version,
        {"Content-Length": "7", "Upload-Length": "100", **says(version, complete=False)},
    )
    assert (creation.length, creation.size) == (100, 7)
    assert first is not None
    assert (first.size, first.is_last) == (7, False)


@rule("IETF-032")
def test_two_lengths_that_disagree_are_refused(version: int) -> None:
    for length in ("6", "8"):
        lines = {"Content-Length": "7", "Upload-Length": length, **says(version, complete=True)}
        with pytest.raises(LengthConflict, match=f"is {length}, and the last byte is at 7"):
            create(version, lines)
        lines["Upload-Length"] = str(int(length) + 5)
        with pytest.raises(LengthConflict, match="and the last byte is at 12"):
            append(version, lines)


@rule("IETF-012")
def test_an_odd_length_counts_as_absent(version: int) -> None:
    for value in ("-1", "5.0", "x", "1234567890123456", "?1", ""):
        lines = {"Upload-Length": value, **says(version, complete=False)}
        assert create(version, lines)[0].length is None
        assert append(version, lines).length is None


@versions_of("IETF-024")
def test_a_length_that_is_reached_is_not_the_end(version: int) -> None:
    lines = {"Content-Length": "7", "Upload-Length": "7", **says(version, complete=False)}
    creation, first = create(version, lines)
    assert creation.is_open
    assert first is not None and first.is_last is False


@versions_of("IETF-064")
def test_a_last_creation_without_content_is_complete(version: int) -> None:
    creation, first = create(version, {"Content-Length": "0", **says(version, complete=True)})
    assert (creation.length, creation.is_open) == (0, True)
    assert first is not None
    assert (first.offset, first.size, first.is_last) == (0, 0, True)


@versions_of("IETF-065")
def test_a_creation_of_nothing_brings_no_append(version: int) -> None:
    creation, first = create(version, {"Content-Length": "0", **says(version, complete=False)})
    assert creation == Creation(length=None, size=0, protocol="ietf", is_open=True)
    assert first is None


@versions_of("IETF-071")
def test_chunked_content_is_of_unknown_size(version: int) -> None:
    for complete in (True, False):
        lines = {"Transfer-Encoding": "chunked", **says(version, complete=complete)}
        creation, first = create(version, lines)
        assert (creation.length, creation.size, creation.is_open) == (None, None, True)
        assert first is not None
        assert (first.size, first.is_last) == (None, complete)
        following = append(version, lines)
        assert (following.length, following.size) == (None, None)
        assert following.is_last is complete


@rule("IETF-011")
def test_a_creation_says_whether_it_is_all(version: int) -> None:
    field = next(iter(says(version, complete=True)))
    for value in (None, "", "1", "true", "?2", "?1, ?1"):
        with pytest.raises(InvalidRequest, match=f"{field} must be"):
            create(version, {"Content-Length": "7"} | ({} if value is None else {field: value}))
    creation, _ = create(version, {**says(version, complete=True), "Content-Length": "1"})
    with_parameters = {name: f"{v};a=b" for name, v in says(version, complete=True).items()}
    assert create(version, {**with_parameters, "Content-Length": "1"})[0] == creation


@versions_of("IETF-230")
def test_a_creation_of_all_bytes_is_the_end_where_tus_js_client_needs_it(version: int) -> None:
    part = {"Upload-Metadata": "filename YQ==", **says(version, complete=False)}
    for length, size in (("0", {"Content-Length": "0"}), ("0", {}), ("7", {"Content-Length": "7"})):
        creation, first = create(version, {"Upload-Length": length, **size, **part})
        assert (creation.length, creation.is_open) == (int(length), True)
        assert first is not None and first.is_last is True
    for size in ({"Content-Length": "6"}, {"Transfer-Encoding": "chunked"}):
        first = create(version, {"Upload-Length": "7", **size, **part})[1]
        assert first is not None and first.is_last is False
    assert create(version, {"Upload-Length": "7", "Content-Length": "0", **part})[1] is None


@versions_of("IETF-230")
def test_an_append_of_the_last_byte_is_the_end_where_tus_js_client_needs_it(version: int) -> None:
    opened = replace(OPEN, metadata_header="filename YQ==")
    known = replace(opened, length=12)
    for unsaid in (says(version, complete=False), {}):
        assert append(version, {"Content-Length": "7", **unsaid}, known).is_last is True
        for size in ("0", "6", "8"):
            assert append(version, {"Content-Length": size, **unsaid}, known).is_last is False
        # The length alone, once everything is there.
        lines = {"Content-Length": "0", "Upload-Length": "5", **unsaid}
        found = append(version, lines, opened)
        assert (found.length, found.size, found.is_last) == (5, 0, True)


def test_in_version_6_only_what_tus_js_client_described_ends_at_its_length() -> None:
    part = says(6, complete=False)
    lines = {"Content-Length": "7", **part}
    assert append(5, lines, replace(OPEN, length=12)).is_last is True
    assert append(6, lines, replace(OPEN, length=12)).is_last is False
    assert create(6, {"Upload-Length": "7", **lines})[1].is_last is False  # type: ignore[union-attr]
    assert create(6, {"Upload-Length": "0", **part})[1].is_last is True  # type: ignore[union-attr]


@pytest.mark.parametrize("version", [4, 7, 8, 9, None])
def test_elsewhere_an_upload_with_all_bytes_waits_for_its_end(version: int | None) -> None:
    part = says(version, complete=False)
    creation, first = create(version, {"Upload-Length": "0", "Content-Length": "0", **part})
    assert creation.is_open and first is None
    lines = {"Content-Length": "7", **part}
    assert append(version, lines, replace(OPEN, length=12)).is_last is False


@every_version
def test_concatenation_is_of_tus_alone(version: int | None) -> None:
    lines = {"Content-Length": "7", "Upload-Concat": "partial", **says(version, complete=False)}
    with pytest.raises(InvalidRequest, match="no joining"):
        create(version, lines)


@every_version
def test_a_store_may_need_the_length_at_creation(version: int | None) -> None:
    part, whole = says(version, complete=False), says(version, complete=True)
    for lines in (part, {"Content-Length": "7", **part}, {"Transfer-Encoding": "chunked", **whole}):
        with pytest.raises(InvalidRequest, match="must be given at creation"):
            create(version, lines, can_defer_length=False)
    for lines in ({"Upload-Length": "7", **part}, {"Content-Length": "7", **whole}):
        assert create(version, lines, can_defer_length=False)[0].length == 7


def test_more_bytes_than_any_store_holds_are_refused() -> None:
    with pytest.raises(TooLarge):
        create(9, {"Content-Length": "9" * 30, "Upload-Complete": "?1"})


# What describes a representation


@rule("IETF-066")
def test_a_creation_describes_the_representation(version: int) -> None:
    lines = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Encoding": "br",
        "Content-Disposition": "inline; filename=\"x\"; filename*=UTF-8''%e2%82%ac.html",
        **says(version, complete=True),
    }
    creation, _ = create(version, lines)
    assert creation.metadata == {
        "filetype": b"text/html; charset=utf-8",
        "content-encoding": b"br",
        "filename": "€.html".encode(),
    }


@rule("IETF-213")
def test_a_hostile_description_is_no_reason_to_fail(version: int) -> None:
    lines = {
        "Content-Type": "x" * (MAX_DESCRIPTION + 1),
        "Content-Encoding": "",
        "Content-Disposition": "inline; filename=a; filename=../b",
        **says(version, complete=False),
    }
    assert create(version, lines)[0].metadata == {}


def test_metadata_of_tus_js_client_is_taken_where_no_disposition_is() -> None:
    lines = {"Content-Type": "text/plain", "Upload-Complete": "?0"}
    lines["Upload-Metadata"] = "filename YS50eHQ=,filetype dGV4dC9jc3Y=,empty"
    creation, _ = create(6, lines)
    assert creation.metadata_header == lines["Upload-Metadata"]
    assert creation.metadata == {"filename": b"a.txt", "filetype": b"text/csv", "empty": b""}
    creation, _ = create(6, {**lines, "Content-Disposition": "inline; filename=b.txt"})
    assert creation.metadata_header is None
    assert creation.metadata == {"filename": b"b.txt", "filetype": b"text/plain"}


def test_the_type_of_a_message_describes_no_representation() -> None:
    lines = {"Content-Type": "Application/Partial-Upload;a=b", "Upload-Complete": "?0"}
    assert create(6, lines)[0].metadata == {}


# Append


@rule("IETF-010")
def test_an_odd_offset_counts_as_absent(version: int) -> None:
    for value in ("-1", "x", "5.0", "5, 5", "1234567890123456", ""):
        with pytest.raises(InvalidRequest, match="Upload-Offset must be"):
            append(version, {"Upload-Offset": value, **says(version, complete=True)})
    for value in ("5;a=b", "005"):
        lines = {"Upload-Offset": value, **says(version, complete=True)}
        assert append(version, lines).offset == 5


@rule("IETF-121")
def test_an_append_has_an_offset(version: int) -> None:
    lines = headers({"Content-Type": CONTENT_TYPE, **says(version, complete=True)})
    with pytest.raises(InvalidRequest, match="Upload-Offset must be"):
        ietf(version).parse_append(lines, OPEN)


@versions_of("IETF-100")
def test_an_append_is_read(version: int) -> None:
    found = append(version, {"Content-Length": "7", **says(version, complete=False)})
    assert replace(found, overrun_terminates=False) == Append(offset=5, size=7, is_last=False)


@versions_of("IETF-030")
def test_a_last_append_tells_the_length_by_where_it_ends(version: int) -> None:
    found = append(version, {"Content-Length": "7", **says(version, complete=True)})
    assert (found.length, found.size, found.is_last) == (12, 7, True)


@versions_of("IETF-112")
def test_an_append_may_tell_the_length(version: int) -> None:
    for complete in (True, False):
        lines = {"Transfer-Encoding": "chunked", "Upload-Length": "100"}
        assert append(version, {**lines, **says(version, complete=complete)}).length == 100


@versions_of("IETF-123")
def test_an_empty_append_is_one(version: int) -> None:
    last = append(version, {"Content-Length": "0", **says(version, complete=True)})
    assert (last.offset, last.size, last.length, last.is_last) == (5, 0, 5, True)
    part = append(version, {"Content-Length": "0", **says(version, complete=False)})
    assert (part.offset, part.size, part.length, part.is_last) == (5, 0, None, False)


@rule("IETF-122")
def test_an_append_that_does_not_say_so_is_not_the_last(version: int) -> None:
    field = next(iter(says(version, complete=True)))
    for lines in ({}, {field: "yes"}, {field: "?1, ?1"}):
        found = append(version, {"Content-Length": "7", **lines})
        assert found.is_last is (version == 3)
        assert found.length == (12 if version == 3 else None)


def test_each_version_reads_its_own_field_of_completeness() -> None:
    assert append(3, {"Upload-Complete": "?0"}).is_last is True
    for version in (4, 9):
        assert append(version, {"Upload-Incomplete": "?0"}).is_last is False


@rule("IETF-101")
def test_another_media_type_is_no_append(version: int) -> None:
    for content_type in ("", "application/offset+octet-stream", "application/partial-uploads"):
        with pytest.raises(UnsupportedContentType):
            append(version, {"Content-Type": content_type, **says(version, complete=True)})


@pytest.mark.parametrize("version", [3, 4, 5])
def test_early_versions_take_any_media_type(version: int) -> None:
    for content_type in ("", "application/offset+octet-stream", CONTENT_TYPE):
        lines = {"Content-Type": content_type, **says(version, complete=True)}
        assert append(version, lines).offset == 5


@rule("IETF-171")
def test_the_media_type_is_compared_without_case_and_parameters(version: int) -> None:
    lines = {"Content-Type": "Application/Partial-Upload ; a=b", **says(version, complete=True)}
    assert append(version, lines).offset == 5


@every_version
def test_an_overrun_is_the_end_of_an_upload_where_the_version_says_so(
    version: int | None,
) -> None:
    is_fatal = version in (8, 9, None)
    lines = {"Content-Length": "7", **says(version, complete=False)}
    _, first = create(version, lines)
    assert first is not None
    assert first.overrun_terminates is append(version, lines).overrun_terminates is is_fatal
    assert not append(version, lines, can_terminate=False).overrun_terminates


# An append to a complete upload


@versions_of("IETF-025")
def test_nothing_is_added_to_a_complete_upload(version: int) -> None:
    for complete in (True, False):
        lines = {"Content-Length": "1", **says(version, complete=complete)}
        with pytest.raises(LengthConflict, match="complete with 5 bytes"):
            append(version, lines, COMPLETE)


@versions_of("IETF-111")
def test_an_empty_append_to_a_complete_upload_asks_for_its_answer_again(version: int) -> None:
    lines = {"Content-Length": "0", **says(version, complete=True)}
    assert append(version, lines, COMPLETE) == Append(offset=5, length=5, size=0)


@pytest.mark.parametrize("version", [3, 4, 5, 9, None])
def test_content_of_unknown_size_does_a_complete_upload_no_harm(version: int | None) -> None:
    lines = {"Transfer-Encoding": "chunked", **says(version, complete=True)}
    found = append(version, lines, COMPLETE)
    assert found == Append(offset=5)
    assert not found.overrun_terminates


@rule("IETF-182")
def test_an_append_to_a_complete_upload_is_a_problem_of_its_own(version: int) -> None:
    for size in ("0", "1"):
        lines = {"Content-Length": size, **says(version, complete=True)}
        with pytest.raises(LengthConflict) as caught:
            append(version, lines, COMPLETE)
        response = refused(caught.value, version=version, upload=COMPLETE)
        assert response.status == 400
        assert json.loads(response.body)["type"] == f"{PROBLEMS}completed-upload"


@pytest.mark.parametrize("version", [3, 4, 5, 9, None])
def test_elsewhere_content_for_a_complete_upload_contradicts_its_length(
    version: int | None,
) -> None:
    response = refused(LengthConflict("no"), version=version, upload=COMPLETE)
    assert response.status == 400
    assert json.loads(response.body)["type"] == f"{PROBLEMS}inconsistent-upload-length"


@every_version
def test_another_offset_on_a_complete_upload_is_left_to_the_engine(version: int | None) -> None:
    lines = {"Upload-Offset": "4", "Content-Length": "1", **says(version, complete=False)}
    assert append(version, lines, COMPLETE).offset == 4


# Digests


def test_digests_are_read() -> None:
    digest = hashlib.sha256(b"hello").digest()
    line = f"sha-256={format_item(digest)}"
    checksum = Checksum(algorithm="sha256", digest=digest)
    lines = {"Repr-Digest": line, "Content-Digest": line, "Upload-Complete": "?1"}
    creation, first = create(9, lines)
    assert first is not None
    assert creation.checksum == first.checksum == append(9, lines).checksum == checksum
    assert append(9, {"Repr-Digest": line}).checksum is None


@rule("IETF-202")
def test_the_last_answer_has_the_digest_that_was_wanted(version: int) -> None:
    digest = hashlib.sha256(b"hello").digest()
    upload = replace(COMPLETE, sha256=digest.hex())
    codec = ietf(version, headers(Want_Repr_Digest="sha-256=1, md5=10"))
    for answer in (codec.created(upload, LOCATION, NOW), codec.appended(upload, LOCATION, NOW)):
        assert parse_dictionary([answer.headers["Repr-Digest"]]) == {"sha-256": digest}
    assert "Repr-Digest" not in codec.appended(OPEN, LOCATION, NOW).headers
    assert "Repr-Digest" not in ietf(version).appended(upload, LOCATION, NOW).headers


# Interim responses


@rule("IETF-052", "IETF-061")
def test_a_creation_is_announced_by_the_url_that_its_answer_has(version: int) -> None:
    interim = ietf(version).announced(OPEN, LOCATION, NOW)
    assert interim is not None
    assert (interim.status, interim.headers["Location"]) == (104, LOCATION)
    assert ietf(version).created(OPEN, LOCATION, NOW).headers["Location"] == LOCATION


@rule("IETF-053")
def test_a_creation_is_announced_with_its_limits(version: int) -> None:
    interim = ietf(version).announced(replace(OPEN, max_size=100), LOCATION, NOW)
    assert interim is not None
    assert parse_dictionary([interim.headers["Upload-Limit"]])["max-size"] == 100


@rule("IETF-117")
def test_progress_is_an_offset_and_no_location(version: int) -> None:
    interim = ietf(version).progressed(7)
    if version < 5:
        assert interim is None
    else:
        assert interim == Interim(status=104, headers={VERSION: str(version), "Upload-Offset": "7"})


# Answers


@rule("IETF-057", "IETF-055", "IETF-058")
def test_a_part_of_an_upload_is_created(version: int) -> None:
    response = ietf(version).created(OPEN, LOCATION, NOW)
    assert (response.status, response.headers["Location"]) == (201, LOCATION)
    assert response.headers["Upload-Offset"] == "5"
    assert completeness(response, version) == "?0"


@rule("IETF-109")
def test_a_part_of_an_upload_is_appended(version: int) -> None:
    response = ietf(version).appended(OPEN, LOCATION, NOW)
    assert response.status == (201 if version <= 6 else 204)
    assert response.headers["Upload-Offset"] == "5"
    assert completeness(response, version) == "?0"


@rule("IETF-056", "IETF-083")
def test_answers_have_the_limits_of_the_upload(version: int) -> None:
    upload = replace(OPEN, max_size=100, min_size=10)
    codec = ietf(version, limits=Limits(max_size=7, max_append=5, min_append=2))
    for response in (
        codec.created(upload, LOCATION, NOW),
        codec.appended(upload, LOCATION, NOW),
        codec.described(upload, NOW),
    ):
        assert parse_dictionary([response.headers["Upload-Limit"]]) == {
            "max-size": 100,
            "min-size": 10,
            "max-append-size": 5,
            "min-append-size": 2,
        }


@rule("IETF-054")
def test_the_last_answer_is_called_complete(version: int) -> None:
    codec = ietf(version)
    for response in (
        codec.created(COMPLETE, LOCATION, NOW),
        codec.appended(COMPLETE, LOCATION, NOW),
    ):
        assert (response.status, response.headers["Location"]) == (201, LOCATION)
        assert response.headers["Upload-Offset"] == "5"
        assert completeness(response, version) == "?1"


@versions_of("IETF-108")
def test_the_last_answer_is_that_of_the_host_however_the_bytes_came(version: int) -> None:
    answer = FinalResponse(status=200, headers={"Content-Type": "application/json"}, body=b"{}")
    upload = replace(COMPLETE, final_response=answer)
    created = ietf(version).created(upload, LOCATION, NOW)
    assert (created.status, created.body) == (200, b"{}")
    assert created.headers["Content-Type"] == "application/json"
    assert completeness(created, version) == "?1"
    assert ietf(version).appended(upload, LOCATION, NOW) == created


@every_version
def test_a_host_names_another_location_but_no_field_of_the_protocol(version: int | None) -> None:
    field = next(iter(says(version, complete=True)))
    told = {"location": "/photos/7", "UPLOAD-offset": "0", field.lower(): "?0", "X-Own": "a"}
    upload = replace(COMPLETE, final_response=FinalResponse(headers=told))
    response = ietf(version).appended(upload, LOCATION, NOW)
    assert response.status == 201
    assert response.headers["location"] == "/photos/7"
    assert response.headers["X-Own"] == "a"
    assert response.headers["Upload-Offset"] == "5"
    assert completeness(response, version) == "?1"
    lower = [name.lower() for name in response.headers]
    assert len(lower) == len(set(lower))


@every_version
def test_an_upload_that_stands_for_a_request_has_no_location_but_for_who_waits_for_one(
    version: int | None,
) -> None:
    target = Target(method="POST", path="/a", raw_path=None, query_string=b"", headers=())
    upload = replace(COMPLETE, target=target)
    created = ietf(version).created(upload, LOCATION, NOW)
    assert created.headers.get("Location") == (LOCATION if version in (5, 6) else None)
    assert "Location" not in ietf(version).appended(upload, LOCATION, NOW).headers


@rule("IETF-027")
def test_completeness_says_who_answers(version: int) -> None:
    codec = ietf(version)
    refusal = replace(COMPLETE, final_response=FinalResponse(status=422))
    assert completeness(codec.appended(refusal, LOCATION, NOW), version) == "?1"
    assert completeness(codec.created(OPEN, LOCATION, NOW), version) == "?0"
    assert completeness(refused(Forbidden("no"), version=version, method="POST"), version) == "?0"


@versions_of("IETF-029")
def test_what_the_host_refuses_first_bytes_for_is_the_last_answer(version: int) -> None:
    refusal = UnsupportedMedia("no")
    assert completeness(refused(refusal, version=version, method="POST"), version) == "?0"
    refusal.is_final = True  # so says the engine, once the upload is removed
    for method in ("POST", "PUT", "PATCH"):
        response = refused(refusal, version=version, method=method)
        assert (response.status, response.body) == (415, b"by the host")
        assert completeness(response, version) == "?1"


@rule("IETF-118")
def test_every_answer_to_an_append_speaks_of_completeness(version: int) -> None:
    for error in (
        InvalidRequest("no"),
        Forbidden("no"),
        UploadNotFound(),
        UploadExpired("no"),
        OffsetConflict("no", offset=5),
        TooLarge("no"),
        Overrun("no"),
        UnsupportedContentType("no"),
        StoreUnavailable("no"),
        TusError("no"),
    ):
        assert completeness(refused(error, version=version), version) == "?0"


# The offset


@rule("IETF-080", "IETF-081", "IETF-084", "IETF-089")
def test_the_offset_is_told(version: int) -> None:
    response = ietf(version).described(OPEN, NOW)
    assert (response.status, response.body) == (204, b"")
    assert response.headers["Upload-Offset"] == "5"
    assert completeness(response, version) == "?0"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Upload-Length" not in response.headers


@rule("IETF-082")
def test_the_length_is_told_once_it_is_known(version: int) -> None:
    response = ietf(version).described(replace(OPEN, length=12), NOW)
    assert response.headers["Upload-Length"] == "12"


def test_a_length_that_is_no_integer_of_the_draft_is_not_told() -> None:
    response = ietf().described(replace(OPEN, length=10**15, protocol="tus"), NOW)
    assert "Upload-Length" not in response.headers


@versions_of("IETF-024")
def test_an_upload_is_called_complete_only_when_it_is(version: int) -> None:
    codec = ietf(version)
    assert completeness(codec.described(COMPLETE, NOW), version) == "?1"
    assert completeness(codec.described(replace(OPEN, length=5), NOW), version) == "?0"


@rule("IETF-093")
def test_early_versions_refuse_fields_on_head(version: int) -> None:
    refused_names = ["Upload-Offset", *says(version, complete=True)]
    if version == 6:
        refused_names.append("Upload-Length")
    for name in refused_names:
        with pytest.raises(InvalidRequest, match=f"{name} has no place in a HEAD"):
            ietf(version).check("HEAD", headers({name: "?0"}))
    ietf(version).check("HEAD", headers(Upload_Metadata="a"))
    ietf(version).check("PATCH", headers(Upload_Offset="5"))


@rule("IETF-145")
def test_early_versions_refuse_fields_on_delete(version: int) -> None:
    for name in ("Upload-Offset", *says(version, complete=True)):
        with pytest.raises(InvalidRequest, match=f"{name} has no place in a DELETE"):
            ietf(version).check("DELETE", headers({name: "?0"}))
    ietf(version).check("DELETE", headers(Upload_Length="5"))


@pytest.mark.parametrize("version", [7, 8, 9, None])
@pytest.mark.parametrize("method", ["HEAD", "GET", "DELETE"])
def test_later_versions_refuse_no_field(version: int | None, method: str) -> None:
    lines = {"Upload-Offset": "5", "Upload-Complete": "?1", "Upload-Length": "5"}
    ietf(version).check(method, headers(lines))


@rule("IETF-141")
def test_a_removal_is_answered(version: int) -> None:
    assert ietf(version).terminated() == Response(status=204, headers={VERSION: str(version)})


# Limits


@shows("IETF-013", "IETF-014")
@pytest.mark.parametrize(
    ("limits", "text"),
    [
        pytest.param(Limits(), "min-size=0", id="none"),
        pytest.param(Limits(max_size=100), "max-size=100, min-size=0", id="largest"),
        pytest.param(Limits(min_size=5), "min-size=5", id="smallest"),
        pytest.param(
            Limits(max_append=10, min_append=1),
            "min-size=0, max-append-size=10, min-append-size=1",
            id="of-appends",
        ),
        pytest.param(
            Limits(max_size=10**18), f"max-size={10**15 - 1}, min-size=0", id="beyond-integers"
        ),
    ],
)
def test_limits_are_a_dictionary_of_integers(limits: Limits, text: str) -> None:
    assert format_limits(limits) == text


@rule("IETF-048", "IETF-013")
def test_the_time_that_is_left_is_told_in_whole_seconds(version: int) -> None:
    name = "expires" if version == 6 else "max-age"
    for left, seconds in ((timedelta(minutes=1, milliseconds=900), 60), (-timedelta(1), 0)):
        upload = replace(OPEN, expires=NOW + left)
        limit = ietf(version).described(upload, NOW).headers["Upload-Limit"]
        assert parse_dictionary([limit]) == {"min-size": 0, name: seconds}


def test_what_cannot_expire_any_more_has_no_time_that_is_left() -> None:
    upload = replace(COMPLETE, expires=NOW)
    assert ietf().described(upload, NOW).headers["Upload-Limit"] == "min-size=0"


@rule("IETF-042")
def test_a_refusal_for_a_limit_tells_all_limits(version: int) -> None:
    limits = Limits(max_size=100, min_size=1)
    for error in (TooLarge("no"), TooSmall("no")):
        response = refused(error, version=version, method="POST", limits=limits)
        assert response.status == error.status
        assert response.headers["Upload-Limit"] == "max-size=100, min-size=1"
    upload = replace(OPEN, max_size=7)
    response = refused(TooLarge("no"), version=version, upload=upload, limits=limits)
    assert response.headers["Upload-Limit"] == "max-size=7, min-size=0"


@rule("IETF-045")
def test_options_has_the_limits(version: int) -> None:
    response = capabilities(Limits(max_size=100))
    assert response.headers["Upload-Limit"] == "max-size=100, min-size=0"


@shows("IETF-049")
def test_options_names_the_media_type_of_appends() -> None:
    response = capabilities(Limits())
    assert (response.status, response.headers["Accept-Patch"]) == (204, CONTENT_TYPE)


# Refusals


@rule("IETF-102", "IETF-103", "IETF-105")
def test_another_offset_is_a_conflict_that_tells_the_right_one(version: int) -> None:
    response = refused(OffsetConflict("at 5, not 7", offset=5, provided=7), version=version)
    assert (response.status, response.headers["Upload-Offset"]) == (409, "5")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert json.loads(response.body) == {
        "type": f"{PROBLEMS}mismatching-upload-offset",
        "title": "offset from request does not match offset of resource",
        "status": 409,
        "detail": "at 5, not 7",
        "expected-offset": 5,
        "provided-offset": 7,
    }


def test_an_offset_that_nobody_provided_is_not_told() -> None:
    response = refused(OffsetConflict("another", offset=5))
    assert "provided-offset" not in json.loads(response.body)


@rule("IETF-104")
def test_a_conflict_calls_even_a_complete_upload_incomplete(version: int) -> None:
    for upload in (OPEN, COMPLETE):
        response = refused(OffsetConflict("no", offset=5), version=version, upload=upload)
        assert completeness(response, version) == "?0"


@rule("IETF-181")
def test_lengths_that_contradict_each_other_are_a_problem_of_their_own(version: int) -> None:
    for error in (LengthConflict("12, not 7"), Overrun("12, not 7")):
        for upload in (None, OPEN):
            response = refused(error, version=version, upload=upload)
            assert response.status == 400
            assert response.headers["Content-Type"] == "application/problem+json"
            assert "Upload-Limit" not in response.headers
            document = json.loads(response.body)
            assert document["type"] == f"{PROBLEMS}inconsistent-upload-length"
            assert document["detail"] == "12, not 7"


@rule("IETF-087")
def test_what_is_no_upload_has_no_offset(version: int) -> None:
    response = refused(UploadNotFound(), version=version, method="HEAD")
    assert response == Response(
        status=404, headers={VERSION: str(version), "Cache-Control": "no-store"}
    )


@every_version
def test_other_refusals_are_the_hosts_to_render(version: int | None) -> None:
    rendered = Response(status=403, headers={"Content-Type": "text/html"}, body=b"<p>no")
    response = refused(Forbidden("no"), version=version, rendered=rendered)
    assert (response.status, response.body) == (403, b"<p>no")
    assert response.headers["Content-Type"] == "text/html"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Upload-Offset" not in response.headers


@pytest.mark.parametrize("method", ["HEAD", "GET", "DELETE", "OPTIONS"])
def test_a_refusal_of_what_brings_no_content_says_nothing_of_completeness(method: str) -> None:
    for version in (3, 9):
        response = refused(UnsupportedMedia("no"), version=version, method=method)
        assert completeness(response, version) is None


def test_a_refused_media_type_is_told_the_right_one() -> None:
    response = refused(UnsupportedContentType("no"))
    assert (response.status, response.headers["Accept-Patch"]) == (415, CONTENT_TYPE)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(ChecksumMismatch("no"), 400, id="checksum"),
        pytest.param(UploadLocked("no"), 503, id="lock"),
    ],
)
def test_statuses_that_only_tus_has_become_those_of_http(error: TusError, status: int) -> None:
    assert refused(error).status == status
    assert refused(error).body == b"by the host"


def test_who_shall_come_again_is_told_when() -> None:
    assert refused(UploadLocked("no")).headers["Retry-After"] == "5"
    assert refused(StoreUnavailable("no", retry_after=9)).headers["Retry-After"] == "9"
    assert "Retry-After" not in refused(ChecksumMismatch("no")).headers


# Any request

_NAMES = [
    VERSION,
    "Content-Digest",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Repr-Digest",
    "Transfer-Encoding",
    "Upload-Complete",
    "Upload-Incomplete",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "Want-Repr-Digest",
]
_TEXTS = st.sampled_from(["?0", "?1", "0", "5", "9", CONTENT_TYPE, "inline; filename=a", "a"])
_LINES = st.lists(
    st.tuples(
        st.sampled_from(_NAMES).map(str.encode), _TEXTS.map(str.encode) | st.binary(max_size=20)
    ),
    max_size=8,
)


@given(_LINES, st.sampled_from([OPEN, COMPLETE, replace(OPEN, length=9)]))
def test_any_request_is_read_or_refused(lines: list[tuple[bytes, bytes]], upload: Upload) -> None:
    given_headers = Headers(lines)
    codec = Ietf.of(given_headers, limits=Limits(), can_defer_length=True, can_terminate=True)
    try:
        creation, first = codec.parse_creation(given_headers, lambda url: url)
    except TusError as error:
        assert error.status in (400, 413)
    else:
        assert creation.protocol == "ietf"
        assert first is None or first.offset == 0
    try:
        found = codec.parse_append(given_headers, upload)
    except TusError as error:
        assert error.status in (400, 413, 415)
    else:
        assert found.offset >= 0
        assert upload.is_complete or found.is_last is not None
