"""Streams of packets: MPEG-TS and MPEG-PS."""

import re

from tusasgi.media.formats import M2TS, MPEG, TS
from tusasgi.media.rules import MediaFormat

_TS_PACKETS, _TS_DAMAGED = 5, 1
_TS_SYNC = 0x47
# One packet alone: the program association or service description table starts in it.
_TS_TABLE = re.compile(
    rb"\x47[\x40\x60](?:\x00[\x10-\x1f]\x00\x00|\x11[\x10-\x1f]\x00\x42)[\xb0-\xff]"
)
# With error correction behind each packet; with a time stamp before it.
_TS_SIZES = ((188, TS), (204, TS), (192, M2TS))
_M2TS_PREFIX = 4


def _is_packet(head: bytes, at: int) -> bool:
    """Neither marked as damaged nor with a reserved kind of content (ISO/IEC 13818-1, 2.4.3.2)."""
    return head[at] == _TS_SYNC and head[at + 1] < 0x80 and head[at + 3] & 0x30 > 0


def _is_transport_stream(head: bytes, size: int, prefix: int) -> bool:
    starts = range(prefix, min(len(head) - 3, size * _TS_PACKETS), size)
    if len(starts) < 3:
        return _TS_TABLE.match(head, prefix) is not None
    good = sum(_is_packet(head, at) for at in starts)
    least = _TS_PACKETS - _TS_DAMAGED if len(starts) == _TS_PACKETS else len(starts)
    # The head of an archive is not the damaged one.
    return good >= least and _is_packet(head, prefix)


def transport_stream(head: bytes) -> MediaFormat | None:
    for size, media in _TS_SIZES:
        if _is_transport_stream(head, size, _M2TS_PREFIX if media is M2TS else 0):
            return media
    return None


_START_CODE, _PACK, _FIRST_SYSTEM_CODE = b"\0\0\1", b"\0\0\1\xba", b"\xb9"


def program_stream(head: bytes) -> MediaFormat | None:
    """Judge by a pack header, of MPEG-2 or MPEG-1, and the start code that follows it."""
    if len(head) < 18 or not head.startswith(_PACK):
        return None
    if head[4] & 0xC4 == 0x44:
        after = 14 + (head[13] & 7)
    elif head[4] & 0xF1 == 0x21:
        after = 12
    else:
        return None
    code = head[after : after + 4]
    return MPEG if code.startswith(_START_CODE) and code[3:] >= _FIRST_SYSTEM_CODE else None
