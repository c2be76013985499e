"""A file whose content counts as it stands now: keys can be added and taken away while we run."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import anyio
from anyio.to_thread import run_sync

logger = logging.getLogger("tusasgi.cli")

_LOOK_SECONDS = 1.0

Content = TypeVar("Content")


class WatchedFile(Generic[Content]):
    """What a text file says, parsed; `refresh` reads it again if it has changed.

    Raises from the start `OSError` for a file that cannot be read, and the `ValueError` of `parse`.
    """

    def __init__(self, path: str, parse: Callable[[str], Content]) -> None:
        self._path = path
        self._parse = parse
        self._mark = self._look()
        self.content = self._read()

    def refresh(self) -> None:
        """Read it again if it has changed; of a file that is wrong now, what it said before counts.

        What is wrong is said once, in the log.
        """
        mark = self._look()
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self.content = self._read()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            logger.warning("%s: %s; what it said before counts", self._path, reason)

    def _look(self) -> object:
        """Return something that is equal as long as the file is the same."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> Content:
        with open(self._path, encoding="utf-8") as file:
            return self._parse(file.read())


async def watch(files: Sequence[WatchedFile[Any]]) -> None:
    """Look at the files every second, until cancelled."""
    while files:
        await anyio.sleep(_LOOK_SECONDS)
        for file in files:
            await run_sync(file.refresh)
