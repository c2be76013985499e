"""TUS 1.0.0 as pure functions: request to command, upload to response. No I/O, no clock.

Sections named in comments are those of the protocol text, version 1.0.0 as of 2025-06-26.
"""

import enum
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from tusasgi.checksums import ALGORITHMS, parse_checksum
from tusasgi.errors import (
    Forbidden,
    InvalidRequest,
    TusError,
    UnsupportedContentType,
    UnsupportedVersion,
    UploadLocked,
    will_pass,
)
from tusasgi.fields import Concat, format_metadata, parse_concat, parse_metadata
from tusasgi.models import Append, Checksum, Creation, FinalResponse, Limits, Upload
from tusasgi.protocols.contract import Interim, Response
from tusasgi.protocols.headers import (
    Headers,
    added,
    body_size,
    expects_continue,
    has_body,
    http_date,
    media_type,
    parse_length,
    parse_size,
)

VERSION = "1.0.0"
CONTENT_TYPE = "application/offset+octet-stream"

MAX_PARTS = 1000
"""How many partial uploads one final upload may name."""

MAX_REPEATS = 10
"""How often it may name the same one: a header must not make gigabytes of a megabyte."""


class Extension(enum.StrEnum):
    """The protocol extensions we know, in the order in which they are advertised."""

    CREATION = "creation"
    CREATION_WITH_UPLOAD = "creation-with-upload"
    CREATION_DEFER_LENGTH = "creation-defer-length"
    CHECKSUM = "checksum"
    TERMINATION = "termination"
    CONCATENATION = "concatenation"
    EXPIRATION = "expiration"


