"""The app of a worker: uploads, downloads, CORS, and the sweeper beside them."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from types import FrameType

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tusasgi import TusApp, Uploads, __version__
from tusasgi.server.access import make_credentials
from tusasgi.server.connections import (
    LIMITS_UNTAKEN,
    UNTAKEN_SECONDS,
    limit_untaken,
    watch_descriptors,
)
from tusasgi.server.cors import cors_middleware
from tusasgi.server.page import upload_page
from tusasgi.server.proxies import ProxyHeaders, has_proxy_headers
from tusasgi.server.request_ids import RequestIds
from tusasgi.server.running import Running, counters
from tusasgi.server.settings import FOR_WORKERS, Settings
from tusasgi.server.storage import closing, connect, make_uploads
from tusasgi.server.sweeper import sweep_again_and_again, sweep_interval
from tusasgi.server.watched_file import watch


def create_app() -> Starlette:
    """Build the app by the settings in the environment, in the process that will run it."""
    return build_app(Settings.load(os.environ[FOR_WORKERS]))


def build_app(settings: Settings) -> Starlette:
    credentials = make_credentials(settings)
    running = Running() if settings.page and settings.monitor is not None else None
    uploads = make_uploads(settings, credentials, running)
    requests = Requests()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        _shut_down_by_signal(uploads, settings.shutdown_timeout)
        _end_with_parent()
        if not settings.check_bucket:  # what was away at the check is not waited for
            await connect(uploads.store)
        async with closing(uploads.store, uploads.hooks), anyio.create_task_group() as tasks:
            tasks.start_soon(sweep_again_and_again, uploads, sweep_interval(settings))
            tasks.start_soon(uploads.deliver)
            tasks.start_soon(watch_descriptors)
            if running is not None:
                tasks.start_soon(running.keep_written, counters())
            tasks.start_soon(watch, [file for kind in credentials for file in kind.files])
            if settings.unix_socket is None:
                tasks.start_soon(limit_untaken, settings.port)
            yield
            await requests.ended()
            tasks.cancel_scope.cancel()

    return Starlette(
        routes=_pages(settings),
        middleware=[
            Middleware(requests.counted),
            Middleware(RequestIds),
            Middleware(WholeServer, path=settings.path),
            *cors_middleware(settings),
            Middleware(ProxyHeaders, believed=settings.forwarded_allow_ips),
            Middleware(UploadsFirst, uploads=_tus_app(uploads, settings), path=settings.path),
        ],
        lifespan=lifespan,
    )


class Requests:
    """Those that are running. granian waits for their answers, and not for what comes after."""

    def __init__(self) -> None:
        self._running = 0
        self._last_ended: anyio.Event | None = None

    def counted(self, app: ASGIApp) -> ASGIApp:
        async def counting(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            self._running += 1
            try:
                await app(scope, receive, send)
            finally:
                self._running -= 1
                if self._last_ended is not None and not self._running:
                    self._last_ended.set()

        return counting

    async def ended(self) -> None:
        """Return when none is running; no more may begin."""
        self._last_ended = anyio.Event()
        if self._running:
            await self._last_ended.wait()


class WholeServer:
    """Answers `OPTIONS *`, which asks what a server can do, as the collection of uploads does."""

    def __init__(self, app: ASGIApp, *, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "*":
            scope = {**scope, "path": self._path, "raw_path": self._path.encode()}
        await self._app(scope, receive, send)


class UploadsFirst:
    """Answers what is under a path, or is the path, as uploads; the pages have the rest.

    Not by a route: what Starlette does on the way there would be held in memory by each upload.
    """

    def __init__(self, pages: ASGIApp, *, uploads: ASGIApp, path: str) -> None:
        self._pages = pages
        self._uploads = uploads
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_here = scope["type"] == "http" and f"{scope['path']}/".startswith(self._path)
        await (self._uploads if is_here else self._pages)(scope, receive, send)


def _tus_app(uploads: Uploads, settings: Settings) -> ASGIApp:
    tus_app = partial(
        TusApp,
        uploads,
        protocols=settings.protocols,
        public_url=settings.public_url,
        prefix=settings.path,
        without=settings.switched_off,
        downloads=settings.downloads,
        send_timeout=_send_timeout(settings),
    )
    if settings.location == "path" or settings.public_url is not None:
        return tus_app()
    return ByWhoTells(tus_app(location="absolute"), through_strangers=tus_app())


class ByWhoTells:
    """Answers requests through a proxy that is not believed by an app of their own.

    What such a request says of scheme and host is what the proxy asked, and no client knows it:
    `Location` has to be a path, which is right behind any proxy.
    """

    def __init__(self, app: ASGIApp, *, through_strangers: ASGIApp) -> None:
        self._app = app
        self._through_strangers = through_strangers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._through_strangers if has_proxy_headers(scope) else self._app
        await app(scope, receive, send)


def _pages(settings: Settings) -> list[BaseRoute]:
    if settings.page:
        return upload_page(settings)
    return [] if settings.path == "/" else [Route("/", _front_page(settings))]


def _send_timeout(settings: Settings) -> float | None:
    """Return None where the server sends files by itself, and the system looks after clients."""
    is_limited = LIMITS_UNTAKEN and settings.unix_socket is None
    return None if settings.server == "granian" and is_limited else UNTAKEN_SECONDS


def _front_page(settings: Settings) -> Callable[[Request], Awaitable[Response]]:
    spoken = {"tus": "TUS 1.0.0", "ietf": "the IETF draft"}
    names = " or ".join(spoken[name] for name in settings.protocols)

    async def front_page(request: Request) -> Response:
        url = settings.public_url or f"{request.base_url}{settings.path[1:]}"
        return PlainTextResponse(f"tusasgi {__version__}: upload by {names} to {url}\n")

    return front_page


def _shut_down_by_signal(uploads: Uploads, seconds: float) -> None:
    """Let running uploads go on for so long after a signal that stops the server.

    The server gets the signal as before: it takes no new connections, waits for the requests
    that are running, and would cancel them in the end.
    """
    loop = asyncio.get_running_loop()

    def listen(number: signal.Signals) -> None:
        stop_server = signal.getsignal(number)

        def stop(received: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(loop.call_later, seconds, uploads.shutdown)
            if callable(stop_server):
                stop_server(received, frame)

        signal.signal(number, stop)

    listen(signal.SIGINT)
    listen(signal.SIGTERM)


def _end_with_parent() -> None:
    """Stop this worker when the process that began it is gone, whoever has killed that.

    It would go on serving beside those that are started again.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="tusasgi parent", daemon=True).start()
