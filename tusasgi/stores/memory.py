"""Uploads in the memory of one process, for tests and small things."""

import heapq
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import replace
from datetime import datetime

from tusasgi._errors import UploadExists, UploadNotFound
from tusasgi._models import Upload, check_upload_id

_READ_SIZE = 256 * 1024


class MemoryStore:
    """Keeps everything in memory, and nothing when the process ends.

    Supports termination, deferred lengths, expiration and reading.
    """

    def __init__(self) -> None:
        self._records: dict[str, Upload] = {}
        self._bytes: dict[str, bytearray] = {}
        self._deadlines: list[tuple[datetime, str]] = []

    async def create(self, upload: Upload) -> None:
        if check_upload_id(upload.id) in self._records:
            raise UploadExists("an upload with this id exists already")
        self._bytes[upload.id] = bytearray()
        self._keep(upload)

    async def get(self, upload_id: str) -> Upload:
        stored = self._bytes_of(upload_id)
        return replace(self._records[upload_id], offset=len(stored))

    async def append(self, upload: Upload, chunks: AsyncIterable[bytes]) -> Upload:
        stored = self._bytes_of(upload.id)
        start = len(stored)
        try:
            async for chunk in chunks:
                stored += chunk
        except Exception:
            del stored[start:]
            raise
        return replace(upload, offset=len(stored))

    async def update(self, upload: Upload) -> None:
        self._bytes_of(upload.id)
        self._keep(upload)

    async def finish(self, upload: Upload) -> None:
        self._bytes_of(upload.id)

    async def terminate(self, upload_id: str) -> None:
        self._records.pop(check_upload_id(upload_id), None)
        self._bytes.pop(upload_id, None)

    async def declare_length(self, upload: Upload, length: int) -> Upload:
        upload = replace(upload, length=length)
        await self.update(upload)
        return upload

    async def expired(self, now: datetime) -> AsyncIterator[str]:
        due = []
        while self._deadlines and self._deadlines[0][0] <= now:
            due.append(heapq.heappop(self._deadlines))
        current = [deadline for deadline in due if self._is_current(*deadline)]
        for deadline in current:
            heapq.heappush(self._deadlines, deadline)  # whoever asked may leave it alone
        for _, upload_id in current:
            yield upload_id

    async def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        stored = self._bytes_of(upload.id)
        stop = min(stop, len(stored))
        for position in range(start, stop, _READ_SIZE):
            yield bytes(stored[position : min(position + _READ_SIZE, stop)])

    def _bytes_of(self, upload_id: str) -> bytearray:
        try:
            return self._bytes[check_upload_id(upload_id)]
        except KeyError:
            raise UploadNotFound() from None

    def _is_current(self, deadline: datetime, upload_id: str) -> bool:
        record = self._records.get(upload_id)
        return record is not None and record.expires == deadline and not record.is_complete

    def _keep(self, upload: Upload) -> None:
        before = self._records.get(upload.id)
        self._records[upload.id] = upload
        if upload.expires is not None and (before is None or before.expires != upload.expires):
            heapq.heappush(self._deadlines, (upload.expires, upload.id))
