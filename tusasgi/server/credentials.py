"""What a request may show to say who it is, and the refusal of what is not valid."""

from collections.abc import Sequence
from typing import Any, Protocol

from tusasgi import Unauthorized
from tusasgi.server.watched_file import WatchedFile

CHALLENGE = 'Bearer realm="tusasgi"'


class Credentials(Protocol):
    """One kind of keys or tokens."""

    @property
    def files(self) -> Sequence[WatchedFile[Any]]:
        """What is to be watched: keys can be changed while the server runs."""
        ...

    def owner_of(self, word: str) -> str | None:
        """Return whom it speaks for, and None if it is not valid.

        Raises `InvalidCredential` where the client can do something about that.
        """
        ...


class InvalidCredential(Unauthorized):
    """A key or token that does not count; `reason` is for the client (RFC 6750 section 3)."""

    def __init__(self, reason: str) -> None:
        told = f'{CHALLENGE}, error="invalid_token", error_description="{reason}"'
        super().__init__(reason, challenge=told)
