from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tusasgi.stores import Store, SupportsRead
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import Arriving, new_upload

pytestmark = pytest.mark.anyio

CONTENT = bytes(number * 31 % 251 for number in range(3_000_000))


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, fast_place: Path) -> Store:
    return MemoryStore() if request.param == "memory" else FileStore(fast_place)


def pieces(content: bytes, cuts: list[int]) -> list[bytes]:
    """Cut the content; equal cuts make empty pieces."""
    return [content[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(content)])]


@st.composite
def uploads(draw: st.DrawFn) -> list[list[bytes]]:
    """Some content as chunks, the chunks as appends."""
    size = draw(st.one_of(st.integers(0, 50), st.integers(0, len(CONTENT))))
    cuts = draw(st.lists(st.integers(0, size), max_size=8))
    return [
        pieces(part, draw(st.lists(st.integers(0, len(part)), max_size=8)))
        for part in pieces(CONTENT[:size], cuts)
    ]


@settings(
    max_examples=40,
    deadline=None,
    # One store serves all examples: each has an upload of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(appends=uploads())
async def test_any_bytes_in_any_chunks_in_any_appends_are_the_same_upload(
    store: Store, appends: list[list[bytes]]
) -> None:
    expected = b"".join(chunk for append in appends for chunk in append)
    upload = new_upload(length=len(expected))
    await store.create(upload)
    for append in appends:
        upload = await store.append(upload, Arriving(*append))
        assert await store.get(upload.id) == upload
    await store.finish(upload)
    assert upload.offset == len(expected)
    assert isinstance(store, SupportsRead)
    read = [chunk async for chunk in store.read(upload, 0, upload.offset)]
    assert b"".join(read) == expected
