"""A place for a test, and the end of every connection that a test has opened."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.services.s3 import SeaweedFS
from tests.stores.s3._scenes import Place, new_place
from tusasgi.stores.s3.client import Client


@pytest.fixture(autouse=True)
def connections_end(request: pytest.FixtureRequest) -> None:
    """Have the connections of a test closed whatever happens in it: a later one would pay."""
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("closed_connections")


@pytest.fixture
async def closed_connections(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    clients: list[Client] = []
    make = Client.__init__

    def noted(client: Client, *arguments: Any, **options: Any) -> None:
        make(client, *arguments, **options)
        clients.append(client)

    monkeypatch.setattr(Client, "__init__", noted)
    yield
    for client in clients:
        await client.aclose()


@pytest.fixture
def place(seaweedfs: SeaweedFS) -> Place:
    return new_place(seaweedfs)
