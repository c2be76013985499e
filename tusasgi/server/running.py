"""Which uploads are under way, told by the workers to the process that watches them.

Each worker keeps a small file in the folder of the counters, which is written anew at most once a
second, and only by what has changed.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial

import anyio
from anyio.to_thread import run_sync

from tusasgi import Event, Observer, State, Upload, state_of

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder of the counters, as prometheus_client reads it."""

_FILE = re.compile(r"running_([0-9]+)\.json")
_EVERY = 1.0  # seconds between two writings
_MOST = 200  # uploads of a worker
_NAME = 200  # characters of a file name
_SILENT = 5.0  # seconds without a byte, after which an upload waits for its client
_ENDED = 60.0  # seconds that an upload is still shown which is complete or removed
_FORGOTTEN = 3600.0  # seconds that one is shown of which nothing is heard
_WAITING = "waiting"


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What is told of an upload. Its id is a key to it, so that only the beginning is told."""

    key: str
    id: str
    name: str
    owner: str | None
    offset: int
    length: int | None
    state: str
    created: float
    heard: float
    """When something happened to it last, in seconds since 1970."""


class Running(Observer):
    """Remembers the uploads of this process that have changed lately."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seen: dict[str, Seen] = {}
        self._has_changed = False

    def changed(self, upload: Upload, event: Event) -> None:
        state = "removed" if event is Event.REMOVED else state_of(upload, datetime.now(UTC)).value
        self._note(upload, state)

    def progressed(self, upload: Upload) -> None:
        self._note(upload, State.RECEIVING.value)

    async def keep_written(self, folder: str) -> None:
        """Write what is remembered for the process that watches, until cancelled."""
        path = os.path.join(folder, f"running_{os.getpid()}.json")
        while True:
            if self._has_changed:
                self._has_changed = False
                seen = [asdict(one) for one in self._seen.values()]
                await run_sync(partial(_replace, path, json.dumps(seen)))
            await anyio.sleep(_EVERY)

    def _note(self, upload: Upload, state: str) -> None:
        self._seen.pop(upload.id, None)  # the last one is the newest
        self._seen[upload.id] = Seen(
            key=hashlib.sha256(upload.id.encode()).hexdigest()[:16],
            id=upload.id[:8],
            name=upload.metadata.get("filename", b"").decode(errors="replace")[:_NAME],
            owner=upload.owner,
            offset=upload.offset,
            length=upload.length,
            state=state,
            created=upload.created.timestamp(),
            heard=self._clock(),
        )
        while len(self._seen) > _MOST:
            del self._seen[next(iter(self._seen))]
        self._has_changed = True


def counters() -> str:
    """Return the folder into which the workers of a watched server write."""
    return os.environ[FOLDER]


def read_running(folder: str, now: float) -> list[Seen]:
    """Return what all workers tell, those that died included: the newest of each upload."""
    newest: dict[str, Seen] = {}
    for name in os.listdir(folder):
        if _FILE.fullmatch(name) is not None:
            for one in _read(os.path.join(folder, name)):
                if one.key not in newest or one.heard > newest[one.key].heard:
                    newest[one.key] = one
    shown = [_as_of(one, now) for one in newest.values() if _is_shown(one, now)]
    return sorted(shown, key=lambda one: one.created, reverse=True)


def _is_shown(one: Seen, now: float) -> bool:
    has_ended = one.state in ("removed", State.COMPLETE.value)
    return now - one.heard < (_ENDED if has_ended else _FORGOTTEN)


def _as_of(one: Seen, now: float) -> Seen:
    if one.state == State.RECEIVING.value and now - one.heard > _SILENT:
        return replace(one, state=_WAITING)
    return one


def _read(path: str) -> list[Seen]:
    try:
        with open(path, encoding="utf-8") as file:
            return [Seen(**one) for one in json.load(file)]
    except FileNotFoundError:  # the server is stopping
        return []


def _replace(path: str, text: str) -> None:
    beside = f"{path}.new"
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(beside, path)
