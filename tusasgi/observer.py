"""Where a host can watch: how requests are answered, and what becomes of uploads."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVarTuple

from tusasgi.lifecycle import Event
from tusasgi.models import Upload

logger = logging.getLogger("tusasgi.observer")

Ts = TypeVarTuple("Ts")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one request was answered. Nothing in it comes from the client but the method."""

    operation: str
    """The value of an `Operation`, or `options`; `unknown` for what is none of them."""
    status: int
    upload_id: str | None = None
    """The upload that was created or named, where it exists."""
    received: int = 0
    """Bytes of the body that came, kept or not."""
    offset: int | None = None
    """Where the upload ends now, if the request was about its bytes."""
    is_resumed: bool = False
    """True for an append that went on beyond the first byte and was taken."""
    seconds: float = 0.0
    """From the head of the request to the end of the answer."""


class Observer:
    """Override what you need; every method here does nothing.

    The methods are called in the event loop and must not block. An exception is a bug of the
    observer: it is logged under `tusasgi.observer`, and nothing becomes of it for the uploads.
    """

    def request_began(self, operation: str) -> None:
        """A request is being worked on; `request_ended` follows in every case."""

    def request_ended(self, outcome: Outcome) -> None:
        """A request was answered, or its client left before it could be."""

    def changed(self, upload: Upload, event: Event) -> None:
        """An upload went through one of the transitions of its lifecycle."""

    def progressed(self, upload: Upload) -> None:
        """Bytes are arriving; called for each append at most once a second, and not in its first.

        `upload.offset` counts what has come, which is not all stored yet, and is taken back of an
        append that turns out to be wrong. Other processes see what is stored (`Uploads.get`).
        """

    def lock_waited(self, seconds: float) -> None:
        """The lock on an upload was waited for, in vain or not."""

    def swept(self, removed: int, failed: int) -> None:
        """A sweep is over: so many uploads were removed, so many have to be tried again."""


class Several(Observer):
    """Tells several observers, one after the other."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def request_began(self, operation: str) -> None:
        for one in self._observers:
            one.request_began(operation)

    def request_ended(self, outcome: Outcome) -> None:
        for one in self._observers:
            one.request_ended(outcome)

    def changed(self, upload: Upload, event: Event) -> None:
        for one in self._observers:
            one.changed(upload, event)

    def progressed(self, upload: Upload) -> None:
        for one in self._observers:
            one.progressed(upload)

    def lock_waited(self, seconds: float) -> None:
        for one in self._observers:
            one.lock_waited(seconds)

    def swept(self, removed: int, failed: int) -> None:
        for one in self._observers:
            one.swept(removed, failed)


class Guarded(Observer):
    """Passes everything on to an observer, and logs what it raises.

    Whoever watches changes nothing: an exception let through would stop an upload in the middle.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def request_began(self, operation: str) -> None:
        _told(self._observer.request_began, operation)

    def request_ended(self, outcome: Outcome) -> None:
        _told(self._observer.request_ended, outcome)

    def changed(self, upload: Upload, event: Event) -> None:
        _told(self._observer.changed, upload, event)

    def progressed(self, upload: Upload) -> None:
        _told(self._observer.progressed, upload)

    def lock_waited(self, seconds: float) -> None:
        _told(self._observer.lock_waited, seconds)

    def swept(self, removed: int, failed: int) -> None:
        _told(self._observer.swept, removed, failed)


def _told(hook: Callable[[*Ts], None], *arguments: *Ts) -> None:
    try:
        hook(*arguments)
    except Exception:  # logged with its traceback
        logger.exception("The observer failed; what it watched went on.")
