"""Removing what nobody wants any more: idle uploads, unpaid assets, remains of crashes."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import anyio
from sqlalchemy import and_

from tusasgi import Uploads

from .db import Asset, Database, State
from .removals import Remover

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
    ) -> None:
        self._db = db
        self._uploads = uploads
        self._remover = remover
        self._clock = clock

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

    async def _purge_unpaid(self) -> None:
        is_overdue = and_(
            Asset.state == State.PENDING_PAYMENT,
            Asset.unpaid_since < self._clock() - _UNPAID_FOR,
        )
        async with self._db.writing() as session:
            removed = await self._remover.mark(session, is_overdue)
        await self._remover.erase(removed)
