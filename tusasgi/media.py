"""Tell audio and video from everything else by the first bytes of an upload.

`FORMATS` is the whole knowledge: a tuple of rules that are asked in turn, and the first answer
counts. A rule says what a head is, or None. Where puremagic knows a signature of some length,
a rule names it (`Magic`) and adds what puremagic leaves open; where it knows two or four bytes
or nothing, the rule reads the structure itself. Nothing is accepted that no rule names, so a
guess of puremagic alone never lets a file in.

Every reader below takes any bytes whatever, cut at any place, and never raises.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal, NamedTuple

import anyio.to_thread
import puremagic

from tusasgi.errors import UnsupportedMedia
from tusasgi.hooks import Hooks
from tusasgi.models import Fact, Upload

HEAD_SIZE = 16_384
"""How many first bytes are judged: the track list of a short or streamable MP4 fits."""

MIN_HEAD_SIZE = 64
"""With fewer bytes even the common formats cannot be told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFormat:
    """What a file is. The extension has no dot."""

    kind: Literal["audio", "video"]
    content_type: str
    extension: str

    @property
    def facts(self) -> dict[str, Fact]:
        """As the `inspect` hook keeps it with the upload."""
        return {
            "type": self.kind,
            "content_type": self.content_type,
            "extension": self.extension,
        }


class Magic(NamedTuple):
    """A signature of puremagic: its extension, and how many bytes of the head it must cover."""

    extension: str
    length: int


