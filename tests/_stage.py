"""A stage for tests of the app: a store, an engine with recording hooks, a clock, a driver."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tusasgi import Hooks, TusApp, Upload, Uploads
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import ASGIDriver, RecordedResponse, ScriptedExchange

OCTETS = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}
UPLOADS_URL = "/files"


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


class Recorder(Hooks):
    """Hooks that allow everything and remember what happened."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def completed(self, upload: Upload) -> None:
        self.events.append("completed")

    async def terminated(self, upload: Upload) -> None:
        self.events.append("terminated")

    async def expired(self, upload: Upload) -> None:
        self.events.append("expired")


@dataclass
class Stage:
    store: MemoryStore | FileStore
    uploads: Uploads
    app: TusApp
    clock: Clock
    hooks: Hooks
    driver: ASGIDriver = field(init=False)

    def __post_init__(self) -> None:
        self.driver = ASGIDriver(self.app, root_path=UPLOADS_URL, headers=TUS)

    @property
    def events(self) -> list[str]:
        assert isinstance(self.hooks, Recorder)
        return self.hooks.events

    async def upload(self, *, length: int | None = 5, content: bytes = b"", **more: Any) -> Upload:
        """Create an upload that has its first bytes already."""
        upload = await self.uploads.create(length=length, **more)
        if content:
            answer = await self.patch(upload.id, 0, content)
            assert answer.status == 204, answer
        return await self.store.get(upload.id)

    def exchange(
        self,
        upload_id: str,
        offset: int,
        body: Any = None,
        headers: Mapping[str, str | None] | None = None,
        **more: Any,
    ) -> ScriptedExchange:
        """Prepare a PATCH."""
        own = {"Upload-Offset": str(offset), "Content-Type": OCTETS, **(headers or {})}
        return self.driver.exchange("PATCH", f"/{upload_id}", own, body, **more)

    async def patch(
        self,
        upload_id: str,
        offset: int,
        body: Any = b"",
        headers: Mapping[str, str | None] | None = None,
        **more: Any,
    ) -> RecordedResponse:
        return await self.exchange(upload_id, offset, body, headers, **more).run()

    async def head(self, upload_id: str) -> RecordedResponse:
        return await self.driver.request("HEAD", f"/{upload_id}")

    async def offset(self, upload_id: str) -> int:
        return int((await self.head(upload_id)).headers["upload-offset"])

    async def content(self, upload_id: str) -> bytes:
        """Return the bytes that are stored."""
        upload = await self.store.get(upload_id)
        if upload.offset == 0:
            return b""
        return b"".join([chunk async for chunk in self.store.read(upload, 0, upload.offset)])

    def snapshot(self) -> dict[str, Any]:
        """Return all that is stored anywhere, to be compared with a later snapshot."""
        if isinstance(self.store, MemoryStore):
            records = self.store._records
            return {key: (records[key], bytes(self.store._bytes[key])) for key in records}
        return dict(_files(self.store.path("x").removesuffix("/uploads/x/x")))


def _files(root: str) -> Iterable[tuple[str, bytes]]:
    for parent, _, names in os.walk(root):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                content = file.read()
            # A data file without bytes is the same as none; a mark is a name and no content.
            if content or not parent.startswith(f"{root}/uploads"):
                yield path.removeprefix(root), content


MakeStage = Callable[..., Stage]


def make_stage(
    store: MemoryStore | FileStore,
    *,
    hooks: Hooks | None = None,
    engine: Mapping[str, Any] | None = None,
    **options: Any,
) -> Stage:
    """Set up a stage; `engine` holds options of `Uploads`, the rest are those of `TusApp`."""
    clock = store._clock = Clock()
    hooks = Recorder() if hooks is None else hooks
    uploads = Uploads(store, hooks=hooks, clock=clock, **(engine or {}))
    return Stage(store, uploads, TusApp(uploads, **options), clock, hooks)


def location_path(answer: RecordedResponse) -> str:
    """Return the path of a new upload below the collection."""
    location = answer.headers["location"]
    assert location.startswith(UPLOADS_URL + "/"), location
    return location.removeprefix(UPLOADS_URL)
