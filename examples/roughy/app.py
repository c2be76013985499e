"""Where the parts of Roughy are put together: the first file to read."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from examples.roughy.api import document
from examples.roughy.api.assets import Assets
from examples.roughy.api.cors import with_cors
from examples.roughy.api.credits import Credits
from examples.roughy.api.errors import ERROR_HANDLERS, render
from examples.roughy.api.links import Urls
from examples.roughy.api.pages import Pages
from examples.roughy.api.projects import Projects
from examples.roughy.api.routing import resource
from examples.roughy.hooks import AssetHooks
from examples.roughy.keys import Keys
from examples.roughy.media.bell import Bell
from examples.roughy.media.measuring import check_measuring
from examples.roughy.media.worker import Worker
from examples.roughy.server.logs import without_signatures
from examples.roughy.server.options import bucket_of, monitoring_of
from examples.roughy.server.stopping import stopped_by_signal
from examples.roughy.settings import MAX_SIZE, MIN_SIZE, Settings
from examples.roughy.storage.accounts import ensure_keys, own_key
from examples.roughy.storage.database import Database
from examples.roughy.storage.folder import Folder
from examples.roughy.storage.removals import Remover
from examples.roughy.storage.sweeper import Sweeper
from tusasgi import Expiry, Limits, TusApp, Uploads

_WORKERS = 2


def utc_now() -> datetime:
    return datetime.now(UTC)


class Roughy:
    """Everything that one process of Roughy consists of. `app` is the ASGI application."""

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings = settings
        self._clock = clock
        self._is_started = False
        urls = Urls(settings.public_url)
        bell = Bell()
        self.db = Database(settings.database_url)
        keys = Keys(self.db)
        self._place = bucket_of(settings, clock) or Folder(settings.data, urls, clock)
        self.store = self._place.store
        monitoring = monitoring_of(settings, self.db, self._place)
        self.uploads = Uploads(
            self.store,
            locker=self._place.locker,
            hooks=AssetHooks(self.db, keys, bell),
            limits=Limits(max_size=MAX_SIZE, min_size=MIN_SIZE),
            expiry=Expiry(
                initial=settings.upload_expires_after,
                after_append=settings.upload_idle_after,
                hide=True,
            ),
            clock=clock,
            observer=None if monitoring is None else monitoring.metrics,
        )
        remover = Remover(self.db, self.uploads)
        self.worker = Worker(self.db, self.uploads, self.store, bell, clock)
        self.sweeper = Sweeper(
            self.db,
            self.uploads,
            remover,
            clock,
            upload_expires_after=settings.upload_expires_after,
        )
        routes = [
            # Before the pages, whose `/health` looks at the database alone.
            *(monitoring.routes() if monitoring is not None else ()),
            *Projects(self.db, keys, remover, clock).routes(),
            *Assets(self.db, keys, self.uploads, remover, urls, self._place, clock).routes(),
            *_upload_routes(self.uploads),
            *Credits(self.db, keys).routes(),
            *self._place.routes(self.db, self.uploads),
            resource("/openapi.json", get=document.read),
            *Pages(self.db).routes(),
        ]
        starlette = Starlette(
            routes=routes, exception_handlers=ERROR_HANDLERS, lifespan=self._lifespan
        )
        self.app = with_cors(starlette, settings.cors_origins)

    async def start(self) -> None:
        """See once that all we need is there; raise what is wrong, and hold on to nothing then."""
        if self._is_started:
            return
        try:
            await check_measuring()
            await self.prepare()
        except BaseException:
            await self.close()
            raise
        self._is_started = True

    async def prepare(self) -> None:
        """Make tables and accounts as far as they are missing, and see that bytes can be kept."""
        await self._place.open()
        await self.db.prepare()
        await ensure_keys(
            self.db,
            self.settings.api_keys or [own_key(self.settings)],
            initial_credits=self.settings.initial_credits,
            now=self._clock(),
        )

    async def close(self) -> None:
        """Let go of all connections."""
        self._is_started = False
        await self._place.close()
        await self.db.close()

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self.start()
        with stopped_by_signal(self.uploads), without_signatures():
            async with anyio.create_task_group() as tasks:
                for _ in range(_WORKERS):
                    tasks.start_soon(self.worker.run)
                tasks.start_soon(self.sweeper.run)
                yield
                tasks.cancel_scope.cancel()
        await self.close()


def _upload_routes(uploads: Uploads) -> list[BaseRoute]:
    """The transfer endpoint; uploads are created by `POST /v1/assets` alone."""
    path = "/v1/uploads"
    app = TusApp(
        uploads,
        prefix=path,
        without={"creation", "checksum"},
        idempotent_delete=True,
        render_error=render,
    )
    # A Mount alone would redirect the path without a slash at its end.
    return [Route(path, app), Mount(path, app)]


def create_app() -> ASGIApp:
    """Make the app from the environment, for `uvicorn --factory examples.roughy.app:create_app`."""
    data = Path(os.environ.get("ROUGHY_DATA", "roughy-data"))
    settings = Settings.of(data, os.environ)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Roughy(settings).app
