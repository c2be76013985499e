"""What is sent to a receiver and what it answers, as values that both formats speak of."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from tusasgi.errors import Rejected, TusError
from tusasgi.models import Creation, FinalResponse, Request, Upload

ASKED = ("authorize", "creating", "completing", "terminating")
"""What a receiver is asked about, and may refuse."""

CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})
"""Headers of a client that no message shows unless it is told to."""

_PASSED_ON = ("content-type", "content-language", "retry-after", "www-authenticate", "link")


class Unusable(Exception):
    """A receiver cannot be reached, or says what it may not say. The text is for a log."""

    def __init__(self, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Refusal(TusError):
    """What a receiver refuses a request with."""

    def __init__(self, message: str, *, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self._headers = headers

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers


class FinalRefusal(Refusal, Rejected):
    """What a receiver refuses an upload with for good."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The head of a request, as far as a receiver is to see it."""

    method: str
    uri: str
    address: str
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One event; `at` is when it happened."""

    event: str
    at: datetime
    upload: Upload | None = None
    creation: Creation | None = None
    operation: str | None = None
    request: Seen | None = None
    place: Mapping[str, str] = field(default_factory=dict)
    """Where the bytes of the upload are, in the words of its store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a receiver says; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Format(Protocol):
    """How messages are written and answers read. Pure.

    What an answer refuses is raised as a `TusError`; `Unusable` is one that makes no sense.
    """

    def dump(self, message: Message) -> bytes: ...

    def check(self, answer: Answer, event: str) -> None:
        """Read the answer about a request (`authorize`, `terminating`) or about progress."""

    def amended(self, answer: Answer, creation: Creation) -> Creation: ...

    def final_response(self, answer: Answer) -> FinalResponse | None: ...


def seen(request: Request, forwarded: Collection[str]) -> Seen:
    """Return what a receiver sees of a request; of credentials only those that are forwarded."""
    query = request.scope.get("query_string", b"").decode("latin-1")
    host, port = request.scope.get("client") or ("", 0)
    return Seen(
        method=request.method,
        uri=f"{request.path}?{query}" if query else request.path,
        address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if host else "",
        headers={
            name: value
            for name, value in request.headers.items()
            if name not in CREDENTIALS or name in forwarded
        },
    )


def document_of(answer: Answer) -> dict[str, Any]:
    """Return the JSON object that an answer has, or may leave out."""
    if not answer.body.strip():
        return {}
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise Unusable("its answer is no JSON") from None
    if not isinstance(found, dict):
        raise Unusable("its answer is no JSON object")
    return found


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a refusal that are for the client: those about what it says."""
    return {
        name.title(): value
        for name, value in headers.items()
        if name in _PASSED_ON or name.startswith("x-")
    }


def text_of(body: bytes) -> str:
    return body.decode("utf-8", "replace").strip()


def as_text(metadata: Mapping[str, bytes]) -> dict[str, str]:
    """Return metadata as text; what is none has U+FFFD in it."""
    return {key: value.decode("utf-8", "replace") for key, value in metadata.items()}
