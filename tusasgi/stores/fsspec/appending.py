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
from tusasgi.stores.records import during


class Appending:
    """An append whose bytes are seen as they come. `upload` is what is stored by now."""

    def __init__(self, upload: Upload, piece_size: int, renewal: Renewal | None) -> None:
        self.upload = upload
        self._piece_size = piece_size
        self.renewal = renewal
        self._before: Upload | None = None  # what the record said, if it was replaced
        self._is_begun = False
        self._names: list[str] = []
        self._change = threading.Lock()  # of the record: it gets a later date beside the steps

    @property
    def has_remains(self) -> bool:
        """True while `clean` has something to do."""
        return False

    def put(self, state: State, data: bytes, is_last: bool) -> None:
        """Store the next bytes. Raises `OffsetConflict` or `WriteConflict` for a second writer."""
        self._begin(state)
        self.renew(state)
        self._show(state, data)

    def show_more(self, state: State) -> bool:
        """Let more of what is stored be seen; return whether there may be still more."""
        return False

    def renew(self, state: State) -> None:
        """Give the record, whatever else it says, a later date if it would soon expire.

        May run beside `put` and `show_more`.
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
        """Remove everything that was stored, at once to the eye: the rest then follows a gap."""
        folder = state.folder(self.upload.id)
        state.files.remove(f"{folder}/{name}" for name in self._names[:1])
        if self._before is not None:
            # A later date stays: the client that sent too much may send again.
            state.replace(self.upload, replace(self._before, expires=self.upload.expires))
        state.files.remove(f"{folder}/{name}" for name in self._names[1:])

    def clean(self, state: State) -> None:
        """Remove what was stored and not shown; what fails here is left to the next append."""

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

    def _show(self, state: State, data: bytes) -> None:
        """Make a piece of the bytes, at the end of the upload."""

        def write(name: str) -> None:
            state.write_piece(self.upload.id, name, data)

        self._make_piece(state, write, len(data))

    def _make_piece(self, state: State, make: Callable[[str], None], length: int) -> None:
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


class Staged(Appending):
    """An append whose bytes are seen when all of them have come."""

    def __init__(self, upload: Upload, piece_size: int, renewal: Renewal | None) -> None:
        super().__init__(upload, piece_size, renewal)
        self._prefix = f"staged-{uuid.uuid4().hex}"
        self._lengths: list[int] = []
        self._shown = 0
        self._last = b""

    @property
    def has_remains(self) -> bool:
        return bool(self._lengths)

    def put(self, state: State, data: bytes, is_last: bool) -> None:
        self._begin(state)
        self.renew(state)
        if is_last:  # most have one piece, which needs no detour
            self._last = data
            return
        self._lengths.append(len(data))
        state.files.write(self._path(state, len(self._lengths) - 1), data)

    def show_more(self, state: State) -> bool:
        if self._shown < len(self._lengths):
            self.renew(state)  # to move or copy a lot of them takes its time as well
            self._show_stored(state, self._path(state, self._shown), self._lengths[self._shown])
            self._shown += 1
            return True
        if self._last:
            self._show(state, self._last)
            self._last = b""
        return False

    def take_back(self, state: State) -> None:
        """Nothing of it was shown; `clean` does the rest."""

    def clean(self, state: State) -> None:
        with contextlib.suppress(OSError, TusError):
            state.files.remove(self._path(state, number) for number in range(len(self._lengths)))

    def _path(self, state: State, number: int) -> str:
        return f"{state.folder(self.upload.id)}/{self._prefix}-{number}"

    def _show_stored(self, state: State, path: str, length: int) -> None:
        files = state.files
        if files.renames and not files.creates_alone:

            def move(name: str) -> None:
                files.move(path, f"{state.folder(self.upload.id)}/{name}")

            self._make_piece(state, move, length)
        else:
            self._show(state, state.read(Source(path, 0, length)))


class Joining:
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
