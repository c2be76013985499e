"""A fast place for tests that flush a lot."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster

from tests.services.fixtures import moto as moto  # the fixtures
from tests.services.fixtures import quickly_checked as quickly_checked
from tests.services.fixtures import s3_server as s3_server
from tests.services.fixtures import seaweedfs as seaweedfs

_FAST = "/dev/shm"  # in memory on Linux; elsewhere the usual place is as good


@pytest.fixture
def fast_place() -> Iterator[Path]:
    fast = _FAST if os.access(_FAST, os.W_OK) else None
    parent = Path(tempfile.mkdtemp(prefix="tusasgi-", dir=fast))
    yield parent
    shutil.rmtree(parent)


@pytest.fixture(autouse=True)
def a_store_may_look_where_it_is(blockbuster: BlockBuster) -> None:
    blockbuster.functions["os.path.abspath"].can_block_in(
        "tusasgi/stores/file/store.py", "__init__"
    )
