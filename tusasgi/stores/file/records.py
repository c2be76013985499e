"""The record of the file store: the upload, and how many of its bytes outlive a power cut.

While a machine runs, a file is as long as what was written to it, whatever the disk has of that.
After a power cut it may be as long and have holes. So the record says how far the bytes were
flushed, and which run of the machine the size of the file can be trusted in.

The date of expiry follows from when the file was written last, so bytes move it and the record
stays as it is.
"""

import functools
import os
from dataclasses import dataclass, replace
from datetime import datetime

from tusasgi.errors import UploadNotFound
from tusasgi.models import Removal, Upload
from tusasgi.stores.due import marked_hours
from tusasgi.stores.file import files
from tusasgi.stores.records import dump_record, load_fields

_REMOVALS: dict[bytes, Removal] = {b"t": "terminated", b"e": "expired"}
_INCOMPLETE = b'"is_complete": 0'
_BEGINNING = 512  # bytes that a disk writes as one
_PAGE = 4096  # bytes by which a file grows on a disk


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is known of an upload; its offset counts no byte that a power cut may have taken."""

    upload: Upload
    flushed: int = 0
    """The bytes before this are on the disk."""
    boot: str | None = None
    """The run of the machine in which bytes behind `flushed` count. None: in any."""
    expires: datetime | None = None
    """The date as it is written, which bytes may have moved since."""

    @property
    def marked_hours(self) -> set[int]:
        """The hours under which the upload may be marked, unless a sweep has moved its mark."""
        return marked_hours(self.upload.expires) | marked_hours(self.expires)


def dump(record: Record) -> bytes:
    upload = record.upload
    is_complete = int(upload.is_complete)  # one character, which can be written over
    return dump_record(upload, flushed=record.flushed, boot=record.boot, is_complete=is_complete)


def as_read(record: Record) -> Record:
    """Return what `load` returns of a record as `dump` writes it, without reading it."""
    upload = record.upload.at(0)
    return Record(upload=upload, flushed=record.flushed, boot=record.boot, expires=upload.expires)


def load(text: bytes) -> Record:
    """Read a record; what it says does not depend on the bytes yet.

    Raises as `load_record`, and `UploadNotFound` for what a power cut has left of the record of a
    creation: no other is ever without its flush.
    """
    try:
        return _load(text)
    except ValueError:
        if b"\0" in text or len(text) % _PAGE == 0:
            raise UploadNotFound() from None
        raise


def _load(text: bytes) -> Record:
    removal = _REMOVALS.get(text[:1])
    upload, fields = load_fields(b"{" + text[1:] if removal else text)
    if removal:
        upload = replace(upload, removal=removal)
    flushed = fields.get("flushed", 0)
    if not isinstance(flushed, int):
        raise ValueError("a record must say how many bytes were flushed")
    return Record(upload=upload, flushed=flushed, boot=fields.get("boot"), expires=upload.expires)


def beside(record: Record, data: os.stat_result | None, boot: str | None) -> Record:
    """Return what a record says beside this file of bytes, in this run of the machine."""
    if record.upload.is_handed_over:
        return replace(record, upload=record.upload.at(record.upload.length or 0))
    if data is None or record.upload.length == 0:
        return record
    size = data.st_size
    offset = min(size, record.flushed) if is_from_before(record, boot) else size
    upload = record.upload.at(offset)
    if upload.window is not None:
        came = files.written_at(data)
        # Nothing is in a file yet whose bytes are staged elsewhere, or were refused.
        upload = upload.renewed(came) if size else upload.alive(came)
    flushed, expires = record.flushed, record.expires
    return Record(upload=upload, flushed=flushed, boot=record.boot, expires=expires)


def place_of_completion(text: bytes) -> int | None:
    """Return where a record is written over by `COMPLETE` if nothing else changes in it."""
    at = text.find(_INCOMPLETE, 0, _BEGINNING)
    return None if at < 0 else at + len(_INCOMPLETE) - 1


COMPLETE = b"1"


def is_from_before(record: Record, boot: str | None) -> bool:
    """True if the machine was started anew since, and not all bytes had been flushed."""
    return not record.upload.is_complete and record.boot not in (None, boot)


def first_byte_of(removal: Removal) -> bytes:
    """Return what stands for a removal in place of the first byte of a record.

    A record that is written anew needs space, and a disk that is full must be emptied without.
    """
    return removal[:1].encode()


@functools.cache
def boot_id() -> str | None:
    """Return what names this run of the machine, or None where the system has no name for it.

    Then nothing shows that the power was away, and the size of each file is trusted.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return None
