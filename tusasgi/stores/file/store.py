"""Uploads as local files: a data file and a JSON record each.

The directory of a store:

    uploads/<x>/<id>          the bytes; the size of this file is the offset
    uploads/<x>/<id>.info     the record, replaced by rename; whoever changes the upload locks it
    due/<hour>/<id>           a mark for each upload that expires in that hour (since 1970)
    due/0/<id>                the same for what is pending, and for what a removal may leave
    recovered/<boot id>/      a sweep has looked for what the last power cut may have left
    files/<destination>       bytes that were handed over to the host, who may take them away
    new/                      records, and bytes to be verified, that are not in their place yet

Every change is one step that either happened or did not, in an order in which a crash between
two of them leaves at most something for `due` to find: nothing is repaired by hand. There are
never bytes without a record: a removal takes the bytes first.

The modules of this store, from the ground up: `files` calls the system, `records` is the record,
`directory` is the directory, `locked` an upload that nobody else can change, `appending` the steps
of an append, `writer` takes them while bytes arrive, `adopting` takes files of somebody else,
`handing_over` is about `files/`, `recovery` is for after a power cut. All but `writer` block: for
threads.
"""

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from typing import Literal, get_args

from tusasgi.arguments import check_callable, check_choice, check_folder
from tusasgi.errors import StoreUnavailable, UploadExists, UploadNotFound
from tusasgi.models import Upload, check_upload_id, utc_now
from tusasgi.stores import PartLost, WriteConflict
from tusasgi.stores.due import NOW, hours_of
from tusasgi.stores.file import files
from tusasgi.stores.file.adopting import adopt
from tusasgi.stores.file.appending import Appender
from tusasgi.stores.file.directory import Directory
from tusasgi.stores.file.handing_over import HandOver, open_destination
from tusasgi.stores.file.locked import LockedUpload, name_record, remove_remains
from tusasgi.stores.file.records import Record
from tusasgi.stores.file.recovery import Recovery
from tusasgi.stores.file.writer import Writer
from tusasgi.stores.records import UNREADABLE

Durability = Literal["complete", "append", "none"]

_READ_SIZE = 256 * 1024
_COPY_SIZE = 64 * 1024 * 1024  # between two of these a long copy can be cancelled
_THREADS = 40  # for each kind of work, so that none waits for another, or for the host's own
_FLUSHES = 8


