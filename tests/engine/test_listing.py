"""Uploads are listed page by page, by owner and by state, whatever happens meanwhile."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tests._stage import make_stage
from tests.asgi.test_app import PlainStore
from tusasgi import Creation, Expiry, Page, State, StoreUnavailable, Upload, Uploads
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

Store = MemoryStore | FileStore
HOUR = timedelta(hours=1)


@pytest.fixture(params=[MemoryStore, FileStore], ids=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    make: Callable[..., Store] = request.param
    return make() if make is MemoryStore else make(tmp_path)


async def pages(uploads: Uploads, **options: Any) -> list[Page]:
    found = [await uploads.list(**options)]
    while found[-1].after is not None:
        found.append(await uploads.list(after=found[-1].after, **options))
    return found


def ids(*pages: Page) -> list[str]:
    return [upload.id for page in pages for upload in page.uploads]


async def test_pages_follow_each_other_and_name_each_upload_once(store: Store) -> None:
    uploads = Uploads(store)
    made = {(await uploads.create(length=1)).id for _ in range(45)}
    found = await pages(uploads, limit=10)
    assert [len(page.uploads) for page in found] == [10, 10, 10, 10, 5]
    assert len(ids(*found)) == 45
    assert set(ids(*found)) == made


async def test_what_is_listed_is_what_get_would_tell(store: Store) -> None:
    stage = make_stage(store)
    upload = await stage.upload(length=10, content=b"hello", owner="me")
    page = await stage.uploads.list()
    assert page == Page(uploads=(await store.get(upload.id),), after=None)


async def test_only_those_of_an_owner_are_listed_and_fill_the_page(store: Store) -> None:
    uploads = Uploads(store)
    mine = set()
    for number in range(60):
        owner = "me" if number % 3 == 0 else "you"
        upload = await uploads.create_from(Creation(length=1, owner=owner))
        if owner == "me":
            mine.add(upload.id)
    found = await pages(uploads, owner="me", limit=15)
    assert set(ids(*found)) == mine
    assert len(found[0].uploads) == 15
    assert ids(*await pages(uploads, owner="nobody")) == []


async def test_uploads_are_listed_by_their_state(store: Store) -> None:
    stage = make_stage(store, engine={"expiry": Expiry(initial=HOUR)})
    old = await stage.upload(length=5)
    stage.clock.advance(hours=2)
    begun, done = await stage.upload(length=5), await stage.upload(length=5, content=b"hello")
    removed = await stage.upload(length=5)
    await store.update(replace(removed, removal="terminated"))
    listed = {state: ids(*await pages(stage.uploads, state=state)) for state in State}
    assert listed == {
        State.RECEIVING: [begun.id],
        State.JOINING: [],
        State.COMPLETING: [],
        State.COMPLETE: [done.id],
        State.EXPIRED: [old.id],
        State.REMOVING: [removed.id],
    }


async def test_an_upload_that_goes_while_it_is_listed_is_left_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(store)
    made = [await uploads.create(length=1) for _ in range(3)]
    get = store.get

    async def get_after_removal(upload_id: str) -> Upload:
        if upload_id == made[1].id:
            await store.terminate(upload_id)
        return await get(upload_id)

    monkeypatch.setattr(store, "get", get_after_removal)
    assert set(ids(await uploads.list())) == {made[0].id, made[2].id}


async def test_a_damaged_record_is_named_and_hides_no_other(tmp_path: Path) -> None:
    store = await run_sync(FileStore, tmp_path)
    uploads = Uploads(store)
    made = [await uploads.create(length=1) for _ in range(3)]
    await run_sync(Path(f"{store.path(made[0].id)}.info").write_bytes, b"{")
    page = await uploads.list()
    assert page.unreadable == (made[0].id,)
    assert set(ids(page)) == {made[1].id, made[2].id}


async def test_a_store_that_cannot_be_reached_is_told_as_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(store)
    for _ in range(3):
        await uploads.create(length=1)

    async def away(upload_id: str) -> Upload:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(store, "get", away)
    with pytest.raises(StoreUnavailable):
        await uploads.list()


async def test_a_store_that_cannot_list_and_a_wrong_limit_are_refused(store: Store) -> None:
    with pytest.raises(TypeError, match="PlainStore cannot list its uploads"):
        await Uploads(PlainStore()).list()
    with pytest.raises(ValueError, match="limit must be positive"):
        await Uploads(store).list(limit=0)
