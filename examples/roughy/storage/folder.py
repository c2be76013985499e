"""Bytes in the data folder, for any number of processes on one machine."""

import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.routing import BaseRoute

from examples.roughy.api.downloads import Downloads
from examples.roughy.api.errors import Unavailable
from examples.roughy.api.links import Links, Urls
from examples.roughy.keys import new_key
from examples.roughy.storage.database import Database
from examples.roughy.storage.private import read_or_make
from examples.roughy.storage.tables import Asset
from tusasgi import Uploads
from tusasgi.lockers.file import FileLocker
from tusasgi.stores.file import FileStore


class Folder:
    """Roughy serves the bytes itself, to links that it has signed."""

    def __init__(self, data: Path, urls: Urls, clock: Callable[[], datetime]) -> None:
        self.store = FileStore(data / "uploads", clock=clock)
        self.locker = FileLocker(data / "locks")
        self._folder = data / "uploads"
        self._urls = urls
        self._links = Links(read_or_make(data / "link-secret", new_key), clock)

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def check(self) -> None:
        try:
            await run_sync(_write, self._folder)
        except OSError as error:
            raise Unavailable(f"uploads cannot be written: {error.strerror}") from None

    async def download_url(self, request: Request, asset: Asset) -> str:
        return self._urls.absolute(request, self._links.download_path(asset.id))

    def routes(self, db: Database, uploads: Uploads) -> Sequence[BaseRoute]:
        return Downloads(db, uploads, self.store, self._links).routes()


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0")
        file.flush()
