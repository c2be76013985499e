"""What may be done to an upload, as pure functions: values in, nothing or a refusal out.

No HTTP, no I/O, no clock. The order of checks inside a function is the order in which
`docs/protocol.md` lists them.
"""

from collections.abc import Iterable
from datetime import datetime

from tusasgi.errors import (
    Forbidden,
    InvalidRequest,
    OffsetConflict,
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


def check_takes_bytes(upload: Upload) -> None:
    """Refuse to append to a final upload: its bytes are those of its parts."""
    if upload.parts:
        raise Forbidden("a final upload takes no bytes: it consists of its partial uploads")


def check_append(append: Append, upload: Upload) -> None:
    """Refuse an append that does not fit: 409, then 400 and 413 or 422 for the length, then 413."""
    if append.offset != upload.offset:
        raise OffsetConflict(
            f"the upload is at offset {upload.offset}, not {append.offset}", offset=upload.offset
        )
    if append.length is not None:
        _check_declared_length(append.length, upload)
    if append.size is not None:
        length = upload.length if append.length is None else append.length
        check_room(append.size, room_for(upload, length))


def _check_declared_length(declared: int, upload: Upload) -> None:
    if upload.length is None:
        if declared < upload.offset:
            raise InvalidRequest(
                f"Upload-Length {declared} is below the offset {upload.offset} already reached"
            )
        check_length(declared, Limits(max_size=upload.max_size, min_size=upload.min_size))
    elif declared != upload.length:
        raise InvalidRequest(f"the length is {upload.length} and cannot become {declared}")


def room_for(upload: Upload, length: int | None) -> int | None:
    """Return how many bytes may still come; None if nothing bounds them."""
    bound = upload.max_size if length is None else length
    return None if bound is None else bound - upload.offset


def check_room(size: int, room: int | None) -> None:
    """Refuse more bytes than there is room for."""
    if room is not None and size > room:
        raise TooLarge(f"the body runs past the end: at most {room} more bytes may come")
