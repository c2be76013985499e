"""Preparing assets: measure the media, then charge for it once and make the asset ready."""

import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import anyio
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from examples.roughy.ledger import lock_account, settle
from examples.roughy.media.bell import Bell
from examples.roughy.media.measuring import GivenUp, Interrupted, Outcome, measure, unreadable
from examples.roughy.storage.database import Asset, Database, GivenUpAsset, State
from examples.roughy.storage.place import ReadableStore
from tusasgi import Upload, UploadNotFound, Uploads

logger = logging.getLogger("roughy.worker")

_CLAIM = timedelta(seconds=6)
_RENEW_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_RECORD_SECONDS = 2.0
_POLL_SECONDS = 0.1
_TIMES_TO_TRY = 3


class Claim(NamedTuple):
    id: uuid.UUID
    asset_id: uuid.UUID
    account_id: uuid.UUID


class Worker:
    """Takes assets in `processing` one after the other.

    Which they are is in the database alone, so a restart goes on with what was left. A claim
    keeps two workers, also of two processes, from the same work; it is renewed while the work
    goes on and lapses with its worker. Should two still do the same, the second finds the
    asset no longer in `processing` when it wants to write, and one charge per asset is a
    constraint of the ledger. A length is right whoever found it; that there is none counts
    only from the one who has the claim.
    """

    def __init__(
        self,
        db: Database,
        uploads: Uploads,
        store: ReadableStore,
        bell: Bell,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._uploads = uploads
        self._store = store
        self._bell = bell
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled; look for what other processes left every second."""
        while True:
            try:
                while await self.prepare_next():
                    pass
            except* Exception:  # one asset that fails in a new way must not stop the others
                logger.exception("an asset could not be prepared; it is tried again")
            await self._bell.wait(_LOOK_SECONDS)

    async def prepare_next(self) -> bool:
        """Prepare one asset; False if none is waiting."""
        claim = await self.claim()
        if claim is None:
            return False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep, claim)
            await self._prepare(claim)
            tasks.cancel_scope.cancel()
        return True

    async def claim(self) -> Claim | None:
        """Take the oldest asset that no living worker has; None if there is none."""
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
                .values(claimed_by=claim.id, claimed_until=now + _CLAIM)
            )
        return claim

    async def _keep(self, claim: Claim) -> None:
        """Renew the claim again and again."""
        mine = (Asset.id == claim.asset_id, Asset.claimed_by == claim.id)
        while True:
            await anyio.sleep(_RENEW_SECONDS)
            async with self._db.writing() as session:
                until = await self._db.now(session) + _CLAIM
                await session.execute(update(Asset).where(*mine).values(claimed_until=until))

    async def _prepare(self, claim: Claim) -> None:
        try:
            upload = await self._complete(str(claim.asset_id))
            outcome = await measure(partial(self._store.read, upload), upload.offset)
        except UploadNotFound:
            outcome = unreadable("the bytes are gone")
        except Interrupted as interruption:
            logger.warning("an asset is measured again: %s", interruption)
            if not isinstance(interruption, GivenUp) or await self._may_try_again(claim):
                return  # when the claim has lapsed
            outcome = unreadable("the file takes too long to measure, or too much memory")
        await self.record(claim, outcome)

    async def _may_try_again(self, claim: Claim) -> bool:
        """Count in the database: what kills the program may well take us along, too."""
        async with self._db.writing() as session:
            asset = await session.get(Asset, claim.asset_id, with_for_update=True)
            if asset is None or not await self._is_claimed(asset, claim, session):
                return True  # and who has it now counts for himself
            given_up = await session.get(GivenUpAsset, claim.asset_id)
            if given_up is None:
                given_up = GivenUpAsset(asset_id=claim.asset_id, times=0)
                session.add(given_up)
            given_up.times += 1
            return given_up.times < _TIMES_TO_TRY

    async def _is_claimed(self, asset: Asset, claim: Claim, session: AsyncSession) -> bool:
        """Whether the claim still holds; the row is locked by the caller."""
        if asset.claimed_by != claim.id or asset.claimed_until is None:
            return False
        return asset.claimed_until >= await self._db.now(session)

    async def _complete(self, upload_id: str) -> Upload:
        """Return the upload once its record says that it is complete.

        The process that took the last byte is about to write that down, and would find it
        changed if we were faster. If it died before, we do it in its place.
        """
        with anyio.move_on_after(_RECORD_SECONDS):
            while (await self._store.get(upload_id)).is_pending:  # noqa: ASYNC110 - no event
                await anyio.sleep(_POLL_SECONDS)
        return await self._uploads.get(upload_id)

    async def record(self, claim: Claim, outcome: Outcome) -> None:
        """Write the outcome and settle the charge, both or neither."""
        async with self._db.writing() as session:
            await lock_account(session, claim.account_id)
            asset = await session.get(Asset, claim.asset_id, with_for_update=True)
            if asset is None or asset.state != State.PROCESSING:
                return  # deleted, or somebody else was first
            if outcome.milliseconds is not None:
                asset.duration_ms = outcome.milliseconds
                await settle(session, asset, self._clock())
            elif await self._is_claimed(asset, claim, session):
                asset.state = State.FAILED
                asset.error_code = outcome.error_code
                asset.error_message = outcome.error_message
