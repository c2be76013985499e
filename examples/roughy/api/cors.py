"""What pages of other origins may send, and what their scripts may see."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_REQUEST_HEADERS = [
    "Authorization",
    "Content-Digest",
    "Content-Type",
    "Range",
    "Tus-Resumable",
    "Upload-Complete",
    "Upload-Draft-Interop-Version",
    "Upload-Incomplete",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "Want-Repr-Digest",
    "X-HTTP-Method-Override",
    "X-Request-ID",
    "X-Requested-With",
]
_RESPONSE_HEADERS = [
    "Accept-Patch",
    "Location",
    "Repr-Digest",
    "Retry-After",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Resumable",
    "Tus-Version",
    "Upload-Complete",
    "Upload-Draft-Interop-Version",
    "Upload-Expires",
    "Upload-Incomplete",
    "Upload-Length",
    "Upload-Limit",
    "Upload-Metadata",
    "Upload-Offset",
]


def with_cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """Around everything, so that errors of every kind carry the headers too.

    Without them a page sees only that the network failed.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST"],
        allow_headers=_REQUEST_HEADERS,
        expose_headers=_RESPONSE_HEADERS,
    )
