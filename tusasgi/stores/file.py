"""Uploads as local files: a data file and a JSON record each.

The folder of a store:

    uploads/<x>/<id>          the bytes; the size of this file is the offset
    uploads/<x>/<id>.info     the record, replaced by rename
    due/<hour>/<id>           an empty file for each upload that expires in that hour (since 1970)
    due/0/<id>                the same for what is unsettled, and for what a removal may leave
    new/                      records, and bytes to be verified, on their way

Every change is one step that either happened or did not, in an order in which a crash between
two of them leaves at most something for `due` to find: nothing is repaired by hand.
"""

import contextlib
import os
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Literal

import anyio
from anyio.to_thread import run_sync

from tusasgi._errors import UploadExists, UploadNotFound
from tusasgi._models import Renewal, Upload, check_upload_id
from tusasgi.stores import PartGone
from tusasgi.stores import _files as files
from tusasgi.stores._due import NOW, due_hours, hours_of, marked_hours
from tusasgi.stores._record import UNREADABLE, after, dump_record, load_record
from tusasgi.stores._writer import Writer

Durability = Literal["complete", "append"]

_READ_SIZE = 256 * 1024
_COPY_SIZE = 64 * 1024 * 1024  # between two of these a long copy can be cancelled


class FileStore:
    """Keeps uploads in a folder of the local file system.

    Supports termination, deferred lengths, concatenation, sweeping and reading. Any number of
    processes may use the folder at once if their lockers reach each other (`FileLocker`); if
    they do not, the kernel still lets one at a time write to an upload.

    A complete upload has been flushed to the disk (fsync of file and folder), and so has every
    record. `durability` says what holds for the offsets before: with `"complete"` they survive
    the death of the process but may step back after a power cut; with `"append"` each append is
    flushed before it is acknowledged. A running append holds at most 1 MiB and one chunk.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, durability: Durability = "complete"
    ) -> None:
        if durability not in ("complete", "append"):
            raise ValueError('durability must be "complete" or "append"')
        self._root = os.path.abspath(directory)
        self._durability = durability

    def path(self, upload_id: str) -> str:
        """Return where the bytes of the upload are, or will be with its first byte."""
        check_upload_id(upload_id)
        # The last characters: the first ones are a time stamp in some kinds of uuid.
        return os.path.join(self._root, "uploads", upload_id[-2:], upload_id)

    async def create(self, upload: Upload) -> Upload:
        await run_sync(self._create, upload)
        return upload

    async def get(self, upload_id: str) -> Upload:
        return await run_sync(self._get, upload_id)

    async def append(
        self,
        upload: Upload,
        chunks: AsyncIterable[bytes],
        *,
        staged: bool = False,
        renewal: Renewal | None = None,
    ) -> Upload:
        append = self._append_staged if staged else self._append
        kept = await append(upload, chunks)
        if kept.offset == upload.offset or after(kept, renewal) == kept:
            return kept
        return await self.update(after(kept, renewal))

    async def _append(self, upload: Upload, chunks: AsyncIterable[bytes]) -> Upload:
        path = self.path(upload.id)
        writer = Writer(
            partial(self._open, upload),
            upload.offset,
            length=upload.length,
            before_last=partial(self._mark, upload.id, NOW),
        )
        try:
            await writer.write(chunks)
            if self._durability == "append" and writer.offset > upload.offset:
                await run_sync(writer.flush)
                await run_sync(files.flush_folder, os.path.dirname(path))
        finally:
            writer.close()
        return replace(upload, offset=writer.offset)

    async def update(self, upload: Upload) -> Upload:
        await run_sync(self._update, upload)
        return upload

    async def finish(self, upload: Upload) -> Upload:
        await run_sync(self._finish, upload)
        return upload

    async def terminate(self, upload_id: str) -> None:
        await run_sync(self._terminate, upload_id)

    async def declare_length(self, upload: Upload, length: int) -> Upload:
        return await self.update(replace(upload, length=length))

    async def concat(self, upload: Upload) -> Upload:
        pieces = await run_sync(self._rest_of_parts, upload)
        return await self._copy_in(upload, pieces)

    async def due(self, now: datetime) -> AsyncIterator[str]:
        for hour in await run_sync(self._due_hours, now):
            for upload_id in await run_sync(self._due_uploads, hour, now):
                yield upload_id
            await run_sync(files.remove_if_empty, self._hour_path(hour))
        await run_sync(self._remove_left_behind, now)

    async def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        try:
            file = await run_sync(os.open, self.path(upload.id), os.O_RDONLY)
        except FileNotFoundError:
            raise UploadNotFound() from None
        try:
            while start < stop:
                data = await run_sync(os.pread, file, min(_READ_SIZE, stop - start), start)
                if not data:
                    return
                start += len(data)
                yield data
        finally:
            os.close(file)

    async def _append_staged(self, upload: Upload, chunks: AsyncIterable[bytes]) -> Upload:
        path = self._new_path(upload.id)
        writer = Writer(partial(files.with_folder, path, partial(files.open_alone, path, 0)), 0)
        try:
            await writer.write(chunks)
            if writer.offset == 0:
                return upload
            if upload.offset + writer.offset == upload.length:
                await run_sync(self._mark, upload.id, NOW)
            return await self._copy_in(upload, [(path, 0, writer.offset)])
        finally:
            writer.close()
            with anyio.CancelScope(shield=True):
                await run_sync(files.unlink_if_there, path)

    async def _copy_in(self, upload: Upload, pieces: Iterable[tuple[str, int, int]]) -> Upload:
        """Add pieces of files (path, start, stop) at the end, in steps."""
        path = self.path(upload.id)
        offset = upload.offset
        target = await run_sync(self._open, upload)
        try:
            for source, start, stop in pieces:
                while start < stop:
                    step = min(stop - start, _COPY_SIZE)
                    copied = await run_sync(_copy, source, target, start, offset, step)
                    start, offset = start + copied, offset + copied
            if self._durability == "append":
                await run_sync(os.fsync, target)
                await run_sync(files.flush_folder, os.path.dirname(path))
        finally:
            files.close_alone(target)
        return replace(upload, offset=offset)

    # What runs in worker threads.

    def _create(self, upload: Upload) -> None:
        path = self.path(upload.id)
        with files.no_room_is_store_full():
            for hour in hours_of(upload):
                self._mark(upload.id, hour)
            new = self._write_new(upload)
            try:
                self._remove_remains(path)
                files.with_folder(path, lambda: os.link(new, f"{path}.info"))
            except FileExistsError:
                raise UploadExists("an upload with this id exists already") from None
            finally:
                os.unlink(new)
            files.flush_folder(os.path.dirname(path))

    def _open(self, upload: Upload) -> int:
        """Open the data file to write at its end, as the only writer, with the record as given."""
        file = files.open_alone(self.path(upload.id), upload.offset)
        try:
            if self._get(upload.id) != upload:
                self._update(upload)
        except BaseException:
            files.close_alone(file)
            raise
        return file

    def _get(self, upload_id: str) -> Upload:
        path = self.path(upload_id)
        try:
            with open(f"{path}.info", "rb") as info:
                record = info.read()
        except FileNotFoundError:
            raise UploadNotFound() from None
        return load_record(record, offset=files.size_of(path))

    def _remove_remains(self, path: str) -> None:
        """Remove bytes without a record: an earlier upload of this id, half removed."""
        if not os.path.exists(f"{path}.info"):
            files.unlink_if_there(path)

    def _update(self, upload: Upload) -> None:
        path = self.path(upload.id)
        stored = self._get(upload.id)
        upload = replace(upload, offset=stored.offset)
        with files.no_room_is_store_full():
            # The new marks stand before the record that needs them.
            for hour in hours_of(upload):
                self._mark(upload.id, hour)
            os.rename(self._write_new(upload), f"{path}.info")
            files.flush_folder(os.path.dirname(path))
        for hour in marked_hours(stored) - hours_of(upload):
            self._unmark(upload.id, hour)

    def _finish(self, upload: Upload) -> None:
        path = self.path(upload.id)
        flags = os.O_WRONLY | os.O_CREAT
        with files.no_room_is_store_full(), files.opened(path, flags) as file:
            os.fsync(file)
            files.flush_folder(os.path.dirname(path))

    def _terminate(self, upload_id: str) -> None:
        path = self.path(upload_id)
        hours = {NOW}
        with contextlib.suppress(UploadNotFound):
            hours = self._marked_hours(upload_id)
        # Once the record is gone, the mark alone leads a later sweep to what is left.
        self._mark(upload_id, NOW)
        for remains in (f"{path}.info", path):
            files.unlink_if_there(remains)
        with contextlib.suppress(FileNotFoundError):  # not even the folder was made
            files.flush_folder(os.path.dirname(path))
        for hour in hours:
            self._unmark(upload_id, hour)

    def _rest_of_parts(self, upload: Upload) -> list[tuple[str, int, int]]:
        """Return what is still to be joined: path, start and stop of each piece."""
        check_upload_id(upload.id)
        pieces = []
        position = 0
        for part in upload.parts:
            try:
                size = self._get(part).offset
            except UploadNotFound:
                raise PartGone from None
            pieces.append((self.path(part), max(upload.offset - position, 0), size))
            position += size
        if position != upload.length:
            raise PartGone  # another upload has taken the id of one
        return pieces

    def _new_path(self, upload_id: str) -> str:
        return os.path.join(self._root, "new", f"{check_upload_id(upload_id)}.{uuid.uuid4().hex}")

    def _write_new(self, upload: Upload) -> str:
        new = self._new_path(upload.id)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with files.opened(new, flags) as file:
            try:
                files.write_all(file, [dump_record(upload)], 0)
                os.fsync(file)
            except OSError:
                os.unlink(new)
                raise
        return new

    # Marks: which uploads a sweeper has to look at, and from which hour on.

    def _marked_hours(self, upload_id: str) -> set[int]:
        try:
            return marked_hours(self._get(upload_id))
        except UNREADABLE:
            return {NOW}  # a mark of another hour is found without its upload, and removed then

    def _hour_path(self, hour: int) -> str:
        return os.path.join(self._root, "due", str(hour))

    def _mark(self, upload_id: str, hour: int) -> None:
        mark = os.path.join(self._hour_path(hour), upload_id)
        with (
            contextlib.suppress(FileExistsError),
            files.opened(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
        ):
            files.flush_folder(self._hour_path(hour))

    def _unmark(self, upload_id: str, hour: int) -> None:
        files.unlink_if_there(os.path.join(self._hour_path(hour), upload_id))

    def _due_hours(self, now: datetime) -> list[int]:
        return due_hours(files.names_in(os.path.join(self._root, "due")), now)

    def _due_uploads(self, hour: int, now: datetime) -> list[str]:
        names = files.names_in(self._hour_path(hour))
        return [name for name in names if self._is_due(name, hour, now)]

    def _is_due(self, upload_id: str, hour: int, now: datetime) -> bool:
        try:
            upload = self._get(upload_id)
        except UploadNotFound:
            return self._is_left_behind(upload_id, hour, now)
        except UNREADABLE:
            return True  # whoever looks after it finds out why, and goes on with others
        if hour == NOW:
            return True  # whoever holds its lock can tell whether it is
        if hour in hours_of(upload):
            return upload.is_expired(now) and not upload.is_unsettled  # it was found before
        self._unmark(upload_id, hour)  # it was finished, or has another mark by now
        return False

    def _is_left_behind(self, upload_id: str, hour: int, now: datetime) -> bool:
        """A mark without a record: a creation that is under way, or the remains of a crash."""
        if not files.is_left_behind(os.path.join(self._hour_path(hour), upload_id), now):
            return False
        if hour != NOW:
            self._mark(upload_id, NOW)  # where `_terminate` takes it away last
            self._unmark(upload_id, hour)
        return True

    def _remove_left_behind(self, now: datetime) -> None:
        folder = os.path.join(self._root, "new")
        for path in [os.path.join(folder, name) for name in files.names_in(folder)]:
            if files.is_left_behind(path, now):
                files.unlink_if_there(path)


def _copy(source: str, target: int, position: int, offset: int, count: int) -> int:
    try:
        file = os.open(source, os.O_RDONLY)
    except FileNotFoundError:
        raise PartGone from None
    try:
        with files.no_room_is_store_full():
            copied = files.copy_bytes(file, target, position=position, offset=offset, count=count)
    finally:
        os.close(file)
    if copied == 0:
        raise PartGone  # shorter than it was: it cannot be the same file
    return copied
