"""Keys in a file, each with whose it is.

A line is `KEY OWNER`, or `sha256:HEX OWNER` with the digest of a key, so that the file holds no
key. Empty lines and what begins with # are passed over.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping

from tusasgi.server.watched_file import WatchedFile

_SHORTEST = 16
_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_KEY = re.compile(r"[!-~]+")


class ApiKeys:
    """The keys of a file, as it stands. Raises `OSError` or `ValueError` for one that has none."""

    def __init__(self, path: str) -> None:
        self._secret = secrets.token_bytes(32)
        self._file = WatchedFile(path, self._parse)
        self.files = [self._file]

    def owner_of(self, key: str) -> str | None:
        """Return whose key it is; None for one that is not in the file."""
        digest = hashlib.sha256(key.encode()).digest()
        return self._file.content.get(self._keyed(digest))

    def _keyed(self, digest: bytes) -> bytes:
        """Return what is compared: how long that takes tells nothing to who lacks the secret."""
        return hmac.digest(self._secret, digest, "sha256")

    def _parse(self, text: str) -> Mapping[bytes, str]:
        owners: dict[bytes, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            digest, owner = _parse_line(line, number)
            if self._keyed(digest) in owners:
                raise ValueError(f"line {number} has the key of a line above")
            owners[self._keyed(digest)] = owner
        if not owners:
            raise ValueError("there is no key in it")
        return owners


def _parse_line(line: str, number: int) -> tuple[bytes, str]:
    """Return the digest of the key and its owner. What is wrong is said without the key."""
    words = line.split()
    if len(words) != 2:
        raise ValueError(f"line {number} is not of the form KEY OWNER")
    key, owner = words
    if match := _DIGEST.fullmatch(key):
        return bytes.fromhex(match[1]), owner
    if not _KEY.fullmatch(key):
        raise ValueError(f"the key of line {number} has other characters than printable ASCII")
    if len(key) < _SHORTEST:
        raise ValueError(f"the key of line {number} is shorter than {_SHORTEST} characters")
    return hashlib.sha256(key.encode()).digest(), owner
