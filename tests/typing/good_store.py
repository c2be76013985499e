"""A store that keeps every promise about its signatures: mypy must accept it."""

from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime

from tusasgi import Upload, Uploads
from tusasgi.lockers import Locker
from tusasgi.lockers.file import FileLocker
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.stores import (
    Store,
    SupportsDeferLength,
    SupportsLocalPath,
    SupportsProgress,
    SupportsRead,
    SupportsSweep,
    SupportsTerminate,
)
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore


class GoodStore:
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

    async def update(self, upload: Upload) -> Upload:
        return upload

    async def finish(self, upload: Upload) -> Upload:
        return upload

    async def terminate(self, upload_id: str) -> None: ...

    async def declare_length(self, upload: Upload, length: int) -> Upload:
        return upload

    async def due(self, now: datetime) -> AsyncIterator[str]:
        yield "a"

    async def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        yield b""


Uploads(GoodStore())

stores: list[Store] = [GoodStore(), MemoryStore(), FileStore("/nowhere")]
terminating: list[SupportsTerminate] = [GoodStore(), MemoryStore(), FileStore("/nowhere")]
deferring: list[SupportsDeferLength] = [GoodStore(), MemoryStore(), FileStore("/nowhere")]
expiring: list[SupportsSweep] = [GoodStore(), MemoryStore(), FileStore("/nowhere")]
reporting: list[SupportsProgress] = [FileStore("/nowhere")]
sending: list[SupportsLocalPath] = [FileStore("/nowhere")]
reading: list[SupportsRead] = [GoodStore(), MemoryStore(), FileStore("/nowhere")]
lockers: list[Locker] = [MemoryLocker(), FileLocker("/nowhere")]
