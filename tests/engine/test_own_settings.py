"""What `creating` may set for one upload alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests._stage import make_stage
from tests.asgi.test_app import PlainStore
from tusasgi import Creation, Expiry, Fact, Hooks, Limits, Request, TooLarge, Upload, Uploads
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

Store = MemoryStore | FileStore
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Setting(Hooks):
    head_size = 1

    def __init__(self, **own: object) -> None:
        self._own = own

    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        return replace(creation, **self._own)  # type: ignore[arg-type]

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        return {"kind": "audio"}


@pytest.fixture(params=[MemoryStore, FileStore], ids=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    make: Callable[..., Store] = request.param
    return make() if make is MemoryStore else make(tmp_path)


async def test_an_expiry_of_its_own_counts_instead_of_that_of_the_engine(store: Store) -> None:
    own = Setting(expiry=Expiry(initial=DAY, after_append=2 * HOUR))
    stage = make_stage(store, hooks=own, engine={"expiry": Expiry(initial=HOUR)})
    upload = await stage.uploads.create(length=10)
    assert upload.expires == stage.clock() + DAY
    stage.clock.advance(hours=20)
    assert (await stage.patch(upload.id, 0, b"hello")).status == 204
    assert (await store.get(upload.id)).expires == stage.clock() + 2 * HOUR
    stage.clock.advance(hours=3)
    assert await stage.uploads.sweep() == 1


async def test_an_upload_may_have_no_expiry_where_others_have_one(store: Store) -> None:
    engine = {"expiry": Expiry(initial=HOUR, after_append=HOUR)}
    stage = make_stage(store, hooks=Setting(expiry=Expiry()), engine=engine)
    upload = await stage.uploads.create(length=10)
    await stage.patch(upload.id, 0, b"hello")
    stage.clock.advance(days=400)
    assert await stage.uploads.sweep() == 0
    assert (await store.get(upload.id)).expires is None
    assert (await stage.patch(upload.id, 5, b"world")).status == 204


async def test_an_upload_may_expire_where_others_do_not(store: Store) -> None:
    stage = make_stage(store, hooks=Setting(expiry=Expiry(initial=HOUR)))
    upload = await stage.uploads.create(length=10)
    assert "upload-expires" in (await stage.head(upload.id)).headers
    stage.clock.advance(hours=2)
    assert (await stage.head(upload.id)).status == 410
    assert await stage.uploads.sweep() == 1


async def test_an_expiry_that_the_store_cannot_keep_is_refused() -> None:
    uploads = Uploads(PlainStore(), hooks=Setting(expiry=Expiry(initial=HOUR)))
    with pytest.raises(ValueError, match="PlainStore cannot find and remove expired uploads"):
        await uploads.create(length=10)


async def test_facts_of_the_creation_are_kept_beside_those_of_the_first_bytes(
    store: Store,
) -> None:
    stage = make_stage(store, hooks=Setting(facts={"plan": "free", "kind": "unknown"}))
    upload = await stage.uploads.create(length=10)
    assert (await store.get(upload.id)).facts == {"plan": "free", "kind": "unknown"}
    await stage.patch(upload.id, 0, b"hello")
    assert (await store.get(upload.id)).facts == {"plan": "free", "kind": "audio"}


async def test_owner_and_limits_are_those_that_creating_sets(store: Store) -> None:
    stage = make_stage(store, hooks=Setting(owner="me", limits=Limits(max_size=9)))
    assert (await stage.uploads.create(length=9)).owner == "me"
    with pytest.raises(TooLarge):
        await stage.uploads.create(length=10)
