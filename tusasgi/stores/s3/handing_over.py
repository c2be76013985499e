"""Objects that are copied to where the host wants them, below `files/`, by the server where it can.

The copy carries in its metadata whose it is, so that at any instant one look tells whether what is
there was made for this upload. Its own object stays until the manifest says that the upload is
complete: whatever fails or dies before can be done again.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from tusasgi.destinations import check_destination
from tusasgi.errors import StoreUnavailable
from tusasgi.models import Upload
from tusasgi.stores import BytesLost, DestinationTaken
from tusasgi.stores.s3.bucket import Bucket, overtaken
from tusasgi.stores.s3.budget import Budget
from tusasgi.stores.s3.calls import together
from tusasgi.stores.s3.failures import Conflict, Gone
from tusasgi.stores.s3.manifest import Manifest, Part, S3Object

_SMALL = 5 * 1024 * 1024  # ranges are copied from objects above 5 MiB only
_COPY_SIZE = 256 * 1024 * 1024
_MOST_PARTS = 10_000
_AT_ONCE = 8
_MARK = "tusasgi-upload"


def handed_over_object(upload: Upload, own: S3Object) -> S3Object:
    """Return how the object of an upload is stored for the host: as it was described, but there."""
    destination = check_destination("the destination of an upload", upload.destination)
    metadata = {**own.metadata, _MARK: f"{upload.id}.{upload.created.isoformat()}"}
    return replace(own, key=f"files/{destination}", metadata=metadata)


class HandOver:
    """Copies the object of an upload to its destination, or removes the copy."""

    def __init__(self, bucket: Bucket, manifest: Manifest, upload: Upload, budget: Budget) -> None:
        own = manifest.object or bucket.object_of(upload)
        self._bucket = bucket
        self._budget = budget
        self._upload = upload
        self._source = replace(manifest, object=own)
        self._target = handed_over_object(upload, own)
        self._is_in_place = own.key == self._target.key  # where `describe` wanted it

    async def bring(self) -> None:
        """Have the copy. Raises `WriteConflict` if another server is faster in any way."""
        if self._is_in_place or await self._is_ours():
            return
        try:
            if self._source.offset <= _SMALL:
                await self._put()
            else:
                await self._copy()
        except (Conflict, Gone):
            await self._check_what_happened()

    async def take_back(self) -> None:
        """Have no copy, nor the beginnings of one."""
        if self._is_in_place:
            return
        with contextlib.suppress(DestinationTaken):
            if await self._is_ours():
                await self._bucket.client.delete([self._key])
        if self._source.offset > _SMALL:
            await self._abort_copies()

    # The steps.

    @property
    def _key(self) -> str:
        return self._bucket.key_of(self._target)

    def _taken(self) -> DestinationTaken:
        return DestinationTaken(f"{self._target.key} is there already")

    async def _is_ours(self) -> bool:
        """Return whether the copy is there; `DestinationTaken` for anything else."""
        metadata = await self._bucket.metadata_of(self._target)
        if metadata is None:
            return False
        if metadata.get(_MARK) != self._target.metadata[_MARK]:
            raise self._taken()
        return True

    async def _check_what_happened(self) -> None:
        """Return if the copy is there after all; raise what kept it from that."""
        if await self._is_ours():
            return
        await self._bucket.check_newest(self._source)
        assert self._source.object is not None
        if await self._bucket.size_of(self._source.object) is None:
            raise BytesLost
        raise overtaken()

    async def _put(self) -> None:
        """Copy what is too small for the server to copy parts of."""
        size = self._source.offset
        async with self._budget.taken(size):
            content = await self._bucket.content(self._source, 0, size)
            await self._bucket.put_object(self._target, content, IfNoneMatch="*")

    async def _copy(self) -> None:
        await self._abort_copies()  # of a server that died, or one that is slower
        draft = await self._bucket.start_multipart(self._source, self._target)
        try:
            parts = await self._copy_parts(draft)
            await self._bucket.complete_new(draft, parts)
        except BaseException:
            with contextlib.suppress(StoreUnavailable):
                await self._bucket.abort(self._key, str(draft.multipart_id))
            raise

    async def _copy_parts(self, draft: Manifest) -> list[Part]:
        size = max(_COPY_SIZE, -(-self._source.offset // _MOST_PARTS))
        parts: dict[int, Part] = {}
        starts = list(enumerate(range(0, self._source.offset, size), start=1))
        for first in range(0, len(starts), _AT_ONCE):
            calls: list[Callable[[], Awaitable[None]]] = [
                partial(self._copy_part, draft, parts, number, start, start + size)
                for number, start in starts[first : first + _AT_ONCE]
            ]
            await together(calls)
        return [parts[number] for number, _ in starts]

    async def _copy_part(
        self, draft: Manifest, parts: dict[int, Part], number: int, start: int, stop: int
    ) -> None:
        stop = min(stop, self._source.offset)
        parts[number] = await self._bucket.copy_part(draft, number, self._source, start, stop)

    async def _abort_copies(self) -> None:
        async for found in self._bucket.client.multiparts(self._key):
            if found["Key"] == self._key:
                await self._bucket.abort(self._key, found["UploadId"])
