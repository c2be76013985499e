"""What the upload engine asks us: whose upload is it, what is in it, what now?"""

import contextlib
import uuid
from collections.abc import Mapping

from sqlalchemy import ColumnElement, delete, select, update

from examples.roughy.api.errors import Conflict, FieldError, ValidationFailed
from examples.roughy.ids import parse_uuid
from examples.roughy.keys import Keys
from examples.roughy.media.bell import Bell
from examples.roughy.storage.database import Database
from examples.roughy.storage.tables import Asset, State
from tusasgi import (
    Fact,
    Hooks,
    Operation,
    Request,
    TryAgain,
    TusError,
    UnsupportedMedia,
    Upload,
    UploadNotFound,
)
from tusasgi.media import HEAD_SIZE, MIN_HEAD_SIZE, inspect_head

UNSUPPORTED = "unsupported_media"
_NOT_MEDIA = "the file is in no audio or video format that is supported"


class NotMedia(Conflict):
    """The first bytes are of no supported format."""


class AssetHooks(Hooks):
    """Ties each upload to the asset of the same id."""

    head_size = HEAD_SIZE
    min_head_size = MIN_HEAD_SIZE

    def __init__(self, db: Database, keys: Keys, bell: Bell) -> None:
        self._db = db
        self._keys = keys
        self._bell = bell

    async def authorize(
        self, request: Request, operation: Operation, upload: Upload | None
    ) -> None:
        """Let the owner in. For everybody else there is no upload, in the same words."""
        account_id = await self._keys.account_of(request.headers.get("authorization"))
        if upload is None:
            _check_id(request.path)
            return  # 404 by the engine
        if upload.owner != str(account_id):
            raise UploadNotFound("there is no such upload")
        state = await self._state_of(upload)
        if state is None:
            raise UploadNotFound("there is no such upload")
        if operation is Operation.TERMINATE and state != State.PENDING_UPLOAD:
            raise Conflict("the upload is finished: delete the asset instead")

    async def _state_of(self, upload: Upload) -> str | None:
        """None if the asset is gone, or refused and all but its upload gone."""
        async with self._db.reading() as session:
            asset = await session.get(Asset, uuid.UUID(upload.id))
        if asset is None or asset.error_code == UNSUPPORTED:
            return None
        return asset.state

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        """Find out what kind of media it is, or refuse it."""
        try:
            media = await inspect_head(head)
        except UnsupportedMedia:
            # 409 as documented, not 415. Clients that retry a 409 then get 404 from HEAD.
            raise NotMedia(_NOT_MEDIA) from None
        await self._note(
            upload,
            type=media.kind,
            content_type=media.content_type,
            extension=media.extension,
            size_bytes=upload.length,
        )
        return media.facts

    async def refused(self, upload: Upload, refusal: TusError) -> None:
        """Let the asset say why: its client may never see the answer to its PATCH."""
        if not isinstance(refusal, NotMedia):
            return
        with contextlib.suppress(UploadNotFound):  # the asset was deleted meanwhile
            await self._note(
                upload,
                state=State.FAILED,
                error_code=UNSUPPORTED,
                error_message=_NOT_MEDIA,
            )

    async def completed(self, upload: Upload) -> None:
        """Hand the asset to a worker. May be called again, and for an asset just deleted."""
        try:
            await self._note(upload, state=State.PROCESSING)
        except UploadNotFound:  # and what removes the asset will remove the upload as well
            raise TryAgain("the asset of this upload is being deleted") from None
        self._bell.ring()

    async def _note(self, upload: Upload, **values: object) -> None:
        """Write to the asset while it is waiting for bytes; later it is a worker's."""
        is_it = Asset.id == uuid.UUID(upload.id)
        async with self._db.writing() as session:
            await session.execute(update(Asset).where(*_waiting(upload)).values(**values))
            state = await session.scalar(select(Asset.state).where(is_it))
        if state is None:
            raise UploadNotFound("there is no such upload")

    async def terminating(self, upload: Upload) -> None:
        """Refuse to cancel what is finished: the last byte may have come since `authorize`."""
        if await self._state_of(upload) not in (None, State.PENDING_UPLOAD):
            raise Conflict("the upload is finished: delete the asset instead")

    async def terminated(self, upload: Upload) -> None:
        """Remove the asset of a cancelled upload; a refused one stays, to say why."""
        await self.expired(upload)

    async def expired(self, upload: Upload) -> None:
        """Remove the asset that never got all its bytes."""
        async with self._db.writing() as session:
            await session.execute(delete(Asset).where(*_waiting(upload)))


def _waiting(upload: Upload) -> tuple[ColumnElement[bool], ...]:
    """Which asset it is, as long as it is waiting for bytes."""
    return Asset.id == uuid.UUID(upload.id), Asset.state == State.PENDING_UPLOAD


def _check_id(path: str) -> None:
    """Say that an id cannot be one, to those who may know."""
    if parse_uuid(path.rstrip("/").rpartition("/")[2]) is None:
        raise ValidationFailed(
            "not valid: path.upload_id",
            fields=[FieldError("path.upload_id", "must be a UUID")],
        )
