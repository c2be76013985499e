"""Header text to values and back, as tables and as properties."""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusasgi import Creation, Headers, InvalidRequest, TooLarge, TusError, http_date
from tusasgi.fields import (
    MAX_METADATA_SIZE,
    check_creation,
    format_metadata,
    parse_concat,
    parse_metadata,
)
from tusasgi.protocols.headers import parse_length, parse_size

KEY_LETTERS = [chr(code) for code in range(0x21, 0x7F) if chr(code) != ","]
KEYS = st.text(st.sampled_from(KEY_LETTERS), min_size=1)


def headers(*lines: tuple[str, str]) -> Headers:
    return Headers([(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines])


# Headers


def test_names_are_found_whatever_their_case() -> None:
    given_headers = headers(("Upload-OFFSET", "1"))
    assert given_headers["upload-offset"] == "1"
    assert given_headers.single("Upload-Offset") == "1"


def test_blanks_and_tabs_around_a_value_are_not_part_of_it() -> None:
    assert headers(("a", " \t x y\t ")).single("a") == "x y"


def test_headers_are_a_mapping_of_lower_case_names() -> None:
    assert dict(headers(("A", "1"), ("b", "2"), ("a", "3"))) == {"a": "1, 3", "b": "2"}
    assert len(headers(("A", "1"), ("a", "3"))) == 1


def test_a_header_that_is_absent_is_none() -> None:
    assert headers().single("Upload-Offset") is None
    assert headers().joined("Upload-Metadata") is None


def test_the_same_value_twice_is_one_value() -> None:
    assert headers(("a", "1"), ("A", " 1")).single("a") == "1"


def test_two_different_values_of_a_single_header_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="a is given more than once"):
        headers(("a", "1"), ("a", "2")).single("a")


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        pytest.param(["a YQ=="], "a YQ==", id="one"),
        pytest.param(["a YQ==", "b Yg=="], "a YQ==,b Yg==", id="two"),
        pytest.param([""], None, id="empty"),
    ],
)
def test_the_lines_of_a_list_header_are_joined(lines: Sequence[str], joined: str | None) -> None:
    assert headers(*[("l", line) for line in lines]).joined("L") == joined


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_any_bytes_make_headers(raw: list[tuple[bytes, bytes]]) -> None:
    parsed = Headers(raw)
    assert set(parsed) == {name.decode("latin-1").lower() for name, _ in raw}


def test_a_chunked_body_may_be_told_to_be_none() -> None:
    some = headers(
        ("A", "1"), ("Transfer-Encoding", "chunked"), ("Content-Length", "9"), ("a", "2")
    )
    assert dict(some.bodiless()) == {"content-length": "0", "a": "1, 2"}
    assert dict(headers().bodiless()) == {"content-length": "0"}


# Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param("0", 0, id="zero"),
        pytest.param("5", 5, id="one-digit"),
        pytest.param("007", 7, id="leading-zeros"),
        pytest.param("53687091200", 50 * 2**30, id="fifty-gib"),
        pytest.param(str(2**62), 2**62, id="more-than-a-file-can-hold"),
        pytest.param("9" * 40, 10**40 - 1, id="forty-digits"),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(headers(("Upload-Length", text)), "Upload-Length") == size


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("-1", id="negative"),
        pytest.param("+1", id="signed"),
        pytest.param("1.5", id="fraction"),
        pytest.param("1e3", id="exponent"),
        pytest.param("0x1", id="hexadecimal"),
        pytest.param("1_0", id="underscore"),
        pytest.param("1 0", id="inner-blank"),
        pytest.param("1,1", id="list"),
        pytest.param("1\n", id="line-feed"),
        pytest.param("\u00b2", id="superscript-two"),
        pytest.param("abc", id="letters"),
        pytest.param("9" * 41, id="forty-one-digits"),
        pytest.param("9" * 5000, id="five-thousand-digits"),
    ],
)
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="Upload-Length must be a whole number"):
        parse_size(headers(("Upload-Length", text)), "Upload-Length")


