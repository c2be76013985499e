"""One append to an upload in a bucket: its steps, and what of them others see."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from tusasgi.models import Upload
from tusasgi.stores.renewal import renewal_interval, renewed_if_due
from tusasgi.stores.s3.bucket import Bucket
from tusasgi.stores.s3.committing import Committer
from tusasgi.stores.s3.manifest import Manifest, Part
from tusasgi.stores.s3.rope import Rope

INLINE = 256 * 1024  # bytes of the tail that are kept in the manifest itself


class Outgoing:
    """A part on its way to the bucket, with all of its bytes until it has arrived."""

    def __init__(self, number: int, content: Rope) -> None:
        self.number = number
        self.content = content
        self.size = len(content)
        self.sent: Part | None = None


class Appender(Committer):
    """Adds bytes at the end of an upload, and may take all of them back.

    With the first byte the record becomes that of `upload`. With `staged` nobody sees a byte before
    `finish`, and what completes an upload is seen by nobody either: one byte too many may follow.
    """

    def __init__(
        self,
        bucket: Bucket,
        manifest: Manifest,
        upload: Upload,
        *,
        least_part: int,
        clock: Callable[[], datetime],
        staged: bool = False,
    ) -> None:
        super().__init__(bucket, manifest, upload, least_part=least_part)
        self.length = upload.length
        self.is_staged = staged
        self.renewal_interval = renewal_interval(upload)
        self._clock = clock
        self._is_over = False
        self._under_way: deque[Outgoing] = deque()
        self.bytes_under_way = 0

    async def add_part(self, content: Rope) -> None:
        """Make a part of all that is not in one yet, and of the content."""
        await self.send(await self.begin_part(content))
        self.take_in()

    # Parts that are on their way, several at once.

    @property
    def under_way(self) -> int:
        """How many parts were begun and are not in the draft yet."""
        return len(self._under_way)

    @property
    def has_unshown(self) -> bool:
        """True if the draft has bytes that others have not seen."""
        return self.draft.offset != self.committed.offset

    async def begin_part(self, content: Rope) -> Outgoing:
        """Give a number to the next part: all that is not in one yet, and the content."""
        if not self._under_way:  # the first one takes along what was kept for it
            content = await self._bucket.load(self.draft.segments) + self.draft.tail + content
        part = Outgoing(await self.next_number(), content)
        self._under_way.append(part)
        self.bytes_under_way += part.size
        return part

    async def send(self, part: Outgoing) -> None:
        """Store a part that was begun; they may arrive in any order."""
        part.sent = await self._bucket.put_part(self.draft, part.number, part.content)
        part.content = Rope()

    def take_in(self) -> None:
        """Add the parts to the draft that have arrived, but none that follows a missing one."""
        while self._under_way and self._under_way[0].sent is not None:
            part = self._under_way.popleft()
            assert part.sent is not None
            self.bytes_under_way -= part.size
            self.draft = self.draft.with_parts([part.sent], part.size)

    # What is too short for a part.

    async def add_rest(self, content: Rope, *, is_whole: bool = False) -> None:
        """Keep bytes that are too few for a part: in the tail, or as a segment if that is long.

        Those that end an upload without parts need no segment: one call will store the object.
        """
        assert not self._under_way, "it follows on parts that may not arrive"
        content = self.draft.tail + content
        if len(content) <= INLINE:  # copied: a view would hold all that came with them
            self.draft = replace(self.draft, tail=Rope([bytes(content)]))
        elif is_whole and len(content) <= self.part_size:
            self.draft = replace(self.draft, tail=content)
        else:
            await self._add_segment(content)

    async def _add_segment(self, content: Rope) -> None:
        segment = await self._bucket.put_segment(self._upload.id, content)
        self._ledger.made([segment.key])
        segments = (*self.draft.segments, segment)
        self.draft = replace(self.draft, segments=segments, tail=Rope())

    async def finish(self) -> None:
        """Let everybody see everything, and let go of the numbers that were not used."""
        assert not self._under_way, "there would be a gap"
        async with self._swapping:
            self._is_over = True
            if self.draft is not self._base or self.committed is not self._base:
                await self._write_pages()
                await self._swap(self._final(), is_last=True)

    async def take_back(self) -> None:
        """Return to where the upload was before, but for a later date."""
        async with self._swapping:
            self._is_over = True
            self.draft = replace(self._dated(self._base), used_to=self.draft.used_to)
            # A swap in doubt may have taken effect, or may yet: not after this one.
            if self.committed is not self._base or self._ledger.is_in_doubt:
                await self._swap(self.draft)
        await self._remove_own(self.committed)

    # The date.

    @property
    def would_expire(self) -> bool:
        """True if the upload would soon be past its time, although its bytes come."""
        if self.renewal_interval is None:
            return False
        return renewed_if_due(self._upload, self._clock()) is not self._upload

    async def renew(self) -> None:
        """Move the date if the upload would expire, and change nothing else that others see."""
        async with self._swapping:
            if self.would_expire and not self._is_over and not self._ledger.is_in_doubt:
                self._upload = self._upload.alive(self._clock())
                await self._replace_by(self._dated(self.committed))

    def _dated(self, manifest: Manifest) -> Manifest:
        """Return the manifest with the date that the upload has by now, and nothing else of it."""
        return replace(manifest, upload=replace(manifest.upload, expires=self._upload.expires))

    # What others see.

    @property
    def _base(self) -> Manifest:
        return self._ledger.base

    def _visible(self) -> Manifest:
        if self.is_staged:
            return replace(
                self._dated(self._base),
                object=self.draft.object,
                multipart_id=self.draft.multipart_id,
                integrity=self.draft.integrity,
                part_size=self.draft.part_size,
            )
        if self.draft.offset == self.length:  # or another server would complete it
            return self._dated(self.committed)
        return self._with_record(self.draft)

    def _final(self) -> Manifest:
        manifest = self._with_record(self.draft)
        if manifest.offset == self._base.offset:
            return manifest
        return replace(manifest, upload=manifest.upload.renewed(self._clock()))

    def _with_record(self, manifest: Manifest) -> Manifest:
        """Return the manifest with the record that the first byte brings."""
        if manifest.offset == self._base.offset:
            return self._dated(manifest)
        stored = manifest.object or self._bucket.object_of(self._upload)
        upload = replace(self._upload, offset=manifest.offset)
        return replace(manifest, upload=upload, object=stored)
