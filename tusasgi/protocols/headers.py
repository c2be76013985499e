"""Header text to values, and back: sizes, metadata, concatenation, dates."""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from tusasgi.errors import InvalidRequest, TooLarge
from tusasgi.models import Creation

# ASCII only: int() would also take "+5", " 5", "5_0" and Arabic-Indic digits. More digits than
# this are no number that anybody means.
_SIZE = re.compile(r"[0-9]{1,40}")

MAX_LENGTH = 10**18 - 1
"""The longest upload, in bytes: below 2**63, which every file system and database can hold."""

# Printable ASCII but the space and the comma.
_METADATA_KEY = re.compile(r"[!-+\--~]+")

# URLs are ASCII, and the blank stands between them.
_FINAL = re.compile(r"final;([ -~]+)")

MAX_METADATA_SIZE = 16 * 1024
"""Longest `Upload-Metadata` taken, in bytes: half the servers refuse longer headers anyway."""


class Headers(Mapping[str, str]):
    """The headers of a request by lower-case name, values without outer blanks."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._lines: dict[str, list[str]] = {}
        for name, value in raw:
            lines = self._lines.setdefault(name.decode("latin-1").lower(), [])
            lines.append(value.decode("latin-1").strip(" \t"))

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._lines[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def single(self, name: str) -> str | None:
        """Return the one value of a header, None if it is absent.

        Lines that differ could be read in two ways by two servers: `InvalidRequest`.
        """
        lines = self._lines.get(name.lower(), [])
        if len(set(lines)) > 1:
            raise InvalidRequest(f"{name} is given more than once, with different values")
        return lines[0] if lines else None

    def bodiless(self) -> "Headers":
        """Return the same headers, but those of a request without a body."""
        own = Headers([(b"content-length", b"0")])
        framing = ("transfer-encoding", *own)
        own._lines |= {name: line for name, line in self._lines.items() if name not in framing}
        return own

    def joined(self, name: str) -> str | None:
        """Return all lines of a list header, joined by commas; None if it is absent or empty."""
        return ",".join(self._lines.get(name.lower(), [])) or None


def parse_size(headers: Headers, name: str) -> int | None:
    """Return a number of bytes, None if the header is absent."""
    value = headers.single(name)
    if value is None:
        return None
    if not _SIZE.fullmatch(value):
        raise InvalidRequest(f"{name} must be a whole number of bytes, in at most 40 digits")
    return int(value)


def parse_length(headers: Headers) -> int | None:
    """Return `Upload-Length`, None if it is absent; `TooLarge` if no store could hold so much."""
    length = parse_size(headers, "Upload-Length")
    if length is not None and length > MAX_LENGTH:
        raise TooLarge(f"{length} bytes are more than the maximum of {MAX_LENGTH}")
    return length


def parse_metadata(header: str | None) -> dict[str, bytes]:
    """Return the pairs of `Upload-Metadata` in their order.

    Standard Base64 with padding (RFC 4648 section 4) and unique ASCII keys are required, blanks
    around commas are allowed, and an empty header counts as absent.
    """
    if not header:
        return {}
    if len(header) > MAX_METADATA_SIZE:
        raise InvalidRequest(
            f"Upload-Metadata has {len(header)} bytes, at most {MAX_METADATA_SIZE} are taken"
        )
    pairs: dict[str, bytes] = {}
    for item in header.split(","):
        key, _, value = item.strip(" \t").partition(" ")
        if not _METADATA_KEY.fullmatch(key):
            raise InvalidRequest("Upload-Metadata has an empty key, or one that is not ASCII")
        if key in pairs:
            raise InvalidRequest(f"Upload-Metadata has the key {key[:64]} twice")
        pairs[key] = _decode_base64(key, value)
    return pairs


def _decode_base64(key: str, value: str) -> bytes:
    try:
        return binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidRequest(
            f"the value of {key[:64]} in Upload-Metadata is not padded standard Base64"
        ) from None


def format_metadata(metadata: Mapping[str, bytes]) -> str:
    """Write `Upload-Metadata`; the counterpart of `parse_metadata`."""
    return ",".join(
        f"{key} {base64.b64encode(value).decode('ascii')}" if value else key
        for key, value in metadata.items()
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Concat:
    """What `Upload-Concat` asks for: a partial upload, or a final one of these URLs."""

    header: str
    urls: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        return not self.urls


def parse_concat(header: str) -> Concat:
    """Read `Upload-Concat`: `partial`, or `final;` and URLs with blanks between them."""
    if header == "partial":
        return Concat(header=header)
    match = _FINAL.fullmatch(header)
    if match is None or not match[1].strip(" "):
        raise InvalidRequest("Upload-Concat must be partial, or final; and the URLs of partials")
    return Concat(header=header, urls=tuple(match[1].split()))


def check_creation(creation: Creation) -> None:
    """Refuse, of what HEAD will tell, whatever no client could have sent.

    For what hosts and their hooks set; it would break out of a header, or break HEAD for ever.
    Raises `ValueError`.
    """
    for key, value in creation.metadata.items():
        if not _METADATA_KEY.fullmatch(key):
            raise ValueError(
                f"the metadata key {key!r} must be printable ASCII without blanks and commas"
            )
        if not isinstance(value, bytes):
            raise ValueError(f"the metadata value of {key!r} must be bytes")
    try:
        parse_metadata(creation.metadata_header or format_metadata(creation.metadata))
        if creation.concat_header is not None:
            parse_concat(creation.concat_header)
    except InvalidRequest as refusal:
        raise ValueError(f"clients cannot be told this: {refusal}") from None


def http_date(moment: datetime) -> str:
    """Write an HTTP date (IMF-fixdate, RFC 9110 section 5.6.7), whatever the locale."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)
