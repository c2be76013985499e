"""Real files, a fraction of a second long, written by PyAV; and heads built by hand.

A head is built by hand where PyAV's FFmpeg has no encoder or no muxer: `HAND_MADE` says why.
"""

import contextlib
import itertools
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av

WIDTH, HEIGHT, FPS, SECONDS = 64, 48, 25, 0.6


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to have PyAV write one file."""

    id: str
    muxer: str
    video: str | None = None
    audio: str | None = None
    rate: int = 48_000
    size: tuple[int, int] = (WIDTH, HEIGHT)
    fps: int = FPS
    pix_fmt: str = "yuv420p"
    layout: str = "stereo"
    bit_rate: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    video_options: Mapping[str, str] = field(default_factory=dict)
    audio_options: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    audio_first: bool = False


@dataclass(frozen=True, kw_only=True)
class Sample(Recipe):
    """A file, and what it must be recognised as."""

    kind: str
    content_type: str
    extension: str


def write(recipe: Recipe, path: Path) -> None:
    """Write the file that the recipe describes."""
    options = dict(recipe.options)
    with _usual_priority(), av.open(str(path), "w", format=recipe.muxer, options=options) as out:
        out.metadata.update(recipe.tags)
        kinds = ["video", "audio"]
        if recipe.audio_first:
            kinds.reverse()
        adders = {"video": _add_video, "audio": _add_audio}
        feeds = [adders[kind](out, recipe) for kind in kinds if getattr(recipe, kind)]
        for packets in itertools.zip_longest(*feeds, fillvalue=[]):
            for packet in itertools.chain(*packets):
                out.mux(packet)


@contextlib.contextmanager
def _usual_priority():
    """Take back what SVT-AV1 does as root: it makes its caller a real-time thread.

    Every process that is started from there would be one too, and starve the machine.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def _add_video(out, recipe):
    stream = out.add_stream(recipe.video, rate=recipe.fps, options=dict(recipe.video_options))
    stream.width, stream.height = recipe.size
    stream.pix_fmt = recipe.pix_fmt
    return _video_packets(stream, recipe)


def _video_packets(stream, recipe):
    for number in range(int(SECONDS * recipe.fps)):
        frame = av.VideoFrame(*recipe.size, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([(number * 9 + 40) % 256]) * plane.buffer_size)
        frame = frame.reformat(format=recipe.pix_fmt)
        frame.pts, frame.time_base = number, Fraction(1, recipe.fps)
        yield stream.encode(frame)
    yield stream.encode(None)


def _add_audio(out, recipe):
    stream = out.add_stream(
        recipe.audio, rate=recipe.rate, layout=recipe.layout, options=dict(recipe.audio_options)
    )
    if recipe.bit_rate:
        stream.bit_rate = recipe.bit_rate
    return _audio_packets(stream, recipe)


def _audio_packets(stream, recipe):
    context = stream.codec_context
    context.open()
    resampler = av.AudioResampler(
        format=context.format, layout=recipe.layout, rate=recipe.rate, frame_size=context.frame_size
    )
    samples = int(SECONDS * recipe.rate)
    frame = av.AudioFrame(format="s16", layout=recipe.layout, samples=samples)
    frame.planes[0].update(_wave(samples, context.layout.nb_channels))
    frame.sample_rate, frame.pts = recipe.rate, 0
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        yield stream.encode(part)
    yield stream.encode(None)


@cache
def _wave(samples, channels):
    return b"".join(struct.pack("<h", (n * 331 % 8000) - 4000) * channels for n in range(samples))


def _audio(id: str, muxer: str, audio: str, content_type: str, extension: str, **more) -> Sample:
    return Sample(
        id=id,
        muxer=muxer,
        audio=audio,
        kind="audio",
        content_type=content_type,
        extension=extension,
        **more,
    )


def _video(id: str, muxer: str, video: str, content_type: str, extension: str, **more) -> Sample:
    return Sample(
        id=id,
        muxer=muxer,
        video=video,
        kind="video",
        content_type=content_type,
        extension=extension,
        **more,
    )


_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
_BARE_MP3 = {"id3v2_version": "0", "write_xing": "0"}
PAL = {"size": (720, 576), "fps": 25}

