"""Damaged media into the measuring program, until the time is over."""

import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import anyio
import av

from examples.roughy.media.measuring import GaveUp
from tests.media.samples import RECIPES, write
from tests.roughy.files import measure_file

from .hostile import BY_HAND, damaged

WORKERS = 2
SLOW_SECONDS = 10.0
_CLEAN = {"unreadable_media", "no_media_stream", None}


class Search:
    """`found` holds a line for each file that did harm; the files are kept in `folder`."""

    def __init__(self, seed: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tusasgi-fuzz-"))
        self.outcomes: Counter[str] = Counter()
        self.found: list[str] = []
        self.slowest = 0.0
        self._chance = random.Random(seed)
        self._starts = [*BY_HAND.values(), *_real_files(self.folder)]

    async def run(self, name: str, end: float) -> None:
        while time.monotonic() < end:
            await self._try(self.folder / name)

    async def _try(self, path: Path) -> None:
        file = damaged(self._chance.choice(self._starts), self._chance)
        await anyio.Path(path).write_bytes(file)
        start = time.monotonic()
        try:
            outcome = await measure_file(path, seconds=60)
            said = outcome.error_message or "measured"
            wrong = None if outcome.error_code in _CLEAN else f"the program says {outcome}"
        except GaveUp as failure:
            said = wrong = str(failure)
        took = time.monotonic() - start
        self.slowest = max(self.slowest, took)
        self.outcomes[said] += 1
        if took > SLOW_SECONDS:
            wrong = f"took {took:.1f} seconds"
        if wrong is not None:
            kept = self.folder / f"found-{len(self.found)}"
            os.replace(path, kept)
            self.found.append(f"{wrong}: {kept}")


def _real_files(folder: Path) -> list[bytes]:
    files = []
    for recipe in RECIPES:
        path = folder / "real"
        try:
            write(recipe, path)
        except (av.FFmpegError, ValueError):
            continue  # a build of FFmpeg without this encoder
        files.append(path.read_bytes())
    return files


async def search(seconds: int, seed: int) -> int:
    """Return 1 if something was found, and print what."""
    searching = Search(seed)
    end = time.monotonic() + seconds
    async with anyio.create_task_group() as tasks:
        for number in range(WORKERS):
            tasks.start_soon(searching.run, f"file-{number}", end)
    for message, count in searching.outcomes.most_common():
        print(f"{count:6} {message}")
    print(f"{searching.outcomes.total():6} files, the slowest in {searching.slowest:.1f} seconds")
    print(*searching.found, sep="\n")
    return 1 if searching.found else 0
