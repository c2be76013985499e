"""What every store promises, of the S3 store on two servers."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.services.s3 import S3Server
from tests.stores.s3._server import content_of, store_on
from tusasgi import Upload
from tusasgi.stores import Store
from tusasgi.stores.s3 import S3Store
from tusasgi.testing import StoreSuite

MIB = 1024 * 1024


PART = 5 * MIB


class S3Suite(StoreSuite):
    memory_bound = 3 * PART

    @pytest.fixture
    def server(self) -> S3Server:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def used(self, server: S3Server) -> None:
        self._server = server

    @pytest.fixture
    def store(self, place: Path, used: None) -> S3Store:
        return self.make_store(place)

    @pytest.fixture
    def reopened(self, store: S3Store, place: Path) -> Callable[[], Awaitable[Store]]:
        async def reopened() -> Store:
            return self.make_store(place)

        return reopened

    def make_store(self, place: Path) -> S3Store:
        prefix = place.parent.name.strip("-_.")
        return store_on(self._server, prefix, part_size=PART, memory=2 * PART, check=False)

    async def content(self, store: Store, upload: Upload) -> bytes:
        assert isinstance(store, S3Store)
        return await content_of(store, self._server, upload)


# Each claim on each server and on each event loop, which have nothing to do with each other.


class TestS3StoreOnSeaweedFS(S3Suite):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def server(self, seaweedfs: S3Server) -> S3Server:
        return seaweedfs


class TestS3StoreOnMoto(S3Suite):
    memory_bound = None  # the server is in this process too

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "trio"

    @pytest.fixture
    def server(self, moto: S3Server) -> S3Server:
        return moto
