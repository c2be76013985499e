"""Uploads in the memory of one process, for tests and small things."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime

from tusasgi.arguments import check_callable
from tusasgi.errors import UploadExists, UploadNotFound
from tusasgi.models import Upload, check_upload_id, utc_now
from tusasgi.stores import BytesLost, PartLost

_READ_SIZE = 256 * 1024


class MemoryStore:
    """Keeps everything in memory, and nothing when the process ends.

    Supports termination, deferred lengths, concatenation, sweeping and reading. `clock` says
    when bytes come, which dates of expiry follow from.
    """

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        check_callable("clock", clock)
        self._clock = clock
        self._records: dict[str, Upload] = {}
        self._bytes: dict[str, bytearray] = {}

    async def create(self, upload: Upload) -> Upload:
        if check_upload_id(upload.id) in self._records:
            raise UploadExists("an upload with this id exists already")
        self._bytes[upload.id] = bytearray()
        self._records[upload.id] = upload
        return upload

    async def get(self, upload_id: str) -> Upload:
        stored = self._bytes_of(upload_id)
        return self._records[upload_id].at(len(stored))

    async def append(
        self,
        upload: Upload,
        chunks: AsyncIterable[bytes],
        *,
        staged: bool = False,
    ) -> Upload:
        stored, before = self._bytes_of(upload.id), self._records[upload.id]
        start = len(stored)
        arriving = bytearray() if staged else stored
        try:
            async for chunk in chunks:
                arriving += chunk
                # At once, so that a cancellation finds bytes and record as they belong together.
                self._keep(stored, (before if staged else upload).alive(self._clock()))
        except Exception:
            self._take_back(stored, start, before)
            raise
        if staged:
            stored += arriving
        if len(stored) == start:
            return upload
        upload = upload.at(len(stored))
        return self._keep(stored, upload.renewed(self._clock()))

    async def update(self, upload: Upload) -> Upload:
        self._bytes_of(upload.id)
        self._records[upload.id] = upload
        return upload

    async def finish(self, upload: Upload) -> Upload:
        if len(self._bytes_of(upload.id)) != upload.length:
            raise BytesLost
        return upload

    async def terminate(self, upload_id: str) -> None:
        self._records.pop(check_upload_id(upload_id), None)
        self._bytes.pop(upload_id, None)

    async def declare_length(self, upload: Upload, length: int) -> Upload:
        return await self.update(replace(upload, length=length))

    async def ids(self, *, after: str | None = None) -> AsyncGenerator[str, None]:
        for upload_id in sorted(self._records):
            if after is None or upload_id > after:
                yield upload_id

    async def concat(self, upload: Upload) -> Upload:
        stored = self._bytes_of(upload.id)
        try:
            joined = b"".join(self._bytes_of(part) for part in upload.parts)
        except UploadNotFound:
            raise PartLost from None
        if len(joined) != upload.length:
            raise PartLost  # another upload has taken the id of one
        stored[:] = joined
        return upload.at(len(joined))

    async def due(self, now: datetime) -> AsyncIterator[str]:
        # Looks at everything: what fits in memory is not that much.
        for upload_id in list(self._records):
            if upload_id in self._records:  # whoever asked may have removed it meanwhile
                upload = await self.get(upload_id)
                if upload.is_expired(now) or upload.is_due:
                    yield upload_id

    async def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        stored = self._bytes_of(upload.id)
        stop = min(stop, len(stored))
        for position in range(start, stop, _READ_SIZE):
            yield bytes(stored[position : min(position + _READ_SIZE, stop)])

    def _take_back(self, stored: bytearray, start: int, before: Upload) -> None:
        """Leave the upload as it was, but for a later date of expiry."""
        del stored[start:]
        if self._bytes.get(before.id) is stored:
            self._keep(stored, replace(before, expires=self._records[before.id].expires))

    def _keep(self, stored: bytearray, upload: Upload) -> Upload:
        """Replace the record, unless the upload was removed since its bytes were looked up."""
        if self._bytes.get(upload.id) is not stored:
            raise UploadNotFound()
        self._records[upload.id] = upload
        return upload

    def _bytes_of(self, upload_id: str) -> bytearray:
        try:
            return self._bytes[check_upload_id(upload_id)]
        except KeyError:
            raise UploadNotFound() from None
