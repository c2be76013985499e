"""Faults that are put into the code on purpose: the explorer has to find each of them.

Each is a promise that the code keeps somewhere, taken out where it is kept.
"""

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from tests.explorer import _s3
from tusasgi import Upload, UploadNotFound
from tusasgi.engine.chunks import Chunks
from tusasgi.engine.completion import Completion
from tusasgi.engine.sweeping import Sweep
from tusasgi.engine.uploads import Uploads
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.stores.memory import MemoryStore
from tusasgi.stores.s3 import S3Store
from tusasgi.stores.s3.appending import Appender
from tusasgi.stores.s3.committing import Committer

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Fault:
    name: str
    store: str
    scenario: str
    plant: Plant
    switches: int = 1
    disturbances: int = 1

    @contextmanager
    def planted(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            self.plant(patch)
            yield


def _swap_without_compare(patch: pytest.MonkeyPatch) -> None:
    put = _s3.Server.put_object
    patch.setattr(_s3.Server, "put_object", lambda self, **p: put(self, **{**p, "IfMatch": None}))


def _create_without_condition(patch: pytest.MonkeyPatch) -> None:
    put = _s3.Server.put_object
    patch.setattr(
        _s3.Server, "put_object", lambda self, **p: put(self, **{**p, "IfNoneMatch": None})
    )


def _no_kernel_lock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fcntl, "flock", lambda *_: None)


def _no_lock(patch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def lock(self: Any, upload_id: str, **_: Any) -> AsyncIterator[None]:
        yield

    patch.setattr(MemoryLocker, "lock", lock)


def _completes_without_lock(patch: pytest.MonkeyPatch) -> None:
    async def complete(self: Uploads, upload: Upload) -> Upload:
        return await self._completion.complete(upload)

    patch.setattr(Uploads, "complete", complete)


def _stops_nobody(patch: pytest.MonkeyPatch) -> None:
    async def stop(self: Uploads, upload_id: str) -> Upload:
        return await self.store.get(upload_id)

    patch.setattr(Uploads, "stop", stop)


def _waiter_keeps_its_turn(patch: pytest.MonkeyPatch) -> None:
    def withdraw(self: MemoryLocker, upload_id: str, waiter: Any) -> None:
        if not waiter.turn.is_set():
            self._locks[upload_id].waiters.remove(waiter)

    patch.setattr(MemoryLocker, "_withdraw", withdraw)


def _recorded_before_the_hook(patch: pytest.MonkeyPatch) -> None:
    async def complete(self: Completion, upload: Upload) -> Upload:
        upload = await self._store.finish(upload)
        upload = await self._store.update(replace(upload, is_complete=True))
        if not upload.is_partial:
            await self._call(partial(self._hooks.completed, upload), "later")
        return upload

    patch.setattr(Completion, "_finish", complete)


def _removal_without_a_record(patch: pytest.MonkeyPatch) -> None:
    async def remove(self: Any, upload: Upload, removal: Any) -> None:
        hook = self._hooks.expired if removal == "expired" else self._hooks.terminated
        await self._call(partial(hook, upload), "later")
        await self._store.terminate(upload.id)

    patch.setattr(Completion, "remove", remove)


def _removed_before_the_hook(patch: pytest.MonkeyPatch) -> None:
    async def remove(self: Any, upload: Upload, removal: Any) -> None:
        await self._store.terminate(upload.id)
        hook = self._hooks.expired if removal == "expired" else self._hooks.terminated
        await self._call(partial(hook, upload), "later")

    patch.setattr(Completion, "remove", remove)


def _wrong_checksum_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Chunks, "_check_end", lambda self: None)


def _refused_bytes_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "ftruncate", lambda *_: None)


def _s3_refused_bytes_stay(patch: pytest.MonkeyPatch) -> None:
    async def take_back(self: Appender) -> None:
        await self.publish()

    patch.setattr(Appender, "take_back", take_back)


def _part_numbers_not_reserved(patch: pytest.MonkeyPatch) -> None:
    publish = Committer.publish

    async def without(self: Committer, *, reserve: bool = False) -> None:
        if not reserve:
            await publish(self)

    patch.setattr(Committer, "publish", without)


def _state_removed_first(patch: pytest.MonkeyPatch) -> None:
    terminate = S3Store.terminate

    async def first(self: Any, upload_id: str) -> None:
        with contextlib.suppress(UploadNotFound):
            await self._bucket.remove_manifest(upload_id)
        await terminate(self, upload_id)

    patch.setattr(S3Store, "terminate", first)


def _unmarked(patch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_unmarked(source: str, target: str) -> None:
        if "/due/" in target:
            raise FileExistsError
        link(source, target)

    patch.setattr(os, "link", link_unmarked)


def _record_after_removal(patch: pytest.MonkeyPatch) -> None:
    def keep(self: MemoryStore, stored: bytearray, upload: Upload) -> Upload:
        self._bytes[upload.id] = stored
        self._records[upload.id] = upload
        return upload

    patch.setattr(MemoryStore, "_keep", keep)
    _no_lock(patch)


def _sweep_without_lock(patch: pytest.MonkeyPatch) -> None:
    async def look_after(self: Any, upload_id: str) -> None:
        try:
            await self._do_what_is_due(upload_id)
        finally:
            self._slots.release()

    patch.setattr(Sweep, "_look_after", look_after)


FAULTS = (
    Fault("swap without compare", "s3", "begun:patch|patch", _swap_without_compare),
    Fault("kernel lock dropped", "file", "begun:patch|patch", _no_kernel_lock),
    Fault("no lock at all", "memory", "begun:patch+patch", _no_lock),
    Fault("completion takes no lock", "memory", "failing:patch+head", _completes_without_lock),
    Fault(
        "a cancelled waiter keeps its turn", "memory", "begun:patch+delete", _waiter_keeps_its_turn
    ),
    Fault(
        "complete is recorded before the hook",
        "memory",
        "failing:patch+head",
        _recorded_before_the_hook,
    ),
    Fault(
        "removal is not recorded", "memory", "removed:delete+head", _removal_without_a_record, 1, 0
    ),
    Fault("removed before the hook", "memory", "removed:delete+head", _removed_before_the_hook),
    Fault(
        "bytes of a wrong checksum are kept", "memory", "begun:badsum+head", _wrong_checksum_kept
    ),
    Fault("refused bytes stay in the file", "file", "begun:over+head", _refused_bytes_stay),
    Fault("refused bytes stay in the bucket", "s3", "begun:over+head", _s3_refused_bytes_stay, 2),
    Fault(
        "part numbers are not reserved", "s3", "grown:patch|patch", _part_numbers_not_reserved, 2
    ),
    Fault("the state goes first", "s3", "begun:piece+delete", _state_removed_first),
    Fault("the last byte is not marked", "file", "begun:patch+head", _unmarked),
    Fault(
        "a record comes back after its removal",
        "memory",
        "begun:patch+delete",
        _record_after_removal,
    ),
    Fault("who asks for the offset stops nobody", "memory", "begun:last+stop", _stops_nobody),
    Fault("nor one that the store would stop", "s3", "begun:part|stop", _stops_nobody, 2, 0),
    Fault("the sweep takes no lock", "memory", "begun:patch+sweep", _sweep_without_lock, 2),
)
