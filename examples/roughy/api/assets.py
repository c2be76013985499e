"""`/v1/assets`: making an asset makes its upload."""

import uuid
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from examples.roughy.api.errors import InsufficientCredits, NotFound, PayloadTooLarge
from examples.roughy.api.links import Urls
from examples.roughy.api.paging import answer_page, parse_paging
from examples.roughy.api.projects import find_project
from examples.roughy.api.routing import resource
from examples.roughy.api.validation import Fields, path_id, read_json
from examples.roughy.api.wire import seconds_or_none, timestamp
from examples.roughy.ids import uuid7
from examples.roughy.keys import Keys
from examples.roughy.ledger import balance_of, lock_account
from examples.roughy.settings import MAX_SIZE, MIN_SIZE
from examples.roughy.storage.database import Database
from examples.roughy.storage.place import Place
from examples.roughy.storage.removals import Remover
from examples.roughy.storage.tables import Asset, State
from tusasgi import Upload, UploadNotFound, UploadPending, Uploads, creation_headers


class Assets:
    def __init__(
        self,
        db: Database,
        keys: Keys,
        uploads: Uploads,
        remover: Remover,
        urls: Urls,
        place: Place,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._keys = keys
        self._uploads = uploads
        self._remover = remover
        self._urls = urls
        self._place = place
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        one = "/v1/assets/{asset_id}"
        return [
            resource("/v1/assets", get=self.list, post=self.create),
            resource(one, get=self.read, delete=self.delete),
        ]

    async def create(self, request: Request) -> Response:
        """Refuse in the order 401, 415, 400, 422, 413, 404, 402, or make asset and upload."""
        account_id = await self._keys.authenticate(request)
        body = Fields("body", await read_json(request))
        body.only({"project_id", "size_bytes", "language"})
        project_id = body.uuid("project_id")
        size = body.integer("size_bytes", least=MIN_SIZE)
        language = body.language("language")
        body.check()
        if size > MAX_SIZE:
            raise PayloadTooLarge(f"size_bytes may be at most {MAX_SIZE}")
        async with self._db.reading() as session:
            await find_project(session, project_id, account_id)
            if await balance_of(session, account_id) <= 0:
                raise InsufficientCredits("there are no credits left")
        upload = await self._uploads.create(
            length=size, upload_id=str(uuid7(self._clock())), owner=str(account_id)
        )
        asset = await self._add(upload, account_id, project_id, language)
        headers = creation_headers(upload, self._urls.upload_url(request, asset.id))
        return JSONResponse(asset_json(asset), 201, headers)

    async def _add(
        self, upload: Upload, account_id: uuid.UUID, project_id: uuid.UUID, language: str | None
    ) -> Asset:
        """Add the row of an asset whose upload exists already.

        In this order, a process that dies in between leaves an upload that no answer has named
        and nobody can reach (`AssetHooks.authorize` asks for the row), and the sweeper removes
        it when it expires. The other way round it would leave an asset that never gets bytes.
        """
        asset = Asset(
            id=uuid.UUID(upload.id),
            account_id=account_id,
            project_id=project_id,
            state=State.PENDING_UPLOAD,
            language=language,
            created_at=upload.created,
        )
        try:
            async with self._db.writing() as session:
                session.add(asset)
        except IntegrityError:  # the project was deleted since we looked
            await self._uploads.discard(upload.id)
            raise NotFound("there is no such project") from None
        return asset

    async def list(self, request: Request) -> Response:
        account_id = await self._keys.authenticate(request)
        query = Fields("query", request.query_params)
        assets = select(Asset).where(Asset.account_id == account_id)
        if query.has("project_id"):
            assets = assets.where(Asset.project_id == query.uuid("project_id"))
        if state := query.choice("state", list(State)):
            assets = assets.where(Asset.state == state)
        paging = parse_paging(query)
        query.check()
        newest_first = (Asset.created_at.desc(), Asset.id.desc())
        async with self._db.reading() as session:
            return await answer_page(session, assets, newest_first, paging, item_json)

    async def read(self, request: Request) -> Response:
        account_id = await self._keys.authenticate(request)
        asset_id = path_id(request, "asset_id")
        async with self._db.reading() as session:
            asset = await find_asset(session, asset_id, account_id)
        if asset.state == State.PENDING_UPLOAD:
            await self._check_alive(asset)
        return JSONResponse({**asset_json(asset), **await self._addresses(request, asset)})

    async def _check_alive(self, asset: Asset) -> None:
        """An asset is gone with its upload: when that has expired, not when it is swept."""
        try:
            await self._uploads.get(str(asset.id))
        except UploadNotFound:
            raise NotFound("there is no such asset") from None
        except UploadPending:
            pass  # the last byte has just come

    async def _addresses(self, request: Request, asset: Asset) -> dict[str, str | None]:
        is_pending = asset.state == State.PENDING_UPLOAD
        is_ready = asset.state == State.READY
        return {
            "upload_url": self._urls.upload_url(request, asset.id) if is_pending else None,
            "download_url": await self._place.download_url(request, asset) if is_ready else None,
        }

    async def delete(self, request: Request) -> Response:
        """Remove the asset and its bytes, in whatever state it is."""
        account_id = await self._keys.authenticate(request)
        asset_id = path_id(request, "asset_id")
        async with self._db.writing() as session:
            await lock_account(session, account_id)
            asset = await find_asset(session, asset_id, account_id)
            removed = await self._remover.mark(session, Asset.id == asset.id)
        await self._remover.erase(removed)
        return Response(status_code=204)


async def find_asset(session: AsyncSession, asset_id: uuid.UUID, account_id: uuid.UUID) -> Asset:
    """Return the asset; what belongs to somebody else does not exist."""
    asset = await session.get(Asset, asset_id)
    if asset is None or asset.account_id != account_id:
        raise NotFound("there is no such asset")
    return asset


def item_json(asset: Asset) -> dict[str, object]:
    """As a list shows it."""
    return {
        "id": str(asset.id),
        "project_id": str(asset.project_id),
        "type": asset.type,
        "state": asset.state,
        "extension": asset.extension,
        "size_bytes": asset.size_bytes,
        "content_type": asset.content_type,
        "duration_seconds": seconds_or_none(asset.duration_ms),
        "language": asset.language,
        "created_at": timestamp(asset.created_at),
    }


def asset_json(asset: Asset) -> dict[str, object]:
    return {
        **item_json(asset),
        "error_code": asset.error_code,
        "error_message": asset.error_message,
    }