def test_arabic_indic_digits_are_no_size() -> None:
    raw = "\u0661\u0662".encode()
    with pytest.raises(InvalidRequest):
        parse_size(Headers([(b"upload-length", raw)]), "Upload-Length")


def test_a_size_that_is_absent_is_none() -> None:
    assert parse_size(headers(), "Upload-Length") is None


@given(st.integers(min_value=0, max_value=10**40 - 1))
def test_every_size_up_to_forty_digits_comes_back(size: int) -> None:
    assert parse_size(headers(("n", str(size))), "n") == size


def test_a_length_that_no_store_can_hold_is_too_large_and_not_malformed() -> None:
    assert parse_length(headers(("Upload-Length", "9" * 18))) == 10**18 - 1
    for length in (10**18, 2**62, 10**40 - 1):
        with pytest.raises(TooLarge, match=f"{length} bytes are more than the maximum"):
            parse_length(headers(("Upload-Length", str(length))))


@given(st.binary(max_size=40))
def test_any_bytes_are_a_size_or_refused(value: bytes) -> None:
    with contextlib.suppress(TusError):
        size = parse_size(Headers([(b"n", value)]), "n")
        assert size is not None
        assert str(size) == value.decode("latin-1").strip(" \t").lstrip("0") or size == 0


# Metadata


@pytest.mark.parametrize(
    ("header", "metadata"),
    [
        pytest.param(None, {}, id="absent"),
        pytest.param("", {}, id="empty"),
        pytest.param("a YQ==", {"a": b"a"}, id="one-pair"),
        pytest.param("a", {"a": b""}, id="no-value"),
        pytest.param("a ", {"a": b""}, id="no-value-but-a-space"),
        pytest.param("b Yg==,a YQ==,flag", {"b": b"b", "a": b"a", "flag": b""}, id="in-order"),
        pytest.param("a YQ== ,\tb Yg==", {"a": b"a", "b": b"b"}, id="blanks-around-commas"),
        pytest.param("a AP/+", {"a": b"\x00\xff\xfe"}, id="binary-value"),
        pytest.param("!#~ YQ==", {"!#~": b"a"}, id="any-printable-ascii-key"),
    ],
)
def test_metadata_is_read(header: str | None, metadata: dict[str, bytes]) -> None:
    assert list(parse_metadata(header).items()) == list(metadata.items())


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(",", id="comma-alone"),
        pytest.param("a YQ==,", id="comma-at-the-end"),
        pytest.param("a YQ==,,b", id="two-commas"),
        pytest.param("a YQ== b", id="two-values"),
        pytest.param("a  YQ==", id="two-spaces"),
        pytest.param("n\u00e9 YQ==", id="key-not-ascii"),
        pytest.param("a\x00b YQ==", id="nul-in-key"),
        pytest.param("a\tYQ==", id="tab-between"),
        pytest.param("a !!notbase64", id="not-base64"),
        pytest.param("a YQ", id="unpadded"),
        pytest.param("a YQ=", id="half-padded"),
        pytest.param("a YQ==YQ==", id="padding-inside"),
        pytest.param("a ====", id="padding-alone"),
        pytest.param("a _-8=", id="url-safe-alphabet"),
        pytest.param("a YQ==\n", id="line-feed"),
        pytest.param("a \u00e9Q==", id="value-not-ascii"),
        pytest.param("a YQ==,a Yg==", id="key-twice"),
        pytest.param("a,a", id="key-twice-without-values"),
    ],
)
def test_bad_metadata_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest, match="Upload-Metadata"):
        parse_metadata(header)


def test_metadata_up_to_the_bound_is_taken_and_not_a_byte_more() -> None:
    longest = "k " + "A" * (MAX_METADATA_SIZE - 4) + "AA"
    assert len(longest) == MAX_METADATA_SIZE
    assert len(parse_metadata("kkk " + longest[4:])["kkk"]) == (MAX_METADATA_SIZE - 4) // 4 * 3
    with pytest.raises(InvalidRequest, match=f"at most {MAX_METADATA_SIZE}"):
        parse_metadata(longest + "A")


@given(st.dictionaries(KEYS, st.binary(max_size=60), max_size=8))
def test_metadata_comes_back_as_it_was_written(metadata: dict[str, bytes]) -> None:
    assert list(parse_metadata(format_metadata(metadata)).items()) == list(metadata.items())


