"""Signatures by the scheme of Standard Webhooks: who sends a message, and when."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"
_LEAST = 16  # bytes; the scheme wants 24 to 64


def keys_of(secret: str) -> tuple[bytes, ...]:
    """Return the keys of one secret, or of several with blanks between them.

    Raises `ValueError`, which does not repeat the secret.
    """
    keys = tuple(_key_of(word) for word in secret.split())
    if not keys:
        raise ValueError("the secret is empty")
    return keys


def _key_of(word: str) -> bytes:
    try:
        if not word.startswith(_PREFIX):
            raise ValueError
        key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a secret is whsec_ and base64") from None
    if len(key) < _LEAST:
        raise ValueError(f"a secret has at least {_LEAST} bytes")
    return key


def signed(
    keys: Sequence[bytes], *, message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Return the headers of a message; without keys nothing is signed."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if keys:
        content = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
        headers["webhook-signature"] = " ".join(_signature(key, content) for key in keys)
    return headers


def _signature(key: bytes, content: bytes) -> str:
    digest = hmac.new(key, content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
