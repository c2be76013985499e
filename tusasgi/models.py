"""The values that all packages speak of: frozen, keyword-only, without behaviour that does I/O."""

import enum
import re
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from tusasgi.arguments import check_header, check_integer, check_window
from tusasgi.errors import InvalidUploadId

Fact = str | int | float | bool | None
"""What an inspection may find out about an upload: one JSON scalar."""

Removal = Literal["terminated", "expired"]
"""Why an upload is removed, and which hook hears of it."""

# No dots, slashes or escapes: an id is one URL segment and one file name as it stands.
_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


MAX_FINAL_BODY = 16 * 1024
"""The longest body of a final response, in bytes."""

FRAMING_HEADERS = ("content-length", "transfer-encoding", "connection")


def utc_now() -> datetime:
    """Return the time, as aware UTC: what every `clock` returns that may be set."""
    return datetime.now(UTC)


def check_upload_id(upload_id: str) -> str:
    """Return the id, or raise `InvalidUploadId` if it breaks the grammar of ids.

    An id has 1 to 64 characters, each an ASCII letter, a digit, `-` or `_`.
    """
    if not is_upload_id(upload_id):
        raise InvalidUploadId("no upload can have this id")
    return upload_id


def is_upload_id(name: str) -> bool:
    """True for what the grammar of ids allows."""
    return _UPLOAD_ID.fullmatch(name) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Checksum:
    """What the bytes of one request must hash to."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalResponse:
    """What a host says at the end of an upload, kept with it for a client that lost it.

    `status` None is the protocol's own. The headers of the protocol stay as they are.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    """At most `MAX_FINAL_BODY` bytes: it is kept in the record of the upload."""

    def __post_init__(self) -> None:
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError("the status of a final response is one from 200 to 599")
        for name, value in self.headers.items():
            if name.lower() in FRAMING_HEADERS:
                raise ValueError(f"{name} follows from the body, and is not to be set")
            check_header(name, value)
        if len(self.body) > MAX_FINAL_BODY:
            raise ValueError(f"the body of a final response has at most {MAX_FINAL_BODY} bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The request that an upload stands for: what is to be called once all its bytes are there."""

    method: str
    path: str
    """As in the scope of ASGI: decoded, without the query."""
    raw_path: bytes | None
    query_string: bytes
    headers: tuple[tuple[str, str], ...]
    """Those that describe what is uploaded."""


@dataclass(frozen=True, kw_only=True)  # no slots: see `_changed`
class Upload:
    """One upload as it stands in the store.

    `offset` and `length` count bytes; a `length` of None is not declared yet.
    `expires` is aware UTC, and None for an upload that does not expire.
    `is_complete` is a recorded state: an upload may have all its bytes and not be complete yet,
    while it is being made durable and handed to the `completed` hook: see `lifecycle`.
    """

    id: str
    length: int | None
    created: datetime
    offset: int = 0
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    metadata_header: str | None = None
    """`Upload-Metadata` exactly as the client wrote it, if a client did."""
    max_size: int | None = None
    """The most bytes it may get while its length is not declared."""
    min_size: int = 0
    """The least length that may be declared later."""
    owner: str | None = None
    """Whose upload it is, in the host's own terms."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """What the `inspect` hook returned."""
    expires: datetime | None = None
    expires_after: timedelta | None = None
    """How long it is kept after an append that stored something, whatever `expires` was."""
    grace: timedelta | None = None
    """How long it is kept after its last bytes otherwise, if `expires` comes before that."""
    is_partial: bool = False
    """True for a piece that will be joined with others into a final upload."""
    parts: tuple[str, ...] = ()
    """The ids of the partial uploads that a final upload is joined from, in their order."""
    concat_header: str | None = None
    """`Upload-Concat` exactly as the client wrote it, if a client did."""
    sha256: str | None = None
    """The digest of all bytes in hexadecimal, if the engine is set to compute it."""
    is_complete: bool = False
    destination: str | None = None
    """Where the host wants its bytes to be in the end: below the folder `files` of the store."""
    removal: Removal | None = None
    """Set once it is to be removed: nobody may use it any more, whatever is left of it."""
    protocol: str = "tus"
    """The name of the protocol that it was created by."""
    is_open: bool = False
    """True while reaching the length is not the end of it: an append has to say that it is."""
    checksum: Checksum | None = None
    """What all its bytes must hash to; one that has another is removed instead of completed."""
    final_response: FinalResponse | None = None
    """What the client is told at the end, if the host has something to say."""
    target: Target | None = None
    """The request that it stands for, if it is one of `Resumable`."""
    untold: Mapping[str, datetime] = field(default_factory=dict)
    """What has happened to it, and when, that `Hooks.tell` has still to tell, the oldest first."""
    version: str | None = field(default=None, compare=False, repr=False)
    """A mark of stores that refuse to change what was changed since it was read. Opaque."""

    def at(self, offset: int) -> "Upload":
        """Return the upload with this offset."""
        return self._changed(offset=offset)

    def renewed(self, at: datetime) -> "Upload":
        """Return the upload with the date that bytes leave which came at this time."""
        if self.expires_after is not None:
            return self._changed(expires=at + self.expires_after)
        return self.alive(at)

    def alive(self, at: datetime) -> "Upload":
        """Return the upload with a later date if it would expire soon after this time.

        Its bytes come, or have just come: it has as long again as after each append, or its grace.
        """
        if self.expires is None or self.window is None or self.expires >= at + self.window:
            return self
        return self._changed(expires=at + self.window)

    def _changed(self, **changes: object) -> "Upload":
        """Return what `dataclasses.replace` returns, in a tenth of its time: each request asks."""
        changed = object.__new__(Upload)
        changed.__dict__.update(self.__dict__)  # by itself: else half as fast
        changed.__dict__.update(changes)
        return changed

    @property
    def window(self) -> timedelta | None:
        """How long it is kept, at least, from when bytes last came, if it has a date at all."""
        return self.grace if self.expires_after is None else self.expires_after

    @property
    def has_all_bytes(self) -> bool:
        return self.offset == self.length and not self.is_open

    @property
    def is_handed_over(self) -> bool:
        """True once its bytes are the host's, who may have taken them from its destination."""
        return self.is_complete and self.destination is not None

    @property
    def can_expire(self) -> bool:
        """False once all bytes are there, but for one that is of no use by itself.

        A piece never is, and one that stands for a request is kept for the sake of its answer.
        """
        is_finished = self.is_complete or self.has_all_bytes
        is_for_itself = not self.is_partial and self.target is None
        return self.expires is not None and not (is_finished and is_for_itself)

    def is_expired(self, now: datetime) -> bool:
        """True when it was not finished in time."""
        return self.can_expire and self.expires is not None and self.expires <= now

    @property
    def is_pending(self) -> bool:
        """True while something that was begun must be brought to its end."""
        if self.removal is not None:
            return True
        return not self.is_complete and (self.has_all_bytes or bool(self.parts))

    @property
    def is_due(self) -> bool:
        """True while a sweep has to find it at any time: it is pending, or to be told of."""
        return self.is_pending or bool(self.untold)


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some of the uploads of a store."""

    uploads: tuple[Upload, ...]
    after: str | None
    """What to give as `after` for the next page, which may be empty; None: there is no more."""
    unreadable: tuple[str, ...] = ()
    """The ids of uploads whose records are damaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds in bytes: on the length of an upload, and on what one append may bring.

    `min_append` does not bind the append that brings the last byte, nor an empty creation.
    """

    max_size: int | None = None
    min_size: int = 0
    max_append: int | None = None
    min_append: int = 0

    def __post_init__(self) -> None:
        check_integer("min_append", self.min_append)
        check_integer("min_size", self.min_size)
        if self.max_append is not None:
            check_integer("max_append", self.max_append, is_positive=True)
        if self.max_size is not None:
            check_integer("max_size", self.max_size)
        if self.max_append is not None and self.max_append < self.min_append:
            raise ValueError("max_append must not be below min_append")
        if self.max_size is not None and self.max_size < self.min_size:
            raise ValueError("max_size must not be below min_size")


_GRACE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expiry:
    """How long an unfinished upload is kept.

    `initial` counts from its creation, `after_append` from the end of each append that stored
    something and replaces what was left. None leaves the date alone, but an upload whose bytes
    are arriving does not expire: it has up to a minute more from then. With `hide`, a request for
    an expired upload is answered 404 as if there had never been one, not 410.
    """

    initial: timedelta | None = None
    after_append: timedelta | None = None
    hide: bool = False

    def __post_init__(self) -> None:
        check_window("initial", self.initial)
        check_window("after_append", self.after_append)

    @property
    def is_on(self) -> bool:
        return self.initial is not None or self.after_append is not None

    def given_to(self, upload: Upload) -> Upload:
        """Return the upload with how long it is kept after its bytes, if it has not that yet."""
        if upload.window is not None or not self.is_on or upload.parts:
            return upload
        if self.after_append is not None:
            return replace(upload, expires_after=self.after_append)
        return replace(upload, grace=min(self.initial or _GRACE, _GRACE))


@dataclass(frozen=True, kw_only=True, slots=True)
class Creation:
    """The wish to create an upload. The `creating` hook may replace any of it."""

    length: int | None
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    metadata_header: str | None = None
    upload_id: str | None = None
    owner: str | None = None
    limits: Limits | None = None
    """Limits for this upload alone; None means those of the engine."""
    expiry: Expiry | None = None
    """How long this upload alone is kept; None means as the engine says. `hide` is the engine's."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """What is known of it already; `inspect` adds to them."""
    size: int | None = None
    """How many bytes come along with the request, where that is known."""
    is_partial: bool = False
    """True for a piece of a final upload, which may be smaller than the minimum."""
    parts: tuple[str, ...] = ()
    """The ids of the partial uploads to join; `length` is then the sum of theirs."""
    concat_header: str | None = None
    protocol: str = "tus"
    """The name of the protocol that asks for it."""
    is_open: bool = False
    """True if reaching the length does not complete it: only an append that says so does."""
    checksum: Checksum | None = None
    """What all bytes of the upload must hash to."""
    target: Target | None = None
    """The request that the upload stands for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Append:
    """The wish to add bytes at `offset`.

    `length` declares the length of an upload that had none. `size` is the number of bytes
    to come, where that is known beforehand. With a `checksum` the bytes are kept only if all
    of them come and it is theirs. With `is_last` the upload ends where this append ends, and a
    length that is known must be reached there; with False it does not end even then; None leaves
    it to the length. An append that runs past the length is refused, and the upload stays as it
    was, or is removed if `overrun_terminates`.
    """

    offset: int
    length: int | None = None
    size: int | None = None
    checksum: Checksum | None = None
    is_last: bool | None = None
    overrun_terminates: bool = False


class Operation(enum.Enum):
    """What a request wants to do; told to the `authorize` hook."""

    CREATE = "create"
    GET = "get"
    APPEND = "append"
    TERMINATE = "terminate"
    READ = "read"
    CONCATENATE = "concatenate"
    """Use it as a part of a new final upload; asked for each part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The head of a request, as hooks see it. The body is not in it."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name; several lines of one name are joined by `, `."""
    scope: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The ASGI scope, for what middleware has left there (`user`, …)."""

    @property
    def state(self) -> Mapping[str, Any]:
        """What middleware or a dependency has put into `request.state` (Starlette, FastAPI)."""
        state: Mapping[str, Any] = self.scope.get("state", {})
        return state


class Ending(enum.Enum):
    """How a body came to its end."""

    COMPLETE = "complete"
    CLIENT_LEFT = "client left"
    INTERRUPTED = "interrupted"
    TIMED_OUT = "timed out"
    FAILED = "failed"
    """Whoever hands the bytes on raised an exception: a framework that bounds bodies, say."""


class Source(AsyncIterable[bytes], Protocol):
    """The bytes of one append as they arrive.

    The iteration ends when there is nothing more to come, for whichever reason; `ending`
    then says which, and is None before. `interrupt` makes it end soon.
    """

    @property
    def ending(self) -> Ending | None: ...

    def interrupt(self) -> None: ...
