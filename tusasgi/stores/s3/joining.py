"""Joining: a final upload takes over the bytes of its partial uploads, on the server where it can.

All parts are equal again. One that lies within one source is copied by the server; one across a
border, or too short for a copy, is read and sent. The offset is what is joined so far, and a
repetition goes on there.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tusasgi.models import Upload
from tusasgi.stores import PartLost
from tusasgi.stores.s3.appending import Budget, Writing
from tusasgi.stores.s3.bucket import Bucket, together
from tusasgi.stores.s3.client import Gone
from tusasgi.stores.s3.rope import Rope
from tusasgi.stores.s3.state import Part, State, part_size

_LEAST_COPY = 5 * 1024 * 1024 + 1  # ranges are copied from objects above 5 MiB only
_AT_ONCE = 8
_READ_SIZE = 256 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Some bytes of a source."""

    source: State
    start: int
    stop: int


class Join(Writing):
    """Takes over the bytes of other uploads."""

    def __init__(
        self,
        bucket: Bucket,
        state: State,
        upload: Upload,
        *,
        sources: Sequence[State],
        budget: Budget,
        least_part: int,
    ) -> None:
        super().__init__(bucket, state, upload, least_part=least_part)
        self._budget = budget
        self._sources = sources

    async def run(self) -> State:
        """Return the state with all bytes. Raises `PartLost` if a source is gone."""
        length = self._upload.length
        assert length is not None
        if sum(source.offset for source in self._sources) != length:
            raise PartLost  # another upload has taken the id of one
        async with self._giving_up():
            try:
                # Another server may have begun, and with shorter parts.
                if length <= self._least_part and self._draft.multipart_id is None:
                    await self._join_short(length)
                while self._draft.offset < length:
                    await self._join_some(length)
            except Gone:
                raise PartLost from None
        return self._committed

    async def _join_short(self, length: int) -> None:
        if self._draft.offset == length:
            return
        stored = self._bucket.object_of(self._upload)
        async with self._budget.taken(length):
            tail = await self._read(0, length)
            self._draft = replace(self._draft, object=stored, tail=tail)
            await self._swap(lambda: self._draft)

    async def _join_some(self, length: int) -> None:
        """Make some parts at the same time, and let the world know."""
        start = self._draft.parts_size
        made: dict[int, Part] = {}
        calls: list[Callable[[], Awaitable[None]]] = []
        while start < length and len(calls) < _AT_ONCE:
            number = await self.next_number()
            size = min(part_size(self._draft, self._least_part), length - start)
            calls.append(partial(self._make, made, number, start, start + size))
            start += size
        await together(calls)
        self._draft = replace(
            self._draft,
            parts=(*self._draft.parts, *(made[number] for number in sorted(made))),
            parts_size=start,
        )
        await self._swap(lambda: self._draft, reserve=start < length)

    async def _make(self, made: dict[int, Part], number: int, start: int, stop: int) -> None:
        ranges = self._ranges(start, stop)
        if len(ranges) == 1 and stop - start >= _LEAST_COPY:
            copied = ranges[0]
            made[number] = await self._bucket.copy_part(
                self._draft, number, copied.source, copied.start, copied.stop
            )
        else:
            async with self._budget.taken(stop - start):
                content = await self._read(start, stop)
                made[number] = await self._bucket.put_part(self._draft, number, content)

    async def _read(self, start: int, stop: int) -> Rope:
        rope = Rope()
        for found in self._ranges(start, stop):
            rope += await self._bucket.content(found.source, found.start, found.stop)
        return rope

    def _ranges(self, start: int, stop: int) -> list[Range]:
        """Return where the bytes from `start` to `stop` of the whole are."""
        ranges, position = [], 0
        for source in self._sources:
            first = max(start - position, 0)
            last = min(stop - position, source.offset)
            if first < last:
                ranges.append(Range(source=source, start=first, stop=last))
            position += source.offset
        return ranges
