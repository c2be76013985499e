"""The measuring program, on real files and on what is none."""

import os

import pytest

from examples.roughy import worker
from examples.roughy.worker import measure

from . import media

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
    outcome = await measure(str(path))
    assert outcome.error_code is None
    assert abs(outcome.milliseconds - seconds * 1000) < 150  # codecs round up to whole frames


async def test_a_recording_that_says_nothing_of_its_length_is_counted(tmp_path):
    """Browsers record WebM without an end: nothing is written back into the header."""
    live = media.video(5, muxer="matroska", live=True)
    (tmp_path / "live.mkv").write_bytes(live)
    assert (await measure(str(tmp_path / "live.mkv"))).milliseconds == 5000


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
    outcome = await measure(str(tmp_path / "file"))
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
    outcome = await measure(str(tmp_path / "list"))
    assert (outcome.milliseconds, outcome.error_code) == (None, "unreadable_media")
    assert (await measure(str(tmp_path / "media.ts"))).milliseconds


async def test_a_file_that_takes_too_long_is_given_up(tmp_path):
    os.mkfifo(tmp_path / "never")  # nothing ever comes out of it
    outcome = await measure(str(tmp_path / "never"), seconds=0.5)
    assert outcome.error_code == "unreadable_media"
    assert "too long" in outcome.error_message


async def test_a_program_that_dies_takes_only_its_file_along(tmp_path, monkeypatch):
    crash = tmp_path / "crash.py"
    crash.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(worker, "_PROGRAM", crash)
    outcome = await measure("whatever")
    assert outcome.error_code == "unreadable_media"


async def test_the_program_gets_nothing_of_our_environment(tmp_path, monkeypatch):
    spy = tmp_path / "spy.py"
    spy.write_text(
        "import os, json\n"
        "print(json.dumps({'error_code': 'x', 'error_message': str(dict(os.environ))}))"
    )
    monkeypatch.setattr(worker, "_PROGRAM", spy)
    monkeypatch.setenv("ROUGHY_API_KEYS", "sk_secret_0123456789abcdef")
    assert "secret" not in (await measure("whatever")).error_message
