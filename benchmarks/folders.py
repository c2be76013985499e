"""How should a folder of uploads be laid out? One flat folder beside one and two levels."""

import os
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable

from benchmarks._table import table

Layout = Callable[[str], str]


def flat(upload_id: str) -> str:
    return ""


def two_level(upload_id: str) -> str:
    """Folders by the last four characters, which are random in every kind of uuid."""
    return f"{upload_id[-2:]}/{upload_id[-4:-2]}"


def one_level(upload_id: str) -> str:
    return upload_id[-2:]


def create(root: str, layout: Layout, upload_ids: list[str]) -> float:
    start = time.perf_counter()
    for upload_id in upload_ids:
        folder = os.path.join(root, layout(upload_id))
        path = os.path.join(folder, upload_id)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileNotFoundError:
            os.makedirs(folder)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(handle, b"x" * 200)
        os.close(handle)
    return time.perf_counter() - start


def look_up(root: str, layout: Layout, upload_ids: list[str]) -> float:
    start = time.perf_counter()
    for upload_id in upload_ids:
        handle = os.open(os.path.join(root, layout(upload_id), upload_id), os.O_RDONLY)
        os.read(handle, 4096)
        os.close(handle)
    return time.perf_counter() - start


def remove(root: str, layout: Layout, upload_ids: list[str]) -> float:
    start = time.perf_counter()
    for upload_id in upload_ids:
        os.unlink(os.path.join(root, layout(upload_id), upload_id))
    return time.perf_counter() - start


def compare(files: int, folder: str | None) -> None:
    """Print what creating, looking up and removing a file costs in each layout."""
    rows = []
    for layout in (flat, one_level, two_level):
        root = tempfile.mkdtemp(dir=folder)
        try:
            upload_ids = [uuid.uuid4().hex for _ in range(files)]
            sample = random.sample(upload_ids, min(100_000, len(upload_ids)))
            created = create(root, layout, upload_ids) / len(upload_ids)
            looked_up = look_up(root, layout, sample) / len(sample)
            removed = remove(root, layout, sample) / len(sample)
            micros = (f"{seconds * 1e6:.1f}" for seconds in (created, looked_up, removed))
            rows.append((layout.__name__, *micros))
        finally:
            shutil.rmtree(root)
    print(table(("layout", "create, µs", "look up, µs", "remove, µs"), rows))
