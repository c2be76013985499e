"""Real media files, written by PyAV and as small as they can be."""

import io
import os
from array import array
from fractions import Fraction
from pathlib import Path

import av


def video(
    seconds: int = 2, *, size: int = 0, muxer: str = "mp4", codec: str = "mpeg4", live: bool = False
) -> bytes:
    """One picture a second. With `size`, filled up to that many bytes with what players skip."""
    file = io.BytesIO()
    options = {"live": "1"} if live else {}
    with av.open(file, "w", format=muxer, options=options) as out:
        stream = out.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(seconds):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([number * 9 % 256]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, 1)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    content = file.getvalue()
    return content + _free_box(size - len(content)) if size > len(content) else content


def _free_box(size: int) -> bytes:
    """A box that players skip, each byte of it different from where it would be out of place."""
    size = max(size, 8)
    pattern = array("I", range(size // 4)).tobytes()
    return size.to_bytes(4, "big") + b"free" + pattern[: size - 8].ljust(size - 8, b".")


def audio(
    seconds: float = 2.0, *, muxer: str = "mp3", codec: str = "mp3", silent: float = 0.0
) -> bytes:
    """Noise, after `silent` seconds of silence."""
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as out:
        stream = out.add_stream(codec, rate=16_000, layout="mono")
        context = stream.codec_context
        context.open()
        resampler = av.AudioResampler(
            format=context.format, layout="mono", rate=16_000, frame_size=context.frame_size
        )
        samples = int(seconds * 16_000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=samples)
        quiet = int(silent * 16_000)
        noise = ((n * 331 % 8000 - 4000) for n in range(samples - quiet))
        wave = b"".join(sample.to_bytes(2, "little", signed=True) for sample in noise)
        frame.planes[0].update(bytes(2 * quiet) + wave)
        frame.sample_rate, frame.pts = 16_000, 0
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return file.getvalue()


PDF = b"%PDF-1.7\n" + b"a page of text, and no sound at all\n" * 100


def long_mp4(path: Path, size: int) -> int:
    """Write three seconds of video with more than `size` bytes before its index; return its size.

    They belong to the box of the samples, and no sample points to them.
    """
    content = video(3)
    at = content.index(b"mdat") - 4
    end = at + int.from_bytes(content[at : at + 4], "big")
    assert content[end + 4 : end + 8] == b"moov"
    with path.open("wb") as file:
        file.write(content[:at] + (end - at + size).to_bytes(4, "big") + content[at + 4 : end])
        file.seek(size, os.SEEK_CUR)  # the hole takes no room
        file.write(content[end:])
        return file.tell()


def long_wav(path: Path, size: int) -> int:
    """Write silence of more than `size` bytes, 16,000 samples of two bytes a second."""
    content = audio(0.1, muxer="wav", codec="pcm_s16le")
    at = content.index(b"data") + 4
    with path.open("wb") as file:
        file.write(content[:4] + (at + size - 4).to_bytes(4, "little") + content[8:at])
        file.write(size.to_bytes(4, "little"))
        return file.truncate(at + 4 + size)
