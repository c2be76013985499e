"""Streams of frames without a container: MPEG audio, AAC, AC-3, DTS and AMR."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from tusasgi.media.formats import AAC, AC3, AMR, AMR_WB, DTS, DTS_HD, EAC3, LOAS, MP2, MP3
from tusasgi.media.rules import Judge, MediaFormat, Rule


class _Frame(NamedTuple):
    """A frame header: what it is of, where its successor is, and what both must share.

    `is_proof` when it says so much that it is believed without a successor.
    """

    media: MediaFormat
    length: int
    traits: object = None
    is_proof: bool = False


_FrameReader = Callable[[bytes, int], _Frame | None]

HEADER_SIZE = 10  # The longest header that a frame reader below looks at.
ENOUGH_FRAMES = 3


def _chain(
    head: bytes, read: _FrameReader, start: int = 0, most: int = ENOUGH_FRAMES
) -> list[_Frame]:
    """The frames that follow each other; none at all when a visible one is broken."""
    at, frames = start, list[_Frame]()
    while len(frames) < most and at + HEADER_SIZE <= len(head):
        frame = read(head, at)
        if frame is None or (frames and frame.traits != frames[0].traits):
            return []
        frames.append(frame)
        at += frame.length
    return frames


def _judge(head: bytes, read: _FrameReader, least: int) -> MediaFormat | None:
    frames = _chain(head, read)
    # One frame alone means that the head ends before a second.
    is_stream = len(frames) >= least or (len(frames) == 1 and frames[0].is_proof)
    return frames[0].media if is_stream else None


# kbit/s by bitrate index; free format (0) and 15 are not accepted.
_MPEG1_LAYER2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_MPEG1_LAYER3 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_LAYER23 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG1, _MPEG_RESERVED = 3, 1
_LAYER3, _LAYER2 = 1, 2
_EMPHASIS_RESERVED = 2


def _mpeg_frame(head: bytes, at: int) -> _Frame | None:
    """Read a header of MPEG-1, -2 or -2.5 audio, layer II or III (ISO/IEC 11172-3, 2.4.2.3)."""
    word = int.from_bytes(head[at : at + 4])
    version, layer = word >> 19 & 3, word >> 17 & 3
    bitrate, rate = word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == _MPEG_RESERVED or layer not in (_LAYER3, _LAYER2):
        return None
    if bitrate in (0, 15) or rate == 3 or word & 3 == _EMPHASIS_RESERVED:
        return None
    if version == _MPEG1:
        kbits = (_MPEG1_LAYER3 if layer == _LAYER3 else _MPEG1_LAYER2)[bitrate]
    else:
        kbits = _MPEG2_LAYER23[bitrate]
    hertz = (44_100, 48_000, 32_000)[rate] >> (3 - version if version else 2)
    slots = 72_000 if layer == _LAYER3 and version != _MPEG1 else 144_000
    length = slots * kbits // hertz + (word >> 9 & 1)
    if layer == _LAYER3:
        return _Frame(MP3, length, word & 0xFFFE0C00, _starts_a_bit_reservoir(head, at))
    return _Frame(MP2, length, word & 0xFFFE0C00)


def _starts_a_bit_reservoir(head: bytes, at: int = 0) -> bool:
    """Tell whether a layer III frame needs nothing from frames before it, as the first does."""
    word = int.from_bytes(head[at : at + 4])
    side_info = at + (4 if word >> 16 & 1 else 6)
    if word >> 19 & 3 != _MPEG1:
        return head[side_info] == 0
    return head[side_info] == 0 and head[side_info + 1] < 0x80


_LAST_ADTS_RATE = 12


def _adts_frame(head: bytes, at: int) -> _Frame | None:
    """Read a header of AAC in ADTS (ISO/IEC 13818-7, 6.2)."""
    word = int.from_bytes(head[at : at + 7])
    length = word >> 13 & 0x1FFF
    overhead = 7 if word >> 40 & 1 else 9
    if word >> 40 & 0xFFF6 != 0xFFF0 or word >> 34 & 15 > _LAST_ADTS_RATE or length <= overhead:
        return None
    # Variable bit rate is written as a buffer fullness of all ones: 11 bits to trust.
    return _Frame(AAC, length, word & 0xFFFFFDC0000000, word & 0x1FFF == 0x1FFC)


_AC3_KBITS = (*_MPEG1_LAYER3[1:], 384, 448, 512, 576, 640)
_AC3_LAST_BSID = 8
_EAC3_BSIDS = range(11, 17)


def _ac3_frame(head: bytes, at: int) -> _Frame | None:
    """Read a header of AC-3 (ATSC A/52, 5.4.1)."""
    code, bsid = head[at + 4], head[at + 5] >> 3
    rate, size = code >> 6, code & 63
    if head[at : at + 2] != b"\x0b\x77" or bsid > _AC3_LAST_BSID or rate == 3 or size > 37:
        return None
    kbits = _AC3_KBITS[size >> 1]
    words = (kbits * 2, kbits * 320 // 147 + (size & 1), kbits * 3)[rate]
    return _Frame(AC3, words * 2, (rate, bsid))


def _eac3_frame(head: bytes, at: int) -> _Frame | None:
    """Read a header of E-AC-3 (ATSC A/52, E.1.2)."""
    kind, bsid = head[at + 2] >> 6, head[at + 5] >> 3
    if head[at : at + 2] != b"\x0b\x77" or bsid not in _EAC3_BSIDS or kind == 3:
        return None
    length = 2 * (int.from_bytes(head[at + 2 : at + 4]) & 0x7FF) + 2
    return _Frame(EAC3, length, bsid)


def _loas_frame(head: bytes, at: int) -> _Frame | None:
    """Read a header of AAC in LOAS (ISO/IEC 14496-3, 1.7.2)."""
    word = int.from_bytes(head[at : at + 3])
    if word >> 13 != 0x2B7 or not word & 0x1FFF:
        return None
    # What the first frame begins with: a configuration, of one program and one layer.
    return _Frame(LOAS, 3 + (word & 0x1FFF), None, head[at + 3 : at + 5] == b"\x20\0")


def frame_rules(least: int) -> tuple[Rule, ...]:
    """Rules for streams of frames, of which `least` must be seen to believe in them."""

    def rule(name: str, formats: tuple[MediaFormat, ...], read: _FrameReader) -> Rule:
        return Rule(name=name, formats=formats, judge=partial(_judge, read=read, least=least))

    return (
        rule("MPEG audio", (MP3, MP2), _mpeg_frame),
        rule("AAC", (AAC,), _adts_frame),
        rule("LOAS", (LOAS,), _loas_frame),
        rule("AC-3", (AC3,), _ac3_frame),
        rule("E-AC-3", (EAC3,), _eac3_frame),
    )


# Where a frame may begin: what its header starts with, and how to read it.
_STARTS: tuple[tuple[re.Pattern[bytes], _FrameReader], ...] = (
    (re.compile(rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd][\x10-\xef]", re.DOTALL), _mpeg_frame),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"), _adts_frame),
    (re.compile(rb"\x56[\xe0-\xff]"), _loas_frame),
    (re.compile(rb"\x0b\x77"), _ac3_frame),
    (re.compile(rb"\x0b\x77"), _eac3_frame),
)


def find_frames(
    head: bytes, start: int, stop: int, *, least: int, most: int
) -> tuple[int, MediaFormat] | None:
    """Find where a chain of frames begins, and what they are.

    The chain has `least` frames, and none of those up to `most` that are seen is broken.
    """
    for regex, read in _STARTS:
        for match in regex.finditer(head, start, stop):
            frames = _chain(head, read, match.start(), most)
            if len(frames) >= least:
                return match.start(), frames[0].media
    return None


_DTS_RATES = (1, 2, 3, 6, 7, 8, 11, 12, 13)
_DTS_CORE, _DTS_SUBSTREAM = _DTS_SYNCS = (b"\x7f\xfe\x80\x01", b"\x64\x58\x20\x25")


def _dts_core(head: bytes) -> _Frame | None:
    """Read the header of a core frame in 16 bits, big endian (ETSI TS 102 114, 5.4)."""
    bits = int.from_bytes(head[4:9])
    length = (bits >> 12 & 0x3FFF) + 1
    if length < 96 or bits >> 2 & 15 not in _DTS_RATES:
        return None
    return _Frame(DTS, length)


def _dts_substream(head: bytes) -> _Frame | None:
    """Read the header of an extension substream, which needs no core (7.5.2)."""
    bits = int.from_bytes(head[5:10])
    is_long = bits >> 37 & 1
    header = (bits >> 25 & 0xFFF if is_long else bits >> 29 & 0xFF) + 1
    length = (bits >> 5 & 0xFFFFF if is_long else bits >> 13 & 0xFFFF) + 1
    return _Frame(DTS_HD, length) if 10 < header < length else None


def dts(head: bytes) -> MediaFormat | None:
    """Read one header and the sync word after it."""
    readers = {_DTS_CORE: _dts_core, _DTS_SUBSTREAM: _dts_substream}
    read = readers.get(head[:4])
    frame = read(head) if read else None
    if frame is None:
        return None
    following = head[frame.length : frame.length + 4]
    return frame.media if any(sync.startswith(following) for sync in _DTS_SYNCS) else None


_NO_DATA = {14: 1, 15: 1}
_AMR_LENGTHS = dict(enumerate((13, 14, 16, 18, 20, 21, 27, 32, 6))) | _NO_DATA
_AMR_WB_LENGTHS = dict(enumerate((18, 24, 33, 37, 41, 47, 51, 59, 61, 6))) | _NO_DATA


def _amr(marker: bytes, lengths: Mapping[int, int], media: MediaFormat) -> Judge:
    def frame(head: bytes, at: int) -> _Frame | None:
        # RFC 4867, 5.3: the first and the last two bits of the frame header are padding.
        length = lengths.get(head[at] >> 3)
        return _Frame(media, length) if length and not head[at] & 0x83 else None

    def judge(head: bytes) -> MediaFormat | None:
        is_amr = head.startswith(marker) and _chain(head, frame, len(marker))
        return media if is_amr else None

    return judge


amr = _amr(b"#!AMR\n", _AMR_LENGTHS, AMR)
amr_wb = _amr(b"#!AMR-WB\n", _AMR_WB_LENGTHS, AMR_WB)
