"""Streams of frames without a container: MPEG audio, AAC, AC-3, DTS and AMR."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from tusasgi.media.formats import AAC, AC3, AMR, AMR_WB, DTS, EAC3, MP2, MP3
from tusasgi.media.rules import Judge, MediaFormat, Rule


class _Frame(NamedTuple):
    """A frame header: the length of the frame, and what its successors must share with it."""

    length: int
    traits: object


_FrameReader = Callable[[bytes, int], _Frame | None]

HEADER_SIZE = 10  # The longest header that a frame reader below looks at.
_ENOUGH_FRAMES = 3


def _count_frames(head: bytes, read: _FrameReader, start: int = 0) -> int:
    """Count frames that follow each other, up to three; 0 when a visible one is broken."""
    at, count, traits = start, 0, None
    while count < _ENOUGH_FRAMES and at + HEADER_SIZE <= len(head):
        frame = read(head, at)
        if frame is None or (count and frame.traits != traits):
            return 0
        at, count, traits = at + frame.length, count + 1, frame.traits
    return count


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
    return _Frame(slots * kbits // hertz + (word >> 9 & 1), word & 0xFFFE0C00)


def _starts_a_bit_reservoir(head: bytes) -> bool:
    """Tell whether the first layer III frame needs nothing from frames before it."""
    word = int.from_bytes(head[:4])
    side_info = 4 if word >> 16 & 1 else 6
    if word >> 19 & 3 != _MPEG1:
        return head[side_info] == 0
    return head[side_info] == 0 and head[side_info + 1] < 0x80


def _mpeg_audio(head: bytes, least: int) -> MediaFormat | None:
    count = _count_frames(head, _mpeg_frame)
    media = MP3 if head[1:2] and head[1] >> 1 & 3 == _LAYER3 else MP2
    # One header is 15 bits of evidence. The nine more that the first frame of an MP3 has make
    # it enough where a short head shows no second one; layer II has none, so it must show two.
    if count == 1 and media is MP3 and _starts_a_bit_reservoir(head):
        return media
    return media if count >= least else None


_LAST_ADTS_RATE = 12


def _adts_frame(head: bytes, at: int) -> _Frame | None:
    """Read a header of AAC in ADTS (ISO/IEC 13818-7, 6.2)."""
    word = int.from_bytes(head[at : at + 7])
    length = word >> 13 & 0x1FFF
    overhead = 7 if word >> 40 & 1 else 9
    if word >> 40 & 0xFFF6 != 0xFFF0 or word >> 34 & 15 > _LAST_ADTS_RATE or length <= overhead:
        return None
    return _Frame(length, word & 0xFFFFFDC0000000)


def _adts(head: bytes, least: int) -> MediaFormat | None:
    count = _count_frames(head, _adts_frame)
    # Variable bit rate is written as a buffer fullness of all ones: 11 bits more to trust.
    if count == 1 and int.from_bytes(head[5:7]) & 0x1FFF == 0x1FFC:
        return AAC
    return AAC if count >= least else None


_AC3_KBITS = (*_MPEG1_LAYER3[1:], 384, 448, 512, 576, 640)
_AC3_LAST_BSID, _EAC3_BSIDS = 8, range(11, 17)


def _ac3_frame(head: bytes, at: int) -> _Frame | None:
    """Read a header of AC-3 (ATSC A/52, 5.4.1)."""
    code, bsid = head[at + 4], head[at + 5] >> 3
    rate, size = code >> 6, code & 63
    if head[at : at + 2] != b"\x0b\x77" or bsid > _AC3_LAST_BSID or rate == 3 or size > 37:
        return None
    kbits = _AC3_KBITS[size >> 1]
    words = (kbits * 2, kbits * 320 // 147 + (size & 1), kbits * 3)[rate]
    return _Frame(words * 2, (rate, bsid))


def _eac3_frame(head: bytes, at: int) -> _Frame | None:
    """Read a header of E-AC-3 (ATSC A/52, E.1.2)."""
    kind, bsid = head[at + 2] >> 6, head[at + 5] >> 3
    if head[at : at + 2] != b"\x0b\x77" or bsid not in _EAC3_BSIDS or kind == 3:
        return None
    return _Frame(2 * (int.from_bytes(head[at + 2 : at + 4]) & 0x7FF) + 2, bsid)


def _ac3(head: bytes, least: int) -> MediaFormat | None:
    if _count_frames(head, _ac3_frame) >= least:
        return AC3
    return EAC3 if _count_frames(head, _eac3_frame) >= least else None


def frame_rules(least: int) -> tuple[Rule, ...]:
    """Rules for streams of frames, of which `least` must be seen to believe in them."""
    return (
        Rule(name="MPEG audio", formats=(MP3, MP2), judge=partial(_mpeg_audio, least=least)),
        Rule(name="AAC", formats=(AAC,), judge=partial(_adts, least=least)),
        Rule(name="AC-3", formats=(AC3, EAC3), judge=partial(_ac3, least=least)),
    )


_DTS_RATES = (1, 2, 3, 6, 7, 8, 11, 12, 13)
_DTS_SYNCS = (b"\x7f\xfe\x80\x01", b"\x64\x58\x20\x25")  # A core frame, or an extension of it.


def dts(head: bytes) -> MediaFormat | None:
    """Read one core header in 16 bits, big endian, and the sync word after it."""
    bits = int.from_bytes(head[4:9])
    length = (bits >> 12 & 0x3FFF) + 1
    if head[:4] != _DTS_SYNCS[0] or length < 96 or bits >> 2 & 15 not in _DTS_RATES:
        return None
    following = head[length : length + 4]
    return DTS if any(sync.startswith(following) for sync in _DTS_SYNCS) else None


_NO_DATA = {14: 1, 15: 1}
_AMR_LENGTHS = dict(enumerate((13, 14, 16, 18, 20, 21, 27, 32, 6))) | _NO_DATA
_AMR_WB_LENGTHS = dict(enumerate((18, 24, 33, 37, 41, 47, 51, 59, 61, 6))) | _NO_DATA


def _amr(marker: bytes, lengths: Mapping[int, int], media: MediaFormat) -> Judge:
    def frame(head: bytes, at: int) -> _Frame | None:
        # RFC 4867, 5.3: the first and the last two bits of the frame header are padding.
        length = lengths.get(head[at] >> 3)
        return _Frame(length, None) if length and not head[at] & 0x83 else None

    def judge(head: bytes) -> MediaFormat | None:
        is_amr = head.startswith(marker) and _count_frames(head, frame, len(marker))
        return media if is_amr else None

    return judge


amr = _amr(b"#!AMR\n", _AMR_LENGTHS, AMR)
amr_wb = _amr(b"#!AMR-WB\n", _AMR_WB_LENGTHS, AMR_WB)
