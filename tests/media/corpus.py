"""A file of each kind that FFmpeg can write, of two codecs where a kind takes two.

`WRITTEN` says what each of them is found to be, `NOT_WRITTEN` why a muxer is left out: together
they name every muxer that PyAV brings.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import av

from .samples import PAL, Recipe

_SOUND_OF_ITS_OWN = "sound of games and devices, without a magic number worth the name"
_GAME = "a format of games, which no browser and hardly a player plays"
_RAW = "samples without a header: any file is one"
_ELEMENTARY = "an elementary stream, without times"
_PICTURES = "pictures"
_HEADERLESS = "a codec's frames without a header of 24 bits that could be trusted"


class Written(NamedTuple):
    """What a muxer writes: its codecs, and the extensions of what it is found to be.

    The files are known or refused for the same `reason`.
    """

    codecs: tuple[str, ...]
    found: tuple[str, ...] = ()
    reason: str = ""


def _raw(*codecs: str) -> Written:
    return Written(codecs, reason=_RAW)


def _refused(reason: str, *codecs: str) -> Written:
    return Written(codecs, reason=reason)


WRITTEN = {
    "a64": _refused(_PICTURES, "a64multi", "a64multi5"),
    "3g2": Written(("mpeg4 aac", "h263"), ("3g2", "3g2")),
    "3gp": Written(("mpeg4 aac", "h263"), ("3gp", "3gp")),
    "ac3": Written(("ac3", "ac3_fixed"), ("ac3", "ac3")),
    "adts": Written(("aac",), ("aac",)),
    "adx": _refused(_GAME, "adpcm_adx"),
    "aiff": Written(("pcm_s16be", "pcm_mulaw"), ("aiff", "aifc")),
    "alaw": _raw("pcm_alaw"),
    "alp": _refused(_GAME, "adpcm_ima_alp"),
    "amv": _refused("a format of players of 2003", "amv adpcm_ima_amv"),
    "apm": _refused(_GAME, "adpcm_ima_apm"),
    "apng": _refused(_PICTURES, "apng"),
    "aptx": _refused(_HEADERLESS, "aptx"),
    "aptx_hd": _refused(_HEADERLESS, "aptx_hd"),
    "argo_asf": _refused(_GAME, "adpcm_argo"),
    "asf": Written(("wmv2 wmav2", "wmav1"), ("wmv", "wma")),
    "asf_stream": _refused("ASF in the packets of a server (MMS)", "wmv1 wmav2", "wmav2"),
    "ast": _refused(_GAME, "pcm_s16be_planar"),
    "au": Written(("pcm_s16be", "pcm_mulaw"), ("au", "au")),
    "avi": Written(("mpeg4 libmp3lame", "huffyuv"), ("avi", "avi")),
    "avif": _refused(_PICTURES, "libsvtav1"),
    "avm2": _refused("Flash: a program", "flv", "libmp3lame"),
    "caf": Written(("pcm_s16be", "alac"), ("caf", "caf")),
    "daud": _raw("pcm_s24daud"),
    "dfpwm": _raw("dfpwm"),
    "dnxhd": _refused(_ELEMENTARY, "dnxhd"),
    "dv": Written(("dvvideo", "dvvideo pcm_s16le"), ("dv", "dv")),
    "dvd": Written(("mpeg2video mp2", "mpeg1video mp2"), ("mpg", "mpg")),
    "eac3": Written(("eac3",), ("eac3",)),
    "f32be": _raw("pcm_f32be"),
    "f32le": _raw("pcm_f32le"),
    "f4v": Written(("libx264 aac", "libx264"), ("mp4", "mp4")),
    "f64be": _raw("pcm_f64be"),
    "f64le": _raw("pcm_f64le"),
    "film_cpk": _refused(_GAME, "cinepak"),
    "filmstrip": _refused(_PICTURES, "rawvideo"),
    "fits": _refused(_PICTURES, "fits"),
    "flac": Written(("flac",), ("flac",)),
    "flv": Written(("flv libmp3lame", "libx264 aac"), ("flv", "flv")),
    "g722": _raw("g722"),
    "g723_1": _refused(_HEADERLESS, "g723_1"),
    "g726": _raw("g726"),
    "g726le": _raw("g726le"),
    "gif": _refused(_PICTURES, "gif"),
    "gxf": Written(("mpeg2video", "mpeg2video pcm_s16le"), ("gxf", "gxf")),
    "h261": _refused(_ELEMENTARY, "h261"),
    "h263": _refused(_ELEMENTARY, "h263"),
    "h264": _refused(_ELEMENTARY, "libx264"),
    "hevc": _refused(_ELEMENTARY, "libx265"),
    "image2pipe": _refused(_PICTURES, "mjpeg", "png"),
    "ipod": Written(("aac", "alac"), ("m4a", "m4a")),
    "ircam": _refused(_SOUND_OF_ITS_OWN, "pcm_s16le", "pcm_mulaw"),
    "ismv": Written(("libx264 aac", "mpeg4"), ("mp4", "mp4")),
    "ivf": Written(("libvpx", "libvpx-vp9"), ("ivf", "ivf")),
    "kvag": _refused(_GAME, "adpcm_ima_ssi"),
    "latm": Written(("aac",), ("loas",)),
    "m4v": _refused(_ELEMENTARY, "mpeg4"),
    "matroska": Written(("libx264 ac3", "ffv1 flac"), ("mkv", "mkv")),
    "mjpeg": _refused(_PICTURES, "mjpeg"),
    "mmf": _refused(_SOUND_OF_ITS_OWN, "adpcm_yamaha"),
    "mov": Written(("prores pcm_s16le", "libx264 aac"), ("mov", "mov")),
    "mp2": Written(("mp2", "mp2fixed"), ("mp2", "mp2")),
    "mp3": Written(("libmp3lame",), ("mp3",)),
    "mp4": Written(("libx264 aac", "mpeg4 ac3"), ("mp4", "mp4")),
    "mpeg": Written(("mpeg1video mp2", "mpeg1video"), ("mpg", "mpg")),
    "mpeg1video": _refused(_ELEMENTARY, "mpeg1video"),
    "mpeg2video": _refused(_ELEMENTARY, "mpeg2video"),
    "mpegts": Written(("mpeg2video mp2", "libx264 aac"), ("ts", "ts")),
    "mpjpeg": _refused(_PICTURES, "mjpeg"),
    "mulaw": _raw("pcm_mulaw"),
    "mxf": Written(("mpeg2video pcm_s16le", "libx264"), ("mxf", "mxf")),
    "mxf_opatom": Written(("pcm_s16le", "dnxhd"), ("mxf", "mxf")),
    "nut": Written(("mpeg4 libmp3lame", "ffv1 flac"), ("nut", "nut")),
    "obu": _refused(_ELEMENTARY, "libsvtav1"),
    "oga": Written(("flac",), ("oga",)),
    "ogg": Written(("flac", "libvpx libopus"), ("oga", "ogv")),
    "ogv": Written(("libvpx flac", "libvpx"), ("ogv", "ogv")),
    "opus": Written(("libopus",), ("opus",)),
    "psp": Written(("libx264 aac", "mpeg4 aac"), ("mp4", "mp4")),
    "rawvideo": _raw("rawvideo"),
    "rm": Written(("rv10 ac3", "rv20"), ("rm", "rm")),
    "roq": _refused(_GAME, "roqvideo", "roq_dpcm"),
    "rso": _refused(_SOUND_OF_ITS_OWN, "pcm_u8"),
    "s16be": _raw("pcm_s16be"),
    "s16le": _raw("pcm_s16le"),
    "s24be": _raw("pcm_s24be"),
    "s24le": _raw("pcm_s24le"),
    "s32be": _raw("pcm_s32be"),
    "s32le": _raw("pcm_s32le"),
    "s8": _raw("pcm_s8"),
    "sbc": _refused(_HEADERLESS, "sbc"),
    "smjpeg": _refused(_GAME, "mjpeg pcm_s16le", "pcm_s16le"),
    "sox": _refused(_SOUND_OF_ITS_OWN, "pcm_s32le"),
    "spdif": _refused("what goes over a cable, not into a file", "ac3"),
    "svcd": Written(("mpeg2video mp2", "mpeg1video"), ("mpg", "mpg")),
    "swf": _refused("Flash: a program", "flv", "libmp3lame"),
    "tta": Written(("tta",), ("tta",)),
    "u16be": _raw("pcm_u16be"),
    "u16le": _raw("pcm_u16le"),
    "u24be": _raw("pcm_u24be"),
    "u24le": _raw("pcm_u24le"),
    "u32be": _raw("pcm_u32be"),
    "u32le": _raw("pcm_u32le"),
    "u8": _raw("pcm_u8"),
    "vcd": Written(("mpeg1video mp2", "mpeg1video"), ("mpg", "mpg")),
    "vidc": _raw("pcm_vidc"),
    "vob": Written(("mpeg2video ac3", "mpeg2video"), ("mpg", "mpg")),
    "voc": Written(("pcm_u8", "pcm_s16le"), ("voc", "voc")),
    "w64": Written(("pcm_s16le", "pcm_f32le"), ("w64", "w64")),
    "wav": Written(("pcm_s16le", "adpcm_ms"), ("wav", "wav")),
    "webm": Written(("libvpx libopus", "libvpx-vp9"), ("webm", "webm")),
    "webp": _refused(_PICTURES, "libwebp", "libwebp_anim"),
    "wsaud": _refused(_GAME, "adpcm_ima_ws"),
    "wtv": Written(("mpeg2video mp2", "mpeg2video ac3"), ("wtv", "wtv")),
    "wv": Written(("wavpack",), ("wv",)),
    "yuv4mpegpipe": Written(("wrapped_avframe", "rawvideo"), ("y4m", "y4m")),
}

_NO_FILE = "writes no file, but to a device, a server or another muxer"
_TEXT = "writes text: subtitles, checksums or playlists"
_NO_CODEC = "PyAV has no encoder for it, or none that works"

NOT_WRITTEN = {
    _NO_FILE: "alsa fbdev fifo null oss rtp rtp_mpegts rtsp sap tee video4linux2,v4l2 whip",
    _TEXT: (
        "ass crc data ffmetadata framecrc framehash framemd5 hash jacosub lrc mcc md5 microdvd "
        "mkvtimestamp_v2 rcwt scc srt streamhash sup ttml uncodedframecrc webvtt"
    ),
    "writes a folder of files": (
        "dash hds hls image2 segment smoothstreaming stream_segment,ssegment webm_chunk "
        "webm_dash_manifest"
    ),
    _NO_CODEC: (
        "ac4 aea amr apv argo_cvg avs2 avs3 bit cavsvideo codec2 codec2raw dirac dts evc gsm ilbc "
        "lc3 mlp oma spx truehd vc1 vc1test vvc"
    ),
    "takes nothing but studio codecs of 30 Mbit/s and more": "mxf_d10",
    "takes one stream for each picture": "ico",
    "needs groups of streams, which PyAV cannot make": "iamf",
}

# What some codecs, or muxers, need of what goes in.
_MONO = {"layout": "mono"}
_NARROW = {"layout": "mono", "rate": 8_000}
_NEEDS: dict[str, dict[str, Any]] = {
    "a64multi": {"pix_fmt": "gray", "size": (320, 200)},
    "a64multi5": {"pix_fmt": "gray", "size": (320, 200)},
    "adpcm_ima_alp": {"rate": 22_050, "options": {"type": "tun"}},
    "adpcm_ima_amv": {
        "rate": 22_050,
        "audio_options": {"block_size": "1050"},
        "fps": 21,
        **_MONO,
    },
    "amv": {"pix_fmt": "yuvj420p"},
    "apng": {"pix_fmt": "rgb24"},
    "bmp": {"pix_fmt": "bgra"},
    "cinepak": {"pix_fmt": "rgb24"},
    "dnxhd": {"pix_fmt": "yuv422p", "size": (256, 128), "video_options": {"profile": "dnxhr_lb"}},
    "dvvideo": PAL,
    "fits": {"pix_fmt": "gray"},
    "g722": {"rate": 16_000, **_MONO},
    "g723_1": {**_NARROW, "bit_rate": 6_300},
    "g726": _NARROW,
    "g726le": _NARROW,
    "gif": {"pix_fmt": "rgb8"},
    "h261": {"size": (176, 144)},
    "h263": {"size": (176, 144)},
    "huffyuv": {"pix_fmt": "yuv422p"},
    "libwebp": {"pix_fmt": "bgra"},
    "libwebp_anim": {"pix_fmt": "bgra"},
    "mjpeg": {"pix_fmt": "yuvj420p"},
    "pcm_s24daud": {"layout": "5.1", "rate": 96_000},
    "png": {"pix_fmt": "rgba"},
    "prores": {"pix_fmt": "yuv422p10le"},
    "roq_dpcm": {"rate": 22_050},
    "roqvideo": {"pix_fmt": "yuvj444p"},
    "wmav1": {"bit_rate": 128_000},
    "wmav2": {"bit_rate": 128_000},
    "filmstrip": {"pix_fmt": "rgba"},
    "gxf": {**PAL, **_MONO},
    "mmf": {"rate": 22_050, **_MONO},
    "mxf_opatom": _MONO,
    "avm2": {"rate": 44_100},
    "swf": {"rate": 44_100},
    "rso": {"rate": 8_000, **_MONO},
    "voc": {"rate": 22_050, **_MONO},
}


def recipes() -> Iterator[tuple[Recipe, str | None]]:
    """How to write each file, and the extension of what it is found to be, if anything."""
    for muxer, written in WRITTEN.items():
        for number, codecs in enumerate(written.codecs):
            names = codecs.split()
            if av.codecs_available >= {*names}:
                yield _recipe(muxer, names), written.found[number] if written.found else None


def _recipe(muxer: str, codecs: list[str]) -> Recipe:
    needs: dict[str, Any] = {}
    for name in (*codecs, muxer):
        needs |= _NEEDS.get(name, {})
    streams = {av.Codec(name, "w").type: name for name in codecs}
    return Recipe(id=f"{muxer} of {' '.join(codecs)}", muxer=muxer, **streams, **needs)
