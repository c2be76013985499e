"""Media files that are damaged on purpose: by hand where it hurts, and by chance."""

import random
import re
import struct
from collections.abc import Callable

from tests.media.samples import atom, file_type, id3_tag, ogg_page

Damage = Callable[[bytearray, random.Random], None]

_HEAD = 4096
_EXTREMES = (0, 1, 7, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9 ]{3}")


# By chance


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return the file with one to three things wrong; the same for the same `chance`."""
    file = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        chance.choice(_DAMAGES)(file, chance)
    return bytes(file)


def _cut(file: bytearray, chance: random.Random) -> None:
    del file[chance.randint(0, len(file)) :]


def _flip_bits(file: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 20) if file else 0):
        file[chance.randrange(min(len(file), _HEAD))] ^= 1 << chance.randrange(8)


def _set_extreme(file: bytearray, chance: random.Random) -> None:
    """Write a size, count or rate that nobody expects, near a name where there is one."""
    names = [match.start() for match in _NAME.finditer(file)]
    at = chance.choice(names) + chance.randint(-8, 40) if names else chance.randrange(_HEAD)
    width = chance.choice((1, 2, 4, 8))
    value = chance.choice(_EXTREMES) % 256**width
    at = max(0, min(at, len(file) - width))
    file[at : at + width] = value.to_bytes(width, chance.choice(("big", "little")))


def _blank(file: bytearray, chance: random.Random) -> None:
    start = chance.randint(0, min(len(file), _HEAD))
    stop = min(len(file), start + chance.choice((4, 16, 256, 4096)))
    file[start:stop] = bytes([chance.choice((0, 255))]) * (stop - start)


def _drop(file: bytearray, chance: random.Random) -> None:
    start = chance.randint(0, min(len(file), _HEAD))
    del file[start : start + chance.randint(1, 64)]


def _repeat(file: bytearray, chance: random.Random) -> None:
    start = chance.randint(0, min(len(file), _HEAD))
    file[start:start] = file[start : start + chance.randint(1, 512)] * chance.randint(1, 100)


_DAMAGES: tuple[Damage, ...] = (
    _cut,
    _flip_bits,
    _set_extreme,
    _set_extreme,
    _blank,
    _drop,
    _repeat,
)


# By hand


def full(kind: bytes, *numbers: int, rest: bytes = b"") -> bytes:
    """A box with version and flags of zero, and 32-bit numbers."""
    return atom(kind, bytes(4) + struct.pack(f">{len(numbers)}I", *numbers) + rest)


def sound(samples: int, *, codec: bytes, step: int, scale: int = 1000, lasts: int = 99) -> bytes:
    """A small MP4 whose index says that it holds so many samples of two bytes."""
    rate = struct.pack(">HHHHI", 1, 16, 0, 0, 8000 << 16)
    index = atom(
        b"stbl",
        full(b"stsd", 1, rest=atom(codec, bytes(6) + b"\0\1" + bytes(8) + rate))
        + full(b"stts", 1, samples, step)
        + full(b"stsc", 1, 1, samples, 1)
        + full(b"stsz", 2, samples)
        + full(b"stco", 1, 40),
    )
    media = atom(
        b"mdia",
        full(b"mdhd", 0, 0, scale, lasts, 0)
        + full(b"hdlr", 0, rest=b"soun" + bytes(13))
        + atom(b"minf", index),
    )
    track = atom(b"trak", full(b"tkhd", 0, 0, 1, rest=bytes(68)) + media)
    head = full(b"mvhd", 0, 0, scale, lasts, rest=bytes(80))
    return file_type(b"isom") + atom(b"moov", head + track)


def nested(kind: bytes, depth: int) -> bytes:
    """Boxes in boxes, each as long as it says."""
    return b"".join(struct.pack(">I4s", 8 * (depth - n), kind) for n in range(depth))


def wav(*, channels: int = 1, rate: int = 8000, align: int = 1, bits: int = 8, size: int) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, rate, align, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", 2**32 - 1) + body + bytes(200)


def flac(*, rate: int, samples: int) -> bytes:
    """A stream of one channel and 16 bits that has no frames."""
    packed = rate << 44 | 15 << 36 | samples
    return (
        b"fLaC\x80\0\0\x22"
        + struct.pack(">HH", 4096, 4096)
        + bytes(6)
        + packed.to_bytes(8, "big")
        + bytes(200)
    )


_EBML = b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska"
_SEGMENT, _TRACKS, _ENDLESS = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\x01" + b"\xff" * 7
_LONG = b"\x01" + bytes(2) + b"\x7f" + b"\xff" * 4
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")

BY_HAND: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(65_536),
    "mp4-box-of-size-zero": file_type(b"isom") + b"\0\0\0\0moov" + bytes(200),
    "mp4-box-smaller-than-its-head": file_type(b"isom") + b"\0\0\0\4moov" + bytes(200),
    "mp4-box-of-2-to-the-63": file_type(b"isom") + b"\0\0\0\1moov\x80" + bytes(200),
    "mp4-box-of-4-gib": file_type(b"isom") + b"\xff\xff\xff\xffmoov" + bytes(200),
    "mp4-boxes-in-boxes": file_type(b"isom") + nested(b"moov", 20_000),
    "mp4-tracks-in-tracks": file_type(b"isom") + atom(b"moov", nested(b"trak", 20_000)),
    "mp4-of-a-million-samples": sound(2**20, codec=b"mp4a", step=2),
    "mp4-of-more-samples-than-memory": sound(2**26, codec=b"mp4a", step=2),
    "mp4-of-4-billion-samples": sound(2**32 - 1, codec=b"mp4a", step=2),
    "mp4-without-a-time-scale": sound(9, codec=b"sowt", step=1, scale=0),
    "mp4-that-lasts-136-years": sound(9, codec=b"sowt", step=1, scale=1, lasts=2**32 - 1),
    "mp4-that-lasts-no-time": sound(9, codec=b"sowt", step=0, lasts=0),
    "wav-without-channels": wav(channels=0, size=100),
    "wav-of-65535-channels": wav(channels=65_535, align=65_535, size=100),
    "wav-without-a-rate": wav(rate=0, size=100),
    "wav-of-4-ghz": wav(rate=2**32 - 1, size=100),
    "wav-without-alignment": wav(align=0, bits=0, size=100),
    "wav-of-4-gib": wav(size=2**32 - 1),
    "wav-of-lists-in-lists": b"RIFF\xff\xff\xff\x7fWAVE" + b"LIST\xff\xff\xff\x7fINFO" * 5000,
    "avi-of-lists-in-lists": b"RIFF\xff\xff\xff\x7fAVI " + b"LIST\xff\xff\xff\x7fhdrl" * 5000,
    "y4m-larger-than-any-screen": b"YUV4MPEG2 W2147483647 H2147483647 F1:1\nFRAME\n" + bytes(200),
    "y4m-of-a-gigabyte-per-picture": b"YUV4MPEG2 W32000 H16000 F1:1\nFRAME\n" + bytes(200),
    "y4m-of-no-rate": b"YUV4MPEG2 W2 H2 F0:0\n" + b"FRAME\n......" * 9,
    "mkv-of-endless-elements": _EBML + _SEGMENT + _ENDLESS + (_TRACKS + _ENDLESS) * 2000,
    "mkv-of-segments-in-segments": _EBML + (_SEGMENT + _ENDLESS) * 5000,
    "mkv-of-a-long-element": _EBML + _SEGMENT + _ENDLESS + _TRACKS + _LONG + bytes(200),
    "mkv-of-size-zero": _EBML + _SEGMENT + b"\x80" + bytes(200),
    "ogg-cut-in-its-first-page": b"OggS\0\2" + bytes(20) + b"\xff" + b"\xff" * 255 + bytes(64),
    "ogg-of-a-thousand-streams": b"".join(
        ogg_page(b"\x80theora\3\2\1".ljust(42, b"\0"), serial) for serial in range(1000)
    ),
    "id3-tag-of-256-mib": b"ID3\3\0\0\x7f\x7f\x7f\x7f" + bytes(200),
    "id3-tag-under-tag": id3_tag(20) * 5000,
    "id3-frame-of-4-gib": b"ID3\4\0\0\0\0\7\x76APIC\xff\xff\xff\xff\0\0" + bytes(2000),
    "flac-without-a-rate": flac(rate=0, samples=1000),
    "flac-of-a-year": flac(rate=655_350, samples=2**36 - 1),
    "aiff-of-no-rate": b"FORM\x7f\xff\xff\xffAIFFCOMM\0\0\0\x12\0\1\xff\xff\xff\xff\0\x10"
    + bytes(10)
    + b"SSND\xff\xff\xff\xff"
    + bytes(200),
    "au-of-a-long-head": b".snd\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\3\0\0\0\0\xff\xff\xff\xff"
    + bytes(200),
    "caf-of-a-negative-chunk": b"caff\0\1\0\0desc" + b"\xff" * 8 + bytes(200),
    "asf-of-a-long-head": _ASF + b"\xff" * 8 + b"\xff\xff\xff\xff\1\2" + bytes(200),
    "ts-of-nothing-else": b"\x47\x40\0\x10".ljust(188, b"\xff") * 500,
    "flv-of-a-long-tag": b"FLV\1\5\0\0\0\x09\0\0\0\0" + b"\x09\xff\xff\xff" * 50,
    "ivf-of-a-4-gib-frame": b"DKIF\0\0\x20\0VP80\xff\xff\xff\xff\0\0\0\0" + b"\xff" * 200,
    "amr-of-zeros": b"#!AMR\n" + bytes(2000),
    "webvtt": b"WEBVTT\n\n00:00.000 --> 99999999:59:59.999\n" + b"a" * 200,
}
