"""What may be done to an upload: the rules as tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusasgi import (
    Append,
    InvalidRequest,
    LengthConflict,
    Limits,
    OffsetConflict,
    Overrun,
    TooLarge,
    TooSmall,
    TusError,
    Upload,
    UploadExpired,
)
from tusasgi.engine.rules import (
    bytes_left,
    check_alive,
    check_append,
    check_has_bytes,
    check_length,
    check_size,
    declared,
)

NOW = datetime(2026, 11, 25, tzinfo=UTC)
UPLOAD = Upload(id="u", length=10, offset=5, created=NOW)
DEFERRED = replace(UPLOAD, length=None)
NO_LIMITS = Limits()


@pytest.mark.parametrize(
    ("length", "limits", "refusal"),
    [
        pytest.param(0, NO_LIMITS, None, id="no-limits-empty"),
        pytest.param(10**18, NO_LIMITS, None, id="no-limits-huge"),
        pytest.param(1000, Limits(max_size=1000), None, id="at-the-maximum"),
        pytest.param(1001, Limits(max_size=1000), TooLarge, id="above-the-maximum"),
        pytest.param(1, Limits(max_size=0), TooLarge, id="a-maximum-of-zero"),
        pytest.param(64, Limits(min_size=64), None, id="at-the-minimum"),
        pytest.param(63, Limits(min_size=64), TooSmall, id="below-the-minimum"),
    ],
)
def test_a_length_is_held_against_the_limits(
    length: int, limits: Limits, refusal: type[TusError] | None
) -> None:
    if refusal is None:
        check_length(length, limits)
    else:
        with pytest.raises(refusal, match=str(length)):
            check_length(length, limits)


@pytest.mark.parametrize(
    ("upload", "is_alive"),
    [
        pytest.param(UPLOAD, True, id="never-expires"),
        pytest.param(replace(UPLOAD, expires=NOW + timedelta(seconds=1)), True, id="still-time"),
        pytest.param(replace(UPLOAD, expires=NOW), False, id="at-the-very-moment"),
        pytest.param(replace(UPLOAD, expires=NOW - timedelta(days=9)), False, id="long-ago"),
        pytest.param(
            replace(UPLOAD, expires=NOW, is_complete=True, offset=10), True, id="complete"
        ),
    ],
)
def test_an_upload_lives_until_its_time_has_passed(upload: Upload, is_alive: bool) -> None:
    if is_alive:
        check_alive(upload, NOW)
    else:
        with pytest.raises(UploadExpired, match="expired at 2026-11-"):
            check_alive(upload, NOW)


def test_an_upload_that_was_complete_and_lost_bytes_is_refused() -> None:
    with pytest.raises(UploadExpired, match="no longer stored"):
        check_has_bytes(replace(UPLOAD, is_complete=True))
    check_has_bytes(replace(UPLOAD, is_complete=True, offset=10))
    check_has_bytes(UPLOAD)


@pytest.mark.parametrize(
    "append",
    [
        pytest.param(Append(offset=5), id="size-unknown"),
        pytest.param(Append(offset=5, size=0), id="empty"),
        pytest.param(Append(offset=5, size=5), id="to-the-end"),
        pytest.param(Append(offset=5, size=5, length=10), id="the-length-again"),
    ],
)
def test_an_append_that_fits_is_allowed(append: Append) -> None:
    check_append(append, UPLOAD, NO_LIMITS)


@pytest.mark.parametrize(
    ("append", "refusal"),
    [
        pytest.param(Append(offset=4), OffsetConflict, id="offset-below"),
        pytest.param(Append(offset=6), OffsetConflict, id="offset-above"),
        pytest.param(Append(offset=4, length=99, size=99), OffsetConflict, id="offset-comes-first"),
        pytest.param(Append(offset=5, length=11), InvalidRequest, id="another-length"),
        pytest.param(Append(offset=5, length=11, size=99), InvalidRequest, id="length-before-size"),
        pytest.param(Append(offset=5, size=6), TooLarge, id="one-byte-too-many"),
    ],
)
def test_an_append_that_does_not_fit_is_refused(append: Append, refusal: type[TusError]) -> None:
    with pytest.raises(refusal):
        check_append(append, UPLOAD, NO_LIMITS)


def test_a_conflict_says_where_the_upload_is() -> None:
    with pytest.raises(OffsetConflict) as conflict:
        check_append(Append(offset=0), UPLOAD, NO_LIMITS)
    assert conflict.value.headers == {"Upload-Offset": "5"}


@pytest.mark.parametrize(
    ("append", "limits", "refusal"),
    [
        pytest.param(Append(offset=5, size=10**18), NO_LIMITS, None, id="no-bound"),
        pytest.param(Append(offset=5, length=5, size=0), NO_LIMITS, None, id="ends-here"),
        pytest.param(Append(offset=5, length=4), NO_LIMITS, InvalidRequest, id="below-the-offset"),
        pytest.param(Append(offset=5, length=8, size=4), NO_LIMITS, TooLarge, id="past-new-end"),
        pytest.param(Append(offset=5, length=101), Limits(max_size=100), TooLarge, id="too-long"),
        pytest.param(Append(offset=5, length=100), Limits(max_size=100), None, id="longest"),
        pytest.param(Append(offset=5, length=6), Limits(min_size=7), TooSmall, id="too-short"),
    ],
)
def test_a_late_length_is_judged(
    append: Append, limits: Limits, refusal: type[TusError] | None
) -> None:
    upload = replace(DEFERRED, max_size=limits.max_size, min_size=limits.min_size)
    if refusal is None:
        check_append(append, upload, NO_LIMITS)
    else:
        with pytest.raises(refusal):
            check_append(append, upload, NO_LIMITS)


@pytest.mark.parametrize(
    ("upload", "left"),
    [
        pytest.param(UPLOAD, 5, id="up-to-the-length"),
        pytest.param(replace(UPLOAD, max_size=7), 5, id="the-length-counts-once-known"),
        pytest.param(DEFERRED, None, id="nothing-bounds-it"),
        pytest.param(replace(DEFERRED, max_size=7), 2, id="up-to-the-maximum"),
    ],
)
def test_the_bytes_that_are_left(upload: Upload, left: int | None) -> None:
    assert bytes_left(upload) == left


@given(st.integers(0, 2**40), st.one_of(st.none(), st.integers(0, 2**40)))
def test_only_a_body_beyond_what_is_left_is_refused(size: int, left: int | None) -> None:
    upload = replace(UPLOAD, offset=0, length=left)
    if left is None or size <= left:
        check_size(size, upload, NO_LIMITS)
    else:
        with pytest.raises(Overrun, match=f"at most {left} more"):
            check_size(size, upload, NO_LIMITS)


@pytest.mark.parametrize(
    ("append", "refusal"),
    [
        pytest.param(Append(offset=5, size=3), None, id="between-the-bounds"),
        pytest.param(Append(offset=5, size=1), TooSmall, id="too-little"),
        pytest.param(Append(offset=5, size=1, is_last=True), LengthConflict, id="ends-too-early"),
        pytest.param(Append(offset=5, size=5), TooLarge, id="too-much-at-once"),
    ],
)
def test_what_one_append_brings_is_bounded(append: Append, refusal: type[TusError] | None) -> None:
    limits = Limits(min_append=2, max_append=4)
    if refusal is None:
        check_append(append, UPLOAD, limits)
    else:
        with pytest.raises(refusal):
            check_append(append, UPLOAD, limits)


@pytest.mark.parametrize(
    ("upload", "append"),
    [
        pytest.param(replace(UPLOAD, offset=9), Append(offset=9, size=1), id="at-the-length"),
        pytest.param(DEFERRED, Append(offset=5, size=1, is_last=True), id="told"),
    ],
)
def test_the_last_append_may_be_as_small_as_it_is(upload: Upload, append: Append) -> None:
    check_append(append, upload, Limits(min_append=2))


@pytest.mark.parametrize(
    ("is_last", "size", "is_open"),
    [
        pytest.param(None, 5, False, id="by-length"),
        pytest.param(None, None, False, id="by-length-chunked"),
        pytest.param(True, 5, False, id="last"),
        pytest.param(True, None, True, id="last-but-where-only-its-end-tells"),
        pytest.param(False, 5, True, id="more-follows"),
        pytest.param(False, None, True, id="more-follows-chunked"),
    ],
)
def test_an_append_declares_whether_its_length_ends_the_upload(
    is_last: bool | None, size: int | None, is_open: bool
) -> None:
    append = Append(offset=5, size=size, is_last=is_last)
    assert declared(replace(UPLOAD, is_open=not is_open), append).is_open is is_open
