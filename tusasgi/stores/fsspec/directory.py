"""The directory of a store on a filesystem: its records and pieces. Everything in it blocks."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from tusasgi.destinations import check_destination
from tusasgi.errors import StoreUnavailable, UploadExists, UploadNotFound
from tusasgi.models import Upload, check_upload_id, is_upload_id
from tusasgi.stores import PartLost, WriteConflict
from tusasgi.stores.due import NOW, hour_of, hours_of, marked_hours
from tusasgi.stores.fsspec.filesystem import FileRange, Filesystem
from tusasgi.stores.fsspec.marks import Marks
from tusasgi.stores.fsspec.pieces import Contents, Piece, merges, piece_of, run_of, sized_name
from tusasgi.stores.records import UNREADABLE, dump_record, load_record

_TRIES = 3  # to list what changes while it is listed
HANDING_OVER, HANDED_OVER = "handing-over", "handed-over"
"""Small files beside the record: a copy was begun, and the bytes are at their destination."""
_REMOVED = b"removed\n"  # instead of a record, while the rest is being removed


class Directory:
    """What a store keeps, as steps each of which happened or did not."""

    def __init__(self, files: Filesystem) -> None:
        self.files = files
        self.marks = Marks(files)

    def folder(self, upload_id: str) -> str:
        return f"{self.files.root}/state/{check_upload_id(upload_id)}"

    def finished_path(self, upload_id: str) -> str:
        return f"{self.files.root}/uploads/{check_upload_id(upload_id)}"

    def destination_path(self, upload: Upload) -> str:
        destination = check_destination("the destination of an upload", upload.destination)
        return f"{self.files.root}/files/{destination}"

    # Records.

    def create(self, upload: Upload) -> Upload:
        path = self._record_path(upload.id)
        if self._is_taken(upload.id):
            raise _taken()
        for hour in hours_of(upload):
            self.marks.add(upload.id, hour)
        record = dump_record(upload)
        if self.files.creates_exclusively:
            try:
                self.files.create(path, record)
            except FileExistsError:
                if self.files.read(path) != record:  # or this very call was repeated
                    raise _taken() from None
        else:
            self._create_by_renaming(upload, path, record)
        return replace(upload, version=_version(record))

    def _create_by_renaming(self, upload: Upload, path: str, record: bytes) -> None:
        # A crash before the renaming leaves a file that only a mark leads to.
        needs_mark = self.files.renames and not hours_of(upload)
        if needs_mark:
            self.marks.add(upload.id, NOW)
        self.files.replace(path, record)
        if needs_mark:
            self.marks.remove(upload.id, NOW)

    def _is_taken(self, upload_id: str) -> bool:
        """Tell whether there is such an upload; go on with its removal if that was begun."""
        try:
            record = self.files.read(self._record_path(upload_id))
        except FileNotFoundError:
            return False
        if record != _REMOVED:
            return True
        self._remove_rest(upload_id)
        return False

    def get(self, upload_id: str) -> Upload:
        upload = self.record(upload_id)
        return replace(upload, offset=self.contents(upload).offset)

    def record(self, upload_id: str) -> Upload:
        """Return the upload, with the offset left at 0."""
        try:
            record = self.files.read(self._record_path(upload_id))
        except FileNotFoundError:
            raise UploadNotFound() from None
        if record == _REMOVED:
            raise UploadNotFound()
        upload = load_record(record, offset=0)
        if upload.id != upload_id:
            raise ValueError("this record is a copy of that of another upload")
        return replace(upload, version=_version(record))

    def is_recorded(self, upload: Upload) -> bool:
        """True if the record says what `upload` says; at no cost if it was just read."""
        if upload.version == _version(dump_record(upload)):
            return True
        return self.record(upload.id) == replace(upload, offset=0)

    def update(self, upload: Upload) -> Upload:
        stored = self.get(upload.id)
        upload = self.replace(stored, replace(upload, offset=stored.offset))
        if NOW not in hours_of(upload):
            self.marks.remove(upload.id, NOW)  # whatever it was for
        return upload

    def replace(self, stored: Upload, upload: Upload) -> Upload:
        """Replace the record and move its marks."""
        # The new marks stand before the record that needs them.
        for hour in hours_of(upload) - hours_of(stored):
            self.marks.add(upload.id, hour)
        record = dump_record(upload)
        self.files.replace(self._record_path(upload.id), record)
        if stored.expires is not None:
            for hour in {hour_of(stored.expires)} - hours_of(upload):
                self.marks.remove(upload.id, hour)
        return replace(upload, version=_version(record))

    def terminate(self, upload_id: str) -> None:
        hours = {NOW}
        with contextlib.suppress(UploadNotFound):
            hours = self._marked_hours(upload_id)
            self.marks.add(upload_id, NOW)
            # From here on it is gone, and whoever comes goes on with its removal.
            self.files.replace(self._record_path(upload_id), _REMOVED)
        self._remove_rest(upload_id)
        for hour in hours:
            self.marks.remove(upload_id, hour)

    def _remove_rest(self, upload_id: str) -> None:
        folder = self.folder(upload_id)
        # A folder is not ours, and would keep a removal from its end for ever.
        names = {e.name for e in self.files.entries(folder) if e.is_file} - {"record"}
        self.files.remove(f"{folder}/{name}" for name in names)
        self.files.remove([self.finished_path(upload_id)])
        self.files.remove([f"{folder}/record"])
        self.files.remove_folder(folder)

    def _record_path(self, upload_id: str) -> str:
        return f"{self.folder(upload_id)}/record"

    # Bytes.

    def contents(self, upload: Upload) -> Contents:
        """Return where the bytes are, also while they are merged, joined or handed over."""
        if upload.is_handed_over:
            return _handed_over(upload)
        if upload.destination is not None and self._is_moved(upload):
            return _handed_over(upload)
        for _ in range(_TRIES):
            contents = self.listed(upload.id)
            if contents.offset == upload.length or not contents.is_doubtful:
                break
            finished = self.files.size(self.finished_path(upload.id))
            if finished is not None and finished == upload.length:
                return replace(contents, finished=finished)
            if not contents.has_gap:
                break
        return contents

    def _is_moved(self, upload: Upload) -> bool:
        """True if the bytes are at their destination and nowhere else."""
        listed = self.listed(upload.id)
        if listed.is_handed_over:
            return True
        is_here = listed.run or self.files.size(self.finished_path(upload.id)) is not None
        return not is_here and self.files.size(self.destination_path(upload)) == upload.length

    def listed(self, upload_id: str) -> Contents:
        entries = [e for e in self.files.entries(self.folder(upload_id)) if e.is_file]
        pieces = [piece for entry in entries if (piece := piece_of(entry.name, entry.size))]
        run = run_of(pieces)
        used = {piece.name for piece in run} | {"record", HANDING_OVER, HANDED_OVER}
        names = {entry.name for entry in entries}
        return Contents(
            run=run,
            rest=[entry.name for entry in entries if entry.name not in used],
            end=max((piece.stop for piece in pieces), default=0),
            has_record=any(
                entry.name == "record" and entry.size != len(_REMOVED) for entry in entries
            ),
            is_being_handed_over=HANDING_OVER in names,
            is_handed_over=HANDED_OVER in names,
        )

    def write_piece(self, upload_id: str, name: str, data: bytes) -> None:
        """Write a piece; `WriteConflict` if somebody else has written where it starts."""
        path = f"{self.folder(upload_id)}/{name}"
        if not self.files.creates_exclusively:
            return self.files.write(path, data)
        try:
            self.files.create(path, data)
        except FileExistsError:
            if self.files.read(path) != data:  # or this very call was repeated
                raise WriteConflict("another request has written to this upload") from None

    def merge_small(self, upload_id: str, run: list[Piece], size: int) -> None:
        """Make pieces of at most `size` bytes of many small ones.

        A piece is removed when what it went into was found, and not before.
        """
        folder = self.folder(upload_id)
        for group in merges(run, size):
            start, stop = group[0].start, group[-1].stop
            paths = [f"{folder}/{piece.name}" for piece in group]
            merged = Piece(sized_name(start, stop - start), start, stop)
            self.files.write(f"{folder}/{merged.name}", b"".join(self.files.read_all(paths)))
            if merged in self.listed(upload_id).run:
                self.files.remove(paths)

    def sources(self, upload_id: str) -> list[FileRange]:
        """Return where the bytes of an upload are, in their order."""
        upload = self.record(upload_id)
        return self._sources_in(upload, self.contents(upload))

    def _sources_in(self, upload: Upload, contents: Contents) -> list[FileRange]:
        if contents.finished is not None:
            is_away = contents.is_handed_over
            path = self.destination_path(upload) if is_away else self.finished_path(upload.id)
            return [FileRange(path, 0, contents.finished)]
        folder = self.folder(upload.id)
        return [FileRange(f"{folder}/{piece.name}", 0, piece.size) for piece in contents.run]

    def sources_between(self, upload_id: str, start: int, stop: int) -> list[FileRange]:
        """Return the same for some of the bytes."""
        found: list[FileRange] = []
        position = 0
        for source in self.sources(upload_id):
            first, last = max(start - position, 0), min(stop - position, source.size)
            if first < last:
                found.append(FileRange(source.path, first, last))
            position += source.size
        return found

    def read(self, source: FileRange) -> bytes:
        """Return these bytes; `FileNotFoundError` if they are somewhere else by now."""
        data = self.files.read(source.path, source.start, source.stop)
        if len(data) != source.size:
            raise FileNotFoundError
        return data

    def sources_to_join(self, upload_id: str) -> list[FileRange] | None:
        """Return what `finish` has to join; None if that is done, or not all bytes are here."""
        upload = self.record(upload_id)
        contents = self.contents(upload)
        if contents.finished is not None or contents.offset != upload.length:
            return None
        return self._sources_in(upload, contents)

    def sources_of_parts(self, upload: Upload) -> list[FileRange] | None:
        """Return what `concat` has to join; None if that is done."""
        if self.get(upload.id).offset == upload.length:
            return None
        try:
            sources = [source for part in upload.parts for source in self.sources(part)]
        except UploadNotFound:
            raise PartLost from None
        if sum(source.size for source in sources) != upload.length:
            raise PartLost  # another upload has taken the id of one
        return sources

    def merge(self, upload_id: str, sources: list[FileRange]) -> bool:
        """Have the filesystem itself join the sources, if it can; return whether it did."""
        return self.files.merge(sources, self.finished_path(upload_id))

    def remove_joined(self, upload_id: str) -> None:
        """Remove the pieces if all their bytes are joined: the last one last, for `contents`."""
        upload = self.record(upload_id)
        names = self.listed(upload_id).names
        if not names or upload.length is None:
            return
        if self.files.size(self.finished_path(upload_id)) != upload.length:
            return
        folder = self.folder(upload_id)
        pieces = [name for name in names if name[0].isdecimal()]
        last = pieces[-1:]
        self.files.remove(f"{folder}/{name}" for name in names if name not in last)
        self.files.remove(f"{folder}/{name}" for name in last)

    def ids(self) -> list[str]:
        """Return the ids of all uploads, in their order."""
        entries = self.files.entries(f"{self.files.root}/state")
        return sorted(one.name for one in entries if one.is_folder and is_upload_id(one.name))

    # What a sweeper has to look at.

    def _marked_hours(self, upload_id: str) -> set[int]:
        try:
            return marked_hours(self.record(upload_id).expires)
        except UNREADABLE:
            return {NOW}  # a mark of another hour is found without its upload, and removed then

    def due_hours(self, now: datetime) -> list[int]:
        return self.marks.hours(now)

    def remove_hour_if_empty(self, hour: int) -> None:
        self.marks.remove_hour_if_empty(hour)

    def due_uploads(self, hour: int, now: datetime) -> list[str]:
        return [name for name in self.marks.names(hour) if self._is_worth_a_look(name, hour, now)]

    def _is_worth_a_look(self, upload_id: str, hour: int, now: datetime) -> bool:
        try:
            return self._is_due(upload_id, hour, now)
        except StoreUnavailable:
            raise
        except Exception:  # whoever looks after it finds out why, and goes on with others
            return True

    def _is_due(self, upload_id: str, hour: int, now: datetime) -> bool:
        try:
            upload = self.get(upload_id)
        except UploadNotFound:
            return self.marks.is_left_behind(upload_id, hour, now)
        if hour == NOW:
            return True  # only whoever holds its lock can know whether it is
        if hour in hours_of(upload):
            return upload.is_expired(now) and not upload.is_due  # it was found before
        self.marks.remove(upload_id, hour)  # it was finished, or has another mark by now
        return False


def steps(sources: list[FileRange], size: int) -> Iterator[FileRange]:
    """Cut sources so that each has at most `size` bytes."""
    for source in sources:
        for start in range(source.start, source.stop, size):
            yield FileRange(source.path, start, min(start + size, source.stop))


def _handed_over(upload: Upload) -> Contents:
    return Contents(
        run=[], rest=[], end=0, has_record=True, is_handed_over=True, finished=upload.length
    )


def _taken() -> UploadExists:
    return UploadExists("an upload with this id exists already")


def _version(record: bytes) -> str:
    return hashlib.sha256(record).hexdigest()[:32]
