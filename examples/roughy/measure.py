"""Measure one media file; a program of its own, because a damaged file may take it down.

    python measure.py FILE

prints `{"milliseconds": 12345}`, or `{"error_code": …, "error_message": …}` for what is no use.
FFmpeg reads formats by the hundred in C: here it has neither our memory, nor our database, nor
the network, and only so much room and time.
"""

import errno
import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import BinaryIO

import av
from av.container import InputContainer
from av.stream import Stream

# Pictures of 8K take half a gigabyte; a file of 700 bytes can ask for all there is.
_MEMORY = 2 * 1024**3
_CPU_SECONDS = 300
_LONGEST_MS = 10 * 365 * 86_400_000
_PACKETS_TO_TRY = 500

# FFmpeg is given the open file. A playlist would have it open others, or ask other servers.
_NOTHING_ELSE = {"protocol_whitelist": "none"}

# Frames without a container: what FFmpeg says of their length is a guess from the first few.
_GUESSED = {"aac", "ac3", "amr", "dts", "eac3", "mp3"}


class Source:
    """The open file, as FFmpeg reads it.

    A damaged file has FFmpeg ask for places that no file has. It takes a negative answer as a
    reason to give up; an exception would also be written to the log, once for each attempt.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read = file.read
        self.tell = file.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError:
            return -errno.EINVAL


class Unusable(Exception):
    """The file cannot be used; `args` are code and message."""


def main(path: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        found: dict[str, object] = {"milliseconds": measure(path)}
    except Unusable as reason:
        code, message = reason.args
        found = {"error_code": code, "error_message": message}
    except (av.FFmpegError, MemoryError):
        found = {
            "error_code": "unreadable_media",
            "error_message": "the file is damaged, or not what its first bytes promise",
        }
    print(json.dumps(found))


@contextmanager
def opened(path: str) -> Iterator[InputContainer]:
    """Open the file, whatever letters its title and the like are written in."""
    with open(path, "rb") as file:
        source = Source(file)
        with av.open(source, "r", options=_NOTHING_ELSE, metadata_errors="replace") as media:
            yield media


def measure(path: str) -> int:
    """Return how many milliseconds the media last; one frame must decode."""
    with opened(path) as media:
        streams = [stream for stream in media.streams if stream.type in ("audio", "video")]
        if not media.streams:
            raise Unusable("unreadable_media", "there is nothing in the file that can be opened")
        if not streams:
            raise Unusable("no_media_stream", "there is neither sound nor a picture in the file")
        if not _has_frame(media, streams):
            raise Unusable("unreadable_media", "nothing in the file can be played")
        told = None if media.format.name in _GUESSED else _told(media, streams)
    if told is None:
        with opened(path) as media:
            told = _counted(media)
    milliseconds = round(told * 1000)
    if not 0 <= milliseconds <= _LONGEST_MS:
        raise Unusable("unreadable_media", "the file says that it lasts for an impossible time")
    return milliseconds


def _has_frame(media: InputContainer, streams: list[Stream]) -> bool:
    for number, packet in enumerate(media.demux(streams)):
        if number == _PACKETS_TO_TRY:
            return False
        try:
            if packet.decode():
                return True
        except av.error.InvalidDataError:
            continue  # a recording may begin in the middle of a frame
    return False


def _told(media: InputContainer, streams: list[Stream]) -> Fraction | None:
    """What the container says of its length."""
    if media.duration:
        return Fraction(media.duration, av.time_base)
    told = [
        stream.duration * stream.time_base
        for stream in streams
        if stream.duration and stream.time_base
    ]
    return max(told, default=None)


def _counted(media: InputContainer) -> Fraction:
    """Where the last packet ends, less where the first one starts. Reads the whole file."""
    start = end = None
    for packet in media.demux():
        if packet.pts is not None and packet.time_base is not None:
            at = packet.pts * packet.time_base
            start = at if start is None else min(start, at)
            after = at + (packet.duration or 0) * packet.time_base
            end = after if end is None else max(end, after)
    if start is None or end is None:
        raise Unusable("unreadable_media", "nothing in the file says how long it lasts")
    return end - start


if __name__ == "__main__":
    main(sys.argv[1])
