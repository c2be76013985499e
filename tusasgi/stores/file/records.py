"""The record of the file store: the upload, and how many of its bytes outlive a power cut.

While a machine runs, a file is as long as what was written to it, whatever the disk has of that.
After a power cut it may be as long and have holes. So the record says how far the bytes were
flushed, and which run of the machine the size of the file can be trusted in.
"""

import functools
from dataclasses import dataclass, replace

from tusasgi.models import Removal, Upload
from tusasgi.stores.records import dump_record, load_fields

_REMOVALS: dict[bytes, Removal] = {b"t": "terminated", b"e": "expired"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What is kept of an upload; its offset counts no byte that a power cut may have taken."""

    upload: Upload
    flushed: int = 0
    """The bytes before this are on the disk."""
    boot: str | None = None
    """The run of the machine in which bytes behind `flushed` count. None: in any."""


def dump(kept: Kept) -> bytes:
    return dump_record(kept.upload, flushed=kept.flushed, boot=kept.boot)


def load(text: bytes, size: int, boot: str | None) -> Kept:
    """Read a record for a file of this size, in this run of the machine.

    Raises what `load_record` raises.
    """
    removal = _REMOVALS.get(text[:1])
    upload, fields = load_fields(b"{" + text[1:] if removal else text)
    if removal:
        upload = replace(upload, removal=removal)
    flushed = fields.get("flushed", 0)
    if not isinstance(flushed, int):
        raise ValueError("a record must tell how many bytes were flushed")
    return at_size(Kept(upload=upload, flushed=flushed, boot=fields.get("boot")), size, boot)


def at_size(kept: Kept, size: int, boot: str | None) -> Kept:
    """Return what is kept with the offset that follows from the size of the file."""
    offset = min(size, kept.flushed) if is_from_before(kept, boot) else size
    return replace(kept, upload=replace(kept.upload, offset=offset))


def is_from_before(kept: Kept, boot: str | None) -> bool:
    """True if the machine was started anew since, and not all bytes had been flushed."""
    return not kept.upload.is_complete and kept.boot not in (None, boot)


def first_byte_of(removal: Removal) -> bytes:
    """Return what tells of a removal in place of the first byte of a record.

    A record that is written anew needs room, and a disk that is full must be emptied without.
    """
    return removal[:1].encode()


@functools.cache
def boot_id() -> str | None:
    """Return what names this run of the machine, or None where the system has no name for it.

    Then nothing tells that the power was away, and the size of each file is trusted.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return None
