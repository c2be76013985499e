"""Every parser as a function of bytes that raises when a promise is broken.

They are shared: hypothesis runs them in the suite, atheris for as long as it is told to.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import unquote

from tusasgi.asgi.download import _parse_range
from tusasgi.asgi.routes import find_id, find_route
from tusasgi.checksums import ALGORITHMS, parse_checksum
from tusasgi.errors import (
    InvalidRequest,
    InvalidUploadId,
    RangeNotSatisfiable,
    TusError,
    UploadNotFound,
)
from tusasgi.fields import check_creation, format_metadata, parse_concat, parse_metadata
from tusasgi.media import HEAD_SIZE, detect
from tusasgi.models import Append, Creation, Limits, Upload, check_upload_id
from tusasgi.protocols.choice import choose
from tusasgi.protocols.contract import Response
from tusasgi.protocols.dialects import DIALECTS
from tusasgi.protocols.disposition import parse_file_name, safe_name
from tusasgi.protocols.headers import Headers, body_size, expects_continue, has_body, parse_size
from tusasgi.protocols.ietf import Ietf
from tusasgi.protocols.structured import format_dictionary, parse_dictionary, parse_item
from tusasgi.protocols.tus import (
    Extension,
    carries_upload,
    check_version,
    method_of,
    parse_append,
    parse_creation,
    parse_first_append,
)

NAMES = (
    "Content-Length",
    "Content-Type",
    "Expect",
    "Range",
    "Transfer-Encoding",
    "Tus-Resumable",
    "Upload-Checksum",
    "Upload-Concat",
    "Upload-Defer-Length",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "X-HTTP-Method-Override",
)
DRAFT_NAMES = (
    "Content-Digest",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Repr-Digest",
    "Transfer-Encoding",
    "Upload-Complete",
    "Upload-Draft-Interop-Version",
    "Upload-Incomplete",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "Want-Repr-Digest",
)
_SIZES = range(10**40)
_LENGTHS = range(10**18)
_SEGMENT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HEAD_SECONDS = 1.0


def check_headers(data: bytes) -> None:
    """The first byte says which extensions are offered; each line is a name's number and a value.

    Every request is understood, with numbers in their bounds, or refused with a `TusError`.
    """
    offered = {name for bit, name in enumerate(Extension) if data[:1] and data[0] >> bit & 1}
    headers = Headers(_lines(data[1:], NAMES))
    for name in NAMES:
        with contextlib.suppress(InvalidRequest):
            size = parse_size(headers, name)
            assert size is None or size in _SIZES
    for setting in ("any", "post", "off"):
        method = method_of("PATCH", headers, setting)
        assert method == "PATCH" or (setting == "any" and method == method.upper())
    for parse in (check_version, has_body, body_size, carries_upload, expects_continue):
        with contextlib.suppress(TusError):
            parse(headers)
    for parse_command in (parse_append, parse_first_append):
        with contextlib.suppress(TusError):
            _check_append(parse_command(headers, offered), offered)
    with contextlib.suppress(TusError):
        _check_creation(parse_creation(headers, offered, _id_of), offered)


def _lines(data: bytes, names: Sequence[str]) -> Iterator[tuple[bytes, bytes]]:
    for line in data.split(b"\n"):
        if line:
            yield names[line[0] % len(names)].encode(), line[1:]


def _id_of(url: str) -> str:
    return check_upload_id(find_id(url, folders={"/files"}))


def _check_append(append: Append, offered: set[Extension]) -> None:
    assert append.offset in _SIZES
    assert append.length is None or append.length in _LENGTHS
    assert append.size is None or append.size in _SIZES
    if append.checksum is not None:
        assert Extension.CHECKSUM in offered
        assert len(append.checksum.digest) == len(ALGORITHMS[append.checksum.algorithm]().digest())


def _check_creation(creation: Creation, offered: set[Extension]) -> None:
    assert creation.length is None or creation.length in _LENGTHS
    assert parse_metadata(format_metadata(creation.metadata)) == creation.metadata
    assert not (creation.is_partial and creation.parts)
    if creation.length is None:
        assert Extension.CREATION_DEFER_LENGTH in offered or creation.parts
    if creation.is_partial or creation.parts:
        assert Extension.CONCATENATION in offered
    assert all(_SEGMENT.fullmatch(part) for part in creation.parts)


_OPEN = Upload(
    id="u",
    length=None,
    offset=5,
    created=datetime(2026, 11, 28, tzinfo=UTC),
    protocol="ietf",
    is_open=True,
)
_COMPLETE = replace(_OPEN, length=5, is_open=False, is_complete=True, sha256="00" * 32)


def check_draft(data: bytes) -> None:
    """Each line is the number of a field of the IETF draft and a value.

    Every request is understood, in bounds and so that the engine takes it, or refused with a
    `TusError`, and every answer is a head that can be sent.
    """
    headers = Headers(_lines(data, DRAFT_NAMES))
    for method in ("POST", "PATCH", "HEAD"):
        assert choose(method, headers, ("tus", "ietf")) in ("tus", "ietf", None)
    codec = Ietf.of(headers, limits=Limits(), can_defer_length=True, can_terminate=True)
    assert codec.version in (None, *DIALECTS)
    try:
        creation, _ = codec.parse_creation(headers, _id_of)
    except TusError as error:
        rendered = Response(status=error.status)
        _check_sendable(codec.refused(error, rendered, method="POST", upload=None))
    else:
        check_creation(creation)
        assert creation.length is None or creation.length in _LENGTHS
    for upload in (_OPEN, _COMPLETE):
        with contextlib.suppress(TusError):
            append = codec.parse_append(headers, upload)
            assert append.offset in _SIZES
            assert append.length is None or append.length in _LENGTHS
            assert not (upload.is_complete and append.overrun_terminates)
        _check_sendable(codec.created(upload, "/files/u", upload.created))
        _check_sendable(codec.described(upload, upload.created))


def _check_sendable(response: Response) -> None:
    for name, value in response.headers.items():
        assert name.isascii() and (name + value).isprintable()


def check_texts(data: bytes) -> None:
    """One text as any header value, URL, path or id: taken in bounds, or refused as promised."""
    text = data.decode("latin-1")
    for parse in (parse_checksum, parse_metadata):
        with contextlib.suppress(InvalidRequest):
            parse(text)
    assert parse_item([text]) is None or parse_item([text, text]) is None
    members = {k: v for k, v in parse_dictionary([text]).items() if v is not None}
    assert parse_dictionary([format_dictionary(members)]) == members
    assert (name := parse_file_name(text)) is None or name == safe_name(name)
    with contextlib.suppress(InvalidRequest):
        assert parse_concat(text).is_partial == (text == "partial")
    with contextlib.suppress(InvalidUploadId):
        assert _SEGMENT.fullmatch(check_upload_id(text))
    with contextlib.suppress(InvalidRequest):
        assert "/" not in find_id(text, folders={"/files", ""})
    for prefix in ("", "/files"):
        scope = {"path": unquote(text), "root_path": "/files", "raw_path": data}
        with contextlib.suppress(UploadNotFound):
            found = find_route(scope, prefix)
            assert found.upload_id is None or "/" not in found.upload_id
            assert found.base.isascii()
    for length in (0, 1, 10, 2**60):
        with contextlib.suppress(RangeNotSatisfiable):
            part = _parse_range(text, length)
            assert part is None or 0 <= part[0] < part[1] <= length


def check_head(data: bytes) -> None:
    """Any bytes are a format of the table or none, soon, and by their head alone."""
    start = time.process_time()
    media = detect(data)
    assert time.process_time() - start < _HEAD_SECONDS
    if len(data) >= HEAD_SIZE:
        assert detect(data[:HEAD_SIZE] + b"more") == media
    if media is not None:
        assert media.kind in ("audio", "video")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "headers": check_headers,
    "draft": check_draft,
    "texts": check_texts,
    "head": check_head,
}