RECIPES = (
    _video("mp4", "mp4", "mpeg4", "video/mp4", "mp4", audio="aac"),
    _video("mp4-h264", "mp4", "libx264", "video/mp4", "mp4", audio="aac"),
    _video(
        "mp4-streamable",
        "mp4",
        "mpeg4",
        "video/mp4",
        "mp4",
        audio="aac",
        options={"movflags": "faststart"},
    ),
    _video("mp4-fragmented", "mp4", "mpeg4", "video/mp4", "mp4", audio="aac", options=_FRAGMENTS),
    _video(
        "mp4-sound-first",
        "mp4",
        "mpeg4",
        "video/mp4",
        "mp4",
        audio="aac",
        options=_FRAGMENTS,
        audio_first=True,
    ),
    _video("mp4-av1", "mp4", "libsvtav1", "video/mp4", "mp4"),
    _audio("mp4-audio-streamable", "mp4", "aac", "audio/mp4", "m4a", options=_FRAGMENTS),
    _audio("m4a", "ipod", "aac", "audio/mp4", "m4a"),
    _audio("m4a-alac", "ipod", "alac", "audio/mp4", "m4a"),
    _video("f4v", "f4v", "libx264", "video/mp4", "mp4", audio="aac"),
    _video("ismv", "ismv", "libx264", "video/mp4", "mp4", audio="aac"),
    _video("psp", "psp", "mpeg4", "video/mp4", "mp4", audio="aac"),
    _video("mov", "mov", "mpeg4", "video/quicktime", "mov", audio="pcm_s16le"),
    _video("mov-prores", "mov", "prores", "video/quicktime", "mov", pix_fmt="yuv422p10le"),
    _video("3gp", "3gp", "mpeg4", "video/3gpp", "3gp", audio="aac"),
    _audio("3gp-audio", "3gp", "aac", "audio/3gpp", "3gp", options=_FRAGMENTS),
    _video("3g2", "3g2", "mpeg4", "video/3gpp2", "3g2", audio="aac"),
    _audio("3g2-audio", "3g2", "aac", "audio/3gpp2", "3g2", options=_FRAGMENTS),
    _video("mkv", "matroska", "mpeg4", "video/x-matroska", "mkv", audio="aac"),
    _video(
        "mkv-sound-first",
        "matroska",
        "libx264",
        "video/x-matroska",
        "mkv",
        audio="aac",
        audio_first=True,
    ),
    _audio("mka", "matroska", "flac", "audio/x-matroska", "mka"),
    _video("webm-vp8", "webm", "libvpx", "video/webm", "webm", audio="libopus"),
    _video("webm-vp9", "webm", "libvpx-vp9", "video/webm", "webm", audio="libopus"),
    _video("webm-av1", "webm", "libsvtav1", "video/webm", "webm"),
    _video("webm-live", "webm", "libvpx", "video/webm", "webm", options={"live": "1"}),
    _audio("weba", "webm", "libopus", "audio/webm", "weba"),
    _audio("ogg-vorbis", "ogg", "vorbis", "audio/ogg", "ogg", audio_options={"strict": "-2"}),
    _audio("ogg-opus", "opus", "libopus", "audio/ogg", "opus"),
    _audio("ogg-flac", "oga", "flac", "audio/ogg", "oga"),
    _video("ogv-vp8", "ogg", "libvpx", "video/ogg", "ogv", audio="libopus"),
    _video(
        "ogv-sound-first", "ogg", "libvpx", "video/ogg", "ogv", audio="libopus", audio_first=True
    ),
    _audio("flac", "flac", "flac", "audio/flac", "flac"),
    _audio("wav", "wav", "pcm_s16le", "audio/wav", "wav"),
    _audio("wav-float", "wav", "pcm_f32le", "audio/wav", "wav"),
    _audio("rf64", "wav", "pcm_s16le", "audio/wav", "wav", options={"rf64": "always"}),
    _audio("w64", "w64", "pcm_s16le", "audio/x-w64", "w64"),
    _video("avi", "avi", "mpeg4", "video/x-msvideo", "avi", audio="libmp3lame"),
    _video("avi-mjpeg", "avi", "mjpeg", "video/x-msvideo", "avi", pix_fmt="yuvj420p"),
    _audio("aiff", "aiff", "pcm_s16be", "audio/aiff", "aiff"),
    _audio("aifc", "aiff", "pcm_mulaw", "audio/aiff", "aifc"),
    _audio("wma", "asf", "wmav2", "audio/x-ms-wma", "wma", bit_rate=128_000),
    _video("wmv", "asf", "wmv2", "video/x-ms-wmv", "wmv", audio="wmav2", bit_rate=128_000),
    _video(
        "wmv-sound-first",
        "asf",
        "wmv2",
        "video/x-ms-wmv",
        "wmv",
        audio="wmav2",
        bit_rate=128_000,
        audio_first=True,
    ),
    _audio("caf", "caf", "pcm_s16be", "audio/x-caf", "caf"),
    _audio("caf-alac", "caf", "alac", "audio/x-caf", "caf"),
    _video("flv", "flv", "flv", "video/x-flv", "flv", audio="libmp3lame", rate=44_100),
    _audio("flv-audio", "flv", "libmp3lame", "audio/x-flv", "flv", rate=44_100),
    _video("mxf", "mxf", "mpeg2video", "application/mxf", "mxf", audio="pcm_s16le"),
    _video("ts", "mpegts", "mpeg2video", "video/mp2t", "ts", audio="mp2"),
    _video("ts-h264", "mpegts", "libx264", "video/mp2t", "ts", audio="aac"),
    _video(
        "m2ts",
        "mpegts",
        "mpeg2video",
        "video/mp2t",
        "m2ts",
        audio="ac3",
        options={"mpegts_m2ts_mode": "1"},
    ),
    _video("wtv", "wtv", "mpeg2video", "video/x-ms-wtv", "wtv", audio="mp2"),
    _video("mpeg-1-system", "mpeg", "mpeg1video", "video/mpeg", "mpg", audio="mp2"),
    _video("vob", "vob", "mpeg2video", "video/mpeg", "mpg", audio="ac3"),
    _video("dvd", "dvd", "mpeg2video", "video/mpeg", "mpg", audio="mp2"),
    _audio("ac3", "ac3", "ac3", "audio/ac3", "ac3", bit_rate=192_000),
    _audio("ac3-44100", "ac3", "ac3", "audio/ac3", "ac3", bit_rate=192_000, rate=44_100),
    _audio("eac3", "eac3", "eac3", "audio/eac3", "eac3", bit_rate=192_000),
    _audio("mp2", "mp2", "mp2", "audio/mpeg", "mp2", bit_rate=192_000),
    _audio("mp3", "mp3", "libmp3lame", "audio/mpeg", "mp3", tags={"title": "A title"}),
    _audio("mp3-id3v23", "mp3", "libmp3lame", "audio/mpeg", "mp3", options={"id3v2_version": "3"}),
    _audio("mp3-bare", "mp3", "libmp3lame", "audio/mpeg", "mp3", options=_BARE_MP3),
    _audio(
        "mp3-bare-44100", "mp3", "libmp3lame", "audio/mpeg", "mp3", options=_BARE_MP3, rate=44_100
    ),
    _audio(
        "mp3-bare-mono-22050",
        "mp3",
        "libmp3lame",
        "audio/mpeg",
        "mp3",
        options=_BARE_MP3,
        rate=22_050,
        layout="mono",
    ),
    _audio(
        "mp3-bare-mono-8000",
        "mp3",
        "libmp3lame",
        "audio/mpeg",
        "mp3",
        options=_BARE_MP3,
        rate=8_000,
        layout="mono",
    ),
    _audio("aac", "adts", "aac", "audio/aac", "aac"),
    _audio("loas", "latm", "aac", "audio/mp4a-latm", "loas"),
    _audio("au", "au", "pcm_s16be", "audio/basic", "au"),
    _audio("voc", "voc", "pcm_u8", "audio/x-voc", "voc", rate=22_050, layout="mono"),
    _audio("wavpack", "wv", "wavpack", "audio/x-wavpack", "wv"),
    _audio("tta", "tta", "tta", "audio/x-tta", "tta"),
    _video("dv", "dv", "dvvideo", "video/dv", "dv", **PAL),
    _video("gxf", "gxf", "mpeg2video", "application/gxf", "gxf", **PAL),
    _video("ivf", "ivf", "libvpx", "video/x-ivf", "ivf"),
    _video("y4m", "yuv4mpegpipe", "wrapped_avframe", "video/x-yuv4mpeg", "y4m"),
    _video("nut", "nut", "mpeg4", "video/x-nut", "nut", audio="aac"),
    _video("rm", "rm", "rv10", "application/vnd.rn-realmedia", "rm", audio="ac3"),
    _audio("rm-audio", "rm", "ac3", "audio/x-pn-realaudio", "ra", bit_rate=96_000),
)


