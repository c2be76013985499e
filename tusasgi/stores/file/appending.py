"""One append to a file of the file store: its steps, each a call of its own in a worker thread."""

import contextlib
import os
from collections.abc import Callable
from datetime import datetime

from tusasgi.errors import OffsetConflict
from tusasgi.models import Upload
from tusasgi.stores import BytesLost, PartLost
from tusasgi.stores.due import NOW, hours_of
from tusasgi.stores.file import files
from tusasgi.stores.file.directory import Directory
from tusasgi.stores.file.locked import LockedUpload
from tusasgi.stores.gathering import Chunk

_FLUSH_EVERY = 32 * 1024 * 1024  # so many bytes may be lost when the power goes, and some more


class Appender:
    """Adds bytes at the end of an upload, which is locked from the first ones to `close`.

    Bytes that only the end of the append shows to be right are staged in a file of their own, and
    copied from it. Every step may fail, and then `close` is the last one. `is_open` is true if
    there is something to close.
    """

    def __init__(
        self,
        directory: Directory,
        upload: Upload,
        *,
        clock: Callable[[], datetime],
        is_durable: bool = False,
    ) -> None:
        self.is_open = False
        self._directory = directory
        self._upload = upload
        self._is_durable = is_durable
        self._clock = clock
        self._offset = upload.offset  # where the bytes of the upload end
        self._flushed = 0  # where the last flush was begun
        self._has_lost = False
        self._is_recorded = False
        self._staged: int | None = None
        self._staged_size = 0

    # Steps.

    def open(self) -> None:
        """Lock the upload and make ready to write at its end, as the only writer.

        `OffsetConflict`: somebody else was there before.
        """
        self._locked = LockedUpload(self._directory, self._upload.id)
        try:
            self._before = self._locked.read()
            self._locked.check(self._upload)
            if self._before.offset != self._offset:
                at = self._before.offset
                raise OffsetConflict(f"the upload is at {at}", offset=at)
            self._flushed = self._locked.record.flushed
            self._data = self._open_data()
        except BaseException:
            self._locked.close()
            raise
        self.is_open = True

    def write(self, chunks: list[Chunk]) -> None:
        """Write the chunks where the last ones ended."""
        if not self.is_open:
            self.open()
        self._keep_record(sum(map(len, chunks)))
        self._offset = files.write_all(self._data, chunks, self._offset)
        self._renew()

    def stage(self, chunks: list[Chunk]) -> None:
        """Write the chunks to a file from which they are copied when all have come."""
        if not self.is_open:
            self.open()
        if self._staged is None:
            self._staged_path, self._staged = self._directory.open_new(self._upload.id)
        self._staged_size = files.write_all(self._staged, chunks, self._staged_size)
        self._renew()

    @property
    def is_to_be_flushed(self) -> bool:
        if self._has_lost:  # the next flush would succeed, and what was lost would count as there
            return False
        return self._directory.flushes and self._offset - self._flushed >= _FLUSH_EVERY

    def flush(self) -> None:
        """Have on the disk what is there by now. May run beside the other steps."""
        self._flushed = until = self._offset
        try:
            self._directory.flush(self._data)
        except OSError:
            self._has_lost = True
            raise
        with files.unless_full():  # it counts from the next one
            self._locked.put_flushed(until)

    @property
    def has_staged(self) -> bool:
        """True if there are staged bytes that are not in the upload yet."""
        return self._copied < self._staged_size

    def copy_staged(self, most: int) -> None:
        """Take so many staged bytes into the upload, or all that are left."""
        assert self._staged is not None
        if self._copied == 0:
            self._directory.flush(self._staged)  # what the disk did not take must not be copied
        self._copy(self._staged, self._copied, min(most, self._staged_size - self._copied))
        self._renew()

    def copy_part(self, source: str, start: int, count: int) -> int:
        """Take bytes of another file into the upload; return how many."""
        try:
            file = os.open(source, os.O_RDONLY)
        except FileNotFoundError:
            raise PartLost from None
        try:
            return self._copy(file, start, count)
        finally:
            os.close(file)

    def finish(self, chunks: list[Chunk]) -> Upload:
        """Write the last chunks, keep what came as it was promised, and let go of the upload.

        Returns the upload as it is now.
        """
        if chunks:
            self.write(chunks)
        upload = self._upload.at(self._offset)
        if self._offset > self._upload.offset:
            if self.is_to_be_flushed:
                self.flush()
            upload = self._keep(upload)
        self.close()
        return upload

    def take_back(self) -> None:
        """Leave the upload as it was, but for a later date of expiry."""
        if self.is_open and self._is_recorded:
            files.truncate(self._data, self._upload.offset)
            self._put_record_back()

    def close(self) -> None:
        """Let go of everything. What could not be flushed is cut off before."""
        if not self.is_open:
            return
        self.is_open = False
        try:
            if self._is_recorded and os.fstat(self._data).st_size == self._upload.offset:
                with contextlib.suppress(OSError):  # as on a disk that is full
                    self._put_record_back()
        finally:
            try:
                self._close_files()
            finally:
                self._locked.close()

    # What they are made of.

    def _open_data(self) -> int:
        """Open the file of the bytes, and make it where there are none yet."""
        if self._offset == 0:
            return self._directory.open(self._locked.path, os.O_RDWR | os.O_CREAT)
        try:
            return os.open(self._locked.path, os.O_RDWR)
        except FileNotFoundError:
            raise BytesLost from None  # somebody has removed it without asking for the lock

    @property
    def _copied(self) -> int:
        return self._offset - self._upload.offset

    def _copy(self, source: int, start: int, count: int) -> int:
        self._keep_record(count)
        copied = files.copy_bytes(
            source, self._data, position=start, offset=self._offset, count=count
        )
        if copied == 0:
            raise PartLost  # shorter than it was: it cannot be the same file
        self._offset += copied
        return copied

    def _keep_record(self, size: int) -> None:
        """Have the record say what `upload` says, and the upload be found when it has to be."""
        if not self._is_recorded:
            self._is_recorded = True
            self._locked.put_if_changed(self._upload)
            self._mark_if_sooner()
        length = self._upload.length
        is_end = length is not None and self._offset + size >= length
        if is_end and not self._upload.is_open:
            self._directory.mark(self._upload.id, NOW)

    def _mark_if_sooner(self) -> None:
        """Mark the upload for the date that its bytes give it, if that is sooner than it was.

        A sweep finds only later ones by the marks that are there.
        """
        if self._upload.window is None:
            return
        before = self._before.expires
        renewed = self._upload.at(self._offset).renewed(self._clock())
        if renewed.expires is not None and (before is None or renewed.expires < before):
            for hour in hours_of(renewed):
                self._directory.mark(self._upload.id, hour)

    def _put_record_back(self) -> None:
        start = self._upload.offset
        known = self._locked.record
        if known.upload.at(start) != self._before or known.flushed > start:
            self._locked.put(self._before, flushed=min(known.flushed, start))

    def _renew(self) -> None:
        """Have the file tell when bytes came last: the date of the upload follows from it."""
        if self._upload.window is not None:
            files.set_written(self._data, self._clock())

    def _keep(self, upload: Upload) -> Upload:
        self._renew()
        written = os.fstat(self._data)
        if written.st_nlink == 0:
            raise BytesLost  # somebody has removed the file without asking for the lock
        upload = upload.renewed(files.written_at(written))
        if self._is_durable:
            self._locked.flush(self._data)
            self._locked.put(upload, flushed=self._offset)
        return upload

    def _close_files(self) -> None:
        if self._staged is not None:
            files.close_locked(self._staged)
            files.unlink_if_there(self._staged_path)
        try:
            os.close(self._data)
        except OSError:
            self._has_lost = True  # a file system that writes late says so at the end
            raise
        finally:
            if self._has_lost:
                self._locked.step_back()
