"""The URLs that answers carry, and the signature of those that need no key."""

import hashlib
import hmac
import uuid
from collections.abc import Callable
from datetime import datetime

from starlette.requests import Request

from examples.roughy.settings import DOWNLOAD_SECONDS


class Urls:
    """Makes absolute URLs: under the public URL if one is set, else where the request came to."""

    def __init__(self, public_url: str | None = None) -> None:
        self._public_url = public_url

    def absolute(self, request: Request, path: str) -> str:
        return (self._public_url or str(request.base_url).rstrip("/")) + path

    def upload_url(self, request: Request, asset_id: uuid.UUID) -> str:
        return self.absolute(request, f"/v1/uploads/{asset_id}")


class Links:
    """Signs links to downloads.

    They are for players and browsers, which send no key: a link carries its own permission for
    one asset and a short time, signed with a secret that all processes share.
    """

    def __init__(self, secret: str, clock: Callable[[], datetime]) -> None:
        self._secret = secret.encode()
        self._clock = clock

    def download_path(self, asset_id: uuid.UUID) -> str:
        expires = int(self._clock().timestamp()) + DOWNLOAD_SECONDS
        signature = self._sign(str(asset_id), expires)
        return f"/downloads/{asset_id}?expires={expires}&signature={signature}"

    def is_valid(self, asset_id: str, expires: str, signature: str) -> bool:
        if not (expires.isascii() and expires.isdigit() and len(expires) < 12):
            return False
        signed = self._sign(asset_id, int(expires))
        is_ours = hmac.compare_digest(signed.encode(), signature.encode())
        return is_ours and self._clock().timestamp() < int(expires)

    def _sign(self, asset_id: str, expires: int) -> str:
        message = f"download\n{asset_id}\n{expires}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()
