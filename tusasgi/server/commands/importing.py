"""`tusasgi import --from-tusd DIR`: the uploads of tusd become ours, under the same ids.

Into a folder by a second name for each file, elsewhere by copying. Each upload is taken by steps
that can be repeated, so an import that ended in whatever way is done again and finds what is there.
"""

import contextlib
import errno
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio.to_thread import run_sync

from tusasgi import Upload, UploadExists, UploadNotFound
from tusasgi.server.checks import check_place, fail
from tusasgi.server.failures import describe
from tusasgi.server.output import as_json, complain, counted, print_json, say, size
from tusasgi.server.settings import Settings
from tusasgi.server.storage import closing, make_store
from tusasgi.server.tusd import Found, TusdFolder, Untaken, ignoring_leases
from tusasgi.stores import Store, WriteConflict

if TYPE_CHECKING:
    from tusasgi.stores.file import FileStore

_COPY_SIZE = 1024 * 1024
_TOLD_EVERY = 1.0  # seconds


@dataclass
class _Tally:
    """What has become of the uploads so far."""

    taken: int = 0
    there_already: int = 0
    not_taken: int = 0
    unfinished: int = 0
    bytes: int = 0

    def add(self, upload: Upload, result: str) -> None:
        if result == "taken":
            self.taken += 1
            self.bytes += upload.offset
            self.unfinished += not upload.is_complete
        else:
            self.there_already += 1


def run(settings: Settings, words: Mapping[str, Any]) -> None:
    """Take what can be taken; what cannot is told of in a line each, and ends it with code 1."""
    source = words["from_tusd"]
    if not os.path.isdir(source):
        fail(f"there is no folder {source}")
    if settings.is_in_folder:
        _check_folders(settings.place, source, is_copy="copy" in words)
    is_dry = "dry_run" in words
    if not (is_dry and settings.is_in_folder):  # a folder that is not there is nothing to look at
        settings = check_place(settings, may_be_away=False, may_be_made=True)
    window = None if settings.expires_after is None else timedelta(seconds=settings.expires_after)
    folder = TusdFolder(source, path=settings.path, window=window)
    store = make_store(settings)
    with ignoring_leases():
        tally = anyio.run(_Import(folder, store, settings, words).run)
    if tally.not_taken:
        sys.exit(1)


def _check_folders(place: str, source: str, *, is_copy: bool) -> None:
    """Check that neither folder is within the other, where files would be taken for uploads."""
    one, other = os.path.realpath(place), os.path.realpath(source)
    if os.path.commonpath([one, other]) in (one, other):
        fail(f"the folders {place} and {source} must lie outside of each other")
    if not is_copy and _device_of(place) != _device_of(source):
        fail(f"{place} is on another file system than {source}: add --copy")


def _device_of(path: str) -> int:
    """Return the file system that a path is on, or will be on."""
    path = os.path.realpath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return os.stat(path).st_dev


