"""Digest fields (RFC 9530): what content and representations must hash to, and what they do.

sha-256 and sha-512 are known. Other algorithms are ignored, as that RFC asks.
"""

from collections.abc import Mapping

from tusasgi.checksums import checked
from tusasgi.models import Checksum, Upload
from tusasgi.protocols.headers import Headers
from tusasgi.protocols.structured import format_dictionary, parse_dictionary

# The stronger one first: one of them is enough.
_ALGORITHMS: Mapping[str, str] = {"sha-512": "sha512", "sha-256": "sha256"}


def parse_digest(headers: Headers, field: str) -> Checksum | None:
    """Return what `Content-Digest` or `Repr-Digest` says; None without an algorithm we know.

    `InvalidRequest` if it is not as long as the algorithm makes it.
    """
    digests = parse_dictionary(headers.lines(field))
    for name, algorithm in _ALGORITHMS.items():
        digest = digests.get(name)
        if isinstance(digest, bytes):
            return checked(Checksum(algorithm=algorithm, digest=digest), field)
    return None


def parse_wanted(headers: Headers) -> tuple[str, ...]:
    """Return the algorithms that `Want-Repr-Digest` names and we know, the most wanted first."""
    members = parse_dictionary(headers.lines("Want-Repr-Digest"))
    wishes = {name: members.get(name) for name in _ALGORITHMS}
    weights = {name: wish for name, wish in wishes.items() if type(wish) is int and wish > 0}
    return tuple(sorted(weights, key=weights.__getitem__, reverse=True))


def format_digest(upload: Upload, wanted: tuple[str, ...]) -> str | None:
    """Write `Repr-Digest` of a complete upload, by the first wanted algorithm that we have."""
    for name in wanted:
        digest = _digest_of(upload, _ALGORITHMS[name])
        if digest is not None:
            return format_dictionary({name: digest})
    return None


def _digest_of(upload: Upload, algorithm: str) -> bytes | None:
    if algorithm == "sha256" and upload.sha256 is not None:
        return bytes.fromhex(upload.sha256)
    if upload.checksum is not None and upload.checksum.algorithm == algorithm:
        return upload.checksum.digest  # else it would not be complete
    return None
