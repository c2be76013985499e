"""Files on disk, measured as uploads are."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from examples.roughy.media.measuring import Outcome, measure


class Reads:
    """Gives the bytes of a file and remembers which were asked for."""

    def __init__(self, path: Path | str) -> None:
        self.asked: list[tuple[int, int]] = []
        self._path = path

    async def __call__(self, start: int, stop: int) -> AsyncIterator[bytes]:
        self.asked.append((start, stop))
        yield await run_sync(_read, self._path, start, stop)

    @property
    def count(self) -> int:
        """How many bytes were asked for, those that were asked for twice counted twice."""
        return sum(stop - start for start, stop in self.asked)


def _read(path: Path | str, start: int, stop: int) -> bytes:
    with open(path, "rb") as file:
        return os.pread(file.fileno(), stop - start, start)


async def measure_file(path: Path | str, *, seconds: float = 60.0) -> Outcome:
    size = (await anyio.Path(path).stat()).st_size
    return await measure(Reads(path), size, seconds=seconds)
