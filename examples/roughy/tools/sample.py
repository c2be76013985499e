"""Makes a real video: `python -m examples.roughy.tools.sample OUT.mp4 --seconds 10`.

H.264 and AAC in MP4, which every browser plays. The picture is a slow wave over a band of static,
the sound one soft tone; the static does not compress, so the file gets as large as a real one.
"""

import argparse
import math
import random
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

WIDTH, HEIGHT, FPS = 640, 360, 25
SAMPLE_RATE = 48_000
_STATIC_HEIGHT = 72
_TONE_HZ = 220


def make_video(path: Path, *, seconds: float, bit_rate: int = 8_000_000) -> Path:
    """Write the video and return its path. The same arguments give the same picture and sound."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out:
        video = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.bit_rate = bit_rate
        audio = out.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        packets = [
            *(packet for picture in _pictures(seconds) for packet in video.encode(picture)),
            *video.encode(None),
            *(packet for sound in _sounds(seconds, audio) for packet in audio.encode(sound)),
            *audio.encode(None),
        ]
        for packet in sorted(packets, key=_decoded_at):
            out.mux(packet)
    return path


def _decoded_at(packet: Any) -> Fraction:
    seconds: Fraction = packet.dts * packet.time_base
    return seconds


def _pictures(seconds: float) -> Iterator[av.VideoFrame]:
    static = random.Random(0)
    # One period of a smooth wave; a line of the picture is a piece of it.
    period = bytes(int(128 + 80 * math.sin(2 * math.pi * x / WIDTH)) for x in range(WIDTH))
    wave = period * 3
    for number in range(round(seconds * FPS)):
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        starts = ((line + 4 * number) % WIDTH for line in range(HEIGHT - _STATIC_HEIGHT))
        lines = b"".join(wave[start : start + WIDTH] for start in starts)
        _fill(frame.planes[0], lines + static.randbytes(WIDTH * _STATIC_HEIGHT), WIDTH)
        for plane, colour in zip(frame.planes[1:], (150, 105), strict=True):
            plane.update(bytes([colour]) * plane.buffer_size)
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield frame


def _fill(plane: av.video.plane.VideoPlane, pixels: bytes, width: int) -> None:
    """Write lines of pixels to a plane, whose own lines may be longer."""
    padding = bytes(plane.line_size - width)
    lines = (pixels[at : at + width] for at in range(0, len(pixels), width))
    plane.update(b"".join(line + padding for line in lines))


def _sounds(seconds: float, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    count = round(seconds * SAMPLE_RATE)
    turn = 2 * math.pi * _TONE_HZ / SAMPLE_RATE
    samples = struct.pack(f"<{count}h", *(int(4000 * math.sin(turn * n)) for n in range(count)))
    frame = av.AudioFrame(format="s16", layout="mono", samples=count)
    frame.planes[0].update(samples)
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    codec = stream.codec_context
    codec.open(strict=False)  # it knows the size of its frames only then
    resampler = av.AudioResampler(codec.format, codec.layout, codec.rate, codec.frame_size)
    yield from resampler.resample(frame)
    yield from resampler.resample(None)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.roughy.tools.sample")
    parser.add_argument("path", type=Path, metavar="OUT.mp4")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    path = make_video(arguments.path, seconds=arguments.seconds)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
