"""Whether store and receiver can be reached, asked by the process that watches the workers."""

import contextlib
import http.client
from contextlib import ExitStack
from urllib.parse import urlsplit

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tusasgi import TusError
from tusasgi.server.settings import Settings
from tusasgi.server.storage import closing, connect, make_store, reach

_SECONDS = 5.0  # that the store may take
_RECEIVER_SECONDS = 2.0  # that the receiver of web hooks may take


class Readiness:
    """Asks a store of its own, by the same settings as those of the workers, and the receiver.

    The connections of the store stay open from one question to the next. From the first one on
    it has a thread, until it is closed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = ExitStack()
        self._portal: BlockingPortal | None = None

    def trouble(self) -> str | None:
        """Say in one line what is wrong, without a path or a name; None for nothing."""
        hook = self._settings.hook
        return self._store_trouble() or (None if hook is None else receiver_trouble(hook))

    def _store_trouble(self) -> str | None:
        if self._portal is None:
            self._portal = self._open.enter_context(start_blocking_portal())
            self._store = make_store(self._settings)
            self._open.enter_context(self._portal.wrap_async_context_manager(closing(self._store)))
        return self._portal.call(self._ask)

    def close(self) -> None:
        self._open.close()

    async def _ask(self) -> str | None:
        try:
            with anyio.fail_after(_SECONDS):
                await connect(self._store)
                await reach(self._store)
        except TimeoutError:
            return f"the store has not answered within {_SECONDS:g} seconds"
        except (TusError, OSError):
            return "the store cannot be reached"
        return None


def receiver_trouble(url: str) -> str | None:
    """Say what keeps the receiver of web hooks from being asked; whatever it answers is fine."""
    receiver = urlsplit(url)
    kind = http.client.HTTPSConnection if receiver.scheme == "https" else http.client.HTTPConnection
    assert receiver.hostname is not None  # else it would have been refused as a setting
    connection = kind(receiver.hostname, receiver.port, timeout=_RECEIVER_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("HEAD", receiver.path or "/", headers={"Connection": "close"})
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            return "the receiver of the web hooks cannot be reached"
    return None
