"""What web pages of other origins may send and read."""

import re

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from tusasgi.server.settings import Settings

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_REQUEST_HEADERS = [
    "Authorization", "Content-Digest", "Content-Disposition", "Content-Encoding", "Content-Type",
    "Range", "Repr-Digest", "Tus-Resumable", "Upload-Checksum", "Upload-Complete", "Upload-Concat",
    "Upload-Defer-Length", "Upload-Draft-Interop-Version", "Upload-Incomplete", "Upload-Length",
    "Upload-Metadata", "Upload-Offset", "Want-Repr-Digest", "X-HTTP-Method-Override",
    "X-Request-ID", "X-Requested-With",
]  # fmt: skip
_RESPONSE_HEADERS = [
    "Accept-Patch", "Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Location",
    "Repr-Digest", "Retry-After", "Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size",
    "Tus-Resumable", "Tus-Version", "Upload-Complete", "Upload-Concat", "Upload-Defer-Length",
    "Upload-Draft-Interop-Version", "Upload-Expires", "Upload-Incomplete", "Upload-Length",
    "Upload-Limit", "Upload-Metadata", "Upload-Offset", "WWW-Authenticate", "X-Request-ID",
]  # fmt: skip
_PREFLIGHT_SECONDS = 7200  # the longest that Chromium remembers


def cors_middleware(settings: Settings) -> list[Middleware]:
    """Return the middleware for pages of the origins that are set, none for no origin."""
    if not settings.cors_origin:
        return []
    patterns = [origin for origin in settings.cors_origin if "*" in origin[1:]]
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=[origin for origin in settings.cors_origin if origin not in patterns],
            allow_origin_regex="|".join(map(_expression, patterns)) or None,
            allow_credentials=settings.cors_credentials,
            allow_methods=_METHODS,
            allow_headers=[*_REQUEST_HEADERS, *settings.cors_header],
            expose_headers=_RESPONSE_HEADERS,
            max_age=_PREFLIGHT_SECONDS,
        )
    ]


def _expression(pattern: str) -> str:
    """Return an expression for `https://*.example.com`: whatever is below that counts."""
    scheme, _, rest = pattern.partition("*")
    return re.escape(scheme) + r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*" + re.escape(rest)