class _Import:
    """One run over all uploads of a folder of tusd."""

    def __init__(
        self, folder: TusdFolder, store: Store, settings: Settings, words: Mapping[str, Any]
    ) -> None:
        self._folder = folder
        self._store = store
        self._is_json = "json" in words
        self._is_dry = "dry_run" in words
        self._moves = "move" in words and not self._is_dry
        self._copies = "copy" in words or not settings.is_in_folder
        self._tally = _Tally()
        self._taken: list[Found] = []
        self._told = time.monotonic()

    async def run(self) -> _Tally:
        names = await run_sync(self._folder.names)
        async with closing(self._store):
            for number, name in enumerate(names):
                self._tell_progress(number, len(names))
                await self._import(name)
        if not self._is_dry:
            await run_sync(os.sync)  # the names of what was taken are on the disk before it is said
        if self._moves:
            for found in self._taken:
                await run_sync(_remove, found)
        self._tell_all()
        return self._tally

    async def _import(self, name: str) -> None:
        try:
            found = await run_sync(self._folder.find, name)
            result = await self._take(found)
        except (Untaken, UploadExists, WriteConflict) as reason:
            self._tell_untaken(name, str(reason))
        except OSError as error:
            self._tell_untaken(name, _words_of(error))
        except Exception as error:  # of a long list, and none of it keeps the others
            self._tell_untaken(name, describe(error))
        else:
            self._tally.add(found.upload, result)
            self._taken.append(found)
            if self._is_json:
                print_json(as_json(found.upload, found.upload.created) | {"result": result})

    async def _take(self, found: Found) -> str:
        if self._is_dry or self._copies or not found.has_bytes:
            if await _already_there(self._store, found):
                return "there already"
            if not found.has_bytes:
                raise Untaken("its bytes are missing")
            if self._is_dry:
                return "taken"
        if self._copies:
            await copy(self._store, found)
            return "taken"
        folder = cast("FileStore", self._store)  # to every other one is copied
        is_new = await folder.adopt(found.upload, found.path)
        return "taken" if is_new else "there already"

    # What is told.

    def _tell_untaken(self, name: str, reason: str) -> None:
        self._tally.not_taken += 1
        if self._is_json:
            print_json({"id": name, "result": "not taken", "reason": reason})
        else:
            complain(f"{name} is not taken: {reason}")

    def _tell_progress(self, number: int, count: int) -> None:
        """Say now and then how far it is, to whoever sits at a terminal."""
        if time.monotonic() >= self._told + _TOLD_EVERY and sys.stderr.isatty():
            self._told = time.monotonic()
            complain(f"{number:,} of {counted(count)}")

    def _tell_all(self) -> None:
        tally = self._tally
        if self._is_json:
            print_json({**vars(tally), "is_dry_run": self._is_dry})
            return
        verb = "would be taken" if self._is_dry else "taken"
        say(
            f"{counted(tally.taken)} {verb} ({size(tally.bytes)}, {tally.unfinished:,} unfinished),"
            f" {tally.there_already:,} there already, {tally.not_taken:,} not taken"
        )


async def _already_there(store: Store, found: Found) -> bool:
    """Tell whether nothing is left to do; what has another date is another upload."""
    try:
        there = await store.get(found.upload.id)
    except UploadNotFound:
        return False
    if there.created != found.upload.created:
        raise UploadExists("another upload has this id here")
    # Clients may have gone on with it.
    return there.offset >= found.upload.offset and there.is_complete >= found.upload.is_complete


async def copy(store: Store, found: Found) -> None:
    """Copy an upload into any store, from where an earlier copy has ended."""
    upload = found.upload
    with contextlib.suppress(UploadExists):  # of a copy that was broken off: `_already_there`
        await store.create(replace(upload, offset=0, is_complete=False))
    if upload.parts and not upload.is_complete:
        return  # it is joined here, from its beginning
    there = await store.get(upload.id)
    there = await store.append(there, _read(found.path, there.offset, upload.offset))
    if there.offset != upload.offset:
        raise WriteConflict("its file has changed: stop tusd first")
    if upload.is_complete:
        there = await store.finish(there)
        await store.update(replace(there, is_complete=True))


async def _read(path: str, start: int, stop: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(start)
        while start < stop:
            data = await file.read(min(_COPY_SIZE, stop - start))
            if not data:
                return
            start += len(data)
            yield data


_unlink = os.unlink


def _remove(found: Found) -> None:
    """Remove from tusd's folder what was taken: the document last, as it leads to the rest."""
    for path in (found.path, f"{found.info.removesuffix('.info')}.lock", found.info):
        with contextlib.suppress(FileNotFoundError):
            _unlink(path)


def _words_of(error: OSError) -> str:
    if error.errno == errno.EXDEV:  # of a single file, as where something is mounted in between
        return "it is on another file system: --copy copies it"
    return error.strerror or describe(error)
