"""ID3 is no format but a label: what counts is what follows it."""

import re

from tusasgi.media.formats import APE, FLAC, MP3, MUSEPACK, TTA
from tusasgi.media.frames import HEADER_SIZE, frame_rules
from tusasgi.media.rules import MediaFormat, first_match, pattern

_APE_HEAD = rb"[\x8c-\x96]\x0f\x00\x00\x34\x00\x00\x00"
_APE_OLD_HEAD = rb".[\x0e\x0f](?:\xe8\x03|\xd0\x07|\xb8\x0b|\xa0\x0f|\x88\x13)"

# What may stand behind an ID3v2 tag, as well as streams of frames.
TAGGED = (
    pattern("FLAC", rb"fLaC[\x00\x80]\x00\x00\x22", FLAC),
    pattern("True Audio", rb"TTA1[\x01-\x03]\x00[\x01-\x10]\x00[\x08\x10\x18\x20]\x00", TTA),
    pattern("Monkey's Audio", rb"MAC (?:" + _APE_HEAD + rb"|" + _APE_OLD_HEAD + rb")", APE),
    pattern("Musepack", rb"MPCK(?:SH|RG|EI|SO)|MP\+[\x07\x17]", MUSEPACK),
)

_ID3 = re.compile(rb"ID3[\x02-\x04][^\xff]")
_ID3_FRAME = re.compile(rb"[A-Z][A-Z0-9]{2,3}|\x00{3}")
_ID3_FLAGS = {2: 0x3F, 3: 0x1F, 4: 0x0F}
_EXTENDED, _FOOTER = 0x40, 0x10


def _id3_end(head: bytes) -> int | None:
    """Where the ID3v2 tag at the start ends; None if there is no tag by the book."""
    if len(head) < 14 or not _ID3.match(head) or max(head[6:10]) >= 0x80:
        return None
    if head[5] & _ID3_FLAGS[head[3]]:
        return None
    if not head[5] & _EXTENDED and not _ID3_FRAME.match(head, 10):
        return None
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & _FOOTER else 0)


def tagged(head: bytes) -> MediaFormat | None:
    end = _id3_end(head)
    if end is None:
        return None
    body = head[end:].lstrip(b"\0")
    # Cover art makes tags longer than any head. Then the tag is all there is to judge by, and
    # it is MP3 that carries such tags.
    if len(body) < HEADER_SIZE:
        return MP3
    # Behind a tag even one frame is proof, should the head end before a second.
    return first_match(body, (*frame_rules(1), *TAGGED), {})