Judge = Callable[[bytes], MediaFormat | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One kind of file: how it is recognised, and every format it may turn out to be.

    With a `magic`, `judge` is asked only about heads in which puremagic finds that signature.
    """

    name: str
    formats: tuple[MediaFormat, ...]
    judge: Judge
    magic: Magic | None = None


def pattern(name: str, regex: bytes, media: MediaFormat, magic: Magic | None = None) -> Rule:
    """Make a rule for heads that start with what `regex` describes; `.` is any byte."""
    search = re.compile(regex, re.DOTALL).match
    return Rule(
        name=name,
        formats=(media,),
        judge=lambda head: media if search(head) else None,
        magic=magic,
    )


def _audio(content_type: str, extension: str) -> MediaFormat:
    return MediaFormat(kind="audio", content_type=content_type, extension=extension)


def _video(content_type: str, extension: str) -> MediaFormat:
    return MediaFormat(kind="video", content_type=content_type, extension=extension)


MP3, MP2 = _audio("audio/mpeg", "mp3"), _audio("audio/mpeg", "mp2")
AAC, FLAC = _audio("audio/aac", "aac"), _audio("audio/flac", "flac")
AC3, EAC3 = _audio("audio/ac3", "ac3"), _audio("audio/eac3", "eac3")
DTS = _audio("audio/vnd.dts", "dts")
WAV, W64 = _audio("audio/wav", "wav"), _audio("audio/x-w64", "w64")
AIFF, AIFC = _audio("audio/aiff", "aiff"), _audio("audio/aiff", "aifc")
CAF, AU = _audio("audio/x-caf", "caf"), _audio("audio/basic", "au")
VOC = _audio("audio/x-voc", "voc")
AMR, AMR_WB = _audio("audio/amr", "amr"), _audio("audio/amr-wb", "awb")
WAVPACK, TTA = _audio("audio/x-wavpack", "wv"), _audio("audio/x-tta", "tta")
APE, MUSEPACK = _audio("audio/x-ape", "ape"), _audio("audio/x-musepack", "mpc")
OPUS, OGG = _audio("audio/ogg", "opus"), _audio("audio/ogg", "ogg")
OGA, SPEEX = _audio("audio/ogg", "oga"), _audio("audio/ogg", "spx")
OGV, OGM = _video("video/ogg", "ogv"), _video("video/ogg", "ogm")
MP4, M4A, M4B = _video("video/mp4", "mp4"), _audio("audio/mp4", "m4a"), _audio("audio/mp4", "m4b")
M4V, MOV = _video("video/x-m4v", "m4v"), _video("video/quicktime", "mov")
VIDEO_3GP, AUDIO_3GP = _video("video/3gpp", "3gp"), _audio("audio/3gpp", "3gp")
VIDEO_3G2, AUDIO_3G2 = _video("video/3gpp2", "3g2"), _audio("audio/3gpp2", "3g2")
MKV, MKA = _video("video/x-matroska", "mkv"), _audio("audio/x-matroska", "mka")
WEBM, WEBA = _video("video/webm", "webm"), _audio("audio/webm", "weba")
AVI, FLV, AUDIO_FLV = (
    _video("video/x-msvideo", "avi"),
    _video("video/x-flv", "flv"),
    _audio("audio/x-flv", "flv"),
)
ASF, WMV = _video("video/x-ms-asf", "asf"), _video("video/x-ms-wmv", "wmv")
WMA = _audio("audio/x-ms-wma", "wma")
TS, M2TS = _video("video/mp2t", "ts"), _video("video/mp2t", "m2ts")
MPEG = _video("video/mpeg", "mpg")
MXF, GXF = _video("application/mxf", "mxf"), _video("application/gxf", "gxf")
RM, RA = _video("application/vnd.rn-realmedia", "rm"), _audio("audio/x-pn-realaudio", "ra")
DV, NUT = _video("video/dv", "dv"), _video("video/x-nut", "nut")
IVF, Y4M = _video("video/x-ivf", "ivf"), _video("video/x-yuv4mpeg", "y4m")


# Streams of frames without a container


class _Frame(NamedTuple):
    """A frame header: the length of the frame, and what its successors must share with it."""

    length: int
    traits: object


_FrameReader = Callable[[bytes, int], _Frame | None]

_HEADER_SIZE = 10  # The longest header that a frame reader below looks at.
_ENOUGH_FRAMES = 3


def _count_frames(head: bytes, read: _FrameReader, start: int = 0) -> int:
    """Count frames that follow each other, up to three; 0 when a visible one is broken."""
    at, count, traits = start, 0, None
    while count < _ENOUGH_FRAMES and at + _HEADER_SIZE <= len(head):
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


def _frame_rules(least: int) -> tuple[Rule, ...]:
    """Rules for streams of frames, of which `least` must be seen to believe in them."""
    return (
        Rule(name="MPEG audio", formats=(MP3, MP2), judge=partial(_mpeg_audio, least=least)),
        Rule(name="AAC", formats=(AAC,), judge=partial(_adts, least=least)),
        Rule(name="AC-3", formats=(AC3, EAC3), judge=partial(_ac3, least=least)),
    )


_DTS_RATES = (1, 2, 3, 6, 7, 8, 11, 12, 13)
_DTS_SYNCS = (b"\x7f\xfe\x80\x01", b"\x64\x58\x20\x25")  # A core frame, or an extension of it.


def _dts(head: bytes) -> MediaFormat | None:
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


def _amr_rule(name: str, marker: bytes, lengths: Mapping[int, int], media: MediaFormat) -> Rule:
    def frame(head: bytes, at: int) -> _Frame | None:
        # RFC 4867, 5.3: the first and the last two bits of the frame header are padding.
        length = lengths.get(head[at] >> 3)
        return _Frame(length, None) if length and not head[at] & 0x83 else None

    def judge(head: bytes) -> MediaFormat | None:
        is_amr = head.startswith(marker) and _count_frames(head, frame, len(marker))
        return media if is_amr else None

    return Rule(name=name, formats=(media,), judge=judge)


_TS_PACKETS = 5
# One packet alone: the program association or service description table starts in it.
_TS_TABLE = re.compile(
    rb"\x47[\x40\x60](?:\x00[\x10-\x1f]\x00\x00|\x11[\x10-\x1f]\x00\x42)[\xb0-\xff]"
)


def _is_transport_stream(head: bytes, size: int, prefix: int = 0) -> bool:
    starts = range(prefix, min(len(head) - 3, size * _TS_PACKETS), size)
    if len(starts) < 3:
        return _TS_TABLE.match(head, prefix) is not None
    # Neither marked as damaged nor with a reserved kind of content (ISO/IEC 13818-1, 2.4.3.2).
    return all(head[at] == 0x47 and head[at + 1] < 0x80 and head[at + 3] & 0x30 for at in starts)


def _transport_stream(head: bytes) -> MediaFormat | None:
    if _is_transport_stream(head, 188) or _is_transport_stream(head, 204):
        return TS
    return M2TS if _is_transport_stream(head, 192, prefix=4) else None


_START_CODE, _PACK, _FIRST_SYSTEM_CODE = b"\0\0\1", b"\0\0\1\xba", b"\xb9"


def _program_stream(head: bytes) -> MediaFormat | None:
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


# ID3 is no format but a label: what counts is what follows it.

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


def _tagged(head: bytes) -> MediaFormat | None:
    end = _id3_end(head)
    if end is None:
        return None
    body = head[end:].lstrip(b"\0")
    # Cover art makes tags longer than any head. Then the tag is all there is to judge by, and
    # it is MP3 that carries such tags.
    if len(body) < _HEADER_SIZE:
        return MP3
    # Behind a tag even one frame is proof, should the head end before a second.
    return detect(body, (*_frame_rules(1), *_TAGGED))


# Containers of boxes: ISO media and QuickTime, Matroska


class _Box(NamedTuple):
    """A box, by its kind and the place of its body, which may end beyond the head."""

    kind: bytes
    start: int
    end: int


_Walk = Callable[[bytes, int, int], Iterator[_Box]]
_UNKNOWN_END = 1 << 64


def _atoms(head: bytes, at: int, end: int) -> Iterator[_Box]:
    """Walk the boxes of ISO/IEC 14496-12, 4.2, that start between `at` and `end`."""
    while at + 8 <= min(end, len(head)):
        size, kind, start = int.from_bytes(head[at : at + 4]), head[at + 4 : at + 8], at + 8
        if size == 1:
            size, start = int.from_bytes(head[at + 8 : at + 16]), at + 16
        after = at + size if size else _UNKNOWN_END
        if after < start:
            return
        yield _Box(kind, start, after)
        at = after


def _vint(head: bytes, at: int) -> int:
    """The width of the EBML number at `at`; 0 when there is none (RFC 8794, 4)."""
    width = 9 - head[at].bit_length() if at < len(head) else 9
    return width if width < 9 and at + width <= len(head) else 0


def _elements(head: bytes, at: int, end: int) -> Iterator[_Box]:
    """Walk the EBML elements that start between `at` and `end`."""
    while at < min(end, len(head)):
        size_at = at + _vint(head, at)
        start = size_at + _vint(head, size_at)
        if size_at == at or start == size_at:
            return
        mask = (1 << 7 * (start - size_at)) - 1
        size = int.from_bytes(head[size_at:start]) & mask
        after = _UNKNOWN_END if size == mask else start + size
        yield _Box(head[at:size_at], start, after)
        at = after


def _descend(walk: _Walk, head: bytes, *path: bytes, at: int = 0, end: int) -> Iterator[_Box]:
    """Every box that is reached by this path of kinds."""
    for box in walk(head, at, end):
        if box.kind == path[0]:
            if len(path) == 1:
                yield box
            else:
                yield from _descend(walk, head, *path[1:], at=box.start, end=box.end)


_Tracks = Literal["video", "audio", "other", "unseen"]


def _tracks(has_video: bool, has_audio: bool, is_complete: bool) -> _Tracks:
    """What a list of tracks says. As long as it is cut, video may still follow audio."""
    if has_video:
        return "video"
    if not is_complete:
        return "unseen"
    return "audio" if has_audio else "other"


_EBML, _DOCTYPE = b"\x1a\x45\xdf\xa3", b"\x42\x82"
_SEGMENT, _TRACK_LIST = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b"
_TRACK, _TRACK_TYPE = b"\xae", b"\x83"


def _matroska_tracks(head: bytes) -> _Tracks:
    end = len(head)
    lists = [*_descend(_elements, head, _SEGMENT, _TRACK_LIST, end=end)]
    types = [
        int.from_bytes(head[box.start : box.end])
        for box in _descend(_elements, head, _SEGMENT, _TRACK_LIST, _TRACK, _TRACK_TYPE, end=end)
    ]
    is_complete = bool(lists) and lists[-1].end <= end
    return _tracks(1 in types, 2 in types, is_complete)


def _matroska(head: bytes) -> MediaFormat | None:
    doctype = next(_descend(_elements, head, _EBML, _DOCTYPE, end=1), None)
    if doctype is None:
        return None
    name = head[doctype.start : doctype.end].rstrip(b"\0")
    video, audio = {b"webm": (WEBM, WEBA), b"matroska": (MKV, MKA)}.get(name, (None, None))
    return {"video": video, "unseen": video, "audio": audio, "other": None}[_matroska_tracks(head)]


def _mp4_tracks(head: bytes) -> _Tracks:
    end = len(head)
    movie = next(_descend(_atoms, head, b"moov", end=end), None)
    handlers = [
        head[box.start + 8 : box.start + 12]
        for box in _descend(_atoms, head, b"moov", b"trak", b"mdia", b"hdlr", end=end)
    ]
    is_complete = movie is not None and movie.end <= end
    return _tracks(b"vide" in handlers, b"soun" in handlers, is_complete)


def _brand_format(brands: list[bytes]) -> MediaFormat | None:
    """The format of the first brand we know, which may be an image: then None."""
    for brand in brands:
        for regex, media in _BRANDS:
            if regex.fullmatch(brand):
                return media
    return None


def _iso_media(head: bytes) -> MediaFormat | None:
    """Judge a file that starts with `ftyp`: by its tracks if they are seen, else by brand."""
    box = next(_atoms(head, 0, len(head)), None)
    if box is None or box.kind != b"ftyp" or box.end - box.start not in range(8, 1024, 4):
        return None
    # The second word is the version of the first brand.
    words = [head[at : at + 4] for at in range(box.start, min(box.end, len(head)), 4)]
    media = _brand_format(words[:1] + words[2:])
    if media not in _WITHOUT_VIDEO:
        return media
    tracks = _mp4_tracks(head)
    if tracks == "other":
        return None
    return _WITHOUT_VIDEO[media] if tracks == "audio" else media


_MAX_MEDIA_DATA = 1 << 48
_QUICKTIME_NEXT = {
    b"wide": (b"mdat",),
    b"free": (b"moov", b"mdat", b"wide"),
    b"skip": (b"moov", b"mdat", b"wide"),
    b"pnot": (b"PICT", b"moov", b"mdat", b"wide"),
}


def _old_quicktime(head: bytes) -> MediaFormat | None:
    """Judge a movie from before `ftyp`: it starts with one of a few atoms, then another."""
    first, second = [*islice(_atoms(head, 0, len(head)), 2), None, None][:2]
    if first is None:
        return None
    if first.kind == b"moov":
        # Not `rmra`: a reference movie only names other files.
        child = next(_atoms(head, first.start, first.end), None)
        return MOV if child and child.kind in (b"mvhd", b"cmov") else None
    if first.kind == b"mdat":
        # Four letters are weak. A text that holds them at 4 reads as a size of printable bytes.
        is_text = all(0x20 <= byte < 0x7F for byte in head[:4])
        return MOV if first.end < _MAX_MEDIA_DATA and not is_text else None
    return MOV if second and second.kind in _QUICKTIME_NEXT.get(first.kind, ()) else None


# Ogg and ASF: containers that say what is in them with a marker per stream


def _ogg_packets(head: bytes) -> Iterator[bytes]:
    """The starts of the first packets of all streams: those pages come first (RFC 3533, 4)."""
    at = 0
    while head[at : at + 5] == b"OggS\0" and len(head) > at + 27 and head[at + 5] & 2:
        start = at + 27 + head[at + 26]
        yield head[start : start + 16]
        at = start + sum(head[at + 27 : start])


def _ogg(head: bytes) -> MediaFormat | None:
    packets = [*_ogg_packets(head)]
    found = [
        media for packet in packets for marker, media in _OGG_STREAMS if packet.startswith(marker)
    ]
    # A movie may well begin with its sound.
    video = [media for media in found if media.kind == "video"]
    if not found and packets and packets[0].startswith(_OGG_SKELETON):
        return OGV  # The index that video encoders write first; the head shows no more.
    return next(iter(video or found), None)


_ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
_ASF_VIDEO = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")
_ASF_AUDIO = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")


def _asf(head: bytes) -> MediaFormat | None:
    """Judge by the stream properties objects: a GUID, a size of 8 bytes, the type's GUID."""
    types = {part[8:24] for part in head.split(_ASF_STREAM)[1:]}
    if _ASF_VIDEO in types:
        return WMV
    return WMA if _ASF_AUDIO in types else ASF


def _real_media(head: bytes) -> MediaFormat | None:
    if b"video/x-pn-realvideo" in head or b"audio/x-pn-realaudio" not in head:
        return RM
    return RA


_BRANDS: tuple[tuple[re.Pattern[bytes], MediaFormat | None], ...] = tuple(
    (re.compile(brand), media)
    for brand, media in (
        # Images, named so that a brand they share with movies further on does not let them in.
        (rb"avi[fos]|he[iv][cxms]|miaf|mif[12]|msf1|jp[2mx] |mjp2|crx |jxl ", None),
        (rb"M4[AP] |F4A ", M4A),
        (rb"M4B |F4B ", M4B),
        (rb"M4V[ HP]", M4V),
        (rb"qt  ", MOV),
        (rb"3g2[a-c]|KDDI", VIDEO_3G2),
        (rb"3g[efghmprst][0-9]", VIDEO_3GP),
        (
            rb"iso[m2-9a-c]|mp4[12]|mmp4|avc1|av01|MSNV|[fF]4[vVpP] |dash|cmf[c2]|piff|isml|XAVC",
            MP4,
        ),
    )
)
_WITHOUT_VIDEO = {MP4: M4A, VIDEO_3GP: AUDIO_3GP, VIDEO_3G2: AUDIO_3G2}

_OGG_SKELETON = b"fishead\0"
_OGG_STREAMS = (
    (b"OpusHead", OPUS),
    (b"\x01vorbis", OGG),
    (b"\x7fFLAC", OGA),
    (b"Speex   ", SPEEX),
    (b"\x80theora", OGV),
    (b"OVP80", OGV),
    (b"BBCD\0", OGV),
    (b"\x01video\0\0\0", OGM),
)

_APE_HEAD = rb"[\x8c-\x96]\x0f\x00\x00\x34\x00\x00\x00"
_APE_OLD_HEAD = rb".[\x0e\x0f](?:\xe8\x03|\xd0\x07|\xb8\x0b|\xa0\x0f|\x88\x13)"

# What may stand behind an ID3v2 tag, as well as streams of frames.
_TAGGED = (
    pattern("FLAC", rb"fLaC[\x00\x80]\x00\x00\x22", FLAC),
    pattern("True Audio", rb"TTA1[\x01-\x03]\x00[\x01-\x10]\x00[\x08\x10\x18\x20]\x00", TTA),
    pattern("Monkey's Audio", rb"MAC (?:" + _APE_HEAD + rb"|" + _APE_OLD_HEAD + rb")", APE),
    pattern("Musepack", rb"MPCK(?:SH|RG|EI|SO)|MP\+[\x07\x17]", MUSEPACK),
)

_W64 = (
    rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00.{8}"
    rb"wave\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
)
_AU = rb"\.snd\x00\x00.{6}\x00{3}[\x01-\x1b]\x00.{3}\x00{3}[\x01-\x20]"
_DV = rb"\x1f\x07\x00[\x3f\xbf](?:.{76}[\x20-\x3f]\x07\x00|.{0,78}\Z)"
_MXF = rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02"

FORMATS: tuple[Rule, ...] = (
    Rule(
        name="ISO media",
        formats=(MP4, M4A, M4B, M4V, MOV, VIDEO_3GP, AUDIO_3GP, VIDEO_3G2, AUDIO_3G2),
        judge=_iso_media,
    ),
    Rule(name="old QuickTime", formats=(MOV,), judge=_old_quicktime),
    Rule(name="Matroska", formats=(MKV, MKA, WEBM, WEBA), judge=_matroska),
    Rule(name="Ogg", formats=(OGG, OPUS, OGA, SPEEX, OGV, OGM), judge=_ogg),
    Rule(name="ID3", formats=(MP3, MP2, AAC, AC3, EAC3, FLAC, TTA, APE, MUSEPACK), judge=_tagged),
    *_frame_rules(2),
    *_TAGGED,
    pattern("WAV", rb".{12}(?:fmt .{2}\x00\x00|(?!fmt )[ -~]{4})", WAV, Magic(".wav", 12)),
    pattern("RF64", rb"(?:RF64|BW64|RIFX).{4}WAVE[ -~]{4}", WAV),
    pattern("Wave64", _W64, W64),
    pattern("AIFF", rb".{12}[ -~]{4}", AIFF, Magic(".aiff", 12)),
    pattern("AIFC", rb".{12}[ -~]{4}", AIFC, Magic(".aifc", 12)),
    pattern("CAF", rb"caff\x00\x01\x00\x00desc", CAF, Magic(".caf", 4)),
    pattern("AU", _AU, AU, Magic(".au", 4)),
    pattern("VOC", rb".{19}\x1a\x1a\x00", VOC, Magic(".voc", 16)),
    pattern("WavPack", rb"wvpk.{2}[\x00-\x0f]\x00[\x02-\x10]\x04", WAVPACK, Magic(".wvp", 4)),
    _amr_rule("AMR", b"#!AMR\n", _AMR_LENGTHS, AMR),
    _amr_rule("AMR-WB", b"#!AMR-WB\n", _AMR_WB_LENGTHS, AMR_WB),
    Rule(name="DTS", formats=(DTS,), judge=_dts),
    pattern("AVI", rb".{12}(?:LIST|JUNK)", AVI, Magic(".avi", 12)),
    Rule(name="ASF", formats=(ASF, WMV, WMA), judge=_asf, magic=Magic(".wmv", 16)),
    pattern("FLV", rb"FLV\x01[\x01\x05]\x00\x00\x00\x09", FLV, Magic(".flv", 5)),
    pattern("FLV audio", rb"FLV\x01\x04\x00\x00\x00\x09", AUDIO_FLV, Magic(".flv", 5)),
    Rule(name="RealMedia", formats=(RM, RA), judge=_real_media, magic=Magic(".ra", 8)),
    pattern("RealAudio", rb"\.ra\xfd\x00[\x03-\x05]", RA, Magic(".ra", 5)),
    Rule(name="MPEG-TS", formats=(TS, M2TS), judge=_transport_stream),
    Rule(name="MPEG-PS", formats=(MPEG,), judge=_program_stream),
    pattern("MXF", _MXF, MXF),
    pattern("GXF", rb"\x00{4}\x01\xbc.{4}\x00{4}\xe1\xe2", GXF),
    pattern("DV", _DV, DV),
    pattern("NUT", rb"nut/multimedia container\x00", NUT),
    pattern("IVF", rb"DKIF\x00\x00\x20\x00[ -~]{4}", IVF),
    pattern("Y4M", rb"YUV4MPEG2 [ -~]{0,200}?W[0-9]", Y4M, Magic(".y4m", 8)),
)


def _signatures(head: bytes) -> dict[str, int]:
    """What puremagic finds: by extension, the length of the longest signature."""
    try:
        matches = puremagic.magic_string(head) if head else []
    except puremagic.PureError:
        return {}
    found: dict[str, int] = {}
    for match in matches:
        found[match.extension] = max(found.get(match.extension, 0), len(match.byte_match))
    return found


def detect(head: bytes, formats: Iterable[Rule] = FORMATS) -> MediaFormat | None:
    """Name the format that starts with these bytes; None for whatever no rule knows.

    No more than `HEAD_SIZE` bytes are looked at, so the cost has a bound.
    """
    head = head[:HEAD_SIZE]
    found = _signatures(head)
    for rule in formats:
        if rule.magic is None or found.get(rule.magic.extension, 0) >= rule.magic.length:
            media = rule.judge(head)
            if media is not None:
                return media
    return None


async def inspect_head(head: bytes, formats: Iterable[Rule] = FORMATS) -> MediaFormat:
    """Name the format in a worker thread, or raise `UnsupportedMedia`."""
    media = await anyio.to_thread.run_sync(detect, head, formats)
    if media is None:
        raise UnsupportedMedia(f"the first {len(head)} bytes are of no known audio or video format")
    return media


class MediaHooks(Hooks):
    """Hooks that let only audio and video in, and keep with the upload what it is.

    Derive from it to add other hooks, or to change `formats`.
    """

    head_size = HEAD_SIZE
    min_head_size = MIN_HEAD_SIZE

    formats: tuple[Rule, ...] = FORMATS
    """What is let in."""

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        return (await inspect_head(head, self.formats)).facts
