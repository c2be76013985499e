"""What a locker may do in the event loop, and the loops it must work in."""

from typing import Any

import pytest
from blockbuster import BlockBuster

# Each takes microseconds on a local folder, less than a worker thread to get there and back.
_SHORT_CALLS = ("os.stat", "os.mkdir", "os.unlink", "os.read", "os.write", "os.path.samestat")


@pytest.fixture(
    params=[
        pytest.param("asyncio", id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param("trio", id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    if "uvloop" in str(request.param):
        pytest.importorskip("uvloop")
    return request.param


@pytest.fixture(autouse=True)
def calls_on_lock_files_are_short(blockbuster: BlockBuster) -> None:
    blockbuster.functions["os.path.abspath"].can_block_in(
        "tusasgi/lockers/file/locker.py", "__init__"
    )
    for name in _SHORT_CALLS:
        blockbuster.functions[name].can_block_in("tusasgi/lockers/file/locker.py", "lock")
