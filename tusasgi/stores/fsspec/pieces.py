"""The bytes of an upload as immutable pieces, known by their names and sizes alone; pure.

`<start>`                    a piece that only one writer could make, and that appeared whole
`<start>-<length>-<random>`  any other piece; it counts when its size is its length

`start` has 20 digits, so names sort by it. What has another name is no piece.
"""

import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

_NAME = re.compile(r"(?P<start>[0-9]{20})(?:-(?P<length>[0-9]{1,20})-[0-9a-f]{8})?")

_MOST_AT_ONCE = 100  # files that any filesystem lists as they are at one moment
_MANY = 64  # so many small neighbours are worth a merge
_TIERS = (64, 2)  # small is what is under the 64th part of a full piece, and then under its half


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes from `start` up to, not including, `stop`."""

    name: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Contents:
    """Where the bytes of an upload are: in pieces, or `finished`, the size of them joined."""

    run: list[Piece]
    rest: list[str]
    """Names of what counts for nothing: of broken writes, merged pieces, staged ones."""
    end: int
    """Where the last piece ends, behind a gap or not."""
    has_record: bool
    is_being_handed_over: bool = False
    """True once a copy was begun at the destination, where nothing was before."""
    is_handed_over: bool = False
    """True if they are at the destination, or were, and nowhere else."""
    finished: int | None = None

    @property
    def offset(self) -> int:
        if self.finished is not None:
            return self.finished
        return self.run[-1].stop if self.run else 0

    @property
    def names(self) -> list[str]:
        """The names of everything but the record, in the order of what is in them."""
        return sorted({*self.rest, *(piece.name for piece in self.run)})

    @property
    def has_gap(self) -> bool:
        return self.offset < self.end

    @property
    def is_doubtful(self) -> bool:
        """True for a listing that may have been taken while pieces were removed."""
        return not self.run or self.has_gap or len(self.run) > _MOST_AT_ONCE


def exclusive_name(start: int) -> str:
    """Name a piece so that a second one that starts there would have the same name."""
    return f"{start:020}"


def sized_name(start: int, length: int) -> str:
    """Name a piece as no other is named, and so that half of it is not taken for it."""
    return f"{start:020}-{length}-{uuid.uuid4().hex[:8]}"


def piece_of(name: str, size: int) -> Piece | None:
    """Return the piece that a file is; None if it is none, or not wholly there."""
    match = _NAME.fullmatch(name)
    if match is None or size == 0:
        return None
    if match["length"] is not None and int(match["length"]) != size:
        return None
    start = int(match["start"])
    return Piece(name, start, start + size)


def run_of(pieces: Iterable[Piece]) -> list[Piece]:
    """Return the pieces that lead from 0 on, without a gap, as far as any do.

    Where pieces lie over each other (a merge that was broken off, a write that came late) the
    longer ones are taken, so whatever was reached before stays reached.
    """
    longest: dict[int, tuple[int, int, Piece]] = {}  # by start: where the run ends, and begins with
    for piece in sorted(pieces, key=lambda piece: piece.start, reverse=True):
        end = longest[piece.stop][0] if piece.stop in longest else piece.stop
        run = (end, piece.stop, piece)
        if piece.start not in longest or longest[piece.start][:2] < run[:2]:
            longest[piece.start] = run
    found = []
    position = 0
    while position in longest:
        found.append(longest[position][2])
        position = found[-1].stop
    return found


def merges(run: list[Piece], size: int) -> list[list[Piece]]:
    """Return the neighbours that are to become one piece each, of at most `size` bytes.

    Small ones wait until there are many, and what a merge makes counts as small only a few times
    over: so a byte is written again two or three times, however small the appends are. The last
    piece stays, because a listing that misses a merge is known by what lies behind the gap.
    """
    for tier in _TIERS:
        groups = [
            group
            for neighbours in _small(run[:-1], size // tier)
            for group in _groups(neighbours, size)
        ]
        if groups:
            return groups
    return []


def _small(run: list[Piece], limit: int) -> Iterator[list[Piece]]:
    for is_small, pieces in groupby(run, lambda piece: piece.size < limit):
        if is_small:
            yield list(pieces)


def _groups(pieces: list[Piece], size: int) -> Iterator[list[Piece]]:
    if len(pieces) < _MANY:
        return
    group: list[Piece] = []
    for piece in pieces:
        if group and piece.stop - group[0].start > size:
            yield from [group] if len(group) > 1 else []
            group = []
        group.append(piece)
    yield from [group] if len(group) > 1 else []
