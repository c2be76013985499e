"""Resumable Uploads for HTTP, the IETF draft, as pure functions. No I/O, no clock.

Written from the drafts up to -12; `dialects` has what differs between them.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from tusasgi.errors import (
    InvalidRequest,
    LengthConflict,
    OffsetConflict,
    Overrun,
    TooLarge,
    TooSmall,
    TusError,
    UnsupportedContentType,
)
from tusasgi.fields import parse_metadata
from tusasgi.models import Append, Creation, FinalResponse, Limits, Upload
from tusasgi.protocols.contract import Interim, Response
from tusasgi.protocols.dialects import DIALECTS, NEWEST, Dialect
from tusasgi.protocols.digests import format_digest, parse_digest, parse_wanted
from tusasgi.protocols.disposition import parse_file_name
from tusasgi.protocols.headers import Headers, added, body_size, check_storable, media_type
from tusasgi.protocols.structured import (
    MAX_INTEGER,
    format_dictionary,
    format_item,
    parse_boolean,
    parse_unsigned,
)

VERSION_FIELD = "Upload-Draft-Interop-Version"
CONTENT_TYPE = "application/partial-upload"

MAX_DESCRIPTION = 1024
"""Longest `Content-Type` and `Content-Encoding` that are kept as metadata, in characters."""

_TITLES = {
    "mismatching-upload-offset": "offset from request does not match offset of resource",
    "inconsistent-upload-length": "inconsistent length values for upload",
    "completed-upload": "upload is already completed",
}
"""Of the registered types of problems."""

_STATUSES = {460: 400, 423: 503}
"""Statuses that clients of TUS know, as others understand them: not again, and later again."""

# A refusal of theirs says nothing of completeness: only answers to content do.
_WITHOUT_CONTENT = ("HEAD", "GET", "DELETE", "OPTIONS")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ietf:
    """The draft as one request speaks it. Implements `Codec`.

    `version` is the one that the request named, and None gets no interim responses. With
    `wanted_digests` the last answer says what the representation hashes to. Lengths must be
    given at creation unless `can_defer_length`, and uploads are removed for too many bytes only
    if they can be at all: `can_terminate`.
    """

    limits: Limits
    can_defer_length: bool
    can_terminate: bool
    dialect: Dialect = NEWEST
    version: int | None = None
    wanted_digests: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, headers: Headers, *, limits: Limits, can_defer_length: bool, can_terminate: bool
    ) -> "Ietf":
        """Return the codec for a request: in the version that it names, or else in the newest."""
        version = named_version(headers)
        return cls(
            limits=limits,
            can_defer_length=can_defer_length,
            can_terminate=can_terminate,
            dialect=NEWEST if version is None else DIALECTS[version],
            version=version,
            wanted_digests=parse_wanted(headers),
        )

    @property
    def name(self) -> str:
        return "ietf"

    @property
    def offset_ends_append(self) -> bool:
        return True  # the next append has to be taken at the offset that was told

    @property
    def offset_on_get(self) -> bool:
        return True

    @property
    def keeps_unannounced(self) -> bool:
        return False

    @property
    def creation_methods(self) -> Collection[str]:
        return ("POST", "PUT", "PATCH")  # whatever has content

    # Requests

    def method_of(self, method: str, headers: Headers) -> str:
        return method

    def check(self, method: str, headers: Headers) -> None:
        """Refuse fields that an early version forbids on requests without content."""
        fields = {
            "HEAD": self.dialect.refused_on_head,
            "DELETE": self.dialect.refused_on_delete,
        }
        for name in fields.get(method, ()):
            if name.lower() in headers:
                raise InvalidRequest(f"{name} has no place in a {method}")

    def depends_on_first_byte(self, headers: Headers) -> bool:
        return False

    def parse_creation(
        self, headers: Headers, id_of: Callable[[str], str]
    ) -> tuple[Creation, Append | None]:
        is_last = self.is_last(headers)
        if is_last is None:
            raise InvalidRequest(f"{self.dialect.completeness} must be ?0 or ?1")
        if parse_unsigned(headers.lines("Upload-Offset")):
            raise InvalidRequest("an upload begins at 0: what is to be appended goes to its URL")
        if "upload-concat" in headers:  # ignored, its parts would be taken for whole uploads
            raise InvalidRequest("Upload-Concat is of TUS: the draft has no joining of uploads")
        size = body_size(headers)
        length = _length_of(headers, offset=0, size=size, is_last=is_last)
        if length is None and not self.can_defer_length:
            raise InvalidRequest("Upload-Length is missing: the length must be given at creation")
        described = "upload-metadata" in headers
        is_last = is_last or self._is_end(length, size or 0, is_described=described)
        creation = Creation(
            length=length,
            metadata=_metadata_of(headers),
            metadata_header=_upload_metadata(headers),
            size=size,
            protocol=self.name,
            is_open=True,
            checksum=parse_digest(headers, "Repr-Digest"),
        )
        if size == 0 and not is_last:
            return creation, None
        append = Append(
            offset=0,
            size=size,
            checksum=parse_digest(headers, "Content-Digest"),
            is_last=is_last,
            overrun_terminates=self._overrun_terminates,
        )
        return creation, append

    def parse_append(self, headers: Headers, upload: Upload) -> Append:
        if self.dialect.has_media_type and not is_partial_upload(headers):
            raise UnsupportedContentType(f"Content-Type must be {CONTENT_TYPE}")
        offset = parse_unsigned(headers.lines("Upload-Offset"))
        if offset is None:
            raise InvalidRequest("Upload-Offset must be a whole number of bytes")
        is_last = self.is_last(headers)
        if is_last is None:
            is_last = self.dialect.completes_by_default
        size = body_size(headers)
        if upload.is_complete and offset == upload.offset:
            self._check_repeated(upload, size)
        length = _length_of(headers, offset=offset, size=size, is_last=is_last)
        known = upload.length if length is None else length
        described = upload.metadata_header is not None
        is_last = is_last or self._is_end(known, offset + (size or 0), is_described=described)
        if upload.is_complete:
            return Append(offset=offset, length=length, size=size)
        return Append(
            offset=offset,
            length=length,
            size=size,
            checksum=parse_digest(headers, "Content-Digest"),
            is_last=is_last,
            overrun_terminates=self._overrun_terminates,
        )

    def _check_repeated(self, upload: Upload, size: int | None) -> None:
        """Refuse an append to a complete upload, but for one that asks for the answer again."""
        if size or not self.dialect.repeats_answer:
            raise LengthConflict(f"the upload is complete with {upload.offset} bytes")

    def is_last(self, headers: Headers) -> bool | None:
        """Return what a request says of completeness; None if nothing that is understood."""
        value = parse_boolean(headers.lines(self.dialect.completeness))
        return None if value is None else value != self.dialect.is_negated

    def _is_end(self, length: int | None, end: int, *, is_described: bool) -> bool:
        """True if a request brings the last byte, in a version where that may be the end."""
        if self.dialect.ends_at_length == "never" or length != end:
            return False
        return self.dialect.ends_at_length == "always" or is_described or length == 0

    @property
    def _overrun_terminates(self) -> bool:
        return self.dialect.overrun_terminates and self.can_terminate

    # Responses

    def announced(self, upload: Upload, location: str, now: datetime) -> Interim | None:
        if self.version is None:
            return None
        return self._interim({"Location": location, "Upload-Limit": self._limit_of(upload, now)})

    def progressed(self, offset: int) -> Interim | None:
        # Without `Location`: an append must not have it, and a creation has had it by then.
        if self.version is None or not self.dialect.reports_progress:
            return None
        return self._interim({"Upload-Offset": str(offset)})

    def created(self, upload: Upload, location: str, now: datetime) -> Response:
        if upload.is_complete:
            # Who said that more is to come waits for the URL.
            may_wait = self.dialect.ends_at_length != "never"
            return self._last_answer(upload, location, is_located=may_wait)
        headers = {"Location": location, **self._state_and_limits(upload, now)}
        return Response(status=201, headers=headers)

    def appended(self, upload: Upload, location: str, now: datetime) -> Response:
        if upload.is_complete:
            return self._last_answer(upload, location)
        headers = self._state_and_limits(upload, now)
        return Response(status=self.dialect.partial_status, headers=headers)

    def described(self, upload: Upload, now: datetime) -> Response:
        headers = {**self._state_and_limits(upload, now), "Cache-Control": "no-store"}
        if upload.length is not None and upload.length <= MAX_INTEGER:
            headers["Upload-Length"] = str(upload.length)
        return Response(status=204, headers=headers)

    def terminated(self) -> Response:
        return Response(status=204, headers=self._version_header())

    def refused(
        self,
        error: TusError,
        rendered: Response,
        *,
        method: str,
        upload: Upload | None,
        is_plain: bool = False,
    ) -> Response:
        answer = self._problem_of(error, upload) or rendered
        status = _STATUSES.get(answer.status, answer.status)
        headers = {
            "Cache-Control": "no-store",
            **answer.headers,
            **error.headers,
            **self._refusal_headers(error, method, upload),
        }
        if status == 503:
            headers.setdefault("Retry-After", "5")
        if method == "HEAD":
            headers.pop("Content-Type", None)
            return Response(status=status, headers=headers)
        return Response(status=status, headers=headers, body=answer.body)

    def _refusal_headers(
        self, error: TusError, method: str, upload: Upload | None
    ) -> dict[str, str]:
        """Return the headers that the protocol wants on a refusal."""
        headers = self._version_header()
        if method not in _WITHOUT_CONTENT:
            # What the host says of the first bytes is the answer of the target resource.
            headers |= self._completeness(error.is_final)
        if isinstance(error, UnsupportedContentType):
            headers["Accept-Patch"] = CONTENT_TYPE
        if isinstance(error, TooLarge | TooSmall) and not isinstance(error, Overrun):
            headers["Upload-Limit"] = format_limits(self._limits_for(upload))
        return headers

    def _problem_of(self, error: TusError, upload: Upload | None) -> Response | None:
        """Return the problem details (RFC 9457) of a refusal; None if it is the host's to render.

        Too many bytes are a contradiction here: a 413 would make clients try smaller parts.
        """
        if isinstance(error, OffsetConflict):
            offsets = {"expected-offset": error.offset}
            if error.provided is not None:
                offsets["provided-offset"] = error.provided
            return _problem("mismatching-upload-offset", error, status=409, members=offsets)
        if not isinstance(error, LengthConflict | Overrun):
            return None
        if upload is not None and upload.is_complete and not self.dialect.repeats_answer:
            return _problem("completed-upload", error, status=400)
        return _problem("inconsistent-upload-length", error, status=400)

    # Headers of responses

    def _interim(self, headers: dict[str, str]) -> Interim:
        return Interim(status=104, headers={**self._version_header(), **headers})

    def final_headers(self) -> dict[str, str]:
        """Return what marks an answer as that of the resource which the upload is for."""
        return {**self._version_header(), **self._completeness(True)}

    def _last_answer(self, upload: Upload, location: str, *, is_located: bool = False) -> Response:
        """Return what the host adds to the answer, and the protocol's own fields, which win.

        But for `Location`: of the last answer it is the host's, if it says one, and that of
        an upload which stands for a request has no other, unless it `is_located`.
        """
        answer = upload.final_response or FinalResponse()
        own = self._state(upload)
        if (digest := format_digest(upload, self.wanted_digests)) is not None:
            own["Repr-Digest"] = digest
        has_location = "location" in {name.lower() for name in answer.headers}
        if (upload.target is None or is_located) and not has_location:
            own["Location"] = location
        status = 201 if answer.status is None else answer.status
        return Response(status=status, headers=added(answer.headers, own), body=answer.body)

    def _state_and_limits(self, upload: Upload, now: datetime) -> dict[str, str]:
        return {**self._state(upload), "Upload-Limit": self._limit_of(upload, now)}

    def _state(self, upload: Upload) -> dict[str, str]:
        return {
            **self._version_header(),
            "Upload-Offset": str(upload.offset),
            **self._completeness(upload.is_complete),
        }

    def _completeness(self, is_complete: bool) -> dict[str, str]:
        return {self.dialect.completeness: format_item(is_complete != self.dialect.is_negated)}

    def _version_header(self) -> dict[str, str]:
        return {} if self.version is None else {VERSION_FIELD: str(self.version)}

    def _limits_for(self, upload: Upload | None) -> Limits:
        if upload is None:
            return self.limits
        return replace(self.limits, max_size=upload.max_size, min_size=upload.min_size)

    def _limit_of(self, upload: Upload, now: datetime) -> str:
        """Write `Upload-Limit` of an upload, with the seconds that are left to it."""
        limits = self._limits_for(upload)
        if upload.expires is None or not upload.can_expire:
            return format_limits(limits)
        seconds = max(0, int((upload.expires - now).total_seconds()))
        return format_limits(limits, {self.dialect.lifetime: seconds})


def named_version(headers: Headers) -> int | None:
    """Return the interop version that a request names; None if it names none that we speak."""
    version = parse_unsigned(headers.lines(VERSION_FIELD))
    return version if version in DIALECTS else None


def is_partial_upload(headers: Headers) -> bool:
    """True for the media type of an append."""
    return media_type(headers.get("content-type", "")) == CONTENT_TYPE


def capabilities(limits: Limits) -> Response:
    """Answer OPTIONS."""
    headers = {"Upload-Limit": format_limits(limits), "Accept-Patch": CONTENT_TYPE}
    return Response(status=204, headers=headers)


def format_limits(limits: Limits, more: Mapping[str, int] | None = None) -> str:
    """Write `Upload-Limit`, which is never empty: without any limit it says `min-size=0`."""
    members = {
        "max-size": limits.max_size,
        "min-size": limits.min_size,
        "max-append-size": limits.max_append,
        "min-append-size": limits.min_append or None,
        **(more or {}),
    }
    return format_dictionary(
        {name: min(value, MAX_INTEGER) for name, value in members.items() if value is not None}
    )


def _length_of(headers: Headers, *, offset: int, size: int | None, is_last: bool) -> int | None:
    """Return the length that a request tells, by a field or by its own end; None if it does not."""
    stated = parse_unsigned(headers.lines("Upload-Length"))
    if not is_last or size is None:
        return stated
    end = check_storable(offset + size)
    if stated not in (None, end):
        raise LengthConflict(f"Upload-Length is {stated}, and the last byte is at {end}")
    return end


def _metadata_of(headers: Headers) -> dict[str, bytes]:
    """Return what describes the representation, by the keys that TUS clients use."""
    metadata: dict[str, bytes] = {}
    if not is_partial_upload(headers):  # that describes the message
        metadata |= _described(headers, "Content-Type", "filetype")
    metadata |= _described(headers, "Content-Encoding", "content-encoding")
    metadata |= parse_metadata(_upload_metadata(headers))
    if name := parse_file_name(headers.get("content-disposition", "")):
        metadata["filename"] = name.encode()
    return metadata


def _upload_metadata(headers: Headers) -> str | None:
    """Return `Upload-Metadata`; None if the draft's own field is there to name the file.

    It comes from tus-js-client, which has no other way to name one.
    """
    return None if "content-disposition" in headers else headers.joined("Upload-Metadata")


def _described(headers: Headers, field: str, key: str) -> dict[str, bytes]:
    value = headers.get(field.lower(), "")
    return {key: value.encode("latin-1")} if 0 < len(value) <= MAX_DESCRIPTION else {}


def _problem(
    kind: str, error: TusError, *, status: int, members: Mapping[str, int] | None = None
) -> Response:
    document = {
        "type": f"https://iana.org/assignments/http-problem-types#{kind}",
        "title": _TITLES[kind],
        "status": status,
        "detail": str(error),
        **(members or {}),
    }
    return Response(
        status=status,
        headers={"Content-Type": "application/problem+json"},
        body=json.dumps(document).encode(),
    )
