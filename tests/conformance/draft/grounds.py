"""The ground of a test: an event loop and a store.

Each version has one of the four, so that the tests of all versions together meet every one. What
may depend on them is marked `everywhere`.
"""

import pytest

GROUNDS = [("asyncio", "memory"), ("trio", "file"), ("asyncio", "file"), ("trio", "memory")]

everywhere = pytest.mark.parametrize(
    ("anyio_backend", "kind"), GROUNDS, ids=["-".join(ground) for ground in GROUNDS]
)
