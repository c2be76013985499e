"""The app of a worker in this process, and requests to it."""

from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from starlette.types import ASGIApp

from tests._stage import OCTETS, TUS
from tusasgi.server.app import build_app
from tusasgi.server.settings import Settings
from tusasgi.testing import RecordedResponse, ScriptedExchange

APPEND = {"Upload-Offset": "0", "Content-Type": OCTETS}
DRAFT = {"Upload-Draft-Interop-Version": "8"}


async def app_of(folder: Path, **settings: Any) -> ASGIApp:
    """Build it in a thread: it reads files."""
    return await run_sync(lambda: build_app(Settings(dir=str(folder / "data"), **settings)))


async def ask(
    app: ASGIApp,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: Any = b"",
    **scope: Any,
) -> RecordedResponse:
    own = {"Host": "files.example", **TUS, **(headers or {})}
    if "Upload-Draft-Interop-Version" in own:
        del own["Tus-Resumable"]
    return await ScriptedExchange(app, method, path, headers=own, body=body, scope=scope).run()


async def create(app: ASGIApp, headers: dict[str, str] | None = None, **scope: Any) -> str:
    """Create an upload of five bytes and return its `Location`."""
    own = {"Upload-Length": "5", **(headers or {})}
    answer = await ask(app, "POST", "/files/", own, **scope)
    assert answer.status == 201, answer
    return answer.headers["location"]
