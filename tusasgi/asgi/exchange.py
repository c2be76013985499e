"""One request on its way through the app, and how it was answered."""

import logging
import time
from collections.abc import MutableMapping
from typing import Any

from tusasgi.asgi.body import Body, Receive
from tusasgi.asgi.routes import Route
from tusasgi.models import Operation, Request, Upload
from tusasgi.observer import Outcome
from tusasgi.protocols.headers import Headers
from tusasgi.protocols.tus import MethodOverride, method_of

Scope = MutableMapping[str, Any]

logger = logging.getLogger("tusasgi.requests")

_OPERATIONS = {
    "POST": Operation.CREATE.value,
    "HEAD": Operation.GET.value,
    "PATCH": Operation.APPEND.value,
    "DELETE": Operation.TERMINATE.value,
    "GET": Operation.READ.value,
    "OPTIONS": "options",
}
_CHANGING = {Operation.CREATE.value, Operation.APPEND.value, Operation.TERMINATE.value}


class Exchange:
    """What came with a request, and what is known of it so far."""

    __slots__ = ("_began", "body", "headers", "method", "route", "scope", "start", "upload")

    def __init__(
        self, scope: Scope, receive: Receive, *, timeout: float | None, override: MethodOverride
    ) -> None:
        self._began = time.perf_counter()
        self.scope = scope
        self.headers = Headers(scope["headers"])
        self.body = Body(receive, timeout=timeout)
        self.method = method_of(scope["method"], self.headers, override)
        self.route: Route | None = None
        self.upload: Upload | None = None
        """The upload as it was last seen."""
        self.start = 0
        """Where the append begins."""

    @property
    def operation(self) -> str:
        return _OPERATIONS.get(self.method, "unknown")

    @property
    def is_download(self) -> bool:
        """True for a plain GET or HEAD. A HEAD of TUS asks for the offset."""
        return self.method == "GET" or (
            self.method == "HEAD" and "tus-resumable" not in self.headers
        )

    @property
    def upload_id(self) -> str:
        assert self.route is not None and self.route.upload_id is not None
        return self.route.upload_id  # only methods on an upload ask for it

    def request(self) -> Request:
        """Return the head of the request as hooks see it."""
        path = self.scope["path"]
        return Request(method=self.method, path=path, headers=self.headers, scope=self.scope)

    def outcome(self, status: int) -> Outcome:
        upload = self.upload
        return Outcome(
            operation=self.operation,
            status=status,
            upload_id=None if upload is None else upload.id,
            received=self.body.received,
            offset=None if upload is None else upload.offset,
            is_resumed=self.start > 0 and 200 <= status < 300,
            seconds=time.perf_counter() - self._began,
        )


def log_outcome(outcome: Outcome) -> None:
    """Write one line, with the same facts as fields of the log record."""
    level = _level_of(outcome)
    if not logger.isEnabledFor(level):
        return
    fields = {
        "operation": outcome.operation,
        "status": outcome.status,
        "upload_id": outcome.upload_id,
        "received": outcome.received,
        "offset": outcome.offset,
        "seconds": round(outcome.seconds, 6),
    }
    logger.log(
        level,
        "%(operation)s %(status)d upload=%(upload_id)s received=%(received)d offset=%(offset)s"
        " seconds=%(seconds).3f",
        fields,
        extra=fields,
    )


def _level_of(outcome: Outcome) -> int:
    # A HEAD is 423 for what any other method would answer 5xx: see `refused` of the protocol.
    is_held_up = outcome.status == 423 and outcome.operation == Operation.GET.value
    if outcome.status >= 500 or is_held_up:
        return logging.WARNING
    return logging.INFO if outcome.operation in _CHANGING else logging.DEBUG