# Heads written by the book, where PyAV has nothing to write them with.


@dataclass(frozen=True, kw_only=True)
class Head:
    """The first bytes of a file, what they are, and why no real file is used."""

    id: str
    data: bytes
    content_type: str
    extension: str
    why: str


def atom(kind: bytes, body: bytes = b"") -> bytes:
    """A box of ISO media or QuickTime."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def file_type(brand: bytes, *compatible: bytes) -> bytes:
    """A `ftyp` box, and the beginning of a movie after it."""
    return atom(b"ftyp", brand + bytes(4) + b"".join(compatible)) + atom(b"mdat", bytes(200))


def movie(*handlers: bytes) -> bytes:
    """A `moov` box with one track for each handler."""
    tracks = [
        atom(b"trak", atom(b"mdia", atom(b"hdlr", bytes(8) + h + bytes(13)))) for h in handlers
    ]
    return atom(b"moov", atom(b"mvhd", bytes(100)) + b"".join(tracks))


def ogg_page(packet: bytes, serial: int = 1) -> bytes:
    """The first page of a logical stream."""
    head = struct.pack("<4sBBqIII", b"OggS", 0, 2, 0, serial, 0, 0)
    return head + bytes([1, len(packet)]) + packet


def syncsafe(size: int) -> bytes:
    """A size as ID3v2 writes it: seven bits to the byte."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def id3_tag(size: int, version: int = 3) -> bytes:
    """A tag of that size in all, with one picture of zeros in it."""
    name = b"PIC" if version == 2 else b"APIC"
    return b"ID3" + bytes([version, 0, 0]) + syncsafe(size - 10) + name.ljust(size - 10, b"\0")


