"""The page of the monitor that shows what is under way, and the events that it lives on."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict

from tusasgi.server.running import read_running
from tusasgi.server.web import LIVE_PAGE, content_of, path_of

MEDIA_TYPE = "text/event-stream"

_EVERY = 1.0  # seconds between two events
_WATCHERS = 16  # each has a thread
_LATER = b"retry: 10000\n\n"  # milliseconds after which a browser asks again
_FILES = {path_of(name): name for name in LIVE_PAGE}


class LiveView:
    """What is shown to whoever may ask the monitor."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._is_closed = threading.Event()
        self._free = threading.BoundedSemaphore(_WATCHERS)

    def file(self, path: str) -> tuple[str, bytes] | None:
        """Return a part of the page: its media type and its bytes."""
        name = _FILES.get(path)
        return None if name is None else content_of(name)

    def close(self) -> None:
        self._is_closed.set()

    def events(self) -> Iterator[bytes]:
        """Yield the state of all uploads again and again, until this is closed."""
        if not self._free.acquire(blocking=False):
            yield _LATER
            return
        try:
            yield self._event()
            while not self._is_closed.wait(_EVERY):
                yield self._event()
        finally:
            self._free.release()

    def _event(self) -> bytes:
        now = time.time()
        uploads = [
            {**asdict(one), "age": max(0, round(now - one.created))}
            for one in read_running(self._folder, now)
        ]
        return f"data: {json.dumps(uploads)}\n\n".encode()
