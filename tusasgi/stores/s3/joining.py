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
from tusasgi.stores.s3.bucket import Bucket
from tusasgi.stores.s3.budget import Budget
from tusasgi.stores.s3.calls import together
from tusasgi.stores.s3.committing import Committer
from tusasgi.stores.s3.failures import Gone
from tusasgi.stores.s3.manifest import Manifest, Part
from tusasgi.stores.s3.rope import Rope

_LEAST_COPY = 5 * 1024 * 1024 + 1  # ranges are copied from objects above 5 MiB only
_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Some bytes of a source."""

    source: Manifest
    start: int
    stop: int


class Joiner:
    """Takes over the bytes of other uploads."""

    def __init__(
        self,
        bucket: Bucket,
        committer: Committer,
        upload: Upload,
        *,
        sources: Sequence[Manifest],
        budget: Budget,
    ) -> None:
        self._bucket = bucket
        self._committer = committer
        self._upload = upload
        self._budget = budget
        self._sources = sources

    async def run(self) -> Manifest:
        """Return the manifest with all bytes. Raises `PartLost` if a source is gone."""
        length = self._upload.length
        assert length is not None
        if sum(source.offset for source in self._sources) != length:
            raise PartLost  # another upload has taken the id of one
        async with self._committer.cleaning_up():
            try:
                await self._join(length)
            except Gone:
                raise PartLost from None
        return self._committer.committed

    async def _join(self, length: int) -> None:
        # Another server may have begun, and with shorter parts.
        if self._committer.draft.multipart_id is None and length <= self._committer.part_size:
            await self._join_short(length)
        while self._committer.draft.offset < length:
            await self._join_some(length)

    async def _join_short(self, length: int) -> None:
        if self._committer.draft.offset == length:
            return
        stored = self._bucket.object_of(self._upload)
        async with self._budget.taken(length):
            tail = await self._read(0, length)
            self._committer.draft = replace(self._committer.draft, object=stored, tail=tail)
            await self._committer.publish()

    async def _join_some(self, length: int) -> None:
        """Make some parts at the same time, and let everybody see them."""
        start = stop = self._committer.draft.parts_size
        made: dict[int, Part] = {}
        calls: list[Callable[[], Awaitable[None]]] = []
        while stop < length and len(calls) < _AT_ONCE:
            number = await self._committer.next_number()
            size = min(self._committer.part_size, length - stop)
            calls.append(partial(self._make, made, number, stop, stop + size))
            stop += size
        await together(calls)
        parts = [made[number] for number in sorted(made)]
        self._committer.draft = self._committer.draft.with_parts(parts, stop - start)
        await self._committer.publish(reserve=stop < length)

    async def _make(self, made: dict[int, Part], number: int, start: int, stop: int) -> None:
        ranges = self._ranges(start, stop)
        draft = self._committer.draft
        if len(ranges) == 1 and stop - start >= _LEAST_COPY:
            (range_,) = ranges
            made[number] = await self._bucket.copy_part(
                draft, number, range_.source, range_.start, range_.stop
            )
        else:
            async with self._budget.taken(stop - start):
                content = await self._read(start, stop)
                made[number] = await self._bucket.put_part(draft, number, content)

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
