"""Containers of boxes: ISO media and QuickTime, Matroska."""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Literal, NamedTuple

from tusasgi.media.formats import (
    AUDIO_3G2,
    AUDIO_3GP,
    M4A,
    M4B,
    M4V,
    MKA,
    MKV,
    MOV,
    MP4,
    VIDEO_3G2,
    VIDEO_3GP,
    WEBA,
    WEBM,
)
from tusasgi.media.rules import MediaFormat


class _Box(NamedTuple):
    """A box, by its kind and where its body is, which may end beyond the head."""

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


def matroska(head: bytes) -> MediaFormat | None:
    doctype = next(_descend(_elements, head, _EBML, _DOCTYPE, end=1), None)
    if doctype is None:
        return None
    name = head[doctype.start : doctype.end].rstrip(b"\0")
    video, audio = {b"webm": (WEBM, WEBA), b"matroska": (MKV, MKA)}.get(name, (None, None))
    return {"video": video, "unseen": video, "audio": audio, "other": None}[_matroska_tracks(head)]


_BRANDS: tuple[tuple[re.Pattern[bytes], MediaFormat | None], ...] = tuple(
    (re.compile(brand), media)
    for brand, media in (
        # Images, named so that a brand they share with movies further on does not let them in.
        (rb"avi[fos]|he[iv][cxms]|miaf|mif[12]|msf1|jp[2mx] |mjp2|crx |jxl ", None),
        (rb"M4[AP][ \0]|F4A ", M4A),
        (rb"M4B[ \0]|F4B ", M4B),
        (rb"M4V[ HP\0]", M4V),
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


def _mp4_tracks(head: bytes) -> _Tracks:
    end = len(head)
    movie = next(_descend(_atoms, head, b"moov", end=end), None)
    handlers = [
        head[box.start + 8 : box.start + 12]
        for box in _descend(_atoms, head, b"moov", b"trak", b"mdia", b"hdlr", end=end)
    ]
    is_complete = movie is not None and movie.end <= end
    return _tracks(b"vide" in handlers, b"soun" in handlers, is_complete)


_GAPS = (b"free", b"skip", b"uuid", b"wide")
_LONGEST_FILE_TYPE = 1024


def _top_level(head: bytes) -> Iterator[_Box]:
    """The boxes of the file, those left out that say nothing."""
    return (box for box in _atoms(head, 0, len(head)) if box.kind not in _GAPS)


def _brands_of(head: bytes, box: _Box) -> list[bytes]:
    """The brands of a file type, the first one first; none of a box that cannot be one."""
    if box.kind != b"ftyp" or box.end - box.start not in range(8, _LONGEST_FILE_TYPE, 4):
        return []
    # The second word is the version of the first brand.
    words = [head[at : at + 4] for at in range(box.start, min(box.end, len(head)), 4)]
    return words[:1] + words[2:]


def _formats_of(brands: list[bytes]) -> list[MediaFormat | None]:
    """The formats of all brands that we know, None for those of images."""
    return [media for brand in brands for regex, media in _BRANDS if regex.fullmatch(brand)]


def _format_of(brands: list[bytes], following: bytes) -> MediaFormat | None:
    """Judge by the first brand that we know, or by the box that follows the file type."""
    known = _formats_of(brands)
    if not known:
        # Cameras and encoders invent brands.
        return MP4 if following in (b"moov", b"mdat") else None
    # What else calls itself an image, and begins like one, is no movie.
    return None if following == b"meta" and None in known else known[0]


def _is_of_pictures(head: bytes, box: _Box) -> bool:
    """Tell whether a box is the `meta` of an image (ISO/IEC 23008-12, 6.2)."""
    # It has a version of four bytes before its children, of which the handler is the first.
    handler = next(_atoms(head, box.start + 4, box.end), None)
    return (
        box.kind == b"meta"
        and handler is not None
        and (head[handler.start + 8 : handler.start + 12] == b"pict")
    )


def iso_media(head: bytes) -> MediaFormat | None:
    """Judge a file by its `ftyp`: by the tracks if they are seen, else by brand."""
    boxes = _top_level(head)
    first, second = next(boxes, None), next(boxes, None)
    brands = _brands_of(head, first) if first else []
    if not brands or (second and _is_of_pictures(head, second)):
        return None
    media = _format_of(brands, second.kind if second else b"")
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


def old_quicktime(head: bytes) -> MediaFormat | None:
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
