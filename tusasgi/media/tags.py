"""ID3 is no format but a label: what counts is what follows it."""

import re

from tusasgi.media.formats import APE, FLAC, MP3, MUSEPACK, TTA
from tusasgi.media.frames import ENOUGH_FRAMES, HEADER_SIZE, find_frames, frame_rules
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
_ID3_HEADER_SIZE = 10


def _tag_end(head: bytes, at: int) -> int:
    """Where the ID3v2 tag at a place ends; the same place if there is no tag by the book."""
    tag = head[at : at + 14]
    if len(tag) < 14 or not _ID3.match(tag) or max(tag[6:10]) >= 0x80:
        return at
    if tag[5] & _ID3_FLAGS[tag[3]]:
        return at
    size = tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]
    if size and not tag[5] & _EXTENDED and not _ID3_FRAME.match(tag, 10):
        return at
    return at + _ID3_HEADER_SIZE + size + (_ID3_HEADER_SIZE if tag[5] & _FOOTER else 0)


def _tags_end(head: bytes) -> int:
    """Where the last of the tags at the start ends, and the padding behind each."""
    at, end = -1, 0
    while end > at:
        at = _after_zeros(head, end)
        end = _tag_end(head, at)
    return at


def _after_zeros(head: bytes, at: int) -> int:
    return max(at, len(head) - len(head[at:].lstrip(b"\0")))


def tagged(head: bytes) -> MediaFormat | None:
    if _tag_end(head, 0) == 0:
        return None
    start = _tags_end(head)
    # Cover art makes tags longer than any head. Then the tag is all there is to judge by, and
    # it is MP3 that carries such tags.
    if len(head) - start < HEADER_SIZE:
        return MP3
    # Behind a tag even one frame is proof, should the head end before a second.
    media = first_match(head[start:], (*frame_rules(1), *TAGGED), {})
    if media is not None:
        return media
    # The tag has a wrong length, or there is junk behind it.
    found = find_frames(head, _ID3_HEADER_SIZE, len(head), least=ENOUGH_FRAMES, most=ENOUGH_FRAMES)
    return found and found[1]


def padded(head: bytes) -> MediaFormat | None:
    """Judge what follows the zeros that some encoders and editors leave at the start."""
    start = _after_zeros(head, 0)
    if start == 0:
        return None
    found = find_frames(head, start, start + 3, least=ENOUGH_FRAMES, most=ENOUGH_FRAMES)
    return found[1] if found and found[0] == start else tagged(head[start:])
