"""The explorer's own event loop makes the calls of worker threads as well."""

import pytest


@pytest.fixture
def blockbuster() -> None:
    """Off: what would block runs in the event loop on purpose, one step at a time."""
