"""What clients were told about their uploads, and what a server must still know of it."""

import random
from collections import deque
from dataclasses import dataclass, field

ALIVE, GONE = (200,), (404, 410)


class Violation(AssertionError):
    """A promise was broken: the message says which, of which upload."""


def check(is_true: bool, claim: str, entry: "Entry | None" = None) -> None:
    if not is_true:
        raise Violation(claim if entry is None else f"{claim}; {entry}")


@dataclass(kw_only=True, eq=False)
class Entry:
    """One upload as its client knows it. `content` is what it is to become."""

    content: bytes
    path: str = ""
    told: int = 0
    """The highest offset that an answer has named."""
    sent: int = 0
    """Where the furthest byte ends that a server may have taken."""
    is_declared: bool = True
    """False until an answer has confirmed the length."""
    may_be_declared: bool = True
    is_pending: bool = False
    """True while a request that was cut may still be at work in the server."""
    may_wait: bool = False
    """True once an append of the draft may have brought all bytes, and not said so yet."""
    is_waiting: bool = False
    """True while all bytes are there, and nobody has said so."""
    is_complete: bool = False
    is_deleted: bool = False
    may_be_deleted: bool = False
    parts: "tuple[Entry, ...]" = ()
    """The partial uploads that a final one is made of."""
    is_partial: bool = False
    history: deque[str] = field(default_factory=lambda: deque(maxlen=8))
    """The last requests, for whoever has to find out what went wrong."""

    def __str__(self) -> str:
        kind = "final" if self.parts else "partial" if self.is_partial else "plain"
        marks = [
            name
            for name in ("is_declared", "is_pending", "is_complete", "is_deleted")
            if getattr(self, name)
        ]
        size = len(self.content)
        history = "\n  ".join(["", *self.history])
        return (
            f"{kind} {self.path}: told {self.told}, sent {self.sent}, of {size}, {marks}{history}"
        )

    @property
    def upload_id(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_open(self) -> bool:
        return not (self.is_complete or self.is_deleted or self.may_be_deleted)

    def tell(self, offset: int) -> None:
        """Take an offset out of an answer; it must be neither behind nor ahead of what was."""
        check(offset >= self.told, f"the offset went back to {offset}", self)
        check(offset <= self.sent, f"the offset {offset} is ahead of what was sent", self)
        self.told = offset
        if offset == len(self.content) and self.is_declared and not self.is_waiting:
            self.is_complete = True

    def wait(self, offset: int) -> None:
        """An answer has said that the upload is not at its end, wherever it is."""
        is_full = offset == len(self.content) and self.is_declared
        check(not is_full or self.may_wait, "it is at its length, and not complete", self)
        self.is_waiting = is_full

    def end(self) -> None:
        """An answer has said that the upload ends here."""
        self.is_declared = self.may_be_declared = True
        self.is_waiting = self.may_wait = False

    def settle(self) -> None:
        """Nobody can append any more from where an earlier request wanted to."""
        self.is_pending = False
        self.sent = self.told

    def declare(self, length: str | None, offset: int) -> None:
        """Take `Upload-Length` out of the answer to HEAD, which is not there while it waits."""
        if length is None and self.may_wait and offset == len(self.content):
            self.wait(offset)
        elif length is None:
            check(not self.is_declared, "the declared length is forgotten", self)
        else:
            self._declare(length)

    def _declare(self, length: str) -> None:
        check(self.may_be_declared, f"a length {length} that nobody declared", self)
        check(int(length) == len(self.content), f"the length is {length}", self)
        self.is_declared = True
        self.is_waiting = False


def content_of(dice: random.Random) -> bytes:
    """Return content of a size as clients have them: nothing, little, or up to 400 KiB."""
    size = dice.choice([0, 1, dice.randrange(2, 200), *[dice.randrange(1000, 400_000)] * 5])
    return dice.randbytes(size)
