"""What may be done to an upload: the rules as tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusasgi import (
    Append,
    InvalidRequest,
    Limits,
    OffsetConflict,
    TooLarge,
    TooSmall,
    TusError,
    Upload,
    UploadExpired,
)
from tusasgi.engine.rules import check_alive, check_append, check_length, check_room, room_for

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
        pytest.param(replace(UPLOAD, expires=NOW, is_complete=True), True, id="complete"),
    ],
)
def test_an_upload_lives_until_its_time_has_passed(upload: Upload, is_alive: bool) -> None:
    if is_alive:
        check_alive(upload, NOW)
    else:
        with pytest.raises(UploadExpired, match="expired at 2026-11-"):
            check_alive(upload, NOW)


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
    check_append(append, UPLOAD)


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
        check_append(append, UPLOAD)


def test_a_conflict_says_where_the_upload_is() -> None:
    with pytest.raises(OffsetConflict) as conflict:
        check_append(Append(offset=0), UPLOAD)
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
        check_append(append, upload)
    else:
        with pytest.raises(refusal):
            check_append(append, upload)


@pytest.mark.parametrize(
    ("upload", "length", "room"),
    [
        pytest.param(UPLOAD, 10, 5, id="up-to-the-length"),
        pytest.param(replace(UPLOAD, max_size=7), 10, 5, id="the-length-counts-once-known"),
        pytest.param(DEFERRED, None, None, id="nothing-bounds-it"),
        pytest.param(replace(DEFERRED, max_size=7), None, 2, id="up-to-the-maximum"),
    ],
)
def test_the_room_that_is_left(upload: Upload, length: int | None, room: int | None) -> None:
    assert room_for(upload, length) == room


@given(st.integers(0, 2**40), st.one_of(st.none(), st.integers(0, 2**40)))
def test_only_a_body_beyond_the_room_is_refused(size: int, room: int | None) -> None:
    if room is None or size <= room:
        check_room(size, room)
    else:
        with pytest.raises(TooLarge, match=f"at most {room} more"):
            check_room(size, room)
