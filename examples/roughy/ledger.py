"""The ledger: what an asset costs, when it is charged, and what a top-up sets free."""

import uuid
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from examples.roughy.ids import uuid7
from examples.roughy.storage.tables import Account, Asset, LedgerEntry, State


def price_of(duration_ms: int) -> int:
    """One credit for each minute that was started, and an asset has at least one."""
    return max(1, -(-duration_ms // 60_000))


async def lock_account(session: AsyncSession, account_id: uuid.UUID) -> None:
    """Be the only one who changes the balance of this account until the transaction ends.

    Whatever takes this lock takes it first, so that no two transactions wait for each other.
    """
    account = select(Account.id).where(Account.id == account_id)
    # `key_share`: new rows may still refer to the account meanwhile.
    await session.execute(account.with_for_update(key_share=True))


async def balance_of(session: AsyncSession, account_id: uuid.UUID) -> int:
    total = select(func.sum(LedgerEntry.delta)).where(LedgerEntry.account_id == account_id)
    return int(await session.scalar(total) or 0)


async def settle(session: AsyncSession, asset: Asset, now: datetime) -> None:
    """Charge a prepared asset and make it ready, or leave it waiting for the next top-up.

    The account is locked by the caller.
    """
    assert asset.duration_ms is not None
    price = price_of(asset.duration_ms)
    if await balance_of(session, asset.account_id) < price:
        asset.state = State.PENDING_PAYMENT
        asset.unpaid_since = asset.unpaid_since or now
        return
    asset.state, asset.unpaid_since = State.READY, None
    session.add(
        LedgerEntry(
            id=uuid7(now),
            account_id=asset.account_id,
            type="consume_asset",
            delta=-price,
            asset_id=asset.id,
            created_at=now,
        )
    )
    await session.flush()


async def top_up(session: AsyncSession, account_id: uuid.UUID, amount: int, now: datetime) -> None:
    """Add credits, and spend them on what waits for them: strictly the oldest first.

    An asset that is still too dear keeps its place, and the younger ones wait behind it.
    """
    await lock_account(session, account_id)
    add_grant(session, account_id, amount, now)
    waiting = select(Asset).where(
        Asset.account_id == account_id, Asset.state == State.PENDING_PAYMENT
    )
    oldest_first = waiting.order_by(Asset.created_at, Asset.id).with_for_update()
    for asset in await session.scalars(oldest_first):
        await settle(session, asset, now)
        if asset.state != State.READY:
            return


def add_grant(session: AsyncSession, account_id: uuid.UUID, amount: int, now: datetime) -> None:
    session.add(
        LedgerEntry(
            id=uuid7(now),
            account_id=account_id,
            type="topup",
            delta=amount,
            grant_id=uuid7(now),
            created_at=now,
        )
    )
