"""One upload of the file store, locked so that nobody else changes it."""

import contextlib
import os
import threading
from collections.abc import Set
from dataclasses import replace
from types import TracebackType

from tusasgi.errors import UploadNotFound
from tusasgi.models import Removal, Upload
from tusasgi.stores import BytesLost, WriteConflict
from tusasgi.stores.due import hours_of
from tusasgi.stores.file import files
from tusasgi.stores.file.directory import Directory, NewRecord
from tusasgi.stores.file.records import (
    COMPLETE,
    Record,
    first_byte_of,
    is_from_before,
    load,
    place_of_completion,
)


class LockedUpload:
    """Locks an upload: whoever else wants to change it, in any process, gets `WriteConflict`.

    The lock is one of the kernel (flock) on the file that has the name of the record. That is
    there from creation to removal, so that locking an upload takes no space on a full disk. A
    record that replaces it is locked before it gets the name; whoever waited for the old one
    finds that it has lost its name, and looks again. Blocks: for worker threads.
    """

    record: Record
    """What is known of the upload, after `read`."""

    def __init__(self, directory: Directory, upload_id: str) -> None:
        self.path = directory.path(upload_id)
        self._directory = directory
        self._id = upload_id
        self._name = f"{self.path}.info"
        self._file = self._lock()
        self._is_as_written = False
        self._change = threading.Lock()  # a flush records how far it came beside the writer

    def _lock(self) -> int:
        while True:
            try:
                file = os.open(self._name, os.O_RDWR)
            except FileNotFoundError:
                self._directory.check_is_there()
                raise UploadNotFound() from None
            try:
                files.lock(file)
            except BaseException:
                os.close(file)
                raise
            if files.is_named(file, self._name):
                return file
            files.close_locked(file)  # it was replaced or removed meanwhile

    def __enter__(self) -> "LockedUpload":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        files.close_locked(self._file)

    # The record.

    @property
    def upload(self) -> Upload:
        return self.record.upload

    def read(self) -> Upload:
        """Return the upload; bytes that a power cut may have taken are cut off for good."""
        written = self._directory.read(self._id, self._file)
        record = self._directory.beside(written, files.stat_of(self.path))
        boot = self._directory.boot
        offset = record.upload.offset
        if is_from_before(record, boot) or self._id in self._directory.uncut:
            self.cut(offset)
        elif record.boot != boot and not record.upload.is_complete:
            record = replace(record, flushed=self._flush_of_earlier_release(offset))
        self._is_as_written = record.boot == boot and record.flushed <= offset
        self._promised = record.flushed
        self.record = replace(record, flushed=offset) if record.flushed > offset else record
        return self.upload

    def _flush_of_earlier_release(self, offset: int) -> int:
        """Flush the bytes of an upload whose record does not say how far they were."""
        with contextlib.suppress(FileNotFoundError):
            file = os.open(self.path, os.O_WRONLY)
            try:
                self._directory.flush(file)
            finally:
                os.close(file)
        return offset

    def check(self, upload: Upload) -> None:
        """Raise `WriteConflict` if the upload went on since it was read: it never goes back."""
        stored = self.upload
        if stored.removal is not None and upload.removal is None:
            raise WriteConflict("the upload is being removed")
        if stored.is_complete and not upload.is_complete:
            raise WriteConflict("the upload is complete")
        if upload.removal == "expired" and stored.expires != upload.expires:
            raise WriteConflict("the upload has got bytes, and a later date with them")

    def put(
        self, upload: Upload, *, flushed: int | None = None, also_due: Set[int] = frozenset()
    ) -> None:
        """Replace the record, durably, with what is to be known of the upload at its offset.

        It is marked for the hours that follow from it, and for those of `also_due`.
        """
        hours = hours_of(upload) | also_due
        for hour in hours:  # the new marks stand before the record that needs them
            self._directory.mark(self._id, hour)
        with self._change:
            before = self.record
            flushed = before.flushed if flushed is None else flushed
            boot, expires = self._directory.boot, upload.expires
            self._replace(Record(upload=upload, flushed=flushed, boot=boot, expires=expires))
        for hour in before.marked_hours - hours:
            self._directory.unmark(self._id, hour)

    def put_if_changed(self, upload: Upload) -> None:
        if upload != self.upload or not self._is_as_written:
            self.put(upload)

    def put_flushed(self, flushed: int) -> None:
        """Record how far the bytes were flushed. May be called beside the one who writes."""
        with self._change:
            boot, expires = self._directory.boot, self.upload.expires
            self._replace(replace(self.record, flushed=flushed, boot=boot, expires=expires))

    def _replace(self, record: Record) -> None:
        after = os.fstat(self._file).st_mtime_ns
        new = self._directory.write_new(record, is_durable=True, after=after)
        try:
            os.rename(new.path, self._name)
        except BaseException:
            files.close_locked(new.file)
            files.unlink_if_there(new.path)
            raise
        self._directory.remember(self._id, new.file, new.record)
        self.record, self._is_as_written = record, True
        before, self._file = self._file, new.file  # the upload stays locked
        files.close_locked(before)
        self._directory.flush_names(self._id)

    def put_complete(self, upload: Upload) -> None:
        """Record that the upload is complete, if nothing else of it is to be recorded anew.

        One byte of the record is written over, which is there or not after a power cut. All bytes
        are on the disk by then; so at the worst it is completed once more.
        """
        text = files.content_of(self._file)
        at = place_of_completion(text)
        if at is None or not _only_completes(upload, self.upload):
            self.put(upload)
            return
        before = os.fstat(self._file).st_mtime_ns
        os.pwrite(self._file, COMPLETE, at)
        files.stamp(self._file, after=before)
        complete = load(text[:at] + COMPLETE + text[at + 1 :])
        self._directory.remember(self._id, self._file, complete)
        for hour in self.record.marked_hours - hours_of(upload):
            self._directory.unmark(self._id, hour)

    def put_removal(self, removal: Removal) -> None:
        """Record, durably and without space for it, that the upload is being removed.

        One byte of the record is written over, which is there or not after a power cut.
        """
        os.pwrite(self._file, first_byte_of(removal), 0)
        self._directory.flush(self._file)

    def clear(self) -> None:
        """Empty a record that cannot be read, so that its marks can be told from foreign files."""
        os.ftruncate(self._file, 0)

    # The bytes.

    def finish(self) -> None:
        """Have all bytes on the disk, and recorded to be there; never makes any."""
        length = self.upload.length
        if length == 0:
            os.close(self._directory.open(self.path, os.O_WRONLY | os.O_CREAT))
        try:
            file = os.open(self.path, os.O_WRONLY)
        except FileNotFoundError:
            self._directory.check_is_there()
            raise BytesLost from None
        try:
            self._check_size(os.fstat(file).st_size)
            self.flush(file)
        finally:
            os.close(file)
        if length is not None and self.record.flushed < length:
            self.put(self.upload, flushed=length)
            return
        if self.record.flushed == 0:  # then no flush of bytes has taken the record along
            self._directory.flush(self._file)
        self._directory.flush_folder(os.path.dirname(self.path))

    def _check_size(self, size: int) -> None:
        if size == self.upload.length or self.upload.length is None:
            return
        if size == self._promised:
            raise WriteConflict("the bytes that were not on the disk yet are to be sent again")
        raise BytesLost

    def flush(self, file: int) -> None:
        """Have the bytes of the file on the disk, or cut it back to those that are.

        The kernel reports only once that it has lost some: the next fsync succeeds.
        """
        try:
            self._directory.flush(file)
        except OSError:
            self.step_back()
            raise

    def step_back(self) -> None:
        """Cut the file back to what was flushed: what is behind that may be lost."""
        self._directory.uncut.add(self._id)
        self.cut(self.record.flushed)

    def cut(self, size: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            file = os.open(self.path, os.O_WRONLY)
            try:
                if os.fstat(file).st_size > size:
                    files.truncate(file, size)
            finally:
                os.close(file)
        self._directory.uncut.discard(self._id)

    def remove(self) -> None:
        """Remove bytes and record, in an order that never leaves bytes without a record."""
        files.unlink_if_there(self.path)
        files.unlink_if_there(self._name)
        self._directory.known.forget(self._id)
        self._directory.flush_folder(os.path.dirname(self._name))


def _only_completes(upload: Upload, stored: Upload) -> bool:
    return replace(stored, is_complete=True) == upload and hours_of(upload) <= hours_of(stored)


def remove_remains(directory: Directory, upload_id: str) -> None:
    """Remove bytes that have no record, which a power cut may have left.

    An upload gets a name only where there are none, so that these are never the bytes of another.
    """
    path = directory.path(upload_id)
    try:
        file = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return
    try:
        files.lock(file)  # from others who remove them
        if not os.path.exists(f"{path}.info") and files.is_named(file, path):
            os.unlink(path)
            directory.flush_folder(os.path.dirname(path))
    finally:
        files.close_locked(file)


def remove_lost(directory: Directory, upload_id: str) -> bool:
    """Remove an upload whose record a power cut has taken, not its name; False if it is there."""
    try:
        with LockedUpload(directory, upload_id) as locked:
            try:
                locked.read()
            except UploadNotFound:
                locked.remove()
            else:
                return False
    except UploadNotFound:
        pass
    return True


def name_record(directory: Directory, upload_id: str, new: NewRecord) -> None:
    """Give a new record its name; raise `FileExistsError` if there is one of that name."""
    path = directory.path(upload_id)
    remove_remains(directory, upload_id)
    try:
        directory.with_folder(path, lambda: os.link(new.path, f"{path}.info"))
    except FileExistsError:
        if not remove_lost(directory, upload_id):
            raise
        os.link(new.path, f"{path}.info")
