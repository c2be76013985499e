"""One append, and one joining, on a filesystem. Everything in it blocks."""

import contextlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tusasgi.errors import OffsetConflict, TusError, UploadNotFound
from tusasgi.models import Renewal, Upload
from tusasgi.stores.fsspec.filesystem import Source, disown
from tusasgi.stores.fsspec.pieces import alone_name, sized_name
from tusasgi.stores.fsspec.state import State
from tusasgi.stores.records import after, during


class Appender:
    """Adds pieces at the end of an upload. `upload` is what is stored by now.

    Pieces that only the end of the append shows to be right are staged under other names, and
    get theirs by `show_staged`. What was staged stays until `clean`.
    """

    def __init__(self, upload: Upload, piece_size: int, renewal: Renewal | None) -> None:
        self.upload = upload
        self.renewal = renewal
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

    def write(self, state: State, data: bytes) -> None:
        """Make a piece of the bytes, at the end of the upload.

        Raises `OffsetConflict` or `WriteConflict` for a second writer.
        """
        self._begin(state)
        self.renew(state)

        def write(name: str) -> None:
            state.write_piece(self.upload.id, name, data)

        self._make_piece(state, write, len(data))

    def stage(self, state: State, data: bytes) -> None:
        """Make a piece that is not seen yet. Raises what `write` raises."""
        self._begin(state)
        self.renew(state)
        self._staged.append(len(data))
        state.files.write(self._staged_path(state, len(self._staged) - 1), data)

    @property
    def has_staged(self) -> bool:
        """True if there are staged pieces that are not shown yet."""
        return self._shown < len(self._staged)

    def show_staged(self, state: State) -> None:
        """Have the next staged piece seen."""
        path, length = self._staged_path(state, self._shown), self._staged[self._shown]
        if state.files.renames and not state.files.creates_alone:
            self.renew(state)  # to move a lot of them takes its time as well

            def move(name: str) -> None:
                state.files.move(path, f"{state.folder(self.upload.id)}/{name}")

            self._make_piece(state, move, length)
        else:
            self.write(state, state.read(Source(path, 0, length)))
        self._shown += 1

    def finish(self, state: State, data: bytes) -> Upload:
        """Make a piece of the last bytes, if there are some; return the upload as it is now."""
        if data:
            self.write(state, data)
        with self._change:
            kept = after(self.upload, self.renewal)
            if self.upload.offset > self._start and kept != self.upload:
                self.upload = state.replace(self.upload, kept)
            return self.upload

    def renew(self, state: State) -> None:
        """Give the record, whatever else it says, a later date if it would soon expire.

        May run beside the other steps.
        """
        if not self._is_begun:
            return
        with self._change:
            renewed = during(self.upload, self.renewal)
            if renewed.expires == self.upload.expires:
                return
            stored = replace(state.record(self.upload.id), offset=self.upload.offset)
            kept = state.replace(stored, replace(stored, expires=renewed.expires))
            self.upload = replace(renewed, version=kept.version)

    def take_back(self, state: State) -> None:
        """Remove everything that was written, at once to the eye: the rest then follows a gap."""
        folder = state.folder(self.upload.id)
        state.files.remove(f"{folder}/{name}" for name in self._names[:1])
        if self._before is not None:
            # A later date stays: the client that sent too much may send again.
            state.replace(self.upload, replace(self._before, expires=self.upload.expires))
        state.files.remove(f"{folder}/{name}" for name in self._names[1:])

    @property
    def is_to_be_cleaned(self) -> bool:
        return bool(self._staged)

    def clean(self, state: State) -> None:
        """Remove what was staged; what fails here is left to the next append."""
        with contextlib.suppress(OSError, TusError):
            state.files.remove(self._staged_path(state, n) for n in range(len(self._staged)))

    # What they are made of.

    def _begin(self, state: State) -> None:
        """Check that the bytes go where the upload ends, and tidy up there."""
        if self._is_begun:
            return
        contents = state.contents(self.upload)
        if not contents.has_record:
            raise UploadNotFound()
        if contents.offset != self.upload.offset:
            raise OffsetConflict(f"the upload is at {contents.offset}", offset=contents.offset)
        self._is_begun = True
        folder = state.folder(self.upload.id)
        # They may not come to follow what is about to be written.
        state.files.remove(f"{folder}/{name}" for name in contents.rest)
        state.merge_small(self.upload.id, contents.run, self._piece_size)

    def _make_piece(self, state: State, make: Callable[[str], None], length: int) -> None:
        """Have a piece made under a name that it gives, with the record as the first one needs."""
        if not self._names:
            with self._change:
                self._keep_record(state)
        start = self.upload.offset
        if replace(self.upload, offset=start + length).is_pending:
            state.mark_now(self.upload.id)
        name = alone_name(start) if state.files.creates_alone else sized_name(start, length)
        make(name)
        self._names.append(name)
        with self._change:
            self.upload = replace(self.upload, offset=start + length)

    def _keep_record(self, state: State) -> None:
        """With the first byte, have the record say what `upload` says."""
        if not state.is_recorded(self.upload):
            self._before = replace(state.record(self.upload.id), offset=self.upload.offset)
            self.upload = state.replace(self._before, self.upload)

    def _staged_path(self, state: State, number: int) -> str:
        return f"{state.folder(self.upload.id)}/{self._staged_prefix}-{number}"


class Joiner:
    """The finished bytes of an upload on their way."""

    def __init__(self, upload_id: str) -> None:
        self._upload_id = upload_id
        self._size = 0
        self._file: Any = None

    def open(self, state: State) -> None:
        self._file = state.files.open_to_write(state.finished_path(self._upload_id))

    def copy(self, state: State, source: Source) -> None:
        data = state.read(source)
        state.files.write_to(self._file, data)
        self._size += len(data)

    def close(self, state: State) -> None:
        state.files.close(self._file)
        self._file = None  # there is nothing to abandon any more
        if state.files.size(state.finished_path(self._upload_id)) != self._size:
            raise OSError("the joined bytes are not as they were written")

    def disown(self) -> None:
        """Have it not finished by whoever collects it, which may be long after. Does not block."""
        if self._file is not None:
            disown(self._file)

    def abandon(self, state: State) -> None:
        if self._file is not None:
            state.files.abandon(self._file)
