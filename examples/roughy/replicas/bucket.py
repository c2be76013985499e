"""Bytes in a bucket of an S3 server, for any number of processes on any number of machines."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from botocore.exceptions import BotoCoreError, ClientError
from starlette.requests import Request
from starlette.routing import BaseRoute

from examples.roughy.api.errors import Unavailable
from examples.roughy.settings import DOWNLOAD_SECONDS, BucketSettings, SettingsError
from examples.roughy.storage.database import Database
from examples.roughy.storage.tables import Asset
from tusasgi import StoreUnavailable, TusError, Upload, UploadNotFound, Uploads
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.stores.s3 import S3Object, S3Store

logger = logging.getLogger("roughy.bucket")

_NOBODY = "00000000-0000-0000-0000-000000000000"


class Bucket:
    """The S3 server gives the bytes to links that are signed for it; none pass through Roughy.

    The store replaces the state of an upload by compare-and-swap, so processes need no locker
    in common: that of a process spares its own requests from getting in each other's way.
    """

    def __init__(self, settings: BucketSettings, clock: Callable[[], datetime]) -> None:
        self.store = S3Store(
            settings.url,
            clock=clock,
            describe=object_of,
            endpoint_url=settings.endpoint_url,
            key=settings.key,
            secret=settings.secret,
            token=settings.token,
            client_kwargs={"region_name": settings.region},
        )
        self.locker = MemoryLocker()

    async def open(self) -> None:
        try:
            await self.store.open()
        except StoreUnavailable as away:
            logger.warning(
                "The object storage cannot be reached for now; the first request tries again: %s",
                _reason(away),
            )
        except (TusError, BotoCoreError, ClientError, RuntimeError) as error:
            raise SettingsError(f"ROUGHY_STORE cannot be used: {_reason(error)}") from error

    async def close(self) -> None:
        await self.store.aclose()

    async def check(self) -> None:
        try:
            await self.store.get(_NOBODY)
        except UploadNotFound:
            return
        except (TusError, BotoCoreError, ClientError):
            raise Unavailable("the object storage does not answer as it should") from None

    async def download_url(self, request: Request, asset: Asset) -> str:
        upload = await self.store.get(str(asset.id))
        return await self.store.link(upload, seconds=DOWNLOAD_SECONDS)

    def routes(self, db: Database, uploads: Uploads) -> Sequence[BaseRoute]:
        return ()


def _reason(error: Exception) -> str:
    # A time-out has no words of its own.
    return str(error.__cause__ or "") or str(error)


def object_of(upload: Upload) -> S3Object:
    """Say how the bytes are stored, which is also how a download presents them.

    Type and extension are those that the inspection found, not what a client said. Sound and
    pictures may be shown in place: no browser runs anything in them.
    """
    content_type = str(upload.facts["content_type"])
    name = f"{upload.id}.{upload.facts['extension']}"
    is_shown = content_type.startswith(("audio/", "video/"))
    return S3Object(
        key=f"assets/{name}",
        content_type=content_type,
        content_disposition=f'{"inline" if is_shown else "attachment"}; filename="{name}"',
        metadata={"kind": str(upload.facts["type"])},
    )
