"""The marks of a store on a filesystem: which uploads a sweeper looks at, and from when on."""

import time
from datetime import datetime

from tusasgi.models import is_upload_id
from tusasgi.stores.due import ABANDONED_AFTER, NOW, due_hours
from tusasgi.stores.fsspec.filesystem import Filesystem


class Marks:
    """Small files, one for each upload and hour. Blocks: for worker threads."""

    def __init__(self, files: Filesystem) -> None:
        self._files = files
        self._root = f"{files.root}/due"

    def add(self, upload_id: str, hour: int) -> None:
        # With the time in it: not every filesystem knows when a file was written.
        self._files.write(self._path(upload_id, hour), f"{time.time():.0f}".encode())

    def remove(self, upload_id: str, hour: int) -> None:
        self._files.remove([self._path(upload_id, hour)])

    def hours(self, now: datetime) -> list[int]:
        """Return the hours that have come, the oldest first."""
        entries = self._files.entries(self._root)
        return due_hours((entry.name for entry in entries if entry.is_folder), now)

    def names(self, hour: int) -> list[str]:
        """Return the ids of the uploads that are marked."""
        entries = self._files.entries(f"{self._root}/{hour}")
        return [entry.name for entry in entries if entry.is_file and is_upload_id(entry.name)]

    def remove_hour_if_empty(self, hour: int) -> None:
        self._files.remove_folder(f"{self._root}/{hour}")

    def is_left_behind(self, upload_id: str, hour: int, now: datetime) -> bool:
        """Judge a mark without a record: is it of a creation under way, or what a crash left?

        What a crash left is marked from now on where its removal takes the mark away last.
        """
        try:
            written = self._files.read(self._path(upload_id, hour))
        except FileNotFoundError:
            return False
        # A power cut may have emptied it. With anything else in it, it is no mark of ours.
        since = written.strip(b"\0") or b"0"
        if not since.isdigit() or int(since) >= now.timestamp() - ABANDONED_AFTER:
            return False
        if hour != NOW:
            self.add(upload_id, NOW)
            self.remove(upload_id, hour)
        return True

    def _path(self, upload_id: str, hour: int) -> str:
        return f"{self._root}/{hour}/{upload_id}"
