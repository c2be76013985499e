"""Where a host can watch: how requests are answered, and what becomes of uploads."""

from dataclasses import dataclass

from tusasgi._life import Event
from tusasgi._models import Upload


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one request was answered. Nothing in it was said by the client but the method."""

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
    observer and rises like any other.
    """

    def request_began(self, operation: str) -> None:
        """A request is being worked on; `request_ended` follows in every case."""

    def request_ended(self, outcome: Outcome) -> None:
        """A request was answered, or its client left before it could be."""

    def changed(self, upload: Upload, event: Event) -> None:
        """An upload went through one of the transitions of its life."""

    def lock_waited(self, seconds: float) -> None:
        """The lock on an upload was waited for, in vain or not."""

    def swept(self, removed: int, failed: int) -> None:
        """A sweep is over: so many uploads were removed, so many have to be tried again."""
