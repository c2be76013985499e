"""Stores that break a promise about their signatures: mypy must refuse each marked line."""

from collections.abc import AsyncIterable
from datetime import datetime

from tusasgi import Upload, Uploads
from tusasgi.stores import SupportsSweep, SupportsTerminate


class SyncTerminate:
    def terminate(self, upload_id: str) -> None: ...


class ListOfExpired:
    async def due(self, now: datetime) -> list[str]:
        return []


class NoUpdate:
    async def create(self, upload: Upload) -> Upload:
        return upload

    async def get(self, upload_id: str) -> Upload:
        raise KeyError(upload_id)

    async def append(
        self,
        upload: Upload,
        chunks: AsyncIterable[bytes],
        *,
        staged: bool = False,
    ) -> Upload:
        return upload

    async def finish(self, upload: Upload) -> Upload:
        return upload


class ListOfChunks(NoUpdate):
    async def append(self, upload: Upload, chunks: list[bytes]) -> Upload:  # WRONG
        return upload

    async def update(self, upload: Upload) -> Upload:
        return upload


terminating: SupportsTerminate = SyncTerminate()  # WRONG
expiring: SupportsSweep = ListOfExpired()  # WRONG
Uploads(NoUpdate())  # WRONG
Uploads(ListOfChunks())  # WRONG
