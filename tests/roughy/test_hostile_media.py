"""Files that are made to hurt whoever measures them: the file fails, and nothing else does."""

import random
import resource
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import psutil
import pytest

from examples.roughy.media.measuring import Outcome
from examples.roughy.settings import MIN_SIZE
from tests.fuzz.hostile import BY_HAND, damaged
from tests.media.conftest import sample as sample  # the fixture
from tests.media.samples import RECIPES
from tusasgi.media import MediaHooks, detect

from . import media
from .files import measure_file
from .server import Server, path_of, wait_for

pytestmark = pytest.mark.anyio

SEED = 20_261_126
PER_FORMAT = 1  # `scripts/fuzz media` tries as many as there is time for
GIB = 1024**3
LONGEST_MS = 10 * 365 * 86_400_000
CODES = {"unreadable_media", "no_media_stream"}


def check_clean(outcome: Outcome, path: Path) -> None:
    """A length, or one of two reasons in words that tell nothing of ours."""
    if outcome.error_code is None:
        assert outcome.milliseconds is not None
        assert 0 <= outcome.milliseconds <= LONGEST_MS
        return
    assert outcome.milliseconds is None
    assert outcome.error_code in CODES
    assert outcome.error_message
    assert str(path.parent) not in outcome.error_message


async def measure_cleanly(path: Path, content: bytes) -> Outcome:
    await anyio.Path(path).write_bytes(content)
    outcome = await measure_file(path, seconds=20)
    check_clean(outcome, path)
    assert "too long" not in (outcome.error_message or "")
    return outcome


def children(process: psutil.Process) -> list[psutil.Process]:
    """Its own children, also those that have died and were not waited for.

    Not theirs: a PostgreSQL that other tests have started has some, which come and go.
    """
    return process.children()


@pytest.mark.parametrize("name", BY_HAND)
async def test_a_file_made_to_hurt_is_measured_or_refused(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = children(psutil.Process())
    await measure_cleanly(tmp_path / "file", BY_HAND[name])
    assert set(children(psutil.Process())) <= set(before)
    assert capfd.readouterr().err == ""  # the log is not theirs to fill


@pytest.mark.parametrize("recipe", [recipe.id for recipe in RECIPES])
async def test_a_damaged_file_is_measured_or_refused(
    tmp_path: Path,
    sample: Callable[[str], Path],
    recipe: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    content = sample(recipe).read_bytes()
    capfd.readouterr()  # what encoders say
    for number in range(PER_FORMAT):
        seed = f"{SEED} {recipe} {number}"  # shown when it fails
        file = damaged(content, random.Random(seed))
        await measure_cleanly(tmp_path / "file", file)
        assert capfd.readouterr().err == "", seed


async def test_a_title_in_other_letters_is_no_damage(tmp_path: Path) -> None:
    """Editors write Latin-1 into WAV files, whatever the standard says."""
    content = media.audio(2.0, muxer="wav", codec="pcm_s16le")
    at = content.index(b"Lavf")
    outcome = await measure_cleanly(
        tmp_path / "file", content[:at] + "Café".encode("latin-1") + content[at + 4 :]
    )
    assert outcome.milliseconds == 2000


async def test_a_length_that_nobody_can_mean_is_refused(
    tmp_path: Path, sample: Callable[[str], Path]
) -> None:
    content = sample("mkv").read_bytes()
    name, milliseconds = b"\x44\x89\x88", struct.pack(">d", 1e15)
    at = content.index(name) + len(name)
    outcome = await measure_cleanly(
        tmp_path / "file", content[:at] + milliseconds + content[at + 8 :]
    )
    assert outcome.error_code == "unreadable_media"
    assert "impossible" in outcome.error_message


async def test_damage_does_harm_and_not_always(sample: Callable[[str], Path]) -> None:
    """Else the test above would show nothing."""
    content = sample("mp4").read_bytes()
    files = [damaged(content, random.Random(number)) for number in range(50)]
    assert len({*files, content}) > 40
    assert 0 < sum(b"moov" in file for file in files) < 50


async def test_no_file_gets_more_memory_than_there_is_for_one(tmp_path: Path) -> None:
    outcome = await measure_cleanly(tmp_path / "file", BY_HAND["mp4-of-more-samples-than-memory"])
    assert outcome.error_code == "unreadable_media"
    # The most that any child of ours has had.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 2 * GIB


async def test_the_event_loop_goes_on_while_a_file_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BY_HAND["mp4-of-a-million-samples"])
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await anyio.sleep(0.001)
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        await measure_file(tmp_path / "file")
        tasks.cancel_scope.cancel()
    assert turns > 10


# Whole uploads through the real server


def uploads(sample: Callable[[str], Path]) -> Iterator[bytes]:
    """Hostile files whose first bytes pass for media."""
    files = list(BY_HAND.values())
    for recipe in ("mp4", "mkv", "avi", "ogg-opus", "mp3", "ts", "flv", "wmv"):
        chance = random.Random(f"{SEED} {recipe}")
        files.append(damaged(sample(recipe).read_bytes(), chance))
    for file in files:
        if len(file) >= MIN_SIZE and detect(file[: MediaHooks.head_size]) is not None:
            yield file


async def test_hostile_uploads_end_while_the_server_goes_on(
    tmp_path: Path, sample: Callable[[str], Path]
) -> None:
    files = list(uploads(sample))
    assert len(files) > 40
    with (
        Server(tmp_path / "data", ROUGHY_INITIAL_CREDITS="999999999") as server,
        ThreadPoolExecutor(2) as clients,
    ):
        process = psutil.Process(server.process.pid)
        memory = process.memory_info().rss
        urls = list(clients.map(lambda file: send(server, file), files))
        slowest = 0.0

        def is_over() -> bool:
            nonlocal slowest
            start = time.monotonic()
            assert server.http.get("/health").status_code == 200
            slowest = max(slowest, time.monotonic() - start)
            return not waiting(server)

        wait_for(is_over, "every asset to be prepared", seconds=60)
        states = {server.asset(url)["state"] for url in urls}
        assert states == {"ready", "failed"}
        assert slowest < 5
        wait_for(lambda: not children(process), "the measuring programs to be gone")
        assert process.memory_info().rss < memory + 200 * 1024**2
    # None of these files is a surprise, so neither a trace nor a death is to be told.
    for told in ("program.py", "PyAV", "measuring ended"):
        assert told not in server.log, server.log[-3000:]


def send(server: Server, file: bytes) -> str:
    url = server.new_upload(len(file))
    answer = server.patch(path_of(url), 0, file)
    assert answer.status_code == 204, answer.text
    return url


def waiting(server: Server) -> int:
    return sum(
        server.http.get("/v1/assets", params={"state": state}).json()["total"]
        for state in ("pending_upload", "processing")
    )
