"""The servers that the tests of this folder use, and a proxy before one of them."""

from collections.abc import Iterator

import pytest

from tests.services.faults import FaultProxy
from tests.services.fixtures import moto, s3_server, seaweedfs
from tests.services.s3 import SeaweedFS

__all__ = ["anyio_backend", "moto", "proxy", "s3_server", "seaweedfs"]


@pytest.fixture
def anyio_backend() -> str:
    """Only asyncio: aiobotocore runs on nothing else."""
    return "asyncio"


@pytest.fixture
def proxy(seaweedfs: SeaweedFS) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        yield proxy
