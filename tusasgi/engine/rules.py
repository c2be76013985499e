"""What may be done to an upload, as pure functions: values in, nothing or a refusal out.

No HTTP, no I/O, no clock. The order of checks inside a function is the order in which
`docs/tus.md` lists them.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from tusasgi.errors import (
    Forbidden,
    InvalidRequest,
    LengthConflict,
    OffsetConflict,
    Overrun,
    TooLarge,
    TooSmall,
    UploadExpired,
    UploadNotFound,
)
from tusasgi.models import Append, Creation, Limits, Upload


def check_length(length: int, limits: Limits) -> None:
    """Refuse a length outside the limits."""
    if limits.max_size is not None and length > limits.max_size:
        raise TooLarge(f"{length} bytes are more than the maximum of {limits.max_size}")
    if length < limits.min_size:
        raise TooSmall(f"{length} bytes are less than the minimum of {limits.min_size}")


def limits_of(creation: Creation, limits: Limits) -> Limits:
    """Return the limits for a new upload: its own, or else those of the engine."""
    own = creation.limits or limits
    # What a piece is joined into has to reach the minimum, not the piece.
    return Limits(max_size=own.max_size) if creation.is_partial else own


def unusable_part(number: int) -> InvalidRequest:
    """Return the refusal of a part, the same for all: it tells nothing to a stranger."""
    return InvalidRequest(f"URL {number} of Upload-Concat is not a finished partial upload")


def check_part(part: Upload, number: int) -> None:
    """Refuse to join what is no partial upload, or not finished."""
    if not part.is_partial or not part.is_complete:
        raise unusable_part(number)


def joined_length(parts: Iterable[Upload], declared: int | None) -> int:
    """Return the sum of the lengths; refuse another one that the client declared."""
    total = sum(part.offset for part in parts)
    if declared is not None and declared != total:
        raise InvalidRequest(f"Upload-Length is {declared}, and the partial uploads have {total}")
    return total


def check_alive(upload: Upload, now: datetime) -> None:
    """Refuse an upload that was not finished in time, reaped or not, or that is being removed."""
    if upload.removal == "terminated":
        raise UploadNotFound()
    if upload.removal == "expired" or upload.is_expired(now):
        raise UploadExpired(f"the upload expired at {upload.expires:%Y-%m-%d %H:%M:%S} UTC")


def check_has_bytes(upload: Upload) -> None:
    """Refuse an upload that was complete and is not any more: its bytes were lost."""
    if upload.is_complete and upload.offset != upload.length:
        raise UploadExpired("the bytes of this upload are no longer stored: start anew")


def check_takes_bytes(upload: Upload) -> None:
    """Refuse to append to a final upload: its bytes are those of its parts."""
    if upload.parts:
        raise Forbidden("a final upload takes no bytes: it consists of its partial uploads")


def check_append(append: Append, upload: Upload, limits: Limits) -> None:
    """Refuse an append that does not fit.

    409 for the offset, then 400, 413 or 422 for the length, then 413 or 422 for the size, then
    400 for an end that is another one than the length says.
    """
    if append.offset != upload.offset:
        raise OffsetConflict(
            f"the upload is at offset {upload.offset}, not {append.offset}",
            offset=upload.offset,
            provided=append.offset,
        )
    if append.length is not None:
        _check_declared_length(append.length, upload)
    if append.size is not None:
        target = declared(upload, append)
        check_size(append.size, target, limits)
        _check_least_size(append.size, target, append, limits)
        check_end(append.size, target, append)


def _check_declared_length(length: int, upload: Upload) -> None:
    if upload.length is None:
        if length < upload.offset:
            raise LengthConflict(
                f"Upload-Length {length} is below the offset {upload.offset} already reached"
            )
        check_length(length, Limits(max_size=upload.max_size, min_size=upload.min_size))
    elif length != upload.length:
        raise LengthConflict(f"the length is {upload.length} and cannot become {length}")


def declared(upload: Upload, append: Append) -> Upload:
    """Return the upload as this append declares it to be, before it brings its bytes."""
    ends_where_told = append.is_last is True and append.size is not None
    length = upload.length if append.length is None else append.length
    is_open = append.is_last is not None and not ends_where_told
    if (length, is_open) == (upload.length, upload.is_open):
        return upload
    return replace(upload, length=length, is_open=is_open)


def check_size(size: int, upload: Upload, limits: Limits) -> None:
    """Refuse more bytes in one request than the upload takes, or than may come at once."""
    left = bytes_left(upload)
    if left is not None and size > left:
        kind = TooLarge if upload.length is None else Overrun
        raise kind(f"the body runs past the end: at most {left} more bytes may come")
    if limits.max_append is not None and size > limits.max_append:
        raise TooLarge(f"one request may bring at most {limits.max_append} bytes")


def _check_least_size(size: int, upload: Upload, append: Append, limits: Limits) -> None:
    is_last = append.is_last or upload.offset + size == upload.length
    if size < limits.min_append and not is_last:
        raise TooSmall(f"each request but the last must bring at least {limits.min_append} bytes")


def check_end(size: int, upload: Upload, append: Append) -> None:
    """Refuse a last append of this size that does not end where the upload may end."""
    end = upload.offset + size
    if not append.is_last:
        return
    if upload.length is None:
        check_length(end, Limits(min_size=upload.min_size))
    elif end != upload.length:
        raise LengthConflict(f"the upload cannot end at {end}: its length is {upload.length}")


def bytes_left(upload: Upload) -> int | None:
    """Return how many bytes may still come; None if nothing bounds them."""
    bound = upload.max_size if upload.length is None else upload.length
    return None if bound is None else bound - upload.offset
