"""Every format that a file may turn out to be."""

from tusasgi.media.rules import MediaFormat


def _audio(content_type: str, extension: str) -> MediaFormat:
    return MediaFormat(kind="audio", content_type=content_type, extension=extension)


def _video(content_type: str, extension: str) -> MediaFormat:
    return MediaFormat(kind="video", content_type=content_type, extension=extension)


MP3, MP2 = _audio("audio/mpeg", "mp3"), _audio("audio/mpeg", "mp2")
AAC, FLAC = _audio("audio/aac", "aac"), _audio("audio/flac", "flac")
AC3, EAC3 = _audio("audio/ac3", "ac3"), _audio("audio/eac3", "eac3")
LOAS = _audio("audio/mp4a-latm", "loas")
DTS, DTS_HD = _audio("audio/vnd.dts", "dts"), _audio("audio/vnd.dts.hd", "dtshd")
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
WMA, WTV = _audio("audio/x-ms-wma", "wma"), _video("video/x-ms-wtv", "wtv")
TS, M2TS = _video("video/mp2t", "ts"), _video("video/mp2t", "m2ts")
MPEG = _video("video/mpeg", "mpg")
MXF, GXF = _video("application/mxf", "mxf"), _video("application/gxf", "gxf")
RM, RA = _video("application/vnd.rn-realmedia", "rm"), _audio("audio/x-pn-realaudio", "ra")
DV, NUT = _video("video/dv", "dv"), _video("video/x-nut", "nut")
IVF, Y4M = _video("video/x-ivf", "ivf"), _video("video/x-yuv4mpeg", "y4m")
