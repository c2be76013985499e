"""A complete upload as the answer to GET: ranges, file name, and nothing a browser would run."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from tusasgi.errors import PreconditionFailed, RangeNotSatisfiable, UploadNotFound
from tusasgi.models import Upload
from tusasgi.protocols.contract import Response
from tusasgi.protocols.headers import Headers
from tusasgi.stores import SupportsLocalPath, SupportsRead

# One range in a list that may have empty elements (RFC 9110, 14.1.1 and 5.6.1).
_RANGE = re.compile(r"bytes=[\s,]*([0-9]{0,40})-([0-9]{0,40})[\s,]*", re.ASCII | re.IGNORECASE)
_ETAG = re.compile(r'(W/)?("[^"]*")')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
# Controls, ends of lines, what turns the direction of writing, halves of characters, and what
# ends a quoted string or a path.
_UNSAFE_IN_NAME = re.compile(
    r'[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"\\/]'
)
# What some read as an escape, or as the end of the name, though it is quoted.
_UNSAFE_IN_ASCII_NAME = re.compile("[^ -~]|[%;]")

# What a browser may show in place. Everything else is a download of unknown bytes: HTML, SVG
# and XML (which is any type that ends in "+xml") can carry scripts that would run with the
# rights of our origin.
_SHOWN_IN_PLACE = re.compile(
    r"(audio|video)/(?!.*\+xml$).+|image/(png|jpeg|gif|webp|avif|bmp)|application/(pdf|mxf)|text/plain"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInfo:
    """How a download is presented."""

    name: str
    content_type: str

    @classmethod
    def of(cls, upload: Upload) -> "FileInfo":
        """What an inspection found counts more than what the client said."""
        claimed = upload.metadata.get("filetype") or upload.metadata.get("type") or b""
        name = upload.metadata.get("filename") or upload.metadata.get("name") or b""
        return cls(
            name=name.decode("utf-8", "replace") or upload.id,
            content_type=str(upload.facts.get("content_type") or claimed.decode("latin-1")),
        )


def download(
    upload: Upload,
    store: SupportsRead,
    headers: Headers,
    file: FileInfo | None = None,
    *,
    is_head: bool = False,
) -> Response:
    """Answer a GET for a complete upload, in whole or for one range of bytes; or a HEAD.

    A client that has the bytes already is told so (304). Raises `UploadNotFound` while the
    upload is unfinished, `PreconditionFailed` for a client that means another one, and
    `RangeNotSatisfiable` for a range beyond the end. Several ranges at once are answered with
    the whole, as RFC 9110 allows.
    """
    if not upload.is_complete or upload.length is None:
        raise UploadNotFound("the upload is not complete yet")
    etag = _etag(upload)
    # The order is that of RFC 9110, 13.2.2. There is no date of change to compare with, so
    # conditions with dates are as if they were not there, or in `If-Range` never true.
    if not _is_named(etag, headers.get("if-match"), weakly=False, if_absent=True):
        raise PreconditionFailed("this is not the file that If-Match names")
    if _is_named(etag, headers.get("if-none-match"), weakly=True, if_absent=False):
        return Response(status=304, headers={"ETag": etag})
    wanted = headers.get("range") if headers.get("if-range", etag) == etag else None
    part = None if is_head else _parse_range(wanted, upload.length)
    start, stop = part or (0, upload.length)
    answer = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(stop - start),
        "ETag": etag,
        **_presentation(file or FileInfo.of(upload)),
    }
    if part is not None:
        answer["Content-Range"] = f"bytes {start}-{stop - 1}/{upload.length}"
    if is_head:
        return Response(status=200, headers=answer)
    return Response(
        status=200 if part is None else 206,
        headers=answer,
        stream=_exactly(store.read(upload, start, stop), stop - start),
        path=_path_of(upload, store) if part is None else None,
    )


async def check_is_there(upload: Upload, store: SupportsRead) -> None:
    """Raise `UploadNotFound` if the host has taken away what was handed over to it.

    To be asked before a response begins: whoever reads afterwards finds out too late to say so.
    """
    if upload.is_handed_over:
        async for _ in _exactly(store.read(upload, 0, min(1, upload.offset)), upload.offset and 1):
            pass


def _path_of(upload: Upload, store: SupportsRead) -> str | None:
    if upload.is_handed_over or not isinstance(store, SupportsLocalPath):
        return None  # only who opens it knows whether the host has left it there
    return store.local_path(upload)


def _etag(upload: Upload) -> str:
    """Return a strong validator: the id alone may be used again when the upload was removed."""
    born = (upload.created - _EPOCH) // timedelta(microseconds=1)
    return f'"{upload.id}.{born:x}.{upload.length:x}"'


def _is_named(etag: str, header: str | None, *, weakly: bool, if_absent: bool) -> bool:
    """True if the header is `*`, or a list that holds the tag."""
    if header is None:
        return if_absent
    if header == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _ETAG.findall(header))


async def _exactly(chunks: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in chunks:
            size -= len(chunk)
            yield chunk
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()  # and the file with it, when the client has left
    if size:
        raise OSError(f"the store gave {size} bytes too few")


def _parse_range(header: str | None, length: int) -> tuple[int, int] | None:
    """Return start and stop of the one range asked for, None for the whole (RFC 9110, 14.2)."""
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        start, stop = max(0, length - int(last)), length
    else:
        start, stop = int(first), min(length, int(last) + 1 if last else length)
        if last and int(last) < start:
            return None  # not a valid range: as if it had not been sent
    if start >= stop:
        raise RangeNotSatisfiable(f"the upload has {length} bytes", length=length)
    return start, stop


def _presentation(file: FileInfo) -> dict[str, str]:
    content_type = file.content_type.partition(";")[0].strip().lower()
    is_shown = bool(_MEDIA_TYPE.fullmatch(content_type) and _SHOWN_IN_PLACE.fullmatch(content_type))
    name = _UNSAFE_IN_NAME.sub("_", file.name)[:255]
    ascii_name = _UNSAFE_IN_ASCII_NAME.sub("_", name)
    disposition = "inline" if is_shown else "attachment"
    return {
        "Content-Type": content_type if is_shown else "application/octet-stream",
        "Content-Disposition": (
            f"{disposition}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"
        ),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'; media-src 'self'",
    }
