"""Removing assets: from the database at once, then their bytes, whatever happens in between."""

import uuid
from collections.abc import Iterable

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from examples.roughy.storage.database import Database
from examples.roughy.storage.tables import Asset, Removal
from tusasgi import StoreUnavailable, UploadLocked, UploadNotFound, Uploads


class Remover:
    """First `mark` within a transaction, then `erase` outside of it.

    A process that dies between the two leaves marks, and the next sweep erases what they name.
    """

    def __init__(self, db: Database, uploads: Uploads) -> None:
        self._db = db
        self._uploads = uploads

    async def mark(self, session: AsyncSession, which: ColumnElement[bool]) -> list[uuid.UUID]:
        """Delete the rows of some assets and note that their bytes have to go."""
        removed = list(await session.scalars(delete(Asset).where(which).returning(Asset.id)))
        if removed:
            await session.execute(insert(Removal), [{"upload_id": id} for id in removed])
        return removed

    async def erase(self, upload_ids: Iterable[uuid.UUID]) -> None:
        """Remove the bytes; who is still sending some is stopped.

        A request may wait for this. So a store that does not answer is waited for once, and not
        once for each upload.
        """
        for upload_id in upload_ids:
            try:
                await self._uploads.terminate(str(upload_id))
            except UploadNotFound:
                pass  # removed before, and only the mark was left
            except UploadLocked:
                continue  # the next sweep comes back to it
            except StoreUnavailable:
                return  # and to this one and all others
            async with self._db.writing() as session:
                await session.execute(delete(Removal).where(Removal.upload_id == upload_id))

    async def erase_marked(self) -> None:
        """Finish what a process that died has left, or an outage of the store.

        In any order: should the store fail for one of them each time, it must not be in the way
        of the others.
        """
        async with self._db.reading() as session:
            left = list(await session.scalars(select(Removal.upload_id).order_by(func.random())))
        await self.erase(left)
