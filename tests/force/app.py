"""What the servers of this suite run: files and kernel locks, for any number of processes.

`/tasks` says how many tasks the event loop of the answering process has.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tusasgi import Expiry, TusApp, Uploads
from tusasgi.lockers.file import FileLocker
from tusasgi.stores.file import FileStore

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# Long enough that nothing expires in a test; with it, each append writes the record as well.
_A_DAY = timedelta(days=1)


def engine(folder: str | os.PathLike[str], patience: float = 5.0, **options: Any) -> Uploads:
    locker = FileLocker(os.path.join(folder, "locks"), patience=patience)
    expiry = Expiry(initial=_A_DAY, after_append=_A_DAY)
    return Uploads(FileStore(folder), locker=locker, expiry=expiry, **options)


async def sweep_all(folder: str | os.PathLike[str]) -> None:
    """Sweep when everything has expired, and no file is young enough to be under way."""
    uploads = engine(folder, clock=lambda: datetime(2100, 1, 1, tzinfo=UTC))
    for _ in range(2):  # what a removal left that broke off goes with the second
        await uploads.sweep()


def create_app() -> App:
    """Build the app by the settings in the environment."""
    patience = float(os.environ.get("TUSASGI_TEST_PATIENCE", "5"))
    seconds = float(os.environ.get("TUSASGI_TEST_RECEIVE_TIMEOUT", "60"))
    uploads = engine(os.environ["TUSASGI_TEST_FOLDER"], patience)
    tus = TusApp(uploads, prefix="/files", downloads=True, receive_timeout=seconds)

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/tasks":
            await _say(str(len(asyncio.all_tasks())).encode(), send)
        else:
            await tus(scope, receive, send)

    return app


async def _say(text: bytes, send: Send) -> None:
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})
