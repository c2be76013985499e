"""The one error envelope, for every endpoint and status: `{"error": {"code", "message"}}`.

Our refusals are kinds of `TusError`, so an endpoint and a hook of the upload engine can raise
the same ones, and one function renders them all.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import tusasgi

CODES = {
    400: "bad_request",
    401: "unauthenticated",
    402: "insufficient_credits",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    412: "precondition_failed",
    413: "payload_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    422: "validation_error",
    423: "locked",
    500: "internal_error",
    503: "unavailable",
    507: "insufficient_storage",
}


class FieldError(NamedTuple):
    """What is wrong with one field; `field` starts with `body.`, `query.` or `path.`."""

    field: str
    message: str


class ApiError(tusasgi.TusError):
    """A refusal of the REST endpoints and of the upload hooks."""

    def __init__(self, message: str, *, fields: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.fields = fields


class BadRequest(ApiError):
    status = 400


class Unauthenticated(ApiError):
    status = 401

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class InsufficientCredits(ApiError):
    status = 402


class Forbidden(ApiError):
    status = 403


class NotFound(ApiError):
    status = 404


class RequestTimeout(ApiError):
    status = 408


class Conflict(ApiError):
    status = 409


class PayloadTooLarge(ApiError):
    status = 413


class UnsupportedMediaType(ApiError):
    status = 415


class ValidationFailed(ApiError):
    status = 422


class Unavailable(ApiError):
    status = 503


def envelope(status: int, message: str, fields: Sequence[FieldError] = ()) -> bytes:
    code = CODES.get(status, "bad_request" if status < 500 else "internal_error")
    error: dict[str, object] = {"code": code, "message": message}
    if fields:
        error["fields"] = [field._asdict() for field in fields]
    return json.dumps({"error": error}).encode()


def render(error: tusasgi.TusError) -> tusasgi.Response:
    """Write a refusal; given to `TusApp` as `render_error`."""
    fields = error.fields if isinstance(error, ApiError) else ()
    return tusasgi.Response(
        status=error.status,
        headers={**error.headers, "Content-Type": "application/json"},
        body=envelope(error.status, str(error), fields),
    )


# The same for Starlette, which has kinds of its own for what no route answers.


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, tusasgi.TusError)
    rendered = render(error)
    return _response(request, rendered.status, rendered.body, rendered.headers)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = envelope(error.status_code, error.detail)
    return _response(request, error.status_code, body, error.headers or {})


async def _failed(request: Request, error: Exception) -> Response:
    """A bug or an outage: the log has the reason, the client does not."""
    return _response(request, 500, envelope(500, "something went wrong on our side"), {})


def _response(request: Request, status: int, body: bytes, headers: Mapping[str, str]) -> Response:
    return Response(
        content=b"" if request.method == "HEAD" else body,
        status_code=status,
        headers={**headers, "Content-Type": "application/json"},
    )


ERROR_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    tusasgi.TusError: _refused,
    HTTPException: _not_routed,
    Exception: _failed,
}
