"""Measure one media file; a program of its own, because a damaged file may take it down.

    python program.py LENGTH

It says `{"hello": true}` once it has all that it needs; whatever becomes of it before that has
nothing to do with the file. The file is wherever the parent keeps it: the program prints
`{"read": [start, stop]}` and gets these bytes on its standard input, again and again. In the end
it prints `{"milliseconds": 12345, "container": "flac", "streams": [{"kind": …, "codec": …,
"is_picture": …}, …]}`, or `{"error_code": …, "error_message": …}` for what is no use.

The length is the one that the container tells if the file reaches that far, else that of what is
there: a file may have been cut short before it was uploaded.

FFmpeg reads formats by the hundred in C: here it has neither our memory, nor our database, nor
any file, nor the network, and only so much room and time.
"""

import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any

import av
import av.subtitles.codeccontext  # where PyAV looks only when it meets some
import av.subtitles.stream
from av.container import InputContainer
from av.stream import Disposition, Stream

# Pictures of 8K take half a gigabyte; a file of 700 bytes can ask for all there is.
_MEMORY = 2 * 1024**3
_CPU_SECONDS = 300
_CPU_SECONDS_MORE = 10
_LONGEST_MS = 10 * 365 * 86_400_000
_PACKETS_TO_TRY = 500
_LAST_SECONDS = 1
_STREAMS_TOLD = 32
_LEAST_READ = 64 * 1024
_MOST_READ = 4 * 1024**2

# A playlist would have FFmpeg open other files, or ask other servers.
_NOTHING_ELSE = {"protocol_whitelist": "none"}