MethodOverride = Literal["any", "post", "off"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tus:
    """TUS 1.0.0 with the extensions that are offered. Implements `Codec`."""

    offered: Collection[Extension]
    method_override: MethodOverride = "any"

    @property
    def name(self) -> str:
        return "tus"

    @property
    def offset_ends_append(self) -> bool:
        return False  # a client may look on while another one, or itself, is sending

    @property
    def offset_on_get(self) -> bool:
        return False

    @property
    def keeps_unannounced(self) -> bool:
        return True

    @property
    def creation_methods(self) -> Collection[str]:
        return ("POST",)

    def method_of(self, method: str, headers: Headers) -> str:
        return method_of(method, headers, self.method_override)

    def check(self, method: str, headers: Headers) -> None:
        check_version(headers)

    def depends_on_first_byte(self, headers: Headers) -> bool:
        return depends_on_first_byte(headers)

    def parse_creation(
        self, headers: Headers, id_of: Callable[[str], str]
    ) -> tuple[Creation, Append | None]:
        brings_bytes = Extension.CREATION_WITH_UPLOAD in self.offered and carries_upload(headers)
        creation = parse_creation(headers, self.offered, id_of)
        if not brings_bytes or creation.parts:
            return creation, None
        append = parse_first_append(headers, self.offered)
        return replace(creation, size=append.size), append

    def parse_append(self, headers: Headers, upload: Upload) -> Append:
        return parse_append(headers, self.offered)

    def announced(self, upload: Upload, location: str, now: datetime) -> Interim | None:
        return None

    def progressed(self, offset: int) -> Interim | None:
        return None

    def created(self, upload: Upload, location: str, now: datetime) -> Response:
        return _with_final_response(created(upload, location), upload.final_response)

    def appended(self, upload: Upload, location: str, now: datetime) -> Response:
        return _with_final_response(appended(upload), upload.final_response)

    def described(self, upload: Upload, now: datetime) -> Response:
        return described(upload)

    def terminated(self) -> Response:
        return terminated()

    def refused(
        self,
        error: TusError,
        rendered: Response,
        *,
        method: str,
        upload: Upload | None,
        is_plain: bool = False,
    ) -> Response:
        return refused(error, rendered, is_head=method == "HEAD", is_download=is_plain)


def method_of(method: str, headers: Headers, override: MethodOverride) -> str:
    """Return the method to act on: `X-HTTP-Method-Override` wins where it is honoured."""
    wanted = headers.get("x-http-method-override")  # two of them make a method nobody knows
    if not wanted or override == "off" or (override == "post" and method != "POST"):
        return method
    return wanted.upper()


def check_version(headers: Headers) -> None:
    """Refuse every version but ours, and a request that names none."""
    version = headers.single("Tus-Resumable")
    if version != VERSION:
        raise UnsupportedVersion(f"Tus-Resumable must be {VERSION}")


def parse_append(headers: Headers, offered: Collection[Extension]) -> Append:
    """Read the head of a PATCH: media type, offset, late length, size and checksum of the body."""
    if not _is_upload_content(headers):
        raise UnsupportedContentType(f"Content-Type must be {CONTENT_TYPE}")
    offset = parse_size(headers, "Upload-Offset")
    if offset is None:
        raise InvalidRequest("Upload-Offset is missing")
    return Append(
        offset=offset,
        length=parse_length(headers),
        size=body_size(headers),
        checksum=checksum_of(headers, offered),
    )


def parse_first_append(headers: Headers, offered: Collection[Extension]) -> Append:
    """Read what a POST says of the bytes it brings along."""
    return Append(offset=0, size=body_size(headers), checksum=checksum_of(headers, offered))


def checksum_of(headers: Headers, offered: Collection[Extension]) -> Checksum | None:
    """Return what the body must hash to; a checksum is ignored where the extension is off."""
    header = headers.single("Upload-Checksum")
    if header is None or Extension.CHECKSUM not in offered:
        return None
    return parse_checksum(header)


def parse_creation(
    headers: Headers, offered: Collection[Extension], id_of: Callable[[str], str]
) -> Creation:
    """Read the head of a POST that creates an upload; `id_of` turns URLs of partials into ids."""
    concat = _concat_of(headers, offered)
    length = parse_length(headers)
    deferred = headers.single("Upload-Defer-Length")
    if deferred is not None:
        _check_deferred(deferred, length, offered, concat)
    elif length is None and (concat is None or concat.is_partial):
        raise InvalidRequest("Upload-Length is missing")
    parts = () if concat is None else _parts_of(concat, id_of)
    if parts and has_body(headers):
        raise Forbidden("a final upload takes no bytes: it consists of its partial uploads")
    header = headers.joined("Upload-Metadata")
    return Creation(
        length=length,
        metadata=parse_metadata(header),
        metadata_header=header,
        is_partial=concat is not None and concat.is_partial,
        parts=parts,
        concat_header=None if concat is None else concat.header,
    )


def _concat_of(headers: Headers, offered: Collection[Extension]) -> Concat | None:
    header = headers.single("Upload-Concat")
    if header is None:
        return None
    if Extension.CONCATENATION not in offered:
        raise InvalidRequest("Upload-Concat: concatenation is not offered here")
    return parse_concat(header)


def _parts_of(concat: Concat, id_of: Callable[[str], str]) -> tuple[str, ...]:
    if len(concat.urls) > MAX_PARTS:
        raise InvalidRequest(f"Upload-Concat names more than {MAX_PARTS} partial uploads")
    parts = tuple(map(id_of, concat.urls))
    if parts and max(Counter(parts).values()) > MAX_REPEATS:
        raise InvalidRequest(f"Upload-Concat names a partial upload more than {MAX_REPEATS} times")
    return parts


def _check_deferred(
    deferred: str, length: int | None, offered: Collection[Extension], concat: Concat | None
) -> None:
    # Never 501 for an extension that is off: clients retry a 5xx.
    if Extension.CREATION_DEFER_LENGTH not in offered:
        raise InvalidRequest("Upload-Defer-Length: the length must be given at creation")
    if deferred != "1":
        raise InvalidRequest("Upload-Defer-Length must be 1")
    if length is not None:
        raise InvalidRequest("Upload-Length and Upload-Defer-Length contradict each other")
    if concat is not None and concat.urls:
        raise InvalidRequest("Upload-Defer-Length: a final upload is as long as its parts")


def carries_upload(headers: Headers) -> bool:
    """True if a creation request brings the first bytes along; refuse another kind of body."""
    if _is_upload_content(headers):
        return body_size(headers) != 0
    # Many HTTP libraries send a Content-Type of their own with an empty POST: ignore it.
    if has_body(headers):
        raise UnsupportedContentType(f"Content-Type of a body must be {CONTENT_TYPE}")
    return False


def depends_on_first_byte(headers: Headers) -> bool:
    """True if a creation is refused for its chunked body, unless that turns out to be empty.

    False for a client that waits for `100 Continue`: it has one, and is not to send it.
    """
    if "transfer-encoding" not in headers or expects_continue(headers):
        return False
    return not _is_upload_content(headers) or "upload-concat" in headers


def _is_upload_content(headers: Headers) -> bool:
    return media_type(headers.single("Content-Type") or "") == CONTENT_TYPE


def capabilities(offered: Collection[Extension], limits: Limits) -> Response:
    """Answer OPTIONS. Lists are written without blanks: some clients compare the parts as is."""
    headers = {"Tus-Resumable": VERSION, "Tus-Version": VERSION}
    if offered:
        headers["Tus-Extension"] = ",".join(name for name in Extension if name in offered)
    if Extension.CHECKSUM in offered:
        headers["Tus-Checksum-Algorithm"] = ",".join(ALGORITHMS)
    if limits.max_size is not None:
        headers["Tus-Max-Size"] = str(limits.max_size)
    return Response(status=204, headers=headers)


def creation_headers(upload: Upload, location: str) -> dict[str, str]:
    """Return what a response that announces a new upload has to carry.

    For a host that creates uploads in an endpoint of its own, as for our POST.
    """
    return {
        "Tus-Resumable": VERSION,
        "Location": location,
        "Upload-Offset": str(upload.offset),
        **_expires(upload),
    }


def created(upload: Upload, location: str) -> Response:
    return Response(status=201, headers=creation_headers(upload, location))


def described(upload: Upload) -> Response:
    """Answer HEAD."""
    headers = {
        "Tus-Resumable": VERSION,
        "Cache-Control": "no-store",
        **_expires(upload),
    }
    # A final upload that is not joined yet has no offset that a client could use.
    if not upload.parts or upload.is_complete:
        headers["Upload-Offset"] = str(upload.offset)
    if upload.concat_header is not None:
        headers["Upload-Concat"] = upload.concat_header
    # A client takes the length that is reached for success, which it is not while another
    # protocol may still say that this is not the end.
    is_undecided = upload.is_open and upload.offset == upload.length
    if upload.length is None or is_undecided:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(upload.length)
    # As the client wrote it: decoded values never reach a header.
    if metadata := upload.metadata_header or format_metadata(upload.metadata):
        headers["Upload-Metadata"] = metadata
    return Response(status=200, headers=headers)


def appended(upload: Upload) -> Response:
    headers = {"Tus-Resumable": VERSION, "Upload-Offset": str(upload.offset), **_expires(upload)}
    return Response(status=204, headers=headers)


def terminated() -> Response:
    return Response(status=204, headers={"Tus-Resumable": VERSION})


def _with_final_response(response: Response, answer: FinalResponse | None) -> Response:
    """Add what the host wants to say at the end; the protocol's own headers win.

    A client of TUS knows two statuses for success, and 204 has no body.
    """
    if answer is None:
        return response
    return replace(
        response,
        status=200 if answer.body and response.status == 204 else response.status,
        headers=added(answer.headers, response.headers),
        body=answer.body,
    )


def plain_text(error: TusError) -> Response:
    """The body of a refusal, unless the host renders its own: one line of text."""
    return Response(
        status=error.status,
        headers={"Content-Type": "text/plain; charset=utf-8"},
        body=f"{error}\n".encode(),
    )


def refused(
    error: TusError, rendered: Response, *, is_head: bool, is_download: bool = False
) -> Response:
    """Add to a rendered refusal what the protocol wants on it; `is_download` for a plain HEAD."""
    headers = {"Tus-Resumable": VERSION, "Cache-Control": "no-store", **rendered.headers}
    headers.update(error.headers)
    if isinstance(error, UnsupportedVersion):
        headers["Tus-Version"] = VERSION
    if not is_head:
        return Response(status=rendered.status, headers=headers, body=rendered.body)
    # tuspy looks for this header and never at the status.
    headers.pop("Upload-Offset", None)
    headers.pop("Content-Type", None)
    status = rendered.status
    if will_pass(error) and not is_download:
        # After any other status, tus-js-client takes the upload for lost: it forgets the URL and
        # sends the whole file again.
        status = UploadLocked.status
        headers.setdefault("Retry-After", "5")
    return Response(status=status, headers=headers)


def _expires(upload: Upload) -> dict[str, str]:
    if upload.expires is None or not upload.can_expire:
        return {}
    return {"Upload-Expires": http_date(upload.expires)}
