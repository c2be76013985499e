"""Where uploads are stored in a run, and the servers that share the place."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from tests.explorer._disk import Disk, in_place
from tests.explorer._s3 import InProcess, Server
from tests.explorer._schedule import Process, Schedule
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.stores.s3 import S3Store, appending, joining, part_sizes, progress
from tusasgi.stores.s3 import store as s3_module
from tusasgi.stores.s3.window import Window

STORES = ("memory", "file", "s3")
PART = 4
_ROOT = "/dev/shm" if os.path.isdir("/dev/shm") else None


@dataclass
class Place:
    """`left` says what is stored there; `ids` which uploads; both look past the store."""

    new_store: Callable[[], Any]
    left: Callable[[], list[str]]
    ids: Callable[[], list[str]]
    open_files: Callable[[], list[str]] = list
    on_death: Callable[[Process], None] = lambda process: None


@contextmanager
def a_place(kind: str, schedule: Schedule, clock: Callable[[], datetime]) -> Iterator[Place]:
    make = {"memory": _memory, "file": _file, "s3": _s3}[kind]
    with make(schedule, clock) as place:
        schedule.on_death = place.on_death
        yield place


@contextmanager
def _memory(schedule: Schedule, clock: Callable[[], datetime]) -> Iterator[Place]:
    store = MemoryStore(clock=clock)
    with in_place(schedule, Disk(schedule, "/")):
        yield Place(
            new_store=lambda: store,
            left=lambda: list(store._records),
            ids=lambda: list(store._records),
        )


@contextmanager
def _file(schedule: Schedule, clock: Callable[[], datetime]) -> Iterator[Place]:
    root = tempfile.mkdtemp(prefix="explorer-", dir=_ROOT)
    disk = Disk(schedule, root)

    def left() -> list[str]:
        return sorted(
            os.path.relpath(os.path.join(folder, name), root)
            for folder, _, names in os.walk(root)
            for name in names
        )

    def ids() -> list[str]:
        names = [os.path.basename(path) for path in left()]
        return [name.removesuffix(".info") for name in names if name.endswith(".info")]

    try:
        with in_place(schedule, disk):
            yield Place(
                new_store=lambda: FileStore(root, clock=clock),
                left=left,
                ids=ids,
                open_files=disk.close_all,
                on_death=disk.kill,
            )
    finally:
        disk.close_all()
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _s3(schedule: Schedule, clock: Callable[[], datetime]) -> Iterator[Place]:
    server = Server(clock)

    def new_store() -> S3Store:
        store = S3Store("s3://bucket", integrity="none", clock=clock)
        store._part_size = PART
        store._window = Window(2)  # two parts may arrive in either order
        return store

    def left() -> list[str]:
        return [*server.objects, *(f"{key} of {m.key}" for key, m in server.multiparts.items())]

    def ids() -> list[str]:
        return [key.removeprefix("state/") for key in server.objects if key.startswith("state/")]

    with pytest.MonkeyPatch.context() as patch, in_place(schedule, Disk(schedule, "/")):
        patch.setattr(s3_module, "Client", lambda *_, **__: InProcess(server, schedule))
        # So that uploads of a dozen bytes have parts, pieces and tails.
        patch.setattr(part_sizes, "_MIB", 1)
        patch.setattr(appending, "INLINE", 2)
        patch.setattr(progress, "FREE", 1)
        patch.setattr(joining, "_LEAST_COPY", PART)
        with contextlib.suppress(StopIteration):
            yield Place(new_store=new_store, left=left, ids=ids)
