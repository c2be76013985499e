"""Claims: which worker has which asset.

They are in the database alone, so that they keep apart the workers of all processes. A claim is
renewed while the work goes on, and lapses with its worker.
"""

import uuid
from datetime import timedelta
from typing import NamedTuple

import anyio
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from examples.roughy.storage.database import Database
from examples.roughy.storage.tables import Asset, State

_LASTS = timedelta(seconds=6)
_RENEW_SECONDS = 2.0


class Claim(NamedTuple):
    id: uuid.UUID
    asset_id: uuid.UUID
    account_id: uuid.UUID


class Claims:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def take(self) -> Claim | None:
        """Claim the oldest asset that no living worker has; None if there is none."""
        async with self._db.writing() as session:
            now = await self._db.now(session)
            is_free = or_(Asset.claimed_until.is_(None), Asset.claimed_until < now)
            oldest = (
                select(Asset.id, Asset.account_id)
                .where(Asset.state == State.PROCESSING, is_free)
                .order_by(Asset.created_at, Asset.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            found = (await session.execute(oldest)).one_or_none()
            if found is None:
                return None
            claim = Claim(uuid.uuid4(), *found)
            await session.execute(
                update(Asset)
                .where(Asset.id == claim.asset_id)
                .values(claimed_by=claim.id, claimed_until=now + _LASTS)
            )
        return claim

    async def keep(self, claim: Claim) -> None:
        """Renew the claim again and again."""
        mine = (Asset.id == claim.asset_id, Asset.claimed_by == claim.id)
        while True:
            await anyio.sleep(_RENEW_SECONDS)
            async with self._db.writing() as session:
                until = await self._db.now(session) + _LASTS
                await session.execute(update(Asset).where(*mine).values(claimed_until=until))

    async def holds(self, claim: Claim, asset: Asset, session: AsyncSession) -> bool:
        """Whether the claim has not lapsed; the row is locked by the caller."""
        if asset.claimed_by != claim.id or asset.claimed_until is None:
            return False
        return asset.claimed_until >= await self._db.now(session)
