"""Where the bytes of uploads are kept: in a folder (`folder.py`) or on S3 (`bucket.py`)."""

from collections.abc import Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.routing import BaseRoute

from examples.roughy.storage.database import Database
from examples.roughy.storage.tables import Asset
from tusasgi import Uploads
from tusasgi.lockers import Locker
from tusasgi.stores import Store, SupportsRead


class ReadableStore(Store, SupportsRead, Protocol):
    """A store whose bytes can be measured and downloaded."""


class Place(Protocol):
    """What differs between the two."""

    @property
    def store(self) -> ReadableStore: ...

    @property
    def locker(self) -> Locker: ...

    async def open(self) -> None:
        """See that it can be used; raise `SettingsError` if it never can. It may be away."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...

    async def check(self) -> None:
        """Raise `Unavailable` if nothing can be stored for now."""
        ...

    async def download_url(self, request: Request, asset: Asset) -> str:
        """Return a URL that gives the bytes of a ready asset to whoever has it, for a while."""
        ...

    def routes(self, db: Database, uploads: Uploads) -> Sequence[BaseRoute]:
        """What has to be served for these URLs."""
        ...
