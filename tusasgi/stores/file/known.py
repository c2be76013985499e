"""Records that were read before, for as long as their files are the same."""

import os
from dataclasses import dataclass

from tusasgi.stores.file import files
from tusasgi.stores.file.records import Record

_MOST = 512


@dataclass(frozen=True, slots=True)
class _Known:
    record: Record
    file: tuple[int, int, int, int]


class KnownRecords:
    """What the records of some uploads say, by what the system says of their files.

    That is exact: a record is replaced by another file, under a lock and with a later time, so no
    two of them are of one time; and a file that was changed by anything else shows that, see
    `files.stamp`. Nothing is kept of a file system that may be on a network: what the system says
    of files there may be old, or come late.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def get(self, upload_id: str, found: os.stat_result) -> Record | None:
        """Return what the record says, if it is known and this is still its file."""
        known = self._known.get(upload_id)
        if known is None or known.file != _identity(found) or not files.is_stamped(found):
            return None
        return known.record

    def __contains__(self, upload_id: str) -> bool:
        return upload_id in self._known

    def keep(self, upload_id: str, found: os.stat_result, record: Record) -> None:
        """Remember a record that was read from this file, or written to it. Blocks."""
        self._known.pop(upload_id, None)
        if files.is_stamped(found) and files.is_local(found.st_dev):
            self._known[upload_id] = _Known(record, _identity(found))
            if len(self._known) > _MOST:
                self._forget_oldest()

    def forget(self, upload_id: str) -> None:
        self._known.pop(upload_id, None)

    def _forget_oldest(self) -> None:
        oldest = next(iter(self._known), None)
        if oldest is not None:
            self._known.pop(oldest, None)


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