class FileStore:
    """Keeps uploads in a folder of the local file system.

    Supports termination, deferred lengths, concatenation, sweeping, reading and hand-over (by a
    second name for the same file, or by copying where `files/` is another disk). Any number of
    processes may use the folder at once if their lockers reach each other (`FileLocker`); if
    they do not, the kernel still lets one at a time change an upload (`WriteConflict`).

    A complete upload has been flushed to the disk (fsync of file, record and folder). `durability`
    says what holds before: with `"complete"` everything survives the death of the process, and
    after a power cut an upload goes on where it was last flushed, which happens every 32 MiB; one
    that never was may be gone. With `"append"` each creation and each append is flushed before it
    is acknowledged; with `"none"` nothing is ever flushed, and a power cut may take anything,
    complete uploads too.
    A running append holds at most 1 MiB and one chunk. `clock` says when bytes come, which dates
    of expiry follow from.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        durability: Durability = "complete",
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        check_folder("directory", directory)
        check_choice("durability", durability, get_args(Durability))
        check_callable("clock", clock)
        self._directory = Directory(os.path.abspath(directory), flushes=durability != "none")
        self._is_durable = durability == "append"
        self._clock = clock
        self._reading = files.Workers(_THREADS)
        self._writing = files.Workers(_THREADS)
        self._flushing = files.Workers(_FLUSHES)

    def path(self, upload_id: str) -> str:
        """Return where the bytes of the upload are, or will be with its first byte.

        Until they are handed over: `local_path` knows of that too.
        """
        return self._directory.path(upload_id)

    def local_path(self, upload: Upload) -> str:
        if upload.is_handed_over:
            return os.path.join(self._directory.root, "files", str(upload.destination))
        return self.path(upload.id)

    async def create(self, upload: Upload) -> Upload:
        await self._writing.run(self._create, upload)
        return upload

    async def adopt(self, upload: Upload, path: str) -> bool:
        """Create an upload whose bytes are a file that is there already, without copying them.

        The file gets a second name (a hard link); nobody else may write to it from then on.
        `upload.offset` is its size. Returns False if that was done before; whatever breaks off on
        the way can be repeated. Raises `UploadExists` if the upload has other bytes,
        `WriteConflict` if somebody changes the file or the upload, and `OSError` where the system
        gives no second name, as on another file system (EXDEV). The bytes are on the disk then,
        and their names when the system puts them there (`os.sync`).
        """
        return await self._writing.run(adopt, self._directory, upload, path)

    async def get(self, upload_id: str) -> Upload:
        record = self._directory.recall(upload_id)
        if record is not None:
            return record.upload
        return await self._reading.run(self._get, upload_id)

    async def append(
        self,
        upload: Upload,
        chunks: AsyncIterable[bytes],
        *,
        staged: bool = False,
    ) -> Upload:
        appender = self._appender(upload)
        writer = Writer(appender, is_staged=staged, writing=self._writing, flushing=self._flushing)
        async with self._closing(appender):
            await writer.gather(chunks)
            last = writer.buffer.take()
            if not last and not appender.is_open:
                return upload  # nothing came
            while appender.has_staged:
                await self._writing.run(appender.copy_staged, _COPY_SIZE)
            return await self._writing.run(appender.finish, last)

    async def kept(self, upload_id: str) -> int:
        return await self._reading.run(self._kept, upload_id)

    async def update(self, upload: Upload) -> Upload:
        await self._writing.run(self._update, upload)
        return upload

    async def finish(self, upload: Upload) -> Upload:
        await self._writing.run(self._finish, upload)
        return upload

    async def hand_over(self, upload: Upload) -> None:
        await self._writing.run(self._hand_over, upload)

    async def take_back(self, upload: Upload) -> None:
        await self._writing.run(self._take_back, upload)

    async def terminate(self, upload_id: str) -> None:
        await self._writing.run(self._terminate, upload_id)

    async def declare_length(self, upload: Upload, length: int) -> Upload:
        return await self.update(replace(upload, length=length))

    async def concat(self, upload: Upload) -> Upload:
        appender = self._appender(upload)
        async with self._closing(appender):
            await self._writing.run(appender.open)
            for path, start, stop in await self._reading.run(self._rest_of_parts, upload):
                while start < stop:
                    step = min(stop - start, _COPY_SIZE)
                    start += await self._writing.run(appender.copy_part, path, start, step)
            return await self._writing.run(appender.finish, [])

    async def due(self, now: datetime) -> AsyncIterator[str]:
        await self._recover()
        for hour in await self._reading.run(self._directory.due_hours, now):
            for upload_id in await self._reading.run(self._directory.due_uploads, hour, now):
                yield upload_id
            await self._writing.run(self._directory.forget_hour, hour)
        await self._writing.run(self._directory.remove_left_behind, now)

    async def _recover(self) -> None:
        """Once in each run of the machine: clear up what a power cut may have left."""
        recovery = Recovery(self._directory)
        if await self._reading.run(recovery.is_needed):
            folders = await self._reading.run(self._directory.folders)
            for folder in folders:
                await self._writing.run(recovery.look_through, folder)
            if folders:
                await self._writing.run(recovery.end)

    async def ids(self, *, after: str | None = None) -> AsyncGenerator[str, None]:
        beginning = None if after is None else check_upload_id(after)
        for folder in await self._reading.run(self._directory.folders, beginning):
            for upload_id in await self._reading.run(self._directory.ids_in, folder, beginning):
                yield upload_id

    async def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        reader = _Reader(self._directory, upload)
        try:
            await self._reading.run(reader.open)
            while start < stop:
                size = min(_READ_SIZE, stop - start)
                data = await self._reading.run(reader.read, size, start)
                if not data:
                    return
                start += len(data)
                yield data
        finally:
            reader.close()  # its thread has ended, whoever cancelled

    def _appender(self, upload: Upload) -> Appender:
        return Appender(self._directory, upload, clock=self._clock, is_durable=self._is_durable)

    @contextlib.asynccontextmanager
    async def _closing(self, appender: Appender) -> AsyncIterator[None]:
        """Let go of the upload at the end, whoever cancels."""
        try:
            yield
        finally:
            if appender.is_open:
                await self._writing.run_surely(appender.close)

    # What runs in worker threads.

    def _create(self, upload: Upload) -> None:
        directory = self._directory
        record = Record(upload=upload, boot=directory.boot, expires=upload.expires)
        new = directory.write_new(record, is_durable=self._is_durable)
        try:
            for hour in hours_of(upload):
                directory.mark(upload.id, hour, new.path)
            name_record(directory, upload.id, new)
            directory.remember(upload.id, new.file, new.record)
        except (FileExistsError, WriteConflict):
            raise UploadExists("an upload with this id exists already") from None
        finally:
            files.close_locked(new.file)
            files.unlink_if_there(new.path)
        if self._is_durable:
            directory.flush_names(upload.id)
        self._mark_again(upload)

    def _get(self, upload_id: str) -> Upload:
        if upload_id in self._directory.doubtful:
            self._put_anew(upload_id)
        return self._directory.load(upload_id).upload

    def _kept(self, upload_id: str) -> int:
        record = self._directory.load(upload_id)
        if not self._is_durable:
            return record.upload.offset
        return min(record.flushed, record.upload.offset)

    def _put_anew(self, upload_id: str) -> None:
        try:
            with LockedUpload(self._directory, upload_id) as locked:
                locked.put(locked.read())
        except WriteConflict:
            raise StoreUnavailable("the store could not keep this for now; try again") from None

    def _update(self, upload: Upload) -> None:
        with LockedUpload(self._directory, upload.id) as locked:
            stored = locked.read()
            locked.check(upload)
            upload = replace(upload, offset=stored.offset)
            removal = upload.removal
            if removal is None and upload.is_handed_over:
                locked.put(upload, also_due={NOW})
                HandOver(self._directory, upload).let_go()
                self._directory.unmark(upload.id, NOW)
            elif removal is None and upload.is_complete:
                locked.put_complete(upload)
            elif removal is None or not _only_removes(upload, stored):
                locked.put(upload)
            else:  # a full disk must let itself be emptied
                with files.unless_full():
                    self._directory.mark(upload.id, NOW)
                locked.put_removal(removal)

    def _finish(self, upload: Upload) -> None:
        with LockedUpload(self._directory, upload.id) as locked:
            locked.read()
            locked.check(upload)
            locked.finish()

    def _hand_over(self, upload: Upload) -> None:
        with LockedUpload(self._directory, upload.id) as locked:
            locked.read()
            locked.check(upload)
            HandOver(self._directory, upload).bring()

    def _take_back(self, upload: Upload) -> None:
        with LockedUpload(self._directory, upload.id):
            HandOver(self._directory, upload).take_back()

    def _terminate(self, upload_id: str) -> None:
        directory, hours = self._directory, {NOW}
        try:
            locked = LockedUpload(directory, upload_id)
        except UploadNotFound:
            remove_remains(directory, upload_id)
        else:
            with locked:
                hours = self._begin_removal(locked, upload_id)
                with files.unless_full():
                    directory.mark(upload_id, NOW)  # leads a later sweep to what is left
                locked.remove()
        for hour in hours:
            directory.unmark(upload_id, hour)
        with contextlib.suppress(UploadNotFound, *UNREADABLE):
            self._mark_again(directory.load(upload_id).upload)

    def _begin_removal(self, locked: LockedUpload, upload_id: str) -> set[int]:
        """Record that an upload is being removed; return the hours under which it may be marked."""
        try:
            record = self._directory.load(upload_id)
        except UploadNotFound:
            return {NOW}
        except UNREADABLE:
            locked.clear()
            return {NOW}
        if record.upload.removal is None:
            with files.unless_full():
                locked.put_removal("terminated")
        if record.upload.is_handed_over:
            HandOver(self._directory, record.upload).let_go()
        return record.marked_hours

    def _mark_again(self, upload: Upload) -> None:
        """Mark an upload whose marks a removal of an earlier one of its id may have taken away."""
        for hour in hours_of(upload):
            self._directory.mark(upload.id, hour)

    def _rest_of_parts(self, upload: Upload) -> list[tuple[str, int, int]]:
        """Return what is still to be joined: path, start and stop of each piece."""
        check_upload_id(upload.id)
        pieces = []
        position = 0
        for part in upload.parts:
            try:
                size = self._directory.load(part).upload.offset
            except UploadNotFound:
                raise PartLost from None
            pieces.append((self.path(part), max(upload.offset - position, 0), size))
            position += size
        if position != upload.length:
            raise PartLost  # another upload has taken the id of one
        return pieces


def _only_removes(upload: Upload, stored: Upload) -> bool:
    """True if nothing else is to be recorded; bytes may have moved the date meanwhile."""
    return replace(stored, removal=upload.removal, expires=upload.expires) == upload


class _Reader:
    """The bytes of an upload, open to be read. `open` and `read` run in worker threads."""

    def __init__(self, directory: Directory, upload: Upload) -> None:
        self._directory = directory
        self._upload = upload
        self._path = directory.path(upload.id)
        self._file: int | None = None

    def open(self) -> None:
        if self._upload.is_handed_over:
            self._file = open_destination(self._directory, self._upload)
            return
        try:
            self._file = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            self._directory.check_is_there()
            raise UploadNotFound() from None

    def read(self, size: int, start: int) -> bytes:
        assert self._file is not None
        return os.pread(self._file, size, start)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
