"""Containers that name each of their streams by a marker: Ogg, ASF and RealMedia."""

from collections.abc import Iterator

from tusasgi.media.formats import ASF, OGA, OGG, OGM, OGV, OPUS, RA, RM, SPEEX, WMA, WMV
from tusasgi.media.rules import MediaFormat

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


def _ogg_packets(head: bytes) -> Iterator[bytes]:
    """The starts of the first packets of all streams: those pages come first (RFC 3533, 4)."""
    at = 0
    while head[at : at + 5] == b"OggS\0" and len(head) > at + 27 and head[at + 5] & 2:
        start = at + 27 + head[at + 26]
        yield head[start : start + 16]
        at = start + sum(head[at + 27 : start])


def ogg(head: bytes) -> MediaFormat | None:
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


def asf(head: bytes) -> MediaFormat | None:
    """Judge by the stream properties objects: a GUID, a size of 8 bytes, the type's GUID."""
    types = {part[8:24] for part in head.split(_ASF_STREAM)[1:]}
    if _ASF_VIDEO in types:
        return WMV
    is_complete = int.from_bytes(head[16:24], "little") <= len(head)
    return WMA if _ASF_AUDIO in types and is_complete else ASF


def _real_chunks(head: bytes) -> Iterator[bytes]:
    """The chunks of a RealMedia file up to the last that is there in full."""
    at = 0
    while (size := int.from_bytes(head[at + 4 : at + 8])) >= 10 and at + size <= len(head):
        yield head[at : at + size]
        at += size


def real_media(head: bytes) -> MediaFormat | None:
    """Judge by the media properties: as long as some are not seen, video may still follow."""
    chunks = [*_real_chunks(head)]
    streams = [chunk for chunk in chunks if chunk.startswith(b"MDPR")]
    announced = [int.from_bytes(c[46:48]) for c in chunks if c.startswith(b"PROP")]
    has_audio = any(b"audio/x-pn-realaudio" in stream for stream in streams)
    has_video = any(b"video/x-pn-realvideo" in stream for stream in streams)
    return RA if has_audio and not has_video and announced == [len(streams)] else RM
