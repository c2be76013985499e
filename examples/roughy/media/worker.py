"""Preparing assets: measure the media, then charge for it once and make the asset ready."""

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Literal, cast

import anyio

from examples.roughy.ledger import lock_account, settle
from examples.roughy.media.bell import Bell
from examples.roughy.media.claims import Claim, Claims
from examples.roughy.media.measuring import GaveUp, Interrupted, Outcome, measure, unreadable
from examples.roughy.storage.database import Database
from examples.roughy.storage.place import ReadableStore
from examples.roughy.storage.tables import Asset, State
from tusasgi import Upload, UploadNotFound, Uploads
from tusasgi.media import MediaFormat, measured

logger = logging.getLogger("roughy.worker")

_LOOK_SECONDS = 1.0
_RECORD_SECONDS = 2.0
_POLL_SECONDS = 0.1
_ATTEMPTS = 3


class Worker:
    """Takes assets in `processing` one after the other.

    Which they are is in the database alone, so a restart goes on with what was left, and a claim
    keeps two workers from the same work. Should two still do the same, the second finds the asset
    no longer in `processing` when it wants to write, and one charge per asset is a constraint of
    the ledger. A length is right whoever found it; that there is none counts only from the one who
    has the claim.
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
        self.claims = Claims(db)

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
        claim = await self.claims.take()
        if claim is None:
            return False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.claims.keep, claim)
            await self._prepare(claim)
            tasks.cancel_scope.cancel()
        return True

    async def _prepare(self, claim: Claim) -> None:
        try:
            upload = await self._complete(str(claim.asset_id))
            outcome = await measure(partial(self._store.read, upload), upload.offset)
        except UploadNotFound:
            await self.record(claim, unreadable("the bytes are gone"))
        except Interrupted as interruption:
            logger.warning("an asset is measured again: %s", interruption)
        except GaveUp as failure:
            logger.warning("measuring an asset came to no end: %s", failure)
            await self.record_attempt(claim)
        else:
            await self.record(claim, outcome)

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
                _correct_type(asset, outcome)
                await settle(session, asset, self._clock())
            elif await self.claims.holds(claim, asset, session):
                _fail(asset, outcome)

    async def record_attempt(self, claim: Claim) -> None:
        """Count an attempt that came to no end. With the third one the asset has failed; before
        that, the next one begins when the claim has lapsed.
        """
        async with self._db.writing() as session:
            asset = await session.get(Asset, claim.asset_id, with_for_update=True)
            if asset is None or asset.state != State.PROCESSING:
                return
            if not await self.claims.holds(claim, asset, session):
                return  # whoever has it now counts for himself
            asset.attempts += 1
            if asset.attempts >= _ATTEMPTS:
                _fail(asset, unreadable("the file cannot be measured"))


def _correct_type(asset: Asset, outcome: Outcome) -> None:
    """Say what the file is by its streams, which its first bytes may not have shown."""
    assert asset.type is not None  # its first bytes were accepted
    assert asset.content_type is not None and asset.extension is not None
    kind = cast("Literal['audio', 'video']", asset.type)
    found = MediaFormat(kind=kind, content_type=asset.content_type, extension=asset.extension)
    kinds = {stream.kind for stream in outcome.streams if not stream.is_picture}
    known = measured(found, demuxer=outcome.container, kinds=kinds)
    asset.type, asset.content_type, asset.extension = (
        known.kind,
        known.content_type,
        known.extension,
    )


def _fail(asset: Asset, outcome: Outcome) -> None:
    asset.state = State.FAILED
    asset.error_code = outcome.error_code
    asset.error_message = outcome.error_message
