"""Resumable uploads by TUS 1.0.0 as a pure ASGI app, with pluggable stores."""

from tusasgi._app import TusApp
from tusasgi._body import Body
from tusasgi._download import FileInfo, download
from tusasgi._errors import (
    BodyTimeout,
    Forbidden,
    InvalidRequest,
    InvalidUploadId,
    MethodNotAllowed,
    OffsetConflict,
    RangeNotSatisfiable,
    StoreFull,
    StoreUnavailable,
    TooLarge,
    TooSmall,
    TusError,
    Unauthorized,
    UnsupportedContentType,
    UnsupportedMedia,
    UnsupportedVersion,
    UploadExists,
    UploadExpired,
    UploadLocked,
    UploadNotFound,
)
from tusasgi._headers import Headers, http_date
from tusasgi._models import (
    Append,
    Creation,
    Ending,
    Expiry,
    Fact,
    Limits,
    Operation,
    Request,
    Source,
    Upload,
    check_upload_id,
)
from tusasgi._protocol import Extension, Response, creation_headers
from tusasgi._uploads import Uploads
from tusasgi.hooks import Hooks

__version__ = "0.1.0"

__all__ = [
    "Append",
    "Body",
    "BodyTimeout",
    "Creation",
    "Ending",
    "Expiry",
    "Extension",
    "Fact",
    "FileInfo",
    "Forbidden",
    "Headers",
    "Hooks",
    "InvalidRequest",
    "InvalidUploadId",
    "Limits",
    "MethodNotAllowed",
    "OffsetConflict",
    "Operation",
    "RangeNotSatisfiable",
    "Request",
    "Response",
    "Source",
    "StoreFull",
    "StoreUnavailable",
    "TooLarge",
    "TooSmall",
    "TusApp",
    "TusError",
    "Unauthorized",
    "UnsupportedContentType",
    "UnsupportedMedia",
    "UnsupportedVersion",
    "Upload",
    "UploadExists",
    "UploadExpired",
    "UploadLocked",
    "UploadNotFound",
    "Uploads",
    "check_upload_id",
    "creation_headers",
    "download",
    "http_date",
]
