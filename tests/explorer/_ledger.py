"""What clients were told of an upload, and what may therefore be stored."""

from dataclasses import dataclass, field
from datetime import datetime

from tests.explorer._requests import Ask


class Violation(AssertionError):
    """A promise was broken."""


def check(is_true: bool, claim: str) -> None:
    if not is_true:
        raise Violation(claim)


@dataclass(eq=False)
class Story:
    """One upload as its clients know it."""

    id: str
    known: bytes = b""
    """What is certain to be stored."""
    exists: bool = False
    """True once an answer has said so."""
    whole: bytes | None = None
    """The bytes of an upload that takes none, because it is joined."""
    attempts: list[Ask] = field(default_factory=list)
    told: int = 0
    """The highest offset that an answer has named, and whose bytes must stay."""
    acknowledged: list[tuple[int, bytes]] = field(default_factory=list)
    """Bytes that an answer has said are stored, and where they begin."""
    held: list[int] = field(default_factory=list)
    """Offsets that hold until somebody appends there."""
    is_complete: bool = False
    is_gone: bool = False
    """Nobody may use it any more; its removal may still be under way."""
    is_deleted: bool = False
    """An answer to DELETE has said so."""
    may_go: bool = False
    may_expire: bool = False
    alive_until: datetime | None = None

    def acknowledge(self, ask: Ask, end: int) -> None:
        """An answer to an append has named an offset: up to there the bytes are this request's."""
        data = ask.data[: end - ask.offset]
        check(ask.offset + len(data) == end, f"{ask.kind} is told {end}, ahead of what it sent")
        self.acknowledged.append((ask.offset, data))
        self.tell(end)

    def tell(self, offset: int) -> None:
        self.told = max(self.told, offset)

    def hold(self, offset: int) -> None:
        self.tell(offset)
        self.held.append(offset)

    def withdraw(self, ask: Ask) -> None:
        """Nothing of a request may be kept: its answer said so."""
        self.attempts = [one for one in self.attempts if one is not ask]

    def possible(self) -> set[bytes]:
        """Return all that may be stored, by what was sent."""
        found = {self.known}
        for _ in range(len(self.attempts) + 1):
            for ask in self.attempts:
                for before in [one for one in found if len(one) == ask.offset]:
                    found |= {before + kept for kept in _kept_of(ask)}
        return found

    def check_content(self, stored: bytes) -> None:
        check(len(stored) >= self.told, f"{len(stored)} bytes are stored, {self.told} were told")
        for start, data in self.acknowledged:
            check(
                stored[start : start + len(data)] == data,
                f"what was acknowledged at {start} is not what is stored: {stored.hex()}",
            )
        for offset in self.held:
            around = stored[offset - 1 : offset + 1]
            is_passed = len(around) == 2 and around[0] // 16 == around[1] // 16
            check(not is_passed, f"an append went on past {offset}, which was to hold")
        if self.whole is not None:
            check(stored == self.whole, f"joined to {stored.hex()}")
            return
        check(stored in self.possible(), f"nobody has sent what is stored: {stored.hex()}")


def _kept_of(ask: Ask) -> list[bytes]:
    if ask.keeps == "nothing":
        return []
    return [ask.data[:size] for size in range(len(ask.data) + 1)]
