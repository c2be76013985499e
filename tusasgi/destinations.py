"""Where a host wants finished bytes to be: paths below a folder of the store, of safe names.

One grammar for every store, so that a path which one takes means the same in another: no name
leads elsewhere, is hidden, stands for a device, or is searched for as a pattern.
"""

import hashlib
import re
import string
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

from tusasgi.arguments import nearest
from tusasgi.models import Upload

_LONGEST_PATH = 700  # bytes; S3 allows 1,024 with the prefix
_LONGEST_NAME = 255  # bytes; what file systems allow
_LONGEST_VALUE = 100  # bytes of what one field of a template becomes

# Control characters, what is not seen or turns the direction of writing, halves of characters.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# What Windows does not take in a name, and what fsspec would search for.
_SIGNS = frozenset('"*:<>?[\\]|')
_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL)
_EXTENSION = re.compile(r"[a-z0-9]{1,16}")
_MISSING = "unknown"
# Not those of `mimetypes`: it reads the files of the system, which differ and block.
_EXTENSIONS = {
    "application/gzip": "gz",
    "application/json": "json",
    "application/pdf": "pdf",
    "application/xml": "xml",
    "application/zip": "zip",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/wav": "wav",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif",
    "image/webp": "webp",
    "text/css": "css",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "video/mp4": "mp4",
    "video/mpeg": "mpg",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
}


