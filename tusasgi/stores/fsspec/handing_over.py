"""Bytes that are brought to where the host wants them, below `files/`: the steps. All block.

By a rename where the filesystem has one of its own, else by a copy that the filesystem makes, else
by reading and writing. None of these refuses to overwrite, so each looks first, and the engine lets
one upload at a time want a place; who else writes there in the very instant between is not seen.
Small files beside the record tell how far it is: from the last one on the host may take the bytes
away.
"""

from collections.abc import Iterator

from tusasgi.models import Upload
from tusasgi.stores import BytesLost, DestinationTaken
from tusasgi.stores.fsspec.directory import HANDED_OVER, HANDING_OVER, Directory
from tusasgi.stores.fsspec.filesystem import FileRange

_COMPARED = 1024 * 1024  # bytes at a time
_NOTE = b"see tusasgi\n"


class HandOver:
    """Brings the bytes of an upload to its destination, or removes them from there."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload

    def target(self, directory: Directory) -> str:
        return directory.destination_path(self._upload)

    def begin(self, directory: Directory) -> list[FileRange]:
        """Have the filesystem bring them, if it can; return what is to be copied if it cannot.

        `end` follows on such a copy.
        """
        own, target = directory.finished_path(self._upload.id), self.target(directory)
        listed, files = directory.listed(self._upload.id), directory.files
        size = files.size(own)
        if listed.is_handed_over:
            files.remove([own])
            return []
        if size is None:
            self._note_move(directory, target)
            return []
        self._check_is_free(directory, own, target, is_begun=listed.is_being_handed_over)
        if files.renames:
            files.move_new(own, target)
            self._note(directory, HANDED_OVER)
            return []
        self._note(directory, HANDING_OVER)
        if not files.copy(own, target):
            return [FileRange(own, 0, size)]
        self.end(directory)
        return []

    def end(self, directory: Directory) -> None:
        """Leave a copy to the host: the bytes are nowhere else any more."""
        if directory.files.size(self.target(directory)) != self._upload.length:
            raise OSError("the copied bytes are not as they were written")
        self._note(directory, HANDED_OVER)
        directory.files.remove([directory.finished_path(self._upload.id)])

    def take_back(self, directory: Directory) -> None:
        """Have the destination free, if the bytes are what is there."""
        own, target = directory.finished_path(self._upload.id), self.target(directory)
        if directory.files.renames:
            self._move_back(directory, own, target)
            return
        listed = directory.listed(self._upload.id)
        is_begun = listed.is_handed_over or listed.is_being_handed_over
        if is_begun and self._is_ours(directory, own, target):
            directory.files.remove([target])
        self._forget(directory, HANDED_OVER, HANDING_OVER)

    # The steps.

    def _note_move(self, directory: Directory, target: str) -> None:
        """Go on behind a rename whose process died, or whose answer was lost."""
        if directory.files.size(target) != self._upload.length:
            raise BytesLost
        self._note(directory, HANDED_OVER)

    def _move_back(self, directory: Directory, own: str, target: str) -> None:
        # In this order, what is there without the note is always ours.
        self._forget(directory, HANDED_OVER)
        is_moved = directory.files.size(own) is None
        if is_moved and directory.files.size(target) == self._upload.length:
            directory.files.move(target, own)

    def _check_is_free(
        self, directory: Directory, own: str, target: str, *, is_begun: bool
    ) -> None:
        """Raise `DestinationTaken` for anything but what a copy of ours has left."""
        if not directory.files.is_there(target):
            return
        if not is_begun or not _is_beginning(directory, target, own):
            raise DestinationTaken(f"files/{self._upload.destination} is there already")

    def _is_ours(self, directory: Directory, own: str, target: str) -> bool:
        if directory.files.size(own) is None:
            return directory.files.size(target) == self._upload.length
        return _is_beginning(directory, target, own)

    def _note(self, directory: Directory, name: str) -> None:
        directory.files.write(f"{directory.folder(self._upload.id)}/{name}", _NOTE)

    def _forget(self, directory: Directory, *names: str) -> None:
        folder = directory.folder(self._upload.id)
        directory.files.remove(f"{folder}/{name}" for name in names)


def _is_beginning(directory: Directory, target: str, own: str) -> bool:
    """True if a file is another one from its beginning on, as far as it goes."""
    size = directory.files.size(target)
    if size is None or size > (directory.files.size(own) or 0):
        return False
    return all(
        directory.files.read(target, start, stop) == directory.files.read(own, start, stop)
        for start, stop in _ranges(size)
    )


def _ranges(size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, size, _COMPARED):
        yield start, min(start + _COMPARED, size)
