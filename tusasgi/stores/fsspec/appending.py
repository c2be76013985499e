"""One append on a filesystem: its steps. Everything in it blocks."""

import contextlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from tusasgi.errors import OffsetConflict, TusError, UploadNotFound
from tusasgi.models import Upload
from tusasgi.stores.due import NOW
from tusasgi.stores.fsspec.directory import Directory
from tusasgi.stores.fsspec.filesystem import FileRange
from tusasgi.stores.fsspec.pieces import exclusive_name, sized_name
from tusasgi.stores.renewal import renewed_if_due


class Appender:
    """Adds pieces at the end of an upload. `upload` is what is stored by now.

    Pieces that only the end of the append shows to be right are staged under other names, and
    get theirs by `show_staged`. What was staged stays until `clean`.
    """

    def __init__(self, upload: Upload, piece_size: int, clock: Callable[[], datetime]) -> None:
        self.upload = upload
        self._clock = clock
        self._start = upload.offset
        self._piece_size = piece_size
        self._before: Upload | None = None  # what the record said, if it was replaced
        self._is_begun = False
        self._names: list[str] = []
        self._staged_prefix = f"staged-{uuid.uuid4().hex}"
        self._staged: list[int] = []  # their sizes
        self._shown = 0
        self._change = threading.Lock()  # of the record: it gets a later date beside the steps

    # Steps.

    def write(self, directory: Directory, data: bytes) -> None:
        """Make a piece of the bytes, at the end of the upload.

        Raises `OffsetConflict` or `WriteConflict` for a second writer.
        """
        self._begin(directory)
        self.renew(directory)

        def write(name: str) -> None:
            directory.write_piece(self.upload.id, name, data)

        self._make_piece(directory, write, len(data))

    def stage(self, directory: Directory, data: bytes) -> None:
        """Make a piece that is not seen yet. Raises what `write` raises."""
        self._begin(directory)
        self.renew(directory)
        self._staged.append(len(data))
        directory.files.write(self._staged_path(directory, len(self._staged) - 1), data)

    @property
    def has_staged(self) -> bool:
        """True if there are staged pieces that are not shown yet."""
        return self._shown < len(self._staged)

    def show_staged(self, directory: Directory) -> None:
        """Have the next staged piece seen."""
        path, length = self._staged_path(directory, self._shown), self._staged[self._shown]
        if directory.files.renames and not directory.files.creates_exclusively:
            self.renew(directory)  # to move a lot of them takes its time as well

            def move(name: str) -> None:
                directory.files.move(path, f"{directory.folder(self.upload.id)}/{name}")

            self._make_piece(directory, move, length)
        else:
            self.write(directory, directory.read(FileRange(path, 0, length)))
        self._shown += 1

    def finish(self, directory: Directory, data: bytes) -> Upload:
        """Make a piece of the last bytes, if there are some; return the upload as it is now."""
        if data:
            self.write(directory, data)
        with self._change:
            kept = self.upload.renewed(self._clock())
            if self.upload.offset > self._start and kept.can_expire and kept != self.upload:
                self.upload = directory.replace(self.upload, kept)
            return self.upload

    def renew(self, directory: Directory) -> None:
        """Give the record, whatever else it says, a later date if it would soon expire.

        May run beside the other steps.
        """
        if not self._is_begun:
            return
        with self._change:
            renewed = renewed_if_due(self.upload, self._clock())
            if renewed.expires == self.upload.expires:
                return
            stored = replace(directory.record(self.upload.id), offset=self.upload.offset)
            kept = directory.replace(stored, replace(stored, expires=renewed.expires))
            self.upload = replace(renewed, version=kept.version)

    def take_back(self, directory: Directory) -> None:
        """Remove everything that was written, at once to the eye: the rest then follows a gap."""
        folder = directory.folder(self.upload.id)
        directory.files.remove(f"{folder}/{name}" for name in self._names[:1])
        if self._before is not None:
            # A later date stays: the client that sent too much may send again.
            directory.replace(self.upload, replace(self._before, expires=self.upload.expires))
        directory.files.remove(f"{folder}/{name}" for name in self._names[1:])

    @property
    def is_to_be_cleaned(self) -> bool:
        return bool(self._staged)

    def clean(self, directory: Directory) -> None:
        """Remove what was staged; what fails here is left to the next append."""
        with contextlib.suppress(OSError, TusError):
            directory.files.remove(
                self._staged_path(directory, n) for n in range(len(self._staged))
            )

    # What they are made of.

    def _begin(self, directory: Directory) -> None:
        """Check that the bytes go where the upload ends, and tidy up there."""
        if self._is_begun:
            return
        contents = directory.contents(self.upload)
        if not contents.has_record:
            raise UploadNotFound()
        if contents.offset != self.upload.offset:
            raise OffsetConflict(f"the upload is at {contents.offset}", offset=contents.offset)
        self._is_begun = True
        folder = directory.folder(self.upload.id)
        # They may not come to follow what is about to be written.
        directory.files.remove(f"{folder}/{name}" for name in contents.rest)
        directory.merge_small(self.upload.id, contents.run, self._piece_size)

    def _make_piece(self, directory: Directory, make: Callable[[str], None], length: int) -> None:
        """Have a piece made under a name that it gives, with the record as the first one needs."""
        if not self._names:
            with self._change:
                self._keep_record(directory)
        start = self.upload.offset
        if replace(self.upload, offset=start + length).is_pending:
            directory.marks.add(self.upload.id, NOW)
        name = (
            exclusive_name(start)
            if directory.files.creates_exclusively
            else sized_name(start, length)
        )
        make(name)
        self._names.append(name)
        with self._change:
            self.upload = replace(self.upload, offset=start + length)

    def _keep_record(self, directory: Directory) -> None:
        """With the first byte, have the record say what `upload` says."""
        if not directory.is_recorded(self.upload):
            self._before = replace(directory.record(self.upload.id), offset=self.upload.offset)
            self.upload = directory.replace(self._before, self.upload)

    def _staged_path(self, directory: Directory, number: int) -> str:
        return f"{directory.folder(self.upload.id)}/{self._staged_prefix}-{number}"