_DTS_FRAME = (b"\x7f\xfe\x80\x01" + bytes.fromhex("fc3c7db734")).ljust(2012, b"\0")
_NO_ENCODER = "FFmpeg in PyAV has no encoder"
_NO_MUXER = "FFmpeg has no muxer"
_OLD = "no muxer writes it any more"

HAND_MADE = (
    Head(
        id="ogv-theora",
        data=ogg_page(b"\x80theora\3\2\1".ljust(42, b"\0")),
        content_type="video/ogg",
        extension="ogv",
        why=_NO_ENCODER,
    ),
    Head(
        id="ogv-skeleton",
        data=ogg_page(b"fishead\0".ljust(80, b"\0")),
        content_type="video/ogg",
        extension="ogv",
        why=_NO_MUXER,
    ),
    Head(
        id="oga-skeleton",
        data=ogg_page(b"fishead\0".ljust(80, b"\0")) + ogg_page(b"\x7fFLAC".ljust(51, b"\0"), 2),
        content_type="audio/ogg",
        extension="oga",
        why=_NO_MUXER,
    ),
    Head(
        id="speex",
        data=ogg_page(b"Speex   1.2".ljust(80, b"\0")),
        content_type="audio/ogg",
        extension="spx",
        why=_NO_ENCODER,
    ),
    Head(
        id="ogm",
        data=ogg_page(b"\1video\0\0\0DIVX".ljust(57, b"\0")),
        content_type="video/ogg",
        extension="ogm",
        why=_NO_MUXER,
    ),
    Head(
        id="dts",
        data=_DTS_FRAME * 3,
        content_type="audio/vnd.dts",
        extension="dts",
        why=_NO_ENCODER,
    ),
    Head(
        id="amr",
        data=b"#!AMR\n" + (b"\x3c" + bytes(31)) * 9,
        content_type="audio/amr",
        extension="amr",
        why=_NO_ENCODER,
    ),
    Head(
        id="amr-wb",
        data=b"#!AMR-WB\n" + (b"\x04" + bytes(17)) * 9,
        content_type="audio/amr-wb",
        extension="awb",
        why=_NO_ENCODER,
    ),
    Head(
        id="ape",
        data=b"MAC " + struct.pack("<HHII", 3990, 0, 52, 24) + bytes(80),
        content_type="audio/x-ape",
        extension="ape",
        why=_NO_ENCODER,
    ),
    Head(
        id="ape-3.97",
        data=b"MAC " + struct.pack("<HHHHI", 3970, 2000, 0, 2, 44_100) + bytes(80),
        content_type="audio/x-ape",
        extension="ape",
        why=_NO_ENCODER,
    ),
    Head(
        id="musepack-7",
        data=b"MP+\x07" + struct.pack("<I", 900) + bytes(80),
        content_type="audio/x-musepack",
        extension="mpc",
        why=_NO_ENCODER,
    ),
    Head(
        id="musepack-8",
        data=b"MPCKSH\x0f" + bytes(80),
        content_type="audio/x-musepack",
        extension="mpc",
        why=_NO_ENCODER,
    ),
    Head(
        id="rifx",
        data=b"RIFX\0\0\1\0WAVEfmt \0\0\0\x10" + bytes(80),
        content_type="audio/wav",
        extension="wav",
        why=_NO_MUXER,
    ),
    Head(
        id="wav-broadcast",
        data=b"RIFF\0\0\1\0WAVEbext\x5a\2\0\0" + bytes(80),
        content_type="audio/wav",
        extension="wav",
        why="written by recorders",
    ),
    Head(
        id="m4b",
        data=file_type(b"M4B ", b"M4A ", b"mp42", b"isom"),
        content_type="audio/mp4",
        extension="m4b",
        why=_NO_MUXER,
    ),
    Head(
        id="m4v",
        data=file_type(b"M4V ", b"mp42", b"isom"),
        content_type="video/x-m4v",
        extension="m4v",
        why=_NO_MUXER,
    ),
    Head(
        id="m4a-with-a-cover-track",
        data=file_type(b"M4A ", b"isom") + movie(b"soun", b"vide"),
        content_type="audio/mp4",
        extension="m4a",
        why="an encoder's own brand outweighs a track of pictures",
    ),
    Head(
        id="mp4-of-an-unknown-major-brand",
        data=file_type(b"ABCD", b"isom", b"mp42"),
        content_type="video/mp4",
        extension="mp4",
        why="cameras invent brands",
    ),
    Head(
        id="mp4-whose-second-track-is-cut-off",
        data=file_type(b"isom") + movie(b"soun", b"vide")[:-60],
        content_type="video/mp4",
        extension="mp4",
        why="what is not seen may be video",
    ),
    Head(
        id="mov-that-starts-with-its-index",
        data=movie(b"vide"),
        content_type="video/quicktime",
        extension="mov",
        why=_OLD,
    ),
    Head(
        id="mov-that-starts-with-a-gap",
        data=atom(b"skip", bytes(16)) + atom(b"mdat", bytes(90)),
        content_type="video/quicktime",
        extension="mov",
        why=_OLD,
    ),
    Head(
        id="mov-that-starts-with-a-preview",
        data=atom(b"pnot", bytes(12)) + atom(b"PICT", bytes(90)),
        content_type="video/quicktime",
        extension="mov",
        why=_OLD,
    ),
    Head(
        id="mov-that-starts-with-its-data",
        data=b"\0\0\0\1mdat" + struct.pack(">Q", 6_000_000_000) + bytes(90),
        content_type="video/quicktime",
        extension="mov",
        why=_OLD,
    ),
    Head(
        id="vob-with-stuffing",
        data=b"\0\0\1\xba\x44" + bytes(7) + b"\3\xfb\xff\xff\xff\0\0\1\xbb" + bytes(90),
        content_type="video/mpeg",
        extension="mpg",
        why="FFmpeg writes none",
    ),
    Head(
        id="weba-of-unknown-size-in-one-byte",
        data=b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm\x18\x53\x80\x67\xff"
        + b"\xec\x40\xc8"
        + bytes(200)
        + b"\x16\x54\xae\x6b\x85\xae\x83\x83\x81\2",
        content_type="audio/webm",
        extension="weba",
        why="FFmpeg writes the unknown size in eight bytes",
    ),
    Head(
        id="realaudio",
        data=b".ra\xfd\0\4\0\0.ra4" + bytes(80),
        content_type="audio/x-pn-realaudio",
        extension="ra",
        why=_NO_MUXER,
    ),
    Head(
        id="mp3-under-a-picture",
        data=id3_tag(300_000)[:16_384],
        content_type="audio/mpeg",
        extension="mp3",
        why="the tag is longer than any head",
    ),
    Head(
        id="flac-under-a-tag",
        data=id3_tag(200, version=2) + b"fLaC\0\0\0\x22" + bytes(80),
        content_type="audio/flac",
        extension="flac",
        why=_NO_MUXER,
    ),
    Head(
        id="dts-hd",
        data=b"DTSHDHDR" + bytes(7) + b"\x0e" + bytes(80),
        content_type="audio/vnd.dts.hd",
        extension="dtshd",
        why=_NO_MUXER,
    ),
    Head(
        id="asf-whose-streams-are-not-seen",
        data=bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(80),
        content_type="video/x-ms-asf",
        extension="asf",
        why="a long tag stands before the streams",
    ),
)
