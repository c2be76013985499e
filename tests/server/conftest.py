"""The servers that `tusasgi serve` runs on: what it promises is asked of each."""

import pytest
from blockbuster import BlockBuster

SERVERS = ["uvicorn", "granian"]


@pytest.fixture(params=SERVERS)
def on(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def a_locker_may_look_at_its_file(blockbuster: BlockBuster) -> None:
    """Let it: the file is on a local file system."""
    for function in blockbuster.functions.values():
        function.can_block_in("tusasgi/lockers/file/locker.py", "_acquire")
