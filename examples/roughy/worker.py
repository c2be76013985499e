"""Preparing assets: measure the media, then charge for it once and make the asset ready."""

import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import anyio
from sqlalchemy import or_, select, update

from tusasgi import Upload, UploadNotFound, Uploads

from .bell import Bell
from .db import Asset, Database, State
from .ledger import lock_account, settle
from .measuring import Outcome, measure, unreadable
from .place import ReadableStore

logger = logging.getLogger("roughy.worker")

_CLAIM = timedelta(seconds=6)
_RENEW_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_RECORD_SECONDS = 2.0
_POLL_SECONDS = 0.1


class Claim(NamedTuple):
    asset_id: uuid.UUID
    account_id: uuid.UUID


class Worker:
    """Takes assets in `processing` one after the other.

    Which they are is in the database alone, so a restart goes on with what was left. A claim
    keeps two workers, also of two processes, from the same work; it is renewed while the work
    goes on and lapses with its worker. Should two still do the same, the second finds the
    asset no longer in `processing` when it wants to write, and one charge per asset is a
    constraint of the ledger.
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
        self._id = uuid.uuid4()

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
        now = self._clock()
        is_free = or_(Asset.claimed_until.is_(None), Asset.claimed_until < now)
        oldest = (
            select(Asset.id, Asset.account_id)
            .where(Asset.state == State.PROCESSING, is_free)
            .order_by(Asset.created_at, Asset.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        async with self._db.writing() as session:
            found = (await session.execute(oldest)).one_or_none()
            if found is None:
                return None
            claim = Claim(*found)
            await session.execute(
                update(Asset)
                .where(Asset.id == claim.asset_id)
                .values(claimed_by=self._id, claimed_until=now + _CLAIM)
            )
        return claim

    async def _keep(self, claim: Claim) -> None:
        """Renew the claim again and again."""
        mine = (Asset.id == claim.asset_id, Asset.claimed_by == self._id)
        while True:
            await anyio.sleep(_RENEW_SECONDS)
            async with self._db.writing() as session:
                until = self._clock() + _CLAIM
                await session.execute(update(Asset).where(*mine).values(claimed_until=until))

    async def _prepare(self, claim: Claim) -> None:
        try:
            upload = await self._complete(str(claim.asset_id))
            outcome = await measure(partial(self._store.read, upload), upload.offset)
        except UploadNotFound:
            outcome = unreadable("the bytes are gone")
        await self.record(claim, outcome)

    async def _complete(self, upload_id: str) -> Upload:
        """Return the upload once its record says that it is complete.

        The process that took the last byte is about to write that down, and would find it
        changed if we were faster. If it died before, we do it in its place.
        """
        with anyio.move_on_after(_RECORD_SECONDS):
            while (await self._store.get(upload_id)).is_unsettled:  # noqa: ASYNC110 - no event
                await anyio.sleep(_POLL_SECONDS)
        return await self._uploads.get(upload_id)

    async def record(self, claim: Claim, outcome: Outcome) -> None:
        """Write the outcome and settle the charge, both or neither."""
        async with self._db.writing() as session:
            await lock_account(session, claim.account_id)
            asset = await session.get(Asset, claim.asset_id, with_for_update=True)
            if asset is None or asset.state != State.PROCESSING:
                return  # deleted, or somebody else was first
            if outcome.milliseconds is None:
                asset.state = State.FAILED
                asset.error_code = outcome.error_code
                asset.error_message = outcome.error_message
            else:
                asset.duration_ms = outcome.milliseconds
                await settle(session, asset, self._clock())
