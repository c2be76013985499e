"""What the servers of this suite run: files and kernel locks, for any number of processes.

With `TUSASGI_TEST_S3` (`s3://bucket/prefix`) it is a bucket instead, whose endpoint and keys
come from the variables of AWS. `/tasks` says how many tasks the event loop of the answering
process has. With `TUSASGI_TEST_HOOK` a receiver at that URL is told what becomes of uploads.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio

from tusasgi import Expiry, Hooks, TusApp, Uploads
from tusasgi.lifecycle import TOLD
from tusasgi.lockers.file import FileLocker
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.stores.file import FileStore

if TYPE_CHECKING:
    from tusasgi.stores.s3 import S3Store

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

PART_SIZE = 21 * 256 * 1024  # little more than the 5 MiB from which parts can be copied

# Long enough that nothing expires in a test; with it, each append writes the record as well.
_A_WHILE = timedelta(days=10)
_EXPIRY = Expiry(initial=_A_WHILE, after_append=_A_WHILE)
FAR_FUTURE = datetime(2100, 1, 1, tzinfo=UTC)


def engine(folder: str | os.PathLike[str], patience: float = 5.0, **options: Any) -> Uploads:
    locker = FileLocker(os.path.join(folder, "locks"), patience=patience)
    return Uploads(FileStore(folder), locker=locker, expiry=_EXPIRY, **options)


def s3_engine(store: "S3Store", patience: float = 5.0, **options: Any) -> Uploads:
    """An engine whose locks reach no further than its process, as those of replicas do."""
    return Uploads(store, locker=MemoryLocker(patience=patience), expiry=_EXPIRY, **options)


async def sweep_all(folder: str | os.PathLike[str], hooks: Hooks | None = None) -> None:
    """Sweep when everything has expired, and no file is young enough to be under way."""
    await sweep_twice(engine(folder, clock=lambda: FAR_FUTURE, hooks=hooks))


async def sweep_twice(uploads: Uploads) -> None:
    for _ in range(2):  # what a removal left that broke off goes with the second
        await uploads.sweep()


def create_app() -> App:
    """Build the app by the settings in the environment."""
    patience = float(os.environ.get("TUSASGI_TEST_PATIENCE", "5"))
    seconds = float(os.environ.get("TUSASGI_TEST_RECEIVE_TIMEOUT", "60"))
    url = os.environ.get("TUSASGI_TEST_S3")
    store = None if url is None else _s3_store(url)
    if store is None:
        uploads = engine(os.environ["TUSASGI_TEST_FOLDER"], patience, hooks=_hooks())
    else:
        uploads = s3_engine(store, patience)
    tus = TusApp(uploads, prefix="/files", downloads=True, receive_timeout=seconds)

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and store is not None:
            async with store:  # it is up once its bucket can be reached
                await tus(scope, receive, send)
        elif scope["type"] == "lifespan" and uploads.hooks.tells:
            async with telling(uploads):
                await tus(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == "/tasks":
            await _say(str(len(asyncio.all_tasks())).encode(), send)
        else:
            await tus(scope, receive, send)

    return app


def _hooks() -> Hooks | None:
    url = os.environ.get("TUSASGI_TEST_HOOK")
    if url is None:
        return None
    from tusasgi.webhooks import WebHooks

    return WebHooks(url, events=TOLD, timeout=2.0)


@asynccontextmanager
async def telling(uploads: Uploads) -> AsyncIterator[None]:
    """Tell what happens while the block lasts, and what earlier servers have not told."""

    async def sweep() -> None:
        while True:
            with suppress(ExceptionGroup):  # the receiver is killed again and again
                await uploads.sweep()
            await anyio.sleep(0.2)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(uploads.deliver)
        tasks.start_soon(sweep)
        yield
        tasks.cancel_scope.cancel()


def _s3_store(url: str) -> "S3Store":
    """Return the store of a replica, which saves appends as often as the environment says."""
    # Only where it is wanted: the libraries behind it take longer to start than the server.
    from tusasgi.stores.s3 import S3Store, writer

    if seconds := os.environ.get("TUSASGI_TEST_SAVE"):
        writer._FIRST_SAVE = writer._SAVE = float(seconds)
    # The check takes SeaweedFS some seconds, and it is not what is tested here.
    return S3Store(url, part_size=PART_SIZE, check=False)


async def _say(text: bytes, send: Send) -> None:
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})
