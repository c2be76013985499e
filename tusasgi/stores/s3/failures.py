"""What the errors of an S3 server mean: those of the SDK, told apart by what helps against them."""

import contextlib
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
)

from tusasgi.errors import StoreFull, StoreUnavailable

GONE = {"404", "NoSuchKey", "NoSuchUpload", "NotFound"}
_CONFLICTS = {"412", "409", "PreconditionFailed", "ConditionalRequestConflict"}
_FULL = {
    "507",
    "InsufficientStorage",
    "XMinioStorageFull",
    "QuotaExceeded",
    "QuotaExceededException",
}

_DAMAGED = {"BadDigest", "XAmzContentChecksumMismatch"}
# What time heals although its status may say otherwise.
_PASSING = {
    "BandwidthLimitExceeded",
    "IncompleteBody",  # or cut
    "InternalError",
    "OperationAborted",  # by another one on the same thing
    "RequestLimitExceeded",
    "RequestTimeout",
    "SlowDown",
}
# What it does not: the server cannot do this at all, now or later.
_NEVER = {"NotImplemented", "XNotImplemented", "MethodNotAllowed"}
_NEVER_STATUS = {501, 505}


class Gone(Exception):
    """There is no such object or multipart upload."""

    @property
    def is_of_multipart(self) -> bool:
        """True if it is the multipart upload that is not there."""
        return "NoSuchUpload" in self.args


class Conflict(Exception):
    """The condition of the call does not hold: somebody else was faster."""


class NotModified(Exception):
    """The object is still the one that the caller knows."""


class Damaged(StoreUnavailable):
    """The server got another body than was sent, as its checksum tells."""


class TooFast(StoreUnavailable):
    """The server takes no more calls of this kind for now."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise errors of the SDK as what they mean; those that time does not heal as they are."""
    try:
        yield
    except ClientError as error:
        raise _meaning(error) from error
    except (NoCredentialsError, ParamValidationError):
        raise
    except (BotoCoreError, OSError, TimeoutError) as error:
        raise _away() from error
    except Exception as error:
        if type(error).__module__.startswith("aiohttp"):
            raise _away() from error
        raise


def _meaning(error: Any) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in GONE:
        return Gone(code)
    if code in _CONFLICTS or status == 412:
        return Conflict(code)
    if status == 304:
        return NotModified()
    if code in _FULL or status == 507:
        return StoreFull("the store has no room left; what it acknowledged is safe")
    if status == 429:
        return TooFast("the object storage takes no more for now; go on in a moment")
    if code in _DAMAGED:
        return Damaged("the object storage got other bytes than were sent; send them again")
    if _will_pass(code, status):
        return _away()
    unchanged: Exception = error  # which names the operation and the code
    return unchanged


def _will_pass(code: str, status: int) -> bool:
    is_final = code in _NEVER or status in _NEVER_STATUS
    return code in _PASSING or (status >= 500 and not is_final)


def _away() -> StoreUnavailable:
    return StoreUnavailable("the object storage cannot be reached for now; go on in a moment")
