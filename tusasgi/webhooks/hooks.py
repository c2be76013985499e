"""`WebHooks`: the hooks of an engine, passed on to a receiver."""

import logging
import random
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import anyio

from tusasgi.arguments import check_absolute, check_choices, check_seconds
from tusasgi.errors import TryAgain
from tusasgi.hooks import Hooks
from tusasgi.lifecycle import TOLD, Event
from tusasgi.models import Creation, FinalResponse, Operation, Request, Upload, utc_now
from tusasgi.webhooks.messages import ASKED, Answer, Format, Message, Seen, Unusable, seen
from tusasgi.webhooks.receiver import Receiver, retry_after
from tusasgi.webhooks.signing import keys_of
from tusasgi.webhooks.standard import Standard
from tusasgi.webhooks.tusd import TYPES, Tusd

logger = logging.getLogger("tusasgi.webhooks")

T = TypeVar("T")

EVENTS = (*ASKED, "progressed", *(event.value for event in TOLD))
"""What a receiver can be asked and told."""

DEFAULTS: Mapping[str, Collection[str]] = {
    "standard": ("creating", "created", "completed", "terminated", "expired"),
    "tusd": ("creating", "created", "progressed", "completed", "terminated", "expired"),
}
"""What it is asked and told unless somebody says so, for each format."""

_FORMATS: Mapping[str, Callable[[], Format]] = {"standard": Standard, "tusd": Tusd}
_TRIES = 3
_PAUSE = 0.1  # seconds before a question is repeated
_REMEMBERED = 1000  # requests that are remembered for what is told
_UNDECIDED = "this cannot be decided for now; try again"
_WILL_PASS = (408, 425, 429)

_current: ContextVar[Seen | None] = ContextVar("current", default=None)
"""The request that is being answered."""


