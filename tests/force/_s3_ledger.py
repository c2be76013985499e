"""What clients of several replicas were told, and whose bytes may be stored.

Each request brings bytes of its own. So what is stored shows which requests it is made of: what
is known already, and behind it a beginning of one of those whose fate nobody was told.
"""

import hashlib
from collections import deque
from dataclasses import dataclass, field

from tests.force._ledger import Violation

__all__ = ["Attempt", "Entry", "Violation", "check", "digest"]


def check(is_true: bool, claim: str, entry: "Entry | None" = None) -> None:
    if not is_true:
        raise Violation(claim if entry is None else f"{claim}; {entry}")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A request whose bytes may be stored: nothing of it, a beginning or all."""

    content: bytes
    """The whole upload up to its last byte."""
    is_whole: bool = False
    """True for bytes with a checksum: all of them or none."""

    def may_end_at(self, offset: int) -> bool:
        size = len(self.content)
        return offset == size or (offset < size and not self.is_whole)

    def explains(self, data: bytes) -> bool:
        return self.may_end_at(len(data)) and self.content.startswith(data)


@dataclass(kw_only=True, eq=False)
class Entry:
    """One upload as its client knows it."""

    size: int
    path: str = ""
    content: bytes = b""
    """What is known to be stored; dropped when the upload is complete and was compared."""
    sha256: str | None = None
    """Of the bytes of a complete upload, once they were compared."""
    least: int = 0
    """The highest offset that an answer has named."""
    compared: int = 0
    """How many of the bytes of an unfinished upload were compared with what is stored."""
    attempts: list[Attempt] = field(default_factory=list)
    is_declared: bool = True
    """False until an answer has confirmed the length."""
    may_be_declared: bool = True
    is_pending: bool = False
    """True while a request whose answer nobody saw may still be at work somewhere."""
    is_complete: bool = False
    is_deleted: bool = False
    may_be_deleted: bool = False
    is_partial: bool = False
    history: deque[list[str]] = field(default_factory=lambda: deque(maxlen=14))
    """The last requests and their answers, for whoever has to find out what went wrong."""

    def __str__(self) -> str:
        marks = [
            name
            for name in ("is_partial", "is_declared", "is_pending", "is_complete", "is_deleted")
            if getattr(self, name)
        ]
        attempts = [len(one.content) for one in self.attempts]
        history = "\n  ".join(["", *map(": ".join, self.history)])
        return (
            f"{self.path}: known {len(self.content)}, told {self.least}, tried {attempts}, "
            f"of {self.size}, {marks}{history}"
        )

    @property
    def upload_id(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def offset(self) -> int:
        return len(self.content)

    @property
    def room(self) -> int:
        return self.size - len(self.content)

    @property
    def is_open(self) -> bool:
        return not (self.is_complete or self.is_deleted)

    def attempt(self, data: bytes, *, is_whole: bool = False) -> Attempt:
        """Note a request that is about to be sent from where the upload is."""
        attempt = Attempt(content=self.content + data, is_whole=is_whole)
        self.attempts.append(attempt)
        return attempt

    def withdraw(self, attempt: Attempt) -> None:
        """Nothing of it is stored, nor will be: its answer said so."""
        self.attempts = [one for one in self.attempts if one is not attempt]

    def accept(self, attempt: Attempt) -> None:
        """It was acknowledged as a whole, so no older one can do anything any more."""
        is_longer = len(attempt.content) > self.offset
        self.content = attempt.content
        self.least = max(self.least, self.offset)
        self.withdraw(attempt)
        if is_longer:
            self.attempts.clear()
            self.is_pending = False

    def tell(self, offset: int) -> bool:
        """Take an offset out of an answer; return False if it does not show which bytes are there.

        It must be neither behind what was told nor ahead of what was sent.
        """
        furthest = max([self.offset, *(len(one.content) for one in self.attempts)])
        check(offset >= self.least, f"the offset went back to {offset}", self)
        check(offset <= furthest, f"the offset {offset} is ahead of what was sent", self)
        self.least = offset
        if offset == self.offset:
            return True
        beginnings = {one.content[:offset] for one in self.attempts if one.may_end_at(offset)}
        check(bool(beginnings), f"no request can have ended at {offset}", self)
        if len(beginnings) > 1:
            return False
        self.show(beginnings.pop())
        return True

    def show(self, data: bytes) -> None:
        """Take what is stored now; it must be what one of the attempts has sent."""
        check(len(data) >= self.least, f"only {len(data)} bytes are there", self)
        check(data[: self.offset] == self.content, "what was stored is no more", self)
        is_known = len(data) == self.offset
        check(
            is_known or any(one.explains(data) for one in self.attempts),
            f"{len(data)} bytes are there that nobody has sent so",
            self,
        )
        self.content = data
        self.least = len(data)
        self.attempts = [one for one in self.attempts if one.content.startswith(data)]

    def declare(self, length: str | None) -> None:
        """Take `Upload-Length` out of the answer to HEAD."""
        if length is None:
            check(not self.is_declared, "the declared length is forgotten", self)
            return
        check(self.may_be_declared, f"a length {length} that nobody declared", self)
        check(int(length) == self.size, f"the length is {length}", self)
        self.is_declared = True
