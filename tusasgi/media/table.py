"""The formats that are known: rules that are asked in turn."""

from tusasgi.media.boxes import iso_media, matroska, old_quicktime
from tusasgi.media.formats import (
    AAC,
    AC3,
    AIFC,
    AIFF,
    AMR,
    AMR_WB,
    APE,
    ASF,
    AU,
    AUDIO_3G2,
    AUDIO_3GP,
    AUDIO_FLV,
    AVI,
    CAF,
    DTS,
    DTS_HD,
    DV,
    EAC3,
    FLAC,
    FLV,
    GXF,
    IVF,
    LOAS,
    M2TS,
    M4A,
    M4B,
    M4V,
    MKA,
    MKV,
    MOV,
    MP2,
    MP3,
    MP4,
    MPEG,
    MUSEPACK,
    MXF,
    NUT,
    OGA,
    OGG,
    OGM,
    OGV,
    OPUS,
    RA,
    RM,
    SPEEX,
    TS,
    TTA,
    VIDEO_3G2,
    VIDEO_3GP,
    VOC,
    W64,
    WAV,
    WAVPACK,
    WEBA,
    WEBM,
    WMA,
    WMV,
    WTV,
    Y4M,
)
from tusasgi.media.frames import amr, amr_wb, dts, frame_rules
from tusasgi.media.packets import asf, ogg, real_media
from tusasgi.media.rules import Magic, Rule, pattern
from tusasgi.media.streams import program_stream, transport_stream
from tusasgi.media.tags import TAGGED, padded, tagged

_W64 = (
    rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00.{8}"
    rb"wave\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
)
_AU = rb"\.snd\x00\x00.{6}\x00{3}[\x01-\x1b]\x00.{3}\x00{3}[\x01-\x20]"
_WTV = rb"\xb7\xd8\x00\x20\x37\x49\xda\x11\xa6\x4e\x00\x07\xe9\x5e\xad\x8d"
_DV = rb"\x1f\x07\x00[\x3f\xbf](?:.{76}[\x20-\x3f]\x07\x00|.{0,78}\Z)"
_MXF = rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02"

_FRAMES = (MP3, MP2, AAC, LOAS, AC3, EAC3)
_BEHIND_A_TAG = (*_FRAMES, FLAC, TTA, APE, MUSEPACK)

FORMATS: tuple[Rule, ...] = (
    Rule(
        name="ISO media",
        formats=(MP4, M4A, M4B, M4V, MOV, VIDEO_3GP, AUDIO_3GP, VIDEO_3G2, AUDIO_3G2),
        judge=iso_media,
    ),
    Rule(name="old QuickTime", formats=(MOV,), judge=old_quicktime),
    Rule(name="Matroska", formats=(MKV, MKA, WEBM, WEBA), judge=matroska),
    Rule(name="Ogg", formats=(OGG, OPUS, OGA, SPEEX, OGV, OGM), judge=ogg),
    Rule(name="ID3", formats=_BEHIND_A_TAG, judge=tagged),
    *frame_rules(2),
    *TAGGED,
    pattern("WAV", rb".{12}(?:fmt .{2}\x00\x00|(?!fmt )[ -~]{4})", WAV, Magic(".wav", 12)),
    pattern("RF64", rb"(?:RF64|BW64|RIFX).{4}WAVE[ -~]{4}", WAV),
    pattern("Wave64", _W64, W64),
    pattern("AIFF", rb".{12}[ -~]{4}", AIFF, Magic(".aiff", 12)),
    pattern("AIFC", rb".{12}[ -~]{4}", AIFC, Magic(".aifc", 12)),
    pattern("CAF", rb"caff\x00\x01\x00\x00desc", CAF, Magic(".caf", 4)),
    pattern("AU", _AU, AU, Magic(".au", 4)),
    pattern("VOC", rb".{19}\x1a\x1a\x00", VOC, Magic(".voc", 16)),
    pattern("WavPack", rb"wvpk.{2}[\x00-\x0f]\x00[\x02-\x10]\x04", WAVPACK, Magic(".wvp", 4)),
    Rule(name="AMR", formats=(AMR,), judge=amr),
    Rule(name="AMR-WB", formats=(AMR_WB,), judge=amr_wb),
    Rule(name="DTS", formats=(DTS, DTS_HD), judge=dts),
    pattern("DTS-HD", rb"DTSHDHDR\x00{4}", DTS_HD),
    pattern("AVI", rb".{12}(?:LIST|JUNK)", AVI, Magic(".avi", 12)),
    Rule(name="ASF", formats=(ASF, WMV, WMA), judge=asf, magic=Magic(".wmv", 16)),
    pattern("FLV", rb"FLV\x01[\x00\x01\x05]\x00\x00\x00\x09", FLV),
    pattern("FLV audio", rb"FLV\x01\x04\x00\x00\x00\x09", AUDIO_FLV, Magic(".flv", 5)),
    Rule(name="RealMedia", formats=(RM, RA), judge=real_media, magic=Magic(".ra", 8)),
    pattern("RealAudio", rb"\.ra\xfd\x00[\x03-\x05]", RA, Magic(".ra", 5)),
    Rule(name="MPEG-TS", formats=(TS, M2TS), judge=transport_stream),
    Rule(name="MPEG-PS", formats=(MPEG,), judge=program_stream),
    pattern("WTV", _WTV, WTV),
    pattern("MXF", _MXF, MXF),
    pattern("GXF", rb"\x00{4}\x01\xbc.{4}\x00{4}\xe1\xe2", GXF),
    pattern("DV", _DV, DV),
    pattern("NUT", rb"nut/multimedia container\x00", NUT),
    pattern("IVF", rb"DKIF\x00\x00\x20\x00[ -~]{4}", IVF),
    pattern("Y4M", rb"YUV4MPEG2 [ -~]{0,200}?W[0-9]", Y4M, Magic(".y4m", 8)),
    Rule(name="padding", formats=_BEHIND_A_TAG, judge=padded),
)