class WebHooks(Hooks):
    """Asks and tells a receiver at `url` what the hooks of an engine are asked and told.

    `events` are those of `EVENTS` that it wants; those of `DEFAULTS` if None. What it is asked
    (`authorize`, `creating`, `completing`, `terminating`) it may refuse, and while it cannot be
    asked, clients are told to try again (503): nothing is allowed because nobody answers. What it
    is told comes at least once, in order for each upload, and holds up nobody: see `Hooks.tell`;
    `progressed` may be lost. A message is repeated with the same `webhook-id`.

    `secret` signs messages by the scheme of Standard Webhooks: `whsec_…`, or several of them with
    blanks between, while one takes the place of another. `timeout` is in seconds, for each try,
    and for all tries of a question together. `forward_headers` names headers of clients that are
    headers of messages too; credentials are in messages only if they are named here. `place` says
    where the bytes of an upload are, for receivers that fetch them there. One object serves one
    event loop; close it with `aclose`, or use it in an `async with`.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | None = None,
        events: Collection[str] | None = None,
        format: Literal["standard", "tusd"] = "standard",
        timeout: float = 10.0,
        forward_headers: Collection[str] = (),
        place: Callable[[Upload], Mapping[str, str]] | None = None,
    ) -> None:
        _check_url(url)
        check_seconds("timeout", timeout)
        check_choices("format", (format,), _FORMATS)
        events = DEFAULTS[format] if events is None else events
        check_choices("events", events, EVENTS)
        if format == "tusd" and "authorize" in events:
            raise ValueError("events: 'authorize' has no counterpart among the hooks of tusd")
        self.tells = tuple(event for event in TOLD if event.value in events)
        self._events = frozenset(events)
        self._timeout = timeout
        self._forwarded = frozenset(name.lower() for name in forward_headers)
        self._place = place
        self._format = _FORMATS[format]()
        self._knows_requests = format == "tusd"
        self._requests: OrderedDict[str, Seen] = OrderedDict()
        self._is_failing = False
        keys = () if secret is None else keys_of(secret)
        self._receiver = Receiver(url, keys=keys, timeout=timeout)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._receiver.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # What the receiver is asked.

    async def authorize(
        self, request: Request, operation: Operation, upload: Upload | None
    ) -> None:
        _current.set(seen(request, self._forwarded))
        if "authorize" in self._events:
            message = self._message("authorize", upload=upload, operation=operation.value)
            await self._ask(message, lambda answer: self._format.check(answer, "authorize"))

    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        if "creating" not in self._events:
            return creation
        if request is None:
            _current.set(None)
        message = self._message("creating", creation=creation)
        return await self._ask(message, lambda answer: self._format.amended(answer, creation))

    async def completed(self, upload: Upload) -> FinalResponse | None:
        self._remember(upload)
        if "completing" not in self._events:
            return None
        return await self._ask(
            self._message("completing", upload=upload), self._format.final_response
        )

    async def terminating(self, upload: Upload) -> None:
        if "terminating" in self._events:
            message = self._message("terminating", upload=upload)
            await self._ask(message, lambda answer: self._format.check(answer, "terminating"))

    async def _ask(self, message: Message, read: Callable[[Answer], T]) -> T:
        """Return what is read from the answer; raise what it refuses with, or `TryAgain`."""
        try:
            result = read(await self._answer_to(message))
        except Unusable as failure:
            self._note(failure)
            raise TryAgain(_UNDECIDED, retry_after=failure.retry_after or 5) from None
        self._note(None)
        return result

    async def _answer_to(self, message: Message) -> Answer:
        """Return the answer to a question, which is repeated while there is time."""
        message_id, body = f"msg_{uuid.uuid4().hex}", self._format.dump(message)
        failure = Unusable(f"no answer within {self._timeout:g} seconds")
        with anyio.move_on_after(self._timeout):
            for number in range(_TRIES):
                try:
                    return await self._receiver.post(body, message_id, self._forward(message))
                except Unusable as found:
                    failure = found
                if number < _TRIES - 1:
                    await anyio.sleep(_PAUSE * 2**number * random.uniform(0.5, 1.0))
        raise failure

    # What it is told.

    async def created(self, upload: Upload) -> None:
        self._remember(upload)

    async def terminated(self, upload: Upload) -> None:
        self._remember(upload)

    async def progressed(self, upload: Upload) -> None:
        if "progressed" in self._events:
            message = self._message("progressed", upload=upload)
            answer = await self._send(message, f"msg_{uuid.uuid4().hex}")
            self._format.check(answer, "progressed")

    async def tell(self, upload: Upload, event: Event, at: datetime) -> None:
        created = int(upload.created.timestamp() * 1_000_000)
        message = self._message(event.value, upload=upload, at=at)
        try:
            answer = await self._send(message, f"msg_{upload.id}_{created:x}_{event}")
            if answer.status in _WILL_PASS:
                raise Unusable(f"it answers {answer.status}", retry_after=retry_after(answer))
        except Unusable as failure:
            self._note(failure)
            raise TryAgain(str(failure), retry_after=failure.retry_after or 0) from None
        self._note(None)
        if answer.status >= 400:
            raise Unusable(f"the receiver answers {answer.status} to {message.event}")

    async def _send(self, message: Message, message_id: str) -> Answer:
        body = self._format.dump(message)
        return await self._receiver.post(body, message_id, self._forward(message))

    def _remember(self, upload: Upload) -> None:
        """Remember the request that something happens by, which is told of behind it."""
        request = _current.get()
        if self._knows_requests and request is not None:
            self._requests[upload.id] = request
            self._requests.move_to_end(upload.id)
            if len(self._requests) > _REMEMBERED:
                self._requests.popitem(last=False)

    # What both have.

    def _message(
        self, event: str, *, upload: Upload | None = None, at: datetime | None = None, **more: Any
    ) -> Message:
        is_told = event not in ASKED
        request = self._requests.get(upload.id) if is_told and upload else _current.get()
        return Message(
            event=event,
            at=utc_now() if at is None else at,
            upload=upload,
            request=request,
            place={} if self._place is None or upload is None else self._place(upload),
            **more,
        )

    def _forward(self, message: Message) -> dict[str, str]:
        headers = {} if message.request is None else message.request.headers
        return {name: headers[name] for name in self._forwarded if name in headers}

    def _note(self, failure: Unusable | None) -> None:
        """Log when the receiver begins to fail, and when it is there again."""
        if failure is not None and not self._is_failing:
            logger.warning("The receiver of web hooks cannot be used for now: %s", failure)
        elif failure is None and self._is_failing:
            logger.warning("The receiver of web hooks can be used again.")
        self._is_failing = failure is not None


def _check_url(url: str) -> None:
    check_absolute("url", url)
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("url must be without user and password: give a secret instead")
    if parts.fragment:
        raise ValueError("url must be without #")


__all__ = ["DEFAULTS", "EVENTS", "TYPES", "WebHooks"]