def check_destination(name: str, value: object) -> str:
    """Return a path as it is kept, in the normal form NFC; `name` is what a refusal calls it.

    Raises `ValueError` for what could lead out of the folder of the store, or is no safe name.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a path as text, or None, not {value!r}")
    path = unicodedata.normalize("NFC", value)
    for segment in path.split("/"):
        if fault := _fault_of(segment):
            raise ValueError(
                f"{name} must be a relative path of safe names, not {value!r}: {segment!r} {fault}"
            )
    if len(path.encode()) > _LONGEST_PATH:
        raise ValueError(f"{name} must have at most {_LONGEST_PATH} bytes, not {value[:80]!r}…")
    return path


def _fault_of(segment: str) -> str | None:
    """Return what is wrong with a name, or None."""
    if not segment:
        return "is no name"
    if not all(map(_is_safe, segment)):
        return "has a sign that is not safe in a name"
    if segment[0] in ". " or segment[-1] in ". ":
        return "begins or ends with a dot or a blank"
    if _DEVICE.fullmatch(segment):
        return "stands for a device on some systems"
    if len(segment.encode()) > _LONGEST_NAME:
        return f"has more than {_LONGEST_NAME} bytes"
    return None


def _is_safe(sign: str) -> bool:
    return sign not in _SIGNS and unicodedata.category(sign) not in _UNSEEN


class DestinationTemplate:
    """Makes the destination of an upload: `"{date}/{owner}/{id}.{extension}"`.

    The fields: `id`; `date`, `year`, `month` and `day` of the creation in UTC; `owner`; `name`,
    as the client calls the file, without its extension; `extension`, as the inspection found it
    (`facts["extension"]` or `facts["content_type"]`), or else as the client says (`filename`, then
    `filetype`), or else `bin`. The id is always there, so that no two uploads meet.

    What is not safe in a name is percent-encoded, so that two owners never become one. A value
    that is longer than 100 bytes is cut, and ends in a digest of the whole. One that is missing
    is `unknown`.
    """

    def __init__(self, template: str) -> None:
        if not isinstance(template, str):
            raise TypeError(f"the template of a destination must be text, not {template!r}")
        self._pieces = [_checked(template, *piece) for piece in _pieces_of(template)]
        if "id" not in [field for _, field in self._pieces]:
            raise ValueError(f"the template {template!r} must have {{id}} in it, or uploads meet")
        check_destination(f"the template {template!r}", self(_LONGEST_UPLOAD))

    def __call__(self, upload: Upload) -> str:
        return "".join(
            literal + (_encoded(_FIELDS[field](upload)) if field else "")
            for literal, field in self._pieces
        )


def _checked(
    template: str, literal: str, field: str | None, spec: str | None, conversion: str | None
) -> tuple[str, str | None]:
    """Return the literal text and the field behind it, which may be None."""
    if field is not None and field not in _FIELDS:
        similar = nearest(field, _FIELDS)
        hint = f": did you mean {{{similar}}}?" if similar else ""
        raise ValueError(
            f"the template {template!r} has {{{field}}}, which is none of "
            f"{', '.join(_FIELDS)}{hint}"
        )
    if spec or conversion:
        raise ValueError(f"the template {template!r} must have plain fields: {{{field}}}")
    return literal, field


def _pieces_of(
    template: str,
) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"the template {template!r} cannot be read: {error}") from None


def _extension_of(upload: Upload) -> str:
    candidates = (
        str(upload.facts.get("extension") or ""),
        _extension_for(str(upload.facts.get("content_type") or "")),
        _claimed_name(upload).rpartition(".")[2],
        _extension_for(_text(upload, "filetype", "type")),
    )
    return next((one.lower() for one in candidates if _EXTENSION.fullmatch(one.lower())), "bin")


def _extension_for(content_type: str) -> str:
    return _EXTENSIONS.get(content_type.partition(";")[0].strip().lower(), "")


def _claimed_name(upload: Upload) -> str:
    """Return how the client calls the file, with a dot in it."""
    name = _text(upload, "filename", "name").replace("\\", "/").rpartition("/")[2]
    return name if "." in name.lstrip(".") else f"{name}."


def _text(upload: Upload, *keys: str) -> str:
    found = next((upload.metadata[key] for key in keys if upload.metadata.get(key)), b"")
    return found.decode("utf-8", "replace")


_FIELDS: dict[str, Callable[[Upload], str]] = {
    "id": lambda upload: upload.id,
    "date": lambda upload: f"{upload.created:%Y-%m-%d}",
    "year": lambda upload: f"{upload.created:%Y}",
    "month": lambda upload: f"{upload.created:%m}",
    "day": lambda upload: f"{upload.created:%d}",
    "owner": lambda upload: upload.owner or _MISSING,
    "name": lambda upload: _claimed_name(upload).rpartition(".")[0] or _MISSING,
    "extension": _extension_of,
}


def _encoded(value: str) -> str:
    """Return a value as (a part of) a name, each of its own: percent-encoded where it must be."""
    value = unicodedata.normalize("NFC", value)
    signs: list[str] = []
    for sign in value:
        # A mark would join what comes before it, if that is not the letter that it was written on.
        is_mark = unicodedata.combining(sign) and (not signs or signs[-1][0] == "%")
        is_plain = _is_safe(sign) and sign not in "/%" and not is_mark
        signs.append(sign if is_plain else _percent(sign))
    if _DEVICE.fullmatch(value) or value[0] in ". ":
        signs[0] = _percent(value[0])
    if value[-1] in ". ":
        signs[-1] = _percent(value[-1])
    if len("".join(signs).encode()) > _LONGEST_VALUE:
        return _cut(signs, hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16])
    return "".join(signs)


def _cut(signs: list[str], digest: str) -> str:
    kept, left = "", _LONGEST_VALUE - len(digest) - 1
    for sign in signs:
        left -= len(sign.encode())
        if left < 0:
            break
        kept += sign
    return f"{kept}-{digest}"


def _percent(sign: str) -> str:
    plain = quote(sign, safe="", errors="surrogatepass")
    return plain if plain != sign else f"%{ord(sign):02X}"  # `quote` leaves letters and dots


_LONGEST_UPLOAD = Upload(
    id="i" * 64,
    length=0,
    created=datetime(2000, 1, 1, tzinfo=UTC),
    owner="o" * 2 * _LONGEST_VALUE,
    metadata={"filename": b"n" * 2 * _LONGEST_VALUE + b".extension"},
)
"""What no template makes a longer path of."""
