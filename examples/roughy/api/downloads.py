"""`/downloads/{asset_id}`: the bytes of a ready asset, for whoever has a signed link."""

import uuid
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

import tusasgi
from examples.roughy.api.errors import Forbidden, NotFound
from examples.roughy.api.links import Links
from examples.roughy.api.routing import resource
from examples.roughy.storage.database import Database
from examples.roughy.storage.tables import Asset, State
from tusasgi import FileInfo, Headers, Uploads, download, send_download
from tusasgi.stores import SupportsRead


class Downloads:
    def __init__(self, db: Database, uploads: Uploads, store: SupportsRead, links: Links) -> None:
        self._db = db
        self._uploads = uploads
        self._store = store
        self._links = links

    def routes(self) -> list[BaseRoute]:
        return [resource("/downloads/{asset_id}", get=self.read)]

    async def read(self, request: Request) -> Response:
        """Answer with the whole or, with `Range`, a part: players seek that way."""
        asset_id: str = request.path_params["asset_id"]
        query = request.query_params
        if not self._links.is_valid(asset_id, query.get("expires", ""), query.get("signature", "")):
            raise Forbidden("this link is not valid, or no longer: ask for the asset again")
        async with self._db.reading() as session:
            asset = await session.get(Asset, uuid.UUID(asset_id))
        if asset is None or asset.state != State.READY:
            raise NotFound("there is no such asset")
        upload = await self._uploads.get(asset_id)
        # Who asks may know what the file is called; what it is, the bytes have said.
        stem = query.get("filename", asset_id).removesuffix(f".{asset.extension}")
        file = FileInfo(name=f"{stem}.{asset.extension}", content_type=asset.content_type or "")
        answer = download(
            upload,
            self._store,
            Headers(request.scope["headers"]),
            file,
            is_head=request.method == "HEAD",
        )
        headers = {**answer.headers, "Cache-Control": "private, max-age=0"}
        return Sent(replace(answer, headers=headers))


class Sent(Response):
    """A download that ends with its client, and with one that takes nothing of it."""

    def __init__(self, answer: tusasgi.Response) -> None:
        super().__init__(status_code=answer.status, headers=answer.headers)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_download(self._answer, scope, receive, send)
