"""The measuring program, on real files and on what is none."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import psutil
import pytest

from examples.roughy.media import measuring
from examples.roughy.media import program as program
from examples.roughy.media.measuring import GaveUp, Interrupted, Stream, check_measuring, measure
from examples.roughy.settings import SettingsError
from examples.roughy.tools.sample import make_video
from tusasgi import StoreUnavailable

from . import media
from .files import Reads, measure_file

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("make", "seconds"),
    [
        pytest.param(lambda: media.video(3), 3, id="mp4"),
        pytest.param(lambda: media.video(3, muxer="matroska"), 3, id="matroska"),
        pytest.param(lambda: media.video(3, muxer="avi"), 3, id="avi"),
        pytest.param(lambda: media.video(90, size=300_000), 90, id="mp4-of-90-seconds"),
        pytest.param(lambda: media.audio(3.0), 3, id="mp3"),
        pytest.param(lambda: media.audio(3.0, muxer="adts", codec="aac"), 3, id="aac-of-frames"),
        pytest.param(
            lambda: media.audio(9.0, muxer="adts", codec="aac", silent=8.0),
            9,
            id="aac-that-begins-quietly",
        ),
        pytest.param(lambda: media.audio(3.0, muxer="ipod", codec="aac"), 3, id="m4a"),
        pytest.param(lambda: media.audio(3.0, muxer="wav", codec="pcm_s16le"), 3, id="wav"),
        pytest.param(lambda: media.audio(3.0, muxer="flac", codec="flac"), 3, id="flac"),
        pytest.param(lambda: media.audio(3.0, muxer="ogg", codec="flac"), 3, id="ogg"),
        pytest.param(lambda: media.audio(3.0, muxer="mpegts", codec="mp2"), 3, id="mpeg-ts"),
    ],
)
async def test_media_are_measured(tmp_path, make, seconds):
    path = tmp_path / "media"
    path.write_bytes(make())
    outcome = await measure_file(path)
    assert outcome.error_code is None
    assert abs(outcome.milliseconds - seconds * 1000) < 150  # codecs round up to whole frames


async def test_the_streams_of_a_file_are_told(tmp_path):
    (tmp_path / "film").write_bytes(media.video(1))
    assert (await measure_file(tmp_path / "film")).streams == (Stream("video", "mpeg4", False),)
    (tmp_path / "song").write_bytes(media.audio(1.0, muxer="ipod", codec="aac"))
    assert (await measure_file(tmp_path / "song")).streams == (Stream("audio", "aac", False),)


def faststart() -> bytes:
    """Return an MP4 with its index before its pictures, as it is put on the web."""
    with tempfile.TemporaryDirectory() as folder:
        return make_video(Path(folder) / "film.mp4", seconds=9, bit_rate=500_000).read_bytes()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(faststart, id="faststart-mp4"),
        pytest.param(lambda: media.video(90, muxer="matroska"), id="matroska"),
        pytest.param(lambda: media.video(90, muxer="flv", codec="flv1"), id="flv"),
        pytest.param(lambda: media.audio(9.0, muxer="flac", codec="flac"), id="flac"),
        pytest.param(lambda: media.audio(9.0, muxer="wav", codec="pcm_s16le"), id="wav"),
        pytest.param(lambda: media.audio(9.0, muxer="mpegts", codec="mp2"), id="mpeg-ts"),
    ],
)
async def test_a_file_that_was_cut_short_lasts_as_long_as_what_is_there(tmp_path, make):
    """Its header may still tell of the whole."""
    whole = make()
    (tmp_path / "whole").write_bytes(whole)
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    full = (await measure_file(tmp_path / "whole")).milliseconds
    half = (await measure_file(tmp_path / "half")).milliseconds
    assert full > 8_900
    assert 0.2 * full < half < 0.8 * full


async def test_a_recording_that_says_nothing_of_its_length_is_counted(tmp_path):
    """Browsers record WebM without an end: nothing is written back into the header."""
    live = media.video(5, muxer="matroska", live=True)
    (tmp_path / "live.mkv").write_bytes(live)
    assert (await measure_file(tmp_path / "live.mkv")).milliseconds == 5000


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", "unreadable_media", id="empty"),
        pytest.param(os.urandom(5000), "unreadable_media", id="random"),
        pytest.param(b"text\n" * 99, "unreadable_media", id="text"),
        pytest.param(
            b"1\n00:00:00,000 --> 00:00:09,000\nhello\n\n" * 9, "no_media_stream", id="subtitles"
        ),
    ],
)
async def test_what_cannot_be_used_says_why(tmp_path, content, code):
    (tmp_path / "file").write_bytes(content)
    outcome = await measure_file(tmp_path / "file")
    assert (outcome.milliseconds, outcome.error_code) == (None, code)
    assert str(tmp_path) not in outcome.error_message


@pytest.mark.parametrize(
    "playlist",
    [
        pytest.param("ffconcat version 1.0\nfile 'media.ts'\n", id="ffconcat"),
        pytest.param(
            "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nmedia.ts\n#EXT-X-ENDLIST\n", id="hls"
        ),
    ],
)
async def test_a_playlist_opens_no_other_file(tmp_path, playlist):
    (tmp_path / "media.ts").write_bytes(media.audio(3.0, muxer="mpegts", codec="mp2"))
    (tmp_path / "list").write_text(playlist)
    outcome = await measure_file(tmp_path / "list")
    assert (outcome.milliseconds, outcome.error_code) == (None, "unreadable_media")
    assert (await measure_file(tmp_path / "media.ts")).milliseconds


@pytest.fixture
def nothing_left() -> Iterator[None]:
    before = psutil.Process().children()
    yield
    assert set(psutil.Process().children()) <= set(before)


async def never(start: int, stop: int) -> AsyncIterator[bytes]:
    await anyio.sleep_forever()
    yield b""


async def test_an_outage_of_the_store_is_no_fault_of_the_file(nothing_left):
    async def away(start: int, stop: int) -> AsyncIterator[bytes]:
        raise StoreUnavailable("gone for now")
        yield b""

    with pytest.raises(StoreUnavailable):
        await measure(away, 1000)


async def test_a_bug_of_the_store_is_no_fault_of_the_file(nothing_left):
    async def broken(start: int, stop: int) -> AsyncIterator[bytes]:
        raise ValueError("a bug")
        yield b""

    with pytest.raises(ValueError, match="a bug"):
        await measure(broken, 1000)


async def test_a_store_with_too_few_bytes_is_an_outage(mp4, nothing_left):
    async def short(start: int, stop: int) -> AsyncIterator[bytes]:
        yield mp4[start : stop - 1]

    with pytest.raises(OSError, match="1 bytes too few"):
        await measure(short, len(mp4))


def said(**what: object) -> str:
    return f"print({json.dumps(what)!r})"


@pytest.fixture
def instead(tmp_path, monkeypatch):
    """Take another program for the one that measures, which says hello first if it is to."""

    def write(code: str, *, hello: bool = True) -> None:
        lines = ["import json, os, signal, sys, time"]
        if hello:
            lines.append("print('{\"hello\": true}', flush=True)")
        (tmp_path / "program.py").write_text("\n".join([*lines, code]))
        monkeypatch.setattr(measuring, "_PROGRAM", tmp_path / "program.py")

    return write


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("os.kill(os.getpid(), signal.SIGSEGV)", id="dies"),
        pytest.param("os.kill(os.getpid(), signal.SIGXCPU)", id="works-too-much"),
        pytest.param("", id="says-nothing"),
        pytest.param("print('read')", id="no-json"),
        pytest.param("print('{\"read\": [10, 5]}')", id="backwards"),
        pytest.param("print('{\"read\": [-1, 5]}')", id="before-the-start"),
        pytest.param("print('{\"read\": [0, 1001]}')", id="behind-the-end"),
        pytest.param('print(\'{"read": [0, "9"]}\')', id="text"),
        pytest.param("print('[1]')", id="list"),
        pytest.param("print('{\"secret\": 1}')", id="other"),
        pytest.param(said(milliseconds=-1, container="x", streams=[]), id="negative-length"),
        pytest.param(said(milliseconds=2**63, container="x", streams=[]), id="huge-length"),
        pytest.param(said(milliseconds=7, container="x"), id="no-streams"),
        pytest.param(said(milliseconds=7, streams=[]), id="no-container"),
        pytest.param(said(milliseconds=7, container="x", streams=[["audio"]]), id="other-streams"),
        pytest.param(
            "print(json.dumps({'error_code': 'ready', 'error_message': ''}))", id="other-code"
        ),
        pytest.param("print('[' * 900)", id="deep"),
        pytest.param("print('7' * 10_000)", id="too-long"),
        pytest.param(
            "print('{\"read\": [0, 1000]}', flush=True); sys.stdin.buffer.read(1); os._exit(0)",
            id="leaves-while-it-is-answered",
        ),
    ],
)
async def test_a_program_that_misbehaves_takes_only_its_file_along(instead, code, nothing_left):
    async def zeros(start: int, stop: int) -> AsyncIterator[bytes]:
        assert 0 <= start < stop <= 1000
        while True:  # more than a pipe holds
            yield bytes(min(stop - start, 100_000))

    instead(code)
    with pytest.raises(GaveUp):
        await measure(zeros, 1000)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import no_such_package", id="without-pyav"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", id="killed"),
        pytest.param("os.kill(os.getpid(), signal.SIGSEGV)", id="dies"),
        pytest.param("", id="says-nothing"),
        pytest.param("print('x' * 10_000)", id="another-word"),
        pytest.param(
            'print(\'{"milliseconds": 7, "container": "x", "streams": []}\')', id="no-hello"
        ),
        pytest.param("time.sleep(60)", id="stands-still"),
    ],
)
async def test_an_end_before_the_hello_is_never_the_fault_of_the_file(
    instead, monkeypatch, code, nothing_left
):
    monkeypatch.setattr(measuring, "_HELLO_SECONDS", 1.0)
    instead(code, hello=False)
    with pytest.raises(Interrupted, match="does not start"):
        await measure(never, 1000)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_who_is_told_to_end_knows_nothing_of_the_file(instead, number, nothing_left):
    # Where tests run under `nohup`, SIGHUP is ignored.
    instead(f"signal.signal({int(number)}, signal.SIG_DFL); os.kill(os.getpid(), {int(number)})")
    with pytest.raises(Interrupted):
        await measure(never, 1000)


async def test_who_is_killed_may_be_killed_for_the_file(instead, nothing_left):
    """A system that runs out of memory kills whom it likes."""
    instead("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(GaveUp):
        await measure(never, 1000)


async def test_a_program_that_cannot_start_is_noticed_before_there_is_a_file(
    instead, monkeypatch, nothing_left
):
    await check_measuring()
    instead("import no_such_package", hello=False)
    with pytest.raises(SettingsError, match=r"here: \w+: No module named 'no_such_package'$"):
        await check_measuring()
    instead("os.kill(os.getpid(), signal.SIGKILL)", hello=False)
    with pytest.raises(SettingsError, match="exit code -9"):
        await check_measuring()
    monkeypatch.setattr(measuring, "_HELLO_SECONDS", 0.5)
    instead("time.sleep(60)", hello=False)
    with pytest.raises(SettingsError, match="hangs"):
        await check_measuring()


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("signal.pause()", id="silent"),
        pytest.param("os.kill(os.getpid(), signal.SIGSTOP)", id="stopped"),
        pytest.param("print('{\"read\": [0, 1000]}', flush=True); signal.pause()", id="deaf"),
        pytest.param("os.close(1); signal.pause()", id="closed"),
    ],
)
async def test_a_program_that_stands_still_is_given_up(instead, code, nothing_left):
    """And who knows whether it is for its file, or because somebody stopped it."""

    async def zeros(start: int, stop: int) -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    instead(code)
    with pytest.raises(GaveUp, match="too long"):
        await measure(zeros, 1000, seconds=0.5)


async def test_the_time_in_which_it_waits_for_bytes_is_not_counted(instead, nothing_left):
    async def slowly(start: int, stop: int) -> AsyncIterator[bytes]:
        await anyio.sleep(3.2)
        yield bytes(stop - start)

    instead(
        "print('{\"read\": [0, 1000]}', flush=True); sys.stdin.buffer.read(1000)\n"
        'print(\'{"milliseconds": 7, "container": "x", "streams": []}\')'
    )
    assert (await measure(slowly, 1000, seconds=3)).milliseconds == 7


async def test_a_program_that_does_not_stop_reading_is_given_up(instead, monkeypatch, nothing_left):
    """Each request for bytes takes time that is not counted, and on S3 costs money."""
    monkeypatch.setattr(measuring, "_MORE_READ", 50 * 64 * 1024)
    asked = []

    async def bytes_of(start: int, stop: int) -> AsyncIterator[bytes]:
        asked.append(start)
        yield bytes(stop - start)

    instead(
        "while True: print('{\"read\": [7, 8]}', flush=True); sys.stdin.buffer.read(1)",
    )
    with pytest.raises(GaveUp, match="reading"):
        await measure(bytes_of, 1000)
    assert len(asked) == 51


async def test_the_program_gets_nothing_of_our_environment(instead, monkeypatch):
    instead(
        "told = f'{dict(os.environ)}'[:200]\n"
        "print(json.dumps({'error_code': 'no_media_stream', 'error_message': told}))"
    )
    monkeypatch.setenv("ROUGHY_API_KEYS", "sk_secret_0123456789abcdef")
    outcome = await measure(never, 1000)
    assert outcome.error_code == "no_media_stream"
    assert "secret" not in outcome.error_message


def test_the_program_opens_neither_files_nor_connections():
    code = (
        "import sys, socket\n"
        f"sys.path.insert(0, {str(Path(program.__file__).parent)!r})\n"
        "import program\n"
        "program.confine()\n"
        "for way in (lambda: open('/dev/null'), socket.socket):\n"
        "    try: way()\n"
        "    except OSError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\nrefused\n"


@pytest.mark.parametrize(
    ("code", "number"),
    [
        pytest.param("while True: pass", signal.SIGXCPU, id="works-too-much"),
        pytest.param("os.kill(os.getpid(), 2); time.sleep(9)", signal.SIGINT, id="interrupted"),
    ],
)
def test_the_program_dies_by_a_signal_that_tells_why(code, number):
    """SIGKILL would tell nothing: it is also that of a system without memory."""
    code = f"import program, os, time; program._CPU_SECONDS = 1; program.confine()\n{code}"
    folder = Path(program.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True)
    assert done.returncode == -number
    assert done.stderr == b""


def test_the_program_ends_with_whoever_started_it():
    """It waits for bytes that nobody will send any more."""
    code = "import program; program.ask(0, 1000)"
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(program.__file__).parent,
        stdin=theirs,
        stdout=subprocess.PIPE,
    )
    theirs.close()
    with child, ours:
        assert child.stdout.readline() == b'{"read": [0, 1000]}\n'
        ours.sendall(bytes(10))
        ours.close()
        assert child.wait(20) == 1


# How much is read


@pytest.mark.parametrize(
    ("make", "seconds"),
    [
        pytest.param(media.long_mp4, 3, id="mp4-with-its-index-at-the-end"),
        pytest.param(media.long_wav, 6553.6, id="wav"),
    ],
)
async def test_little_of_a_large_file_is_read(tmp_path, make, seconds):
    path = tmp_path / "large"
    size = make(path, 200 * 1024**2)
    reads = Reads(path)
    outcome = await measure(reads, size)
    assert size > 200 * 1024**2
    assert abs(outcome.milliseconds - seconds * 1000) < 150
    assert reads.count < 1024**2
    assert len(reads.asked) < 10


async def test_what_is_read_from_end_to_end_is_asked_for_in_few_pieces(tmp_path):
    """An MP3 is counted, packet by packet."""
    path = tmp_path / "long.mp3"
    mp3 = media.audio(2.0)
    path.write_bytes(mp3 * (8 * 1024**2 // len(mp3)))
    reads = Reads(path)
    assert (await measure(reads, path.stat().st_size)).milliseconds > 60_000
    assert len(reads.asked) < 40
    assert max(stop - start for start, stop in reads.asked) <= 4 * 1024**2


def test_a_source_is_the_file_wherever_one_reads(mp4):
    pieces = []

    def fetch(start: int, stop: int) -> bytes:
        pieces.append(stop - start)
        return content[start:stop]

    content = os.urandom(300_000)
    source = program.Source(len(content), fetch)
    for start in (0, 1, 299_999, 150_000, 149_990, 10, 200_000):
        assert source.seek(start) == source.tell() == start
        assert source.read(7) == content[start : start + 7]
    assert source.seek(-5, os.SEEK_END) == 299_995
    assert source.seek(2, os.SEEK_CUR) == 299_997
    assert (source.read(100), source.read(100)) == (content[-3:], b"")
    assert source.seek(10**12) == 10**12
    assert source.read(1) == b""
    assert source.seek(-1) < 0
    assert source.seek(2**63) < 0
    assert source.tell() == 10**12
    source.seek(0)
    assert b"".join(iter(lambda: source.read(1000), b"")) == content
    assert max(pieces) > 2 * min(pieces)
