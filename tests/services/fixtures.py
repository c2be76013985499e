"""The S3 servers of a test session: started once, when the first test asks for one.

A folder whose tests need them imports the fixtures in its `conftest.py`. Tests share the
servers and keep apart by buckets (`new_bucket`) or prefixes. Who kills or restarts a server
starts one of its own.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.s3 import Moto, S3Server, SeaweedFS, why_not
from tusasgi.stores.s3 import check

QUICKLY_CHECKED = """
import runpy, sys
from tusasgi.stores.s3 import check
check._RACERS = 1
module = sys.argv.pop(1)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""What `python -c` runs a module by, as `quickly_checked` has it."""


def need(name: str) -> None:
    """Skip the test unless the server can run here; fail it where services are required."""
    reason = why_not(name)
    if reason is None:
        return
    if os.environ.get("TUSASGI_REQUIRE_SERVICES") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFS]:
    need("seaweedfs")
    # Not in pytest's own folder, which keeps what the last runs stored.
    with (
        tempfile.TemporaryDirectory(prefix="seaweedfs-") as folder,
        SeaweedFS(Path(folder)) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    need("moto")
    with Moto() as server:
        yield server


@pytest.fixture
def quickly_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a store try its server without a race, which takes SeaweedFS five seconds."""
    monkeypatch.setattr(check, "_RACERS", 1)


@pytest.fixture(scope="session", params=["seaweedfs", "moto"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Each server in turn."""
    server: S3Server = request.getfixturevalue(request.param)
    return server
