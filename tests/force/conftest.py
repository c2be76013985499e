"""The code under test runs in servers of its own here; what sweeps behind them may block."""

import pytest

from tests.services.fixtures import moto as moto  # the fixtures
from tests.services.fixtures import seaweedfs as seaweedfs


@pytest.fixture(autouse=True)
def blockbuster() -> None:
    """Take the place of the detector that all other tests have."""
