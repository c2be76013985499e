"""From one manifest of an upload to the next, as one writer at a time can bring it.

Part numbers are reserved before they are used, by a swap, and never given out twice: so a number
carries one content for ever, whatever happens to the server that used it. An upload that has no
multipart upload yet needs no reservation: the one that is made is known to this writer alone
until a swap names it.
"""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio

from tusasgi.errors import StoreFull, StoreUnavailable, UploadNotFound
from tusasgi.models import Upload
from tusasgi.stores import WriteConflict
from tusasgi.stores.s3.bucket import Bucket
from tusasgi.stores.s3.ledger import Ledger
from tusasgi.stores.s3.manifest import Manifest
from tusasgi.stores.s3.part_sizes import MOST_PARTS, part_size

_RESERVED = 8  # part numbers taken at once


class Committer:
    """Brings an upload from one manifest to the next, unless another writer is faster.

    `draft` is what this writer has stored, `committed` what everybody may know of it.
    """

    def __init__(
        self, bucket: Bucket, manifest: Manifest, upload: Upload, *, least_part: int
    ) -> None:
        self.draft = manifest
        self._bucket = bucket
        self._upload = upload
        self._least_part = least_part
        self._ledger = Ledger(manifest)
        self._swapping = anyio.Lock()  # each swap follows on the one before

    @property
    def committed(self) -> Manifest:
        return self._ledger.committed

    @property
    def part_size(self) -> int:
        """How long the next part is to be, in bytes."""
        return part_size(self.draft, self._least_part)

    async def next_number(self) -> int:
        """Return a part number that nobody else will use, in a multipart upload that exists."""
        number = self.draft.used_to + 1
        if number > MOST_PARTS:
            raise StoreFull("this upload was interrupted too often to go on: start a new one")
        if self.draft.multipart_id is None:
            await self._start_multipart()
        elif number > self.committed.used_to and self._ledger.own_multipart is None:
            await self.publish(reserve=True)
        self.draft = replace(self.draft, used_to=number)
        return number

    async def publish(self, *, reserve: bool = False) -> None:
        """Let others see what they may see by now, and take more part numbers if asked to."""
        async with self._swapping:
            await self._write_pages()
            await self._swap(self._visible(), reserve=reserve)

    @asynccontextmanager
    async def cleaning_up(self) -> AsyncIterator[None]:
        """Remove what nobody will ever name if another writer is faster."""
        try:
            yield
        except (WriteConflict, UploadNotFound):
            with contextlib.suppress(Exception):  # that one counts; a sweeper removes the rest
                await self._remove_own(await self._bucket.find(self._upload.id))
            raise

    def _visible(self) -> Manifest:
        """Return what others may see of the draft before the end."""
        return self.draft

    async def _start_multipart(self) -> None:
        stored = self.draft.object or self._bucket.object_of(self._upload)
        draft = replace(self.draft, part_size=self.part_size)
        self.draft = await self._bucket.start_multipart(draft, stored)
        assert self.draft.multipart_id is not None
        self._ledger.made_multipart(self._bucket.key_of(stored), self.draft.multipart_id)

    async def _write_pages(self) -> None:
        self.draft, keys = await self._bucket.paged(self.draft)
        self._ledger.made(keys)

    async def _swap(
        self, manifest: Manifest, *, reserve: bool = False, is_last: bool = False
    ) -> None:
        """Replace the manifest that everybody knows, once the one before was replaced."""
        await self._bucket.remove_unused(self.committed.unused)
        used_to = self.draft.used_to + (_RESERVED if reserve else 0)
        unused = self._ledger.unused_by(manifest, draft=self.draft, is_last=is_last)
        await self._replace_by(replace(manifest, used_to=used_to, unused=unused))

    async def _replace_by(self, manifest: Manifest) -> None:
        # What is to be told changes under the hands of a writer, and by none of them.
        untold = self.committed.upload.untold
        manifest = replace(manifest, upload=replace(manifest.upload, untold=untold))
        self._ledger.tried(manifest)
        self._ledger.commit(await self._bucket.swap(self.committed, manifest))

    async def _remove_own(self, newest: Manifest | None) -> None:
        """Remove what this writer made and nobody names, or will, going by the newest manifest."""
        removable = self._ledger.removable(newest)
        await self._bucket.remove_unused(removable.keys)
        if removable.multipart is not None:
            with contextlib.suppress(StoreUnavailable):  # the sweeper does it then
                await self._bucket.abort(removable.multipart.key, removable.multipart.id)
