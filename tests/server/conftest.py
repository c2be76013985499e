"""The servers that `tusasgi serve` runs on: what it promises is asked of each."""

import pytest

SERVERS = ["uvicorn", "granian"]


@pytest.fixture(params=SERVERS)
def on(request: pytest.FixtureRequest) -> str:
    return str(request.param)
