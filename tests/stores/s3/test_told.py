"""What one server has told is recorded under the hands of another, which goes on."""

from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest

from tests.stores.s3._scenes import PART, Place, read
from tusasgi import Upload
from tusasgi.stores import WriteConflict
from tusasgi.stores.s3 import writer
from tusasgi.testing.stores import new_upload
from tusasgi.testing.stores.tools import NOW

pytestmark = pytest.mark.anyio

CREATED = {"created": NOW}
CONTENT = bytes(range(256)) * (2 * PART // 256 + 40)


@pytest.fixture
def anyio_backend() -> str:
    """Under trio the same client makes the same calls."""
    return "asyncio"


@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
@pytest.mark.parametrize("size", [5, len(CONTENT)], ids=["short", "long"])
async def test_an_append_goes_on_when_another_server_records_what_it_has_told(
    place: Place, size: int, is_staged: bool
) -> None:
    teller, taker = place.store(), place.store()
    content = CONTENT[:size]
    created = await teller.create(new_upload(length=size, untold=CREATED))
    upload = await taker.get(created.id)

    async def chunks() -> AsyncIterator[bytes]:
        yield content[: size // 2]
        await teller.update(replace(await teller.get(upload.id), untold={}))
        yield content[size // 2 :]

    stored = await taker.append(upload, chunks(), staged=is_staged)
    assert (stored.offset, stored.untold) == (size, {})
    assert (await place.store().get(upload.id)).untold == {}
    done = await taker.update(replace(await taker.finish(stored), is_complete=True))
    assert await read(taker, done) == content


async def test_nothing_that_was_told_comes_back_with_what_an_append_saves_on_its_way(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_FIRST_SAVE", 0.01)
    monkeypatch.setattr(writer, "_SAVE", 0.01)
    teller, taker = place.store(), place.store()
    upload = await teller.create(new_upload(length=50, untold=CREATED))

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(5):
            if number == 1:
                await teller.update(replace(await teller.get(upload.id), untold={}))
            yield CONTENT[:10]
            await anyio.sleep(0.1)

    stored = await taker.append(await taker.get(upload.id), chunks())
    assert (stored.offset, stored.untold) == (50, {})


async def test_what_is_refused_by_an_append_leaves_told_what_was_told(place: Place) -> None:
    teller, taker = place.store(), place.store()
    upload = await teller.create(new_upload(length=len(CONTENT), untold=CREATED))

    async def chunks() -> AsyncIterator[bytes]:
        yield CONTENT[: PART + 9]
        await teller.update(replace(await teller.get(upload.id), untold={}))
        raise RuntimeError("it is refused")

    with pytest.raises(RuntimeError):
        await taker.append(await taker.get(upload.id), chunks())
    left = await place.store().get(upload.id)
    assert (left.offset, left.untold) == (0, {})


async def test_what_happens_meanwhile_is_still_to_be_told(place: Place) -> None:
    teller, taker = place.store(), place.store()
    upload = await teller.create(new_upload(length=0, untold=CREATED))
    seen = await taker.get(upload.id)
    await teller.update(replace(upload, untold={}))
    untold = {**CREATED, "completed": NOW}
    done = await taker.update(replace(seen, is_complete=True, untold=untold))
    assert done.untold == {"completed": NOW}
    assert (await place.store().get(upload.id)).untold == {"completed": NOW}


@pytest.mark.parametrize("changes", [{"facts": {"a": 1}}, {"removal": "terminated"}])
async def test_whatever_else_changes_is_a_conflict(
    place: Place, changes: dict[str, object]
) -> None:
    teller, taker = place.store(), place.store()
    upload: Upload = await teller.create(new_upload(untold=CREATED))
    seen = await taker.get(upload.id)
    await teller.update(replace(upload, untold={}, **changes))
    with pytest.raises(WriteConflict):
        await taker.update(replace(seen, owner="somebody"))


async def test_the_key_of_an_upload_is_where_its_object_will_be(place: Place) -> None:
    store = place.store()
    upload = await store.create(new_upload(length=0))
    await store.update(replace(await store.finish(upload), is_complete=True))
    assert store.key(upload) in await place.left()
