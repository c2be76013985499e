"""What a file turns out to be once its streams are known, which its head may not show."""

from collections.abc import Collection
from dataclasses import replace

from tusasgi.media.formats import (
    AAC,
    AC3,
    AIFF,
    APE,
    ASF,
    AUDIO_3G2,
    AUDIO_3GP,
    AUDIO_FLV,
    DTS,
    EAC3,
    FLAC,
    FLV,
    LOAS,
    M4A,
    M4B,
    M4V,
    MKA,
    MKV,
    MP3,
    MP4,
    MUSEPACK,
    OGA,
    OGG,
    OGM,
    OGV,
    OPUS,
    RA,
    RM,
    SPEEX,
    TTA,
    VIDEO_3G2,
    VIDEO_3GP,
    WAV,
    WAVPACK,
    WEBA,
    WEBM,
    WMA,
    WMV,
)
from tusasgi.media.rules import MediaFormat

# What FFmpeg reads behind an ID3 tag, by its own names. A tag that fills the head counts as MP3.
_BEHIND_A_TAG = {
    "aac": AAC,
    "ac3": AC3,
    "aiff": AIFF,
    "ape": APE,
    "dts": DTS,
    "eac3": EAC3,
    "flac": FLAC,
    "loas": LOAS,
    "mpc": MUSEPACK,
    "mpc8": MUSEPACK,
    "tta": TTA,
    "wav": WAV,
    "wv": WAVPACK,
}
_WITHOUT_VIDEO = {
    ASF: WMA,
    FLV: AUDIO_FLV,
    M4V: M4A,
    MKV: MKA,
    MP4: M4A,
    OGM: OGA,
    OGV: OGA,
    RM: RA,
    VIDEO_3G2: AUDIO_3G2,
    VIDEO_3GP: AUDIO_3GP,
    WEBM: WEBA,
    WMV: WMA,
}
_WITH_VIDEO = {
    ASF: WMV,
    AUDIO_3G2: VIDEO_3G2,
    AUDIO_3GP: VIDEO_3GP,
    AUDIO_FLV: FLV,
    M4A: MP4,
    M4B: MP4,
    MKA: MKV,
    OGA: OGV,
    OGG: OGV,
    OPUS: OGV,
    RA: RM,
    SPEEX: OGV,
    WEBA: WEBM,
    WMA: WMV,
}


def measured(found: MediaFormat, *, demuxer: str, kinds: Collection[str]) -> MediaFormat:
    """Return what a file is, given what its head was found to be, and its streams.

    `demuxer` is FFmpeg's name of the container (`format.name` in PyAV). `kinds` are the kinds of
    the streams; "audio" and "video" count. A picture that is attached, such as cover art, is no
    stream of video and must be left out. Without sound and video the answer is `found`.

    A container for which there is no content type of sound alone keeps the one that it has:
    then only the `kind` says that it is audio.
    """
    if found == MP3:
        found = _BEHIND_A_TAG.get(demuxer, MP3)
    if "video" in kinds:
        return _WITH_VIDEO.get(found, found)
    if "audio" in kinds:
        return _WITHOUT_VIDEO.get(found) or replace(found, kind="audio")
    return found
