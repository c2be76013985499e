"""Bytes written to one file, from pieces, parts or another file: the steps. All of them block."""

from collections.abc import Callable
from typing import Any

from tusasgi.stores.fsspec.directory import Directory
from tusasgi.stores.fsspec.filesystem import disown


class Joiner:
    """Writes the bytes of an upload to the place that is given."""

    def __init__(self, place: Callable[[Directory], str]) -> None:
        self._place = place
        self._size = 0
        self._file: Any = None

    def open(self, directory: Directory) -> None:
        self._file = directory.files.open_to_write(self._place(directory))

    def write(self, directory: Directory, data: bytes) -> None:
        directory.files.write_to(self._file, data)
        self._size += len(data)

    def close(self, directory: Directory) -> None:
        directory.files.close(self._file)
        self._file = None  # there is nothing to abandon any more
        if directory.files.size(self._place(directory)) != self._size:
            raise OSError("the joined bytes are not as they were written")

    def disown(self) -> None:
        """Have it not finished by whoever collects it, which may be long after. Does not block."""
        if self._file is not None:
            disown(self._file)

    def abandon(self, directory: Directory) -> None:
        if self._file is not None:
            directory.files.abandon(self._file)
