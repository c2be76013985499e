"""Bytes that are brought to where the host wants them: below `files/`, in folders of its own.

The bytes get a second name there, and lose the first one only when the upload is recorded to be
complete. So at any instant before, one look tells whether what is there is theirs: it is the same
file. Where `files/` is on another disk it is the copy that gets the second name, and keeps until
then its first one, beside it: `.<id>`, which no destination can be.

Folders are opened one within the other, and none through a symbolic link: whatever others do in
`files/` meanwhile, nothing is made or removed anywhere else. Only `files` itself may be a link.
Everything in it blocks.
"""

import contextlib
import errno
import os
from collections.abc import Iterator

from tusasgi.destinations import check_destination
from tusasgi.errors import UploadNotFound
from tusasgi.models import Upload
from tusasgi.stores import DestinationTaken
from tusasgi.stores.file import files
from tusasgi.stores.file.directory import Directory

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_COPY_SIZE = 64 * 1024 * 1024
# What the system says of a link, or of a file where a folder should be.
_NO_FOLDER = {errno.ENOTDIR, errno.ELOOP}


class HandOver:
    """Brings the bytes of an upload to its destination, or takes them back. It must be locked."""

    def __init__(self, directory: Directory, upload: Upload) -> None:
        self._directory = directory
        self._path = directory.path(upload.id)
        self._copy = f".{upload.id}"
        self._destination = _checked(upload)

    def bring(self) -> None:
        """Have the bytes at the destination, with every name on the way to it on the disk."""
        with self._folder(makes=True) as (folder, name):
            if not self._are_there(folder, name):
                self._bring(folder, name)
            self._directory.flush(folder)

    def let_go(self) -> None:
        """Leave the bytes to the host: they have no other name any more."""
        with self._folder_if_there() as place:
            if place is not None:
                _unlink_if_there(self._copy, place[0])
        files.unlink_if_there(self._path)
        self._directory.flush_folder(os.path.dirname(self._path))

    def take_back(self) -> None:
        """Remove the bytes from the destination, if they are what is there."""
        with self._folder_if_there() as place:
            if place is None:
                return
            folder, name = place
            if self._are_there(folder, name):
                os.unlink(name, dir_fd=folder)
            _unlink_if_there(self._copy, folder)
            self._directory.flush(folder)

    # The steps.

    def _are_there(self, folder: int, name: str) -> bool:
        """True if what has this name is the bytes themselves, or their copy."""
        found = _stat(name, folder)
        return _is_same(found, _stat(self._path)) or _is_same(found, _stat(self._copy, folder))

    def _bring(self, folder: int, name: str) -> None:
        try:
            os.link(self._path, name, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            raise self._taken() from None
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._bring_copy(folder, name)

    def _bring_copy(self, folder: int, name: str) -> None:
        _unlink_if_there(self._copy, folder)  # half of one, which a crash has left
        if _stat(name, folder) is not None:
            raise self._taken()
        self._make_copy(folder)
        try:
            os.link(self._copy, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            _unlink_if_there(self._copy, folder)
            raise self._taken() from None

    def _taken(self) -> DestinationTaken:
        return DestinationTaken(f"files/{self._destination} is there already")

    def _make_copy(self, folder: int) -> None:
        source = os.open(self._path, os.O_RDONLY)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            target = os.open(self._copy, flags, 0o666, dir_fd=folder)
            try:
                self._directory.give_away(target)
                _copy_all(source, target)
                self._directory.flush(target)
            finally:
                os.close(target)
        finally:
            os.close(source)

    @contextlib.contextmanager
    def _folder(self, *, makes: bool = False) -> Iterator[tuple[int, str]]:
        with _folder_of(self._directory, self._destination, makes=makes) as place:
            yield place

    @contextlib.contextmanager
    def _folder_if_there(self) -> Iterator[tuple[int, str] | None]:
        """Open the folder of the destination; None if the host has taken that away."""
        with contextlib.ExitStack() as stack:
            try:
                place = stack.enter_context(self._folder())
            except (FileNotFoundError, DestinationTaken):
                place = None
            yield place


def open_destination(directory: Directory, upload: Upload) -> int:
    """Open the file that was handed over, to read it. `UploadNotFound`: it was taken away."""
    try:
        with _folder_of(directory, _checked(upload)) as (folder, name):
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except (FileNotFoundError, DestinationTaken):
        directory.check_is_there()
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
    raise UploadNotFound("the file of this upload was taken from where it was handed over to")


def _checked(upload: Upload) -> str:
    return check_destination("the destination of an upload", upload.destination)


@contextlib.contextmanager
def _folder_of(
    directory: Directory, destination: str, *, makes: bool = False
) -> Iterator[tuple[int, str]]:
    """Open the folder of a destination, made if it is to be; yield it, and the last name."""
    *folders, name = destination.split("/")
    root = os.path.join(directory.root, "files")
    if makes and not os.path.isdir(root):
        directory.make_folder(root)
    if makes:
        directory.flush_folder(directory.root)
    folder = os.open(root, _FOLDER)
    try:
        for one in folders:
            inner = _open_within(directory, folder, one, makes=makes)
            os.close(folder)
            folder = inner
        yield folder, name
    finally:
        os.close(folder)


def _open_within(directory: Directory, folder: int, name: str, *, makes: bool) -> int:
    is_made = makes and _is_made(name, folder)
    try:
        inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        raise DestinationTaken(f"{name!r} in the way to the destination is no folder") from None
    try:
        if is_made:
            directory.give_away(inner)
        if makes:
            directory.flush(folder)  # also for one that somebody else has just made
    except BaseException:
        os.close(inner)
        raise
    return inner


def _is_made(name: str, folder: int) -> bool:
    """Make a folder; return False if it is there."""
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        return False
    return True


def _copy_all(source: int, target: int) -> None:
    offset = 0
    while copied := files.copy_bytes(
        source, target, position=offset, offset=offset, count=_COPY_SIZE
    ):
        offset += copied


def _stat(name: str, folder: int | None = None) -> os.stat_result | None:
    """Return what the system knows of a name, of a link itself and not of what it leads to."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    return one is not None and other is not None and os.path.samestat(one, other)


def _unlink_if_there(name: str, folder: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