@given(st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("latin-1"))))
def test_any_text_is_metadata_or_refused(header: str) -> None:
    with contextlib.suppress(TusError):
        assert parse_metadata(header) == parse_metadata(format_metadata(parse_metadata(header)))


# Dates


def test_a_date_is_written_as_http_wants_it() -> None:
    moment = datetime(2026, 11, 25, 9, 5, 7, 999_999, tzinfo=UTC)
    assert http_date(moment) == "Wed, 25 Nov 2026 09:05:07 GMT"


def test_a_date_of_another_zone_is_written_in_gmt() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    assert http_date(datetime(2026, 1, 1, 2, 0, tzinfo=east)) == "Wed, 31 Dec 2025 20:30:00 GMT"


@given(
    st.datetimes(
        min_value=datetime(1900, 1, 2),
        max_value=datetime(9998, 12, 31),
        timezones=st.timezones(),
    )
)
def test_every_date_comes_back_to_the_second(moment: datetime) -> None:
    assert parsedate_to_datetime(http_date(moment)) == moment.astimezone(UTC).replace(microsecond=0)


# What hosts and their hooks set


@pytest.mark.parametrize(
    "creation",
    [
        pytest.param({"metadata": {"a": b"", "b-c.d": b"\r\n\x00\xff"}}, id="any-bytes-as-a-value"),
        pytest.param(
            {"metadata": {"a": b"x"}, "metadata_header": "b eA==, c"}, id="its-own-header"
        ),
        pytest.param({"concat_header": "partial"}, id="partial"),
        pytest.param({"concat_header": "final;/files/a b"}, id="final"),
        pytest.param({}, id="nothing"),
    ],
)
def test_a_creation_may_tell_what_a_client_may_send(creation: dict[str, Any]) -> None:
    check_creation(Creation(length=1, **creation))


@pytest.mark.parametrize(
    ("creation", "message"),
    [
        *[
            pytest.param({"metadata": {key: b""}}, "metadata key", id=f"key-{number}")
            for number, key in enumerate(
                [
                    "",
                    "a b",
                    " a",
                    "a\t",
                    "a,b",
                    "x\r\nSet-Cookie:",
                    "x\n",
                    "\x00",
                    "gr\u00f6\u00dfe",
                ]
            )
        ],
        pytest.param({"metadata": {"a": "text"}}, "must be bytes", id="text-as-a-value"),
        pytest.param({"metadata": {"a": bytes(MAX_METADATA_SIZE)}}, "at most", id="long"),
        pytest.param({"metadata_header": "a eA==\r\nSet-Cookie: a=b"}, "told", id="header-lines"),
        pytest.param({"metadata_header": "\u00e4 eA=="}, "told", id="header-not-ascii"),
        pytest.param({"metadata_header": "a x"}, "told", id="header-not-base64"),
        pytest.param({"concat_header": "final;/a\r\nSet-Cookie: a=b"}, "told", id="concat-lines"),
        pytest.param({"concat_header": "final;/\u00e4"}, "told", id="concat-not-ascii"),
        pytest.param({"concat_header": "whole"}, "told", id="concat-of-another-kind"),
    ],
)
def test_a_creation_may_tell_nothing_else(creation: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_creation(Creation(length=1, **creation))


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=5), max_size=3))
def test_whatever_a_creation_may_tell_comes_back_from_its_header(
    metadata: dict[str, bytes],
) -> None:
    with contextlib.suppress(ValueError):
        check_creation(Creation(length=1, metadata=metadata))
        text = format_metadata(metadata)
        assert text.isprintable()
        assert text.isascii()
        assert parse_metadata(text) == metadata


@pytest.mark.parametrize("blank", ["\t", "\x0b", "\x1c", "\x85", "\xa0"])
def test_only_a_blank_stands_between_the_urls_of_a_final_upload(blank: str) -> None:
    with pytest.raises(InvalidRequest, match="Upload-Concat must be"):
        parse_concat(f"final;/files/a{blank}/files/b")
