"""Removing what nobody wants any more: idle uploads, unpaid assets, remains of crashes."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import anyio
from sqlalchemy import and_, delete, select

from examples.roughy.storage.database import Database
from examples.roughy.storage.removals import Remover
from examples.roughy.storage.tables import Asset, State
from tusasgi import UploadNotFound, Uploads

logger = logging.getLogger("roughy.sweeper")

_UNPAID_FOR = timedelta(days=30)
_INTERVAL = 60.0


class Sweeper:
    """Any number of processes may sweep at once."""

    def __init__(
        self,
        db: Database,
        uploads: Uploads,
        remover: Remover,
        clock: Callable[[], datetime],
        *,
        upload_expires_after: timedelta,
    ) -> None:
        self._db = db
        self._uploads = uploads
        self._remover = remover
        self._clock = clock
        self._upload_expires_after = upload_expires_after

    async def run(self) -> None:
        """Sweep every minute until cancelled."""
        while True:
            try:
                await self.sweep()
            except* Exception:  # whatever it was must not end all sweeping
                logger.exception("something could not be removed; it is tried again")
            await anyio.sleep(_INTERVAL)

    async def sweep(self) -> None:
        await self._remover.erase_marked()
        await self._purge_unpaid()
        await self._uploads.sweep()  # calls `AssetHooks.expired` for each
        await self._forget_lost()

    async def _purge_unpaid(self) -> None:
        is_overdue = and_(
            Asset.state == State.PENDING_PAYMENT,
            Asset.unpaid_since < self._clock() - _UNPAID_FOR,
        )
        async with self._db.writing() as session:
            removed = await self._remover.mark(session, is_overdue)
        await self._remover.erase(removed)

    async def _forget_lost(self) -> None:
        """Delete assets that wait for bytes and have no upload any more.

        A power cut may take an upload of which nothing was flushed yet, and leave the asset. That
        is noticed when the upload would have expired.
        """
        is_waiting = Asset.state == State.PENDING_UPLOAD
        is_old = Asset.created_at < self._clock() - self._upload_expires_after
        async with self._db.reading() as session:
            waiting = list(await session.scalars(select(Asset.id).where(is_waiting, is_old)))
        for asset_id in waiting:
            try:
                await self._uploads.store.get(str(asset_id))
            except UploadNotFound:
                async with self._db.writing() as session:
                    await session.execute(delete(Asset).where(Asset.id == asset_id, is_waiting))
