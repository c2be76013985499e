"""`/downloads/{asset_id}`: the bytes of a ready asset, for whoever has a signed link."""

import uuid
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from tusasgi import FileInfo, Headers, Uploads, download
from tusasgi.stores import SupportsRead

from .db import Asset, Database, State
from .errors import Forbidden, NotFound
from .links import Links
from .routing import resource


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
        file = FileInfo(name=f"{asset_id}.{asset.extension}", content_type=asset.content_type or "")
        answer = download(upload, self._store, Headers(request.scope["headers"]), file)
        assert answer.stream is not None
        body = answer.stream if request.method == "GET" else _nothing()
        headers = {**answer.headers, "Cache-Control": "private, max-age=0"}
        return StreamingResponse(body, answer.status, headers)


async def _nothing() -> AsyncIterator[bytes]:
    """The body of an answer to HEAD."""
    return
    yield b""
