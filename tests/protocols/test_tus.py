"""TUS as pure functions: requests to commands, uploads to responses."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests._stage import OCTETS
from tusasgi import (
    Append,
    Creation,
    Extension,
    Headers,
    InvalidRequest,
    Limits,
    MethodNotAllowed,
    OffsetConflict,
    PreconditionFailed,
    RangeNotSatisfiable,
    Response,
    ShuttingDown,
    StoreFull,
    StoreUnavailable,
    TusError,
    UnsupportedContentType,
    UnsupportedVersion,
    Upload,
    UploadNotFound,
    UploadPending,
)
from tusasgi.checksums import ALGORITHMS
from tusasgi.protocols import headers as framing
from tusasgi.protocols import tus as protocol

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
UPLOAD = Upload(id="u", length=10, offset=5, created=NOW)
EVERYTHING = frozenset(Extension)


def kind_of(status: int) -> type[TusError]:
    """A kind of refusal that a host has derived."""
    return type("OfTheHost", (TusError,), {"status": status})


def headers(**lines: str) -> Headers:
    return Headers(
        (name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in lines.items()
    )


# The method


@pytest.mark.parametrize(
    ("method", "override", "setting", "expected"),
    [
        pytest.param("POST", None, "any", "POST", id="no-override"),
        pytest.param("POST", "PATCH", "any", "PATCH", id="patch-over-post"),
        pytest.param("PUT", "PATCH", "any", "PATCH", id="patch-over-put"),
        pytest.param("GET", "head", "any", "HEAD", id="lower-case"),
        pytest.param("POST", "", "any", "POST", id="empty"),
        pytest.param("POST", "PATCH", "post", "PATCH", id="post-only-on-post"),
        pytest.param("PUT", "PATCH", "post", "PUT", id="post-only-on-put"),
        pytest.param("POST", "PATCH", "off", "POST", id="off"),
    ],
)
def test_the_override_header_wins_where_it_is_honoured(
    method: str, override: str | None, setting: protocol.MethodOverride, expected: str
) -> None:
    given_headers = headers() if override is None else headers(X_HTTP_Method_Override=override)
    assert protocol.method_of(method, given_headers, setting) == expected


# The version


def test_our_version_is_taken() -> None:
    protocol.check_version(headers(Tus_Resumable="1.0.0"))


@pytest.mark.parametrize("version", [None, "", "1.0", "1.0.1", "0.2.2", "v1.0.0", "1.0.0, 1.0.0"])
def test_every_other_version_is_refused(version: str | None) -> None:
    with pytest.raises(UnsupportedVersion):
        protocol.check_version(headers() if version is None else headers(Tus_Resumable=version))


# PATCH


@pytest.mark.parametrize(
    ("lines", "append"),
    [
        pytest.param({"Content_Length": "7"}, Append(offset=5, size=7), id="content-length"),
        pytest.param({"Transfer_Encoding": "chunked"}, Append(offset=5), id="chunked"),
        pytest.param({}, Append(offset=5), id="nothing-said"),
        pytest.param({"Upload_Length": "9"}, Append(offset=5, length=9), id="late-length"),
        pytest.param(
            {"Content_Length": "7", "Transfer_Encoding": "chunked"},
            Append(offset=5),
            id="chunked-wins-over-content-length",
        ),
    ],
)
def test_a_patch_is_read(lines: dict[str, str], append: Append) -> None:
    given_headers = headers(Content_Type=OCTETS, Upload_Offset="5", **lines)
    assert protocol.parse_append(given_headers, EVERYTHING) == append


@pytest.mark.parametrize(
    ("lines", "refusal"),
    [
        pytest.param({}, UnsupportedContentType, id="nothing"),
        pytest.param({"Content_Type": "text/plain"}, UnsupportedContentType, id="other-type"),
        pytest.param({"Content_Type": f"{OCTETS}x"}, UnsupportedContentType, id="longer-type"),
        pytest.param({"Content_Type": OCTETS}, InvalidRequest, id="no-offset"),
        pytest.param({"Content_Type": OCTETS, "Upload_Offset": "x"}, InvalidRequest, id="offset"),
        pytest.param(
            {"Content_Type": OCTETS, "Upload_Offset": "5", "Upload_Length": "-1"},
            InvalidRequest,
            id="length",
        ),
        pytest.param(
            {"Content_Type": OCTETS, "Upload_Offset": "5", "Content_Length": "x"},
            InvalidRequest,
            id="content-length",
        ),
    ],
)
def test_a_bad_patch_is_refused(lines: dict[str, str], refusal: type[TusError]) -> None:
    with pytest.raises(refusal):
        protocol.parse_append(headers(**lines), EVERYTHING)


def test_a_refused_type_names_the_right_one() -> None:
    with pytest.raises(UnsupportedContentType, match="application/offset"):
        protocol.parse_append(headers(Upload_Offset="x"), EVERYTHING)


# POST


@pytest.mark.parametrize(
    ("lines", "creation"),
    [
        pytest.param({"Upload_Length": "5"}, Creation(length=5), id="length"),
        pytest.param({"Upload_Length": "0"}, Creation(length=0), id="empty"),
        pytest.param({"Upload_Defer_Length": "1"}, Creation(length=None), id="deferred"),
        pytest.param(
            {"Upload_Length": "5", "Upload_Metadata": "a YQ=="},
            Creation(length=5, metadata={"a": b"a"}, metadata_header="a YQ=="),
            id="metadata",
        ),
        pytest.param(
            {"Upload_Length": "5", "Upload_Metadata": ""}, Creation(length=5), id="empty-metadata"
        ),
    ],
)
def test_a_creation_is_read(lines: dict[str, str], creation: Creation) -> None:
    assert protocol.parse_creation(headers(**lines), EVERYTHING, str) == creation


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param({}, "Upload-Length is missing", id="no-length"),
        pytest.param({"Upload_Length": "x"}, "whole number", id="bad-length"),
        pytest.param({"Upload_Defer_Length": "0"}, "must be 1", id="bad-deferral"),
        pytest.param({"Upload_Defer_Length": ""}, "must be 1", id="empty-deferral"),
        pytest.param(
            {"Upload_Defer_Length": "1", "Upload_Length": "5"}, "contradict", id="both-lengths"
        ),
        pytest.param(
            {"Upload_Length": "5", "Upload_Concat": "whole"},
            "partial, or final",
            id="concatenation",
        ),
        pytest.param({"Upload_Length": "5", "Upload_Metadata": ","}, "key", id="metadata"),
    ],
)
def test_a_bad_creation_is_refused(lines: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        protocol.parse_creation(headers(**lines), EVERYTHING, str)


def test_a_deferred_length_is_refused_where_it_is_not_offered() -> None:
    with pytest.raises(InvalidRequest, match="must be given at creation"):
        protocol.parse_creation(headers(Upload_Defer_Length="1"), {Extension.CREATION}, str)


@pytest.mark.parametrize(
    ("lines", "carries"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"Content_Length": "0"}, False, id="empty"),
        pytest.param({"Content_Type": "text/plain"}, False, id="a-type-and-no-body"),
        pytest.param({"Content_Type": "text/plain", "Content_Length": "0"}, False, id="type-empty"),
        pytest.param({"Content_Type": OCTETS, "Content_Length": "0"}, False, id="ours-empty"),
        pytest.param({"Content_Type": OCTETS, "Content_Length": "5"}, True, id="ours"),
        pytest.param({"Content_Type": OCTETS, "Transfer_Encoding": "chunked"}, True, id="chunked"),
        pytest.param({"Content_Type": OCTETS}, True, id="unannounced"),
    ],
)
def test_a_creation_carries_an_upload_or_not(lines: dict[str, str], carries: bool) -> None:
    assert protocol.carries_upload(headers(**lines)) is carries


CHUNKED = {"Transfer_Encoding": "chunked"}


@pytest.mark.parametrize(
    ("lines", "depends"),
    [
        pytest.param(CHUNKED, True, id="no-type"),
        pytest.param({**CHUNKED, "Content_Type": "text/plain"}, True, id="another-type"),
        pytest.param({**CHUNKED, "Content_Type": OCTETS}, False, id="ours"),
        pytest.param(
            {**CHUNKED, "Content_Type": OCTETS, "Upload_Concat": "final;/a"}, True, id="final"
        ),
        pytest.param({**CHUNKED, "Expect": "100-continue"}, False, id="waiting-to-be-let-go-on"),
        pytest.param({"Content_Length": "5"}, False, id="announced"),
        pytest.param({}, False, id="nothing"),
    ],
)
def test_some_creations_are_judged_by_whether_a_byte_comes(
    lines: dict[str, str], depends: bool
) -> None:
    assert protocol.depends_on_first_byte(headers(**lines)) is depends


def test_a_partial_may_be_named_again_but_not_without_end() -> None:
    def parts(*urls: str) -> tuple[str, ...]:
        concat = headers(Upload_Concat="final;" + " ".join(urls))
        # Two spellings of one URL are one upload.
        return protocol.parse_creation(concat, EVERYTHING, lambda url: url[-1]).parts

    assert parts(*["/a", "a"] * 5, *["b"] * 10) == ("a",) * 10 + ("b",) * 10
    with pytest.raises(InvalidRequest, match="more than 10 times"):
        parts(*["/a", "a"] * 5, "b", "./a")


def test_a_final_may_name_many_partials_but_not_without_end() -> None:
    def count(number: int) -> int:
        concat = headers(Upload_Concat="final;" + " ".join(map(str, range(number))))
        return len(protocol.parse_creation(concat, EVERYTHING, str).parts)

    assert count(1000) == 1000
    with pytest.raises(InvalidRequest, match="more than 1000"):
        count(1001)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param({"Content_Length": "5"}, id="no-type"),
        pytest.param({"Content_Type": "text/plain", "Content_Length": "5"}, id="other-type"),
        pytest.param({"Content_Type": "a/b", "Transfer_Encoding": "chunked"}, id="chunked"),
    ],
)
def test_a_body_of_another_type_is_refused(lines: dict[str, str]) -> None:
    with pytest.raises(UnsupportedContentType):
        protocol.carries_upload(headers(**lines))


@pytest.mark.parametrize(
    ("value", "expects"),
    [("100-continue", True), ("100-Continue", True), ("", False), ("x", False)],
)
def test_an_expectation_is_seen(value: str, expects: bool) -> None:
    assert framing.expects_continue(headers(Expect=value)) is expects


def test_no_expectation_is_none() -> None:
    assert not framing.expects_continue(headers())


NAMES = st.sampled_from(
    [
        b"Upload-Offset",
        b"Upload-Length",
        b"Upload-Defer-Length",
        b"Upload-Metadata",
        b"Upload-Concat",
        b"Content-Type",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Tus-Resumable",
        b"X-HTTP-Method-Override",
        b"Expect",
    ]
)
VALUES = st.one_of(st.binary(max_size=30), st.sampled_from([b"1", b"0", OCTETS.encode(), b"1.0.0"]))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_no_header_bytes_raise_anything_but_a_refusal(raw: list[tuple[bytes, bytes]]) -> None:
    parsed = Headers(raw)
    for parse in (
        protocol.check_version,
        lambda lines: protocol.parse_append(lines, EVERYTHING),
        protocol.carries_upload,
        framing.has_body,
        framing.body_size,
        framing.expects_continue,
        lambda lines: protocol.method_of("POST", lines, "any"),
        lambda lines: protocol.parse_creation(lines, EVERYTHING, str),
    ):
        with contextlib.suppress(TusError):
            parse(parsed)


# Responses


def test_options_lists_everything_in_a_fixed_order_without_blanks() -> None:
    response = protocol.capabilities(EVERYTHING, Limits(max_size=1000))
    assert response.status == 204
    assert response.headers == {
        "Tus-Resumable": "1.0.0",
        "Tus-Version": "1.0.0",
        "Tus-Extension": (
            "creation,creation-with-upload,creation-defer-length,checksum,termination,"
            "concatenation,expiration"
        ),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        "Tus-Max-Size": "1000",
    }


def test_options_says_nothing_of_what_there_is_not() -> None:
    response = protocol.capabilities(frozenset(), Limits())
    assert response.headers == {"Tus-Resumable": "1.0.0", "Tus-Version": "1.0.0"}


def test_a_maximum_of_zero_is_a_maximum() -> None:
    assert protocol.capabilities((), Limits(max_size=0)).headers["Tus-Max-Size"] == "0"


def test_a_creation_is_answered_with_location_and_offset() -> None:
    response = protocol.created(replace(UPLOAD, offset=0, expires=NOW), "/files/u")
    assert (response.status, response.headers) == (
        201,
        {
            "Tus-Resumable": "1.0.0",
            "Location": "/files/u",
            "Upload-Offset": "0",
            "Upload-Expires": "Wed, 25 Nov 2026 12:00:00 GMT",
        },
    )


@pytest.mark.parametrize(
    ("upload", "more"),
    [
        pytest.param(UPLOAD, {"Upload-Length": "10"}, id="plain"),
        pytest.param(replace(UPLOAD, length=None), {"Upload-Defer-Length": "1"}, id="deferred"),
        pytest.param(replace(UPLOAD, is_open=True), {"Upload-Length": "10"}, id="open"),
        pytest.param(
            replace(UPLOAD, length=5, is_open=True),
            {"Upload-Defer-Length": "1"},
            id="at-its-length-and-open",
        ),
        pytest.param(
            replace(UPLOAD, expires=NOW),
            {"Upload-Length": "10", "Upload-Expires": "Wed, 25 Nov 2026 12:00:00 GMT"},
            id="expires",
        ),
        pytest.param(
            replace(UPLOAD, expires=NOW, is_complete=True),
            {"Upload-Length": "10"},
            id="complete-uploads-do-not-expire",
        ),
        pytest.param(
            replace(UPLOAD, metadata={"a": b"a"}, metadata_header="a YQ== , b"),
            {"Upload-Length": "10", "Upload-Metadata": "a YQ== , b"},
            id="metadata-as-the-client-wrote-it",
        ),
        pytest.param(
            replace(UPLOAD, metadata={"a": b"a", "b": b""}),
            {"Upload-Length": "10", "Upload-Metadata": "a YQ==,b"},
            id="metadata-of-the-host",
        ),
    ],
)
def test_head_says_how_an_upload_stands(upload: Upload, more: dict[str, str]) -> None:
    response = protocol.described(upload)
    always = {"Tus-Resumable": "1.0.0", "Cache-Control": "no-store", "Upload-Offset": "5"}
    assert (response.status, response.headers) == (200, {**always, **more})
    assert response.body == b""


def test_an_append_is_answered_with_the_new_offset() -> None:
    response = protocol.appended(UPLOAD)
    assert (response.status, response.headers) == (
        204,
        {"Tus-Resumable": "1.0.0", "Upload-Offset": "5"},
    )


def test_a_termination_is_answered_with_nothing() -> None:
    response = protocol.terminated()
    assert (response.status, response.headers) == (204, {"Tus-Resumable": "1.0.0"})


@pytest.mark.parametrize(
    ("error", "name", "value"),
    [
        pytest.param(MethodNotAllowed("no", allow="HEAD, PATCH"), "Allow", "HEAD, PATCH", id="405"),
        pytest.param(OffsetConflict("no", offset=7), "Upload-Offset", "7", id="409"),
        pytest.param(UnsupportedVersion("no"), "Tus-Version", "1.0.0", id="412"),
        pytest.param(RangeNotSatisfiable("no", length=9), "Content-Range", "bytes */9", id="416"),
        pytest.param(StoreUnavailable("no", retry_after=3), "Retry-After", "3", id="503"),
    ],
)
def test_a_refusal_brings_its_own_headers(error: TusError, name: str, value: str) -> None:
    response = protocol.refused(error, protocol.plain_text(error), is_head=False)
    assert response.status == error.status
    assert response.headers[name] == value
    assert response.headers["Tus-Resumable"] == "1.0.0"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.body == b"no\n"


def test_a_refused_head_has_neither_body_nor_offset() -> None:
    error = OffsetConflict("no", offset=7)
    response = protocol.refused(error, protocol.plain_text(error), is_head=True)
    assert response.body == b""
    assert response.headers == {"Tus-Resumable": "1.0.0", "Cache-Control": "no-store"}


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        pytest.param(UploadPending("no", retry_after=3), "3", id="pending"),
        pytest.param(ShuttingDown("no"), "5", id="shutting-down"),
        pytest.param(StoreUnavailable("no"), "5", id="away"),
        pytest.param(StoreFull("no"), "60", id="full"),
        pytest.param(kind_of(429)("no"), "5", id="too-many-requests-in-the-words-of-a-host"),
        pytest.param(TusError("no"), "5", id="internal-error"),
    ],
)
def test_to_a_head_what_will_pass_is_423_so_that_no_client_forgets_its_upload(
    error: TusError, retry_after: str
) -> None:
    rendered = protocol.plain_text(error)
    response = protocol.refused(error, rendered, is_head=True)
    assert (response.status, response.headers["Retry-After"]) == (423, retry_after)
    assert protocol.refused(error, rendered, is_head=False).status == error.status
    plain = protocol.refused(error, rendered, is_head=True, is_download=True)
    assert (plain.status, plain.body) == (error.status, b"")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 410, 412, 413, 416])
def test_to_a_head_everything_else_is_what_it_is(status: int) -> None:
    error = kind_of(status)("no")
    response = protocol.refused(error, protocol.plain_text(error), is_head=True)
    assert response.status == status
    assert "Retry-After" not in response.headers


def test_a_download_that_is_not_meant_is_no_matter_of_versions() -> None:
    error = PreconditionFailed("no")
    response = protocol.refused(error, protocol.plain_text(error), is_head=False)
    assert response.status == 412
    assert "Tus-Version" not in response.headers


def test_a_host_may_render_a_refusal_but_not_drop_what_the_protocol_wants() -> None:
    own = Response(status=410, headers={"Cache-Control": "private"}, body=b"{}")
    response = protocol.refused(UploadNotFound("no"), own, is_head=False)
    assert (response.status, response.body) == (410, b"{}")
    assert response.headers == {"Tus-Resumable": "1.0.0", "Cache-Control": "private"}
