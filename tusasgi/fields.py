"""What a creation says of its upload and HEAD tells again: metadata and parts, as text and values.

Both protocols and hosts set them, and one of them is the text of a header in the end.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tusasgi.errors import InvalidRequest
from tusasgi.models import Creation

# Printable ASCII but the space and the comma.
_METADATA_KEY = re.compile(r"[!-+\--~]+")

# URLs are ASCII, and the blank stands between them.
_FINAL = re.compile(r"final;([ -~]+)")

MAX_METADATA_SIZE = 16 * 1024
"""Longest `Upload-Metadata` taken, in bytes: half the servers refuse longer headers anyway."""


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
