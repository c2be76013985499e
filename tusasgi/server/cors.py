"""What web pages of other origins may send and read."""

from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

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
    "Upload-Limit", "Upload-Metadata", "Upload-Offset", "X-Request-ID",
]  # fmt: skip
_PREFLIGHT_SECONDS = 7200  # the longest that Chromium remembers


def cors_middleware(origins: Sequence[str]) -> list[Middleware]:
    """Return the middleware for pages of these origins, none for no origin."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_RESPONSE_HEADERS,
            max_age=_PREFLIGHT_SECONDS,
        )
    ]
