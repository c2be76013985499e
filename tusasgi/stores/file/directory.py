"""The directory of a file store: where what is, whether it is there, and the marks for sweepers."""

import contextlib
import os
import re
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, TypeVar

from tusasgi.errors import StoreUnavailable, UploadNotFound
from tusasgi.models import check_upload_id, is_upload_id
from tusasgi.stores.due import NOW, due_hours, hours_of
from tusasgi.stores.file import files, records
from tusasgi.stores.file.known import KnownRecords
from tusasgi.stores.file.records import Record
from tusasgi.stores.records import UNREADABLE

T = TypeVar("T")

_TRIES = 10
_RANDOM = re.compile(r"[0-9a-f]{32}")
_NO_FILE = (IsADirectoryError, NotADirectoryError)
"""What stands where a record should be is something else, and none of ours."""


class NewRecord(NamedTuple):
    """A record that has no name yet: where it is, the open and locked file, what it says."""

    path: str
    file: int
    record: Record


class Directory:
    """The directory of a store, as all its uploads share it. Blocks: for worker threads."""

    def __init__(self, root: str, *, flushes: bool = True) -> None:
        self.root = root
        self.flushes = flushes
        """False if what a power cut takes is of no interest: then nothing waits for the disk."""
        self.uncut: set[str] = set()
        """Uploads whose bytes behind `flushed` are lost, in a file that could not be cut."""
        self.doubtful: set[str] = set()
        """Uploads whose record may be another one after a power cut: it is to be written anew."""
        self.known = KnownRecords()
        self.is_recovered = False
        """True once this process has looked for what a power cut may have left."""
        self._was_there = False

    def path(self, upload_id: str) -> str:
        check_upload_id(upload_id)
        # The last characters: the first ones are a time stamp in some kinds of uuid.
        return f"{self.root}/uploads/{upload_id[-2:]}/{upload_id}"

    def record_path(self, upload_id: str) -> str:
        return f"{self.path(upload_id)}.info"

    # Records.

    @property
    def boot(self) -> str | None:
        return records.boot_id()

    def load(self, upload_id: str) -> Record:
        """Return what is known of an upload, by its record and by its bytes."""
        path = self.path(upload_id)
        record = self._written(upload_id)
        data = files.stat_of(path)
        if data is None:  # a removal takes the bytes before the record: is it one?
            record = self._written(upload_id)
        return self.beside(record, data)

    def recall(self, upload_id: str) -> Record | None:
        """Return the same if that needs no reading, and so no thread; else None."""
        if upload_id not in self.known or upload_id in self.doubtful:
            return None
        path = self.path(upload_id)
        try:
            record = self.known.get(upload_id, os.stat(f"{path}.info"))
            data = files.stat_of(path)
            if data is None:  # as in `load`
                record = self.known.get(upload_id, os.stat(f"{path}.info"))
        except OSError:
            return None  # whoever reads it finds out what that means
        return None if record is None else self.beside(record, data)

    def remember(self, upload_id: str, file: int, record: Record) -> None:
        """Spare the next reader a record that was just written."""
        self.known.keep(upload_id, os.fstat(file), record)

    def beside(self, record: Record, data: os.stat_result | None) -> Record:
        """Return what a record says beside this file of bytes."""
        boot = None if record.upload.id in self.uncut else self.boot
        return records.beside(record, data, boot)

    def read(self, upload_id: str, file: int) -> Record:
        """Return what an open record says; its bytes are not in it."""
        found = os.fstat(file)
        record = self.known.get(upload_id, found)
        if record is None:
            record = records.load(files.content_of(file))
            self.known.keep(upload_id, found, record)
        self._was_there = True
        return record

    def _written(self, upload_id: str) -> Record:
        try:
            file = os.open(self.record_path(upload_id), os.O_RDONLY)
        except FileNotFoundError:
            self.check_is_there()
            raise UploadNotFound() from None
        try:
            return self.read(upload_id, file)
        finally:
            os.close(file)

    def write_new(self, record: Record, *, is_durable: bool, after: int = 0) -> NewRecord:
        """Write a record that has no name yet, and have it on the disk if it is to be durable.

        `after` is the time of the one that it replaces, in nanoseconds.
        """
        new, file = self.open_new(record.upload.id)  # locked, as the record that it replaces is
        try:
            files.write_all(file, [records.dump(record)], 0)
            files.stamp(file, after=after)
            if is_durable:
                self.flush(file)
        except BaseException:
            files.close_locked(file)
            files.unlink_if_there(new)
            raise
        return NewRecord(new, file, records.as_read(record))

    def flush_names(self, upload_id: str) -> None:
        """Have the names of bytes and record on the disk."""
        try:
            self.flush_folder(os.path.dirname(self.path(upload_id)))
        except OSError:
            self.doubtful.add(upload_id)
            raise
        self.doubtful.discard(upload_id)

    def open_new(self, upload_id: str) -> tuple[str, int]:
        """Make a file for something that is not in its place yet; return its path and the file.

        It is locked, so that no sweeper takes it for one that was left behind.
        """
        name = check_upload_id(upload_id)
        for _ in range(_TRIES):  # a sweeper whose clock is ahead may come before the lock
            new = f"{self.root}/new/{name}.{uuid.uuid4().hex}"
            file = self.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            is_ours = False
            try:
                is_ours = files.lock_named(file, new)
            finally:
                if not is_ours:
                    os.close(file)
            if is_ours:
                return new, file
        raise StoreUnavailable("files that are written here are removed; try again")

    # The disk.

    def flush(self, file: int) -> None:
        """Have what was written to an open file on the disk, if anything is to be."""
        if self.flushes:
            os.fsync(file)

    def flush_folder(self, folder: str) -> None:
        """Have the names in a folder on the disk, if anything is to be."""
        if self.flushes:
            files.flush_folder(folder)

    # Folders, and files in them.

    def check_is_there(self) -> None:
        """Raise `StoreUnavailable` if the store was here and is not, as when a disk is unmounted.

        Its uploads are not unknown then, and nothing may be made in its place.
        """
        was_there = self._was_there  # before looking: another thread may make it afterwards
        if os.path.isdir(os.path.join(self.root, "uploads")):
            self._was_there = True
        elif was_there:
            raise StoreUnavailable("the folder of the store is not there for now; try again")

    def open(self, path: str, flags: int) -> int:
        """Open a file that is made if it is missing, and its folder too."""
        file = self.with_folder(path, lambda: os.open(path, flags, 0o666))
        try:
            self.give_away(file)
        except BaseException:
            os.close(file)
            raise
        return file

    def with_folder(self, path: str, make: Callable[[], T]) -> T:
        """Make something of this path, and its folder if that is missing."""
        # Again: a sweeper may remove the folder of an hour when it is empty. But not for ever:
        # something else may be missing.
        for _ in range(_TRIES):
            try:
                return make()
            except FileNotFoundError:
                self.make_folder(os.path.dirname(path))
        return make()

    def make_folder(self, folder: str) -> None:
        """Make a folder and those above it, each with its name on the disk."""
        self.check_is_there()
        parent = os.path.dirname(folder)
        if not os.path.isdir(parent):
            self.make_folder(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
            self.give_away(folder)
        self.flush_folder(parent)

    def give_away(self, made: int | str) -> None:
        """Let what root makes (a sweep by cron) belong to whom the store belongs to."""
        if os.geteuid() == 0:
            with contextlib.suppress(FileNotFoundError):  # root is making it just now
                owner = os.stat(self.root)
                if owner.st_uid != 0:
                    os.chown(made, owner.st_uid, owner.st_gid)

    # All uploads, folder by folder, and within a folder by their ids.

    def folders(self, after: str | None = None) -> list[str]:
        """Return the names of the folders of uploads, from that of an id on."""
        names = sorted(files.names_in(os.path.join(self.root, "uploads")))
        return names if after is None else [name for name in names if name >= after[-2:]]

    def ids_in(self, folder: str, after: str | None = None) -> list[str]:
        """Return the ids of the uploads in a folder, behind that one if it is one of them."""
        names = files.files_in(os.path.join(self.root, "uploads", folder))
        ids = sorted(name.removesuffix(".info") for name in names if name.endswith(".info"))
        if after is not None and after[-2:] == folder:
            ids = [upload_id for upload_id in ids if upload_id > after]
        return [upload_id for upload_id in ids if is_upload_id(upload_id)]

    # Marks: which uploads a sweeper has to look at, and from which hour on. They are on the disk
    # when the system puts them there; `recovery` makes anew what a power cut has taken.

    def hour_path(self, hour: int) -> str:
        return f"{self.root}/due/{hour}"

    def mark_path(self, upload_id: str, hour: int) -> str:
        return f"{self.hour_path(hour)}/{upload_id}"

    def mark(self, upload_id: str, hour: int, record: str | None = None) -> None:
        """Mark an upload that is there, or is about to be by a `record` that has no name yet.

        A mark is one more name of the record as it is now: it takes no space, and is as old.
        """
        self._mark(record or self.record_path(upload_id), upload_id, hour)

    def _mark(self, source: str, upload_id: str, hour: int) -> None:
        mark = self.mark_path(upload_id, hour)
        try:
            self.with_folder(mark, lambda: os.link(source, mark))
        except FileExistsError:
            pass
        except FileNotFoundError:
            if os.path.exists(source):
                raise  # else it was removed meanwhile, and needs no mark

    def unmark(self, upload_id: str, hour: int) -> None:
        files.unlink_if_there(self.mark_path(upload_id, hour))

    def due_hours(self, now: datetime) -> list[int]:
        self.check_is_there()
        return due_hours(files.names_in(os.path.join(self.root, "due")), now)

    def due_uploads(self, hour: int, now: datetime) -> list[str]:
        names = files.files_in(self.hour_path(hour))
        return [name for name in names if is_upload_id(name) and self._is_due(name, hour, now)]

    def _is_due(self, upload_id: str, hour: int, now: datetime) -> bool:
        try:
            upload = self.load(upload_id).upload
        except UploadNotFound:
            return self._is_left_behind(upload_id, hour, now)
        except (*UNREADABLE, *_NO_FILE):
            return True  # whoever looks after it finds out why, and goes on with others
        if hour == NOW:
            return True  # only whoever holds its lock can know whether it is
        if upload.is_due:  # then it was found before, unless the disk was too full to mark it
            return not os.path.exists(self.mark_path(upload_id, NOW))
        hours = hours_of(upload)
        if hour in hours:
            return upload.is_expired(now)
        with files.unless_full():  # else it keeps the old mark
            for later in hours:  # bytes have moved its date, or it was finished and has none
                self.mark(upload_id, later)
            self.unmark(upload_id, hour)
        return False

    def _is_left_behind(self, upload_id: str, hour: int, now: datetime) -> bool:
        """A mark without a record: a creation that is under way, or the remains of a crash."""
        mark = self.mark_path(upload_id, hour)
        if not files.is_left_behind(mark, now) or not _is_mark_of(upload_id, mark):
            return False
        if hour != NOW:
            with files.unless_full():
                self._mark(mark, upload_id, NOW)  # the mark that a removal takes away last
                self.unmark(upload_id, hour)
        return True

    def forget_hour(self, hour: int) -> None:
        """Remove the folder of an hour that is over. That of `NOW` is wanted again and again."""
        if hour != NOW:
            files.remove_if_empty(self.hour_path(hour))

    def remove_left_behind(self, now: datetime) -> None:
        folder = os.path.join(self.root, "new")
        for name in files.files_in(folder):
            path = os.path.join(folder, name)
            if _is_new_name(name) and files.is_left_behind(path, now):
                files.unlink_unless_locked(path)


def _is_mark_of(upload_id: str, path: str) -> bool:
    """True for what `Directory.mark` has named, or an earlier release has made: an empty file."""
    try:
        with open(path, "rb") as file:
            return records.load(file.read()).upload.id == upload_id
    except UploadNotFound:
        return True  # what a power cut has left of a record
    except (FileNotFoundError, *UNREADABLE):
        return False  # it is gone, or somebody else's


def _is_new_name(name: str) -> bool:
    """True for what `Directory.open_new` may have named."""
    upload_id, _, rest = name.partition(".")
    return is_upload_id(upload_id) and _RANDOM.fullmatch(rest) is not None