# Titles may be written in any letters: PyAV 19 takes them all, those before have to be told.
_ANY_LETTERS: Any = (
    {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
)

# Frames without a container: what FFmpeg says of their length is a guess from the first few.
_GUESSED = {"aac", "ac3", "amr", "dts", "eac3", "mp3"}


class Source:
    """The file, as FFmpeg reads it.

    `fetch` gives the bytes from one place to another. What is read on and on is fetched in ever
    larger pieces, what is looked into here and there in small ones, one of them at a time.
    """

    def __init__(self, length: int, fetch: Callable[[int, int], bytes]) -> None:
        self._length = length
        self._fetch = fetch
        self._position = 0
        self._start = 0
        self._piece = b""

    def read(self, size: int) -> bytes:
        """Return some of the next `size` bytes; none at the end."""
        if self._position >= self._length:
            return b""
        if not self._start <= self._position < self._start + len(self._piece):
            self._load()
        begin = self._position - self._start
        data = self._piece[begin : begin + size]
        self._position += len(data)
        return data

    def _load(self) -> None:
        is_next = self._position == self._start + len(self._piece)
        size = min(2 * len(self._piece), _MOST_READ) if is_next else 0
        self._start = self._position
        stop = min(self._start + max(size, _LEAST_READ), self._length)
        self._piece = b""  # or there would be two of them
        self._piece = self._fetch(self._start, stop)

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to any place, also behind the end.

        A damaged file has FFmpeg ask for places that no file has. It takes a negative answer as
        a reason to give up; an exception would also be written to the log, each time.
        """
        start = {os.SEEK_CUR: self._position, os.SEEK_END: self._length}.get(whence, 0)
        if not 0 <= start + offset < 2**63:
            return -errno.EINVAL
        self._position = start + offset
        return self._position


class Unusable(Exception):
    """The file cannot be used; `args` are code and message."""


def main(length: int) -> None:
    confine()
    say({"hello": True})
    try:
        found = measure(lambda: Source(length, ask))
    except Unusable as reason:
        code, message = reason.args
        found = {"error_code": code, "error_message": message}
    except (av.FFmpegError, MemoryError):
        found = {
            "error_code": "unreadable_media",
            "error_message": "the file is damaged, or not what its first bytes promise",
        }
    say(found)


def confine() -> None:
    """Give up memory, time, and everything that is not open yet, sockets included, for good.

    Ends with a sentence where there is less than that: a file that needs more than it gets must
    not fail for it. Too much work ends with SIGXCPU, as the soft limit is the lower one.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    limit(resource.RLIMIT_AS, _MEMORY, _MEMORY, "2 GiB of address space (ulimit -v)")
    seconds = (_CPU_SECONDS, _CPU_SECONDS + _CPU_SECONDS_MORE)
    limit(resource.RLIMIT_CPU, *seconds, f"{seconds[1]} seconds of the processor (ulimit -t)")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def limit(kind: int, soft: int, hard: int, needed: str) -> None:
    try:
        resource.setrlimit(kind, (soft, hard))
    except ValueError:  # the limit that we were started with is lower
        sys.exit(f"measuring needs {needed}, and may have less")


def say(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


def ask(start: int, stop: int) -> bytes:
    """Get bytes from the parent; end if it is gone."""
    say({"read": [start, stop]})
    data = sys.stdin.buffer.read(stop - start)
    if len(data) < stop - start:
        sys.exit(1)
    return data


@contextmanager
def opened(source: Source) -> Iterator[InputContainer]:
    """Open the file, whatever letters its title and the like are written in."""
    with av.open(source, "r", options=_NOTHING_ELSE, **_ANY_LETTERS) as media:
        yield media


def measure(new_source: Callable[[], Source]) -> dict[str, object]:
    """Return how many milliseconds the media last, and what streams; one frame must decode."""
    with opened(new_source()) as media:
        streams = [stream for stream in media.streams if stream.type in ("audio", "video")]
        if not media.streams:
            raise Unusable("unreadable_media", "there is nothing in the file that can be opened")
        if not streams:
            raise Unusable("no_media_stream", "there is neither sound nor a picture in the file")
        if not _has_frame(media, streams):
            raise Unusable("unreadable_media", "nothing in the file can be played")
        found = [_described(stream) for stream in streams[:_STREAMS_TOLD]]
        container = media.format.name
        told = None if media.format.name in _GUESSED else _told(media, streams)
        is_counted = told is None or not _is_there(media, streams, _possible(told))
    if is_counted:
        with opened(new_source()) as media:
            counted = _possible(_counted(media))
        if told is None or counted < told - _LAST_SECONDS:
            told = counted
    assert told is not None
    return {"milliseconds": round(told * 1000), "container": container, "streams": found}


def _described(stream: Stream) -> dict[str, object]:
    is_picture = bool(stream.disposition & Disposition.attached_pic)
    codec = stream.codec_context.name if stream.codec_context else ""
    return {"kind": stream.type, "codec": codec, "is_picture": is_picture}


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


def _possible(seconds: Fraction) -> Fraction:
    if not 0 <= seconds * 1000 <= _LONGEST_MS:
        raise Unusable("unreadable_media", "the file says that it lasts for an impossible time")
    return seconds


def _is_there(media: InputContainer, streams: list[Stream], told: Fraction) -> bool:
    """Whether the last second that the container tells of is in the file: it may be cut short."""
    start = Fraction(media.start_time or 0, av.time_base)
    late = start + max(told - _LAST_SECONDS, Fraction(0))
    try:
        media.seek(int(late * av.time_base), any_frame=True)
        _, end = _first_and_last(media.demux(streams))
    except av.error.FFmpegError:
        return False  # or it cannot be looked into there: then it is read from its beginning
    return end is not None and end >= late


def _counted(media: InputContainer) -> Fraction:
    """Where the last packet ends, less where the first one starts. Reads the whole file."""
    start, end = _first_and_last(media.demux())
    if start is None or end is None:
        raise Unusable("unreadable_media", "nothing in the file says how long it lasts")
    return end - start


def _first_and_last(packets: Iterator[Any]) -> tuple[Fraction | None, Fraction | None]:
    """Return when the first packet starts, and when the last one ends that can be read."""
    start = end = None
    with suppress(av.error.InvalidDataError):
        for packet in packets:
            if packet.pts is not None and packet.time_base is not None:
                at = packet.pts * packet.time_base
                start = at if start is None else min(start, at)
                after = at + (packet.duration or 0) * packet.time_base
                end = after if end is None else max(end, after)
    return start, end


if __name__ == "__main__":
    main(int(sys.argv[1]))
