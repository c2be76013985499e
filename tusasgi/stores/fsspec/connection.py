"""The filesystem of a store: opened with the first use, and anew when its connection broke."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from tusasgi.stores.fsspec.directory import Directory
from tusasgi.stores.fsspec.filesystem import Filesystem, open_filesystem


class Connection:
    """Opens the directory of a store, for all who need it at once. Blocks: for worker threads."""

    def __init__(self, place: Any, root: str, options: Mapping[str, Any]) -> None:
        self.directory: Directory | None = None
        self._place = place
        self._root = root
        self._options = dict(options)
        self._opening: Future[Directory] | None = None
        self._lock = threading.Lock()

    def get(self) -> Directory:
        """Return the directory; of several who need it at once one opens it for all."""
        with self._lock:
            if self.directory is not None:
                return self.directory
            is_first = self._opening is None
            opening = self._opening = self._opening or Future()
        if is_first:
            self._open(opening)
        return opening.result()

    def drop(self, directory: Directory) -> None:
        """Have the next use open another one: a connection that broke stays broken."""
        if not isinstance(self._place, str) or directory.files.is_async:
            return
        with self._lock:
            if self.directory is directory:  # and not a newer one already
                self.directory = None

    def _open(self, opening: Future[Directory]) -> None:
        """Open the filesystem, or fail for all who wait: each would try as long, in a row."""
        directory = None
        try:
            directory = self._opened()
            opening.set_result(directory)
        except BaseException as error:  # raised by those who wait
            opening.set_exception(error)
        finally:
            with self._lock:
                self.directory, self._opening = directory, None

    def _opened(self) -> Directory:
        if isinstance(self._place, str):
            files = open_filesystem(self._place, self._options)
        else:
            files = Filesystem(self._place, self._root)
        files.probe()
        return Directory(files)
