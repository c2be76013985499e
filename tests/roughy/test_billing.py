"""Checklist B: preparing an asset and paying for it."""

import asyncio
import uuid

import pytest
from sqlalchemy.exc import IntegrityError

from examples.roughy.ids import uuid7
from examples.roughy.ledger import price_of
from examples.roughy.media.claims import Claim
from examples.roughy.media.measuring import Outcome
from examples.roughy.storage.tables import Asset, LedgerEntry

from . import media
from .api import Api
from .conftest import ON_SQLITE

pytestmark = pytest.mark.anyio


async def test_readable_media_that_can_be_paid_becomes_ready(api: Api, mp4):  # B01
    asset = await api.prepared(mp4)
    assert (asset["state"], asset["duration_seconds"]) == ("ready", "2.000")
    assert await api.balance() == 99


@ON_SQLITE
@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(lambda: media.video(2)[:300], "unreadable_media", id="cut-off"),
        pytest.param(lambda: media.video(2)[:64] + bytes(5000), "unreadable_media", id="zeros"),
        pytest.param(
            lambda: media.audio(2.0, muxer="wav", codec="pcm_s16le")[:44].ljust(64, b"\0"),
            "unreadable_media",
            id="a-header-alone",
        ),
    ],
)
async def test_media_that_cannot_be_read_fails_for_nothing(api: Api, content, code):  # B02, U20
    asset = await api.prepared(content())
    assert asset["state"] == "failed"
    assert asset["error_code"] == code
    assert asset["error_message"]
    assert (asset["duration_seconds"], asset["download_url"]) == (None, None)
    assert await api.balance() == 100


@pytest.mark.parametrize(
    ("seconds", "credits"),
    [
        pytest.param(600, 10, id="10-minutes"),
        pytest.param(90, 2, id="90-seconds"),
        pytest.param(250, 5, id="4-minutes-10"),
        pytest.param(3782.413, 64, id="an-hour-and-more"),
        pytest.param(60, 1, id="a-minute"),
        pytest.param(60.001, 2, id="just-over"),
        pytest.param(0.04, 1, id="a-frame"),
        pytest.param(0, 1, id="no-time-at-all"),
    ],
)
async def test_each_started_minute_costs_a_credit(seconds, credits):  # B03
    assert price_of(round(seconds * 1000)) == credits


async def test_the_charge_comes_once_when_the_asset_is_ready(api: Api):  # B03, B04
    asset_id = await api.upload(media.video(61))
    assert await api.balance() == 100  # neither at the creation nor at the last byte
    await api.work()
    charges = [entry for entry in await api.history() if entry["type"] != "topup"]
    assert charges == [
        {
            "id": charges[0]["id"],
            "type": "consume_asset",
            "delta": -2,
            "asset_id": asset_id,
            "grant_id": None,
            "stripe_invoice_id": None,
            "created_at": charges[0]["created_at"],
        }
    ]
    assert await api.balance() == 98


async def test_two_workers_with_the_same_asset_charge_once(api: Api, start, mp4):  # B04
    second = await start()
    asset_id = await api.upload(mp4)
    async with api.roughy.db.reading() as session:
        asset = await session.get(Asset, uuid.UUID(asset_id))
    claim = Claim(uuid.uuid4(), asset.id, asset.account_id)
    workers = [api.roughy.worker, second.worker] * 4
    await asyncio.gather(
        *(worker.record(claim, Outcome(milliseconds=61_000)) for worker in workers)
    )
    assert (await api.asset(asset_id))["state"] == "ready"
    assert await api.balance() == 98


async def test_the_ledger_itself_takes_one_charge_per_asset(api: Api, roughy, mp4):  # B04
    asset = await api.prepared(mp4)
    async with roughy.db.reading() as session:
        account_id = (await session.get(Asset, uuid.UUID(asset["id"]))).account_id
    now = api.clock()
    with pytest.raises(IntegrityError):
        async with roughy.db.writing() as session:
            session.add(
                LedgerEntry(
                    id=uuid7(now),
                    account_id=account_id,
                    type="consume_asset",
                    delta=-1,
                    asset_id=uuid.UUID(asset["id"]),
                    created_at=now,
                )
            )
    assert await api.balance() == 99


