"""One joining on a filesystem: its steps. Everything in it blocks."""

from typing import Any

from tusasgi.stores.fsspec.directory import Directory
from tusasgi.stores.fsspec.filesystem import disown


class Joiner:
    """Writes the finished bytes of an upload, from its pieces or its parts."""

    def __init__(self, upload_id: str) -> None:
        self._upload_id = upload_id
        self._size = 0
        self._file: Any = None

    def open(self, directory: Directory) -> None:
        self._file = directory.files.open_to_write(directory.finished_path(self._upload_id))

    def write(self, directory: Directory, data: bytes) -> None:
        directory.files.write_to(self._file, data)
        self._size += len(data)

    def close(self, directory: Directory) -> None:
        directory.files.close(self._file)
        self._file = None  # there is nothing to abandon any more
        if directory.files.size(directory.finished_path(self._upload_id)) != self._size:
            raise OSError("the joined bytes are not as they were written")

    def disown(self) -> None:
        """Have it not finished by whoever collects it, which may be long after. Does not block."""
        if self._file is not None:
            disown(self._file)

    def abandon(self, directory: Directory) -> None:
        if self._file is not None:
            directory.files.abandon(self._file)
