"""One request on its way through the app, and how it was answered."""

import logging
import time
from collections.abc import MutableMapping
from typing import Any, Protocol

from tusasgi.asgi.body import Body, Receive
from tusasgi.asgi.routes import Route
from tusasgi.asgi.send import INTERIM, PATHSEND, Send, send_interim, send_response
from tusasgi.models import FinalResponse, Operation, Request, Target, Upload
from tusasgi.observer import Outcome
from tusasgi.protocols.contract import Codec, Interim, Response
from tusasgi.protocols.headers import Headers

Scope = MutableMapping[str, Any]

logger = logging.getLogger("tusasgi.requests")

_OPERATIONS = {
    "POST": Operation.CREATE.value,
    "PUT": Operation.CREATE.value,
    "HEAD": Operation.GET.value,
    "PATCH": Operation.APPEND.value,
    "DELETE": Operation.TERMINATE.value,
    "GET": Operation.READ.value,
    "OPTIONS": "options",
}
_CHANGING = {Operation.CREATE.value, Operation.APPEND.value, Operation.TERMINATE.value}


class Call(Protocol):
    """What has its say before an upload ends: the app that the upload is for."""

    async def conclude(self, upload: Upload) -> FinalResponse | None:
        """Return what the client is to be told; None if the upload is not to end yet."""
        ...

    def applied_to(self, response: Response) -> Response:
        """Return the response of the protocol with what the app answered, if it was called."""
        ...


class Exchange:
    """What came with a request, in which protocol, and what is known of it so far."""

    __slots__ = (
        "_began",
        "_codec",
        "_send",
        "_send_timeout",
        "body",
        "call",
        "headers",
        "method",
        "route",
        "scope",
        "start",
        "status",
        "target",
        "upload",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        receive_timeout: float | None,
        send_timeout: float | None,
    ) -> None:
        self._began = time.perf_counter()
        self._send = send
        self._send_timeout = send_timeout
        self._codec: Codec | None = None
        self.scope = scope
        self.headers = Headers(scope["headers"])
        self.body = Body(receive, timeout=receive_timeout)
        self.method: str = scope["method"]
        """What the request is to be taken for."""
        self.route: Route | None = None
        self.upload: Upload | None = None
        """The upload as it was last seen."""
        self.start = 0
        """Where the append begins."""
        self.call: Call | None = None
        """What is to be called before the upload ends; None where it ends by itself."""
        self.target: Target | None = None
        """The request that a new upload stands for."""
        self.status = 0
        """The status of the answer, once it is on its way."""

    @property
    def is_marked(self) -> bool:
        """True once it is known which protocol the request speaks."""
        return self._codec is not None

    @property
    def codec(self) -> Codec:
        """The protocol that the request speaks; only to be asked for once it is known."""
        assert self._codec is not None
        return self._codec

    @codec.setter
    def codec(self, codec: Codec) -> None:
        self._codec = codec
        self.method = codec.method_of(self.scope["method"], self.headers)

    @property
    def is_plain(self) -> bool:
        """True for a GET or HEAD as any browser sends it. A HEAD of TUS asks for the offset."""
        if self.method == "GET":
            return not self.codec.offset_on_get
        is_offset = self.codec.offset_on_get or "tus-resumable" in self.headers
        return self.method == "HEAD" and not is_offset

    @property
    def operation(self) -> str:
        return _OPERATIONS.get(self.method, "unknown")

    @property
    def upload_id(self) -> str:
        assert self.route is not None and self.route.upload_id is not None
        return self.route.upload_id  # only methods on an upload ask for it

    def request(self) -> Request:
        """Return the head of the request as hooks see it."""
        path = self.scope["path"]
        return Request(method=self.method, path=path, headers=self.headers, scope=self.scope)

    @property
    def can_send_interim(self) -> bool:
        return INTERIM in self.scope.get("extensions", {})

    async def send_interim(self, interim: Interim | None) -> bool:
        """Send it where the protocol and the server know of such; return whether it was sent."""
        if interim is None or not self.can_send_interim:
            return False
        return await send_interim(interim, self._send, timeout=self._send_timeout)

    async def answer(self, response: Response) -> None:
        """Send the response."""
        self.status = response.status
        await send_response(
            response,
            self._send,
            body=self.body,
            headers=self.headers,
            http_version=self.scope.get("http_version", "1.1"),
            timeout=self._send_timeout,
            sends_files=PATHSEND in self.scope.get("extensions", {}),
        )

    def outcome(self) -> Outcome:
        upload = self.upload
        return Outcome(
            operation=self.operation,
            status=self.status,
            upload_id=None if upload is None else upload.id,
            received=self.body.received,
            offset=None if upload is None else upload.offset,
            is_resumed=self.start > 0 and 200 <= self.status < 300,
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
