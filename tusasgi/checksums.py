"""The checksums that a request may carry for its bytes: name to hash."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from tusasgi.errors import InvalidRequest
from tusasgi.models import Checksum


class Hash(Protocol):
    """What `hashlib` makes, as far as we need it."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


def _available() -> dict[str, Callable[[], Hash]]:
    # md5 and sha1 find damage on the way, not forgery, and that is all they are asked for here.
    known: dict[str, Callable[[], Hash]] = {
        name: partial(hashlib.new, name, usedforsecurity=False)
        for name in ("sha1", "sha256", "sha512", "md5")
    }
    try:
        import google_crc32c
    except ImportError:
        return known
    # RFC 3720 section 12.1; four bytes, the most significant one first.
    return {**known, "crc32c": google_crc32c.Checksum}


ALGORITHMS: Mapping[str, Callable[[], Hash]] = _available()
"""By their names in `Tus-Checksum-Algorithm`; crc32c with the extra `crc32c` only."""


def parse_checksum(header: str) -> Checksum:
    """Read `Upload-Checksum`: an algorithm, one blank, the digest in standard Base64."""
    algorithm, _, encoded = header.partition(" ")
    if algorithm not in ALGORITHMS:
        raise InvalidRequest(f"Upload-Checksum: the algorithms are {', '.join(ALGORITHMS)}")
    try:
        digest = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidRequest("Upload-Checksum: the digest is not standard Base64") from None
    return checked(Checksum(algorithm=algorithm, digest=digest), "Upload-Checksum")


def checked(checksum: Checksum, field: str) -> Checksum:
    """Return the checksum of this header field, or refuse one that no bytes could have."""
    if len(checksum.digest) != len(ALGORITHMS[checksum.algorithm]().digest()):
        raise InvalidRequest(f"{field}: this is no digest of {checksum.algorithm}")
    return checksum
