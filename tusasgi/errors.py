"""What can go wrong, each kind with the HTTP status it is answered with.

TusError
├── InvalidRequest          400  a header is missing, malformed or contradicts another
│   └── LengthConflict      400  another length than the upload has
├── Unauthorized            401  no valid credentials (raised by hooks)
├── Forbidden               403  not allowed (raised by hooks)
├── UploadNotFound          404  there is no such upload, or it is somebody else's
│   └── InvalidUploadId     404  the id cannot be the id of any upload
├── MethodNotAllowed        405  the method is unknown here, or its extension is off
├── BodyTimeout             408  the client stopped sending without closing
├── OffsetConflict          409  the append does not start where the upload ends
├── UploadExists            409  a host chose an id that is taken
├── UploadExpired           410  the upload's time has passed
├── UnsupportedVersion      412  not TUS 1.0.0
├── PreconditionFailed      412  a download is not the one that the client means
├── TooLarge                413  more bytes, or a length, over a maximum
│   └── Overrun             413  more bytes than the length
├── UnsupportedContentType  415  the request body is not application/offset+octet-stream
├── UnsupportedMedia        415  the first bytes are not of an accepted format
├── RangeNotSatisfiable     416  a download asks for bytes beyond the end
├── TooSmall                422  a length under the minimum, or a first append too short to judge
├── Rejected                422  all bytes came, and the host does not take them (raised by hooks)
├── UploadLocked            423  another request holds the upload and did not let go
├── ChecksumMismatch        460  the bytes of the request are not those of its checksum
├── TryAgain                503  nothing is wrong with the request; the same will do later
│   ├── UploadPending       503  all bytes came, but what follows is not done yet
│   ├── ShuttingDown        503  this server is about to end
│   └── StoreUnavailable    503  the store cannot be reached for now
└── StoreFull               507  the store has no room left

A message says both values (what was asked, what is) and is safe to show to the client:
it never names a path, a key or another client's data.
"""

from collections.abc import Mapping


class TusError(Exception):
    """A refusal with a status; hosts may derive kinds of their own."""

    status: int = 500

    is_final = False
    """True for what the host says of an upload once and for all: it was removed."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Response headers that belong to this refusal."""
        return {}


class InvalidRequest(TusError):
    """A header is missing, malformed or contradicts another."""

    status = 400


class LengthConflict(InvalidRequest):
    """A request says or ends at another length than the upload has; nothing is kept of it."""


class Unauthorized(TusError):
    """The request carries no valid credentials; `challenge` says which it takes, as `Bearer`."""

    status = 401

    def __init__(self, message: str = "", *, challenge: str | None = None) -> None:
        super().__init__(message)
        self.challenge = challenge

    @property
    def headers(self) -> Mapping[str, str]:
        return {} if self.challenge is None else {"WWW-Authenticate": self.challenge}


class Forbidden(TusError):
    """The request is understood, and not allowed."""

    status = 403


class UploadNotFound(TusError):
    """There is no such upload, or none that this client may know of.

    The message is the same for both unless you change it, and so tells nothing.
    """

    status = 404

    def __init__(self, message: str = "there is no such upload") -> None:
        super().__init__(message)


class InvalidUploadId(UploadNotFound):
    """The id does not match the grammar of ids, so it names no upload."""


class MethodNotAllowed(TusError):
    """The method is unknown on this URL, or belongs to an extension that is off."""

    status = 405

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Allow": self.allow}


class BodyTimeout(TusError):
    """The client sent nothing for too long; what came before is kept."""

    status = 408


class OffsetConflict(TusError):
    """The append does not start at the offset of the upload; nothing is kept of it."""

    status = 409

    def __init__(self, message: str, *, offset: int, provided: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset
        self.provided = provided

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Upload-Offset": str(self.offset)}


class UploadExists(TusError):
    """An upload with the chosen id exists already."""

    status = 409


class UploadExpired(TusError):
    """The upload was not finished in time."""

    status = 410


class UnsupportedVersion(TusError):
    """`Tus-Resumable` is missing or names another version."""

    status = 412


class PreconditionFailed(TusError):
    """`If-Match` of a download names other bytes than those that are here."""

    status = 412


class TooLarge(TusError):
    """More bytes than the upload's length, or a length above the maximum."""

    status = 413


class Overrun(TooLarge):
    """More bytes than the length of the upload; nothing is kept of them."""


class UnsupportedContentType(TusError):
    """The request body is not of the media type that the protocol prescribes."""

    status = 415


class UnsupportedMedia(TusError):
    """The first bytes of the upload are not of an accepted format."""

    status = 415


class RangeNotSatisfiable(TusError):
    """A download asks for bytes beyond the end of the upload."""

    status = 416

    def __init__(self, message: str, *, length: int) -> None:
        super().__init__(message)
        self.length = length

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Content-Range": f"bytes */{self.length}"}


class TooSmall(TusError):
    """A length below the minimum, or a first append too short to be inspected."""

    status = 422


class Rejected(TusError):
    """The host has looked at the finished file and does not take it, for good.

    For the `completed` hook: the upload is then removed. Derive from it for another status.
    """

    status = 422


class UploadLocked(TusError):
    """Another request holds the upload; trying again later helps."""

    status = 423


class ChecksumMismatch(TusError):
    """The bytes of the request do not hash to its checksum; nothing is kept of them."""

    status = 460


class TryAgain(TusError):
    """Nothing is wrong with the request; the same one will do in `retry_after` seconds."""

    status = 503

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self.retry_after)}


class UploadPending(TryAgain):
    """What has to follow (completion or removal) is under way, or failed and is repeated.

    `__cause__` is the failure, if there was one.
    """


class ShuttingDown(TryAgain):
    """This server is about to end; what came before is kept."""


class StoreUnavailable(TryAgain):
    """The store cannot be reached for now; what was acknowledged is safe."""


class StoreFull(TusError):
    """The store has no room left; what was acknowledged is safe."""

    status = 507

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": "60"}  # somebody has to make room: that takes its time


def will_pass(error: TusError) -> bool:
    """True for a refusal that says nothing against the request: later it may be taken."""
    return isinstance(error, TryAgain) or error.status in (423, 429) or error.status >= 500