async def test_many_assets_at_once_never_overdraw(api: Api, start, mp4):
    """Settled by several workers at the same time, with credits for three of them."""
    second = await start()
    project_id = await api.new_project()
    claims = []
    for _ in range(6):
        asset_id = await api.upload(mp4, project_id=project_id)
        async with api.roughy.db.reading() as session:
            asset = await session.get(Asset, uuid.UUID(asset_id))
        claims.append(Claim(uuid.uuid4(), asset.id, asset.account_id))
    await api.set_balance(3)
    workers = [api.roughy.worker, second.worker] * 3
    await asyncio.gather(
        *(
            worker.record(claim, Outcome(milliseconds=1000))
            for worker, claim in zip(workers, claims, strict=True)
        )
    )
    assert await api.balance() == 0
    assert (await api.get("/v1/assets", state="ready")).json()["total"] == 3
    assert (await api.get("/v1/assets", state="pending_payment")).json()["total"] == 3


async def test_an_asset_that_cannot_be_paid_waits_with_its_bytes(api: Api):  # B05
    content = media.video(61)
    await api.set_balance(1)
    asset = await api.prepared(content)
    assert (asset["state"], asset["duration_seconds"]) == ("pending_payment", "61.000")
    assert (asset["size_bytes"], asset["download_url"]) == (len(content), None)
    assert await api.balance() == 1
    head = await api.head(f"/v1/uploads/{asset['id']}")
    assert head.headers["upload-offset"] == str(len(content))


async def test_a_top_up_pays_for_the_oldest_first(api: Api, mp4):  # B06
    project_id = await api.new_project()
    dear = media.video(121)
    waiting = []
    for content in (mp4, dear, mp4):
        waiting.append(await api.upload(content, project_id=project_id))
    await api.set_balance(0)
    await api.work()

    async def states():
        return [(await api.asset(asset_id))["state"] for asset_id in waiting]

    assert await states() == ["pending_payment"] * 3
    await api.top_up(2)
    # One is left, which would do for the last: but it is not its turn.
    assert await states() == ["ready", "pending_payment", "pending_payment"]
    assert await api.balance() == 1
    await api.top_up(3)
    assert await states() == ["ready"] * 3
    assert await api.balance() == 0


async def test_what_nobody_pays_for_30_days_is_purged(api: Api, roughy, clock, mp4):  # B07
    project_id = await api.new_project()
    asset_id = await api.upload(mp4, project_id=project_id)
    await api.set_balance(0)
    before = await api.stored()
    clock.advance(days=5)  # counts from when it was due, not from its creation
    await api.work()
    clock.advance(days=30, seconds=-5)
    await roughy.sweeper.sweep()
    assert (await api.asset(asset_id))["state"] == "pending_payment"
    clock.advance(seconds=10)
    await roughy.sweeper.sweep()
    assert await api.stored() == {**before, "assets": [], "files": {}}


async def test_the_balance_is_the_sum_of_the_ledger(api: Api, other: Api, mp4):  # B08, B09
    await api.prepared(mp4)
    await api.top_up(7)
    await api.set_balance(3)
    history = await api.history()
    assert [entry["type"] for entry in history] == [
        "adjustment",
        "topup",
        "consume_asset",
        "topup",
    ]
    assert sum(entry["delta"] for entry in history) == await api.balance() == 3
    page = (await api.get("/v1/credits/history", limit=2, offset=1)).json()
    assert page == {"items": history[1:3], "total": 4, "limit": 2, "offset": 1}
    assert await other.balance() == 100


async def test_a_new_account_is_given_its_credits_once(start, api: Api):
    await start()
    await start(ROUGHY_INITIAL_CREDITS="5")
    assert await api.balance() == 100
    history = await api.history()
    assert [(entry["type"], entry["delta"]) for entry in history] == [("topup", 100)]
    assert uuid.UUID(history[0]["grant_id"]).version == 7


async def test_an_asset_deleted_while_it_is_measured_costs_nothing(api: Api, mp4):
    asset_id = await api.upload(mp4)
    async with api.roughy.db.reading() as session:
        asset = await session.get(Asset, uuid.UUID(asset_id))
    await api.call("DELETE", f"/v1/assets/{asset_id}")
    claim = Claim(uuid.uuid4(), asset.id, asset.account_id)
    await api.roughy.worker.record(claim, Outcome(milliseconds=1000))
    assert await api.balance() == 100
    assert (await api.get("/v1/assets")).json()["total"] == 0
