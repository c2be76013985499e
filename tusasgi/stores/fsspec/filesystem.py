"""What the store asks of a filesystem: small steps for worker threads, whatever it is.

What a filesystem says it can is not what it can, so it is tried (`Filesystem.probe`). Nothing here
uses `exists`, `find` or `walk`: they take a connection that broke for a file that is not there.
"""

import contextlib
import errno
import os
import socket
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from tusasgi.errors import StoreUnavailable
from tusasgi.stores.fsspec.failures import errors_mapped

T = TypeVar("T")

_BLOCK = 5 * 1024 * 1024  # the least that S3 takes as a part, and a multiple of what GCS takes
_MOST_MERGED = 32  # what GCS composes in one call
_TRIES = 3
_TCP = (socket.AF_INET, socket.AF_INET6)

# What a filesystem answers to what it cannot do.
_CANNOT = (OSError, NotImplementedError, TypeError, ValueError, AttributeError, RuntimeError)


class UnusableFilesystem(RuntimeError):
    """It cannot even write, read, list and delete."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder in a listing."""

    name: str
    size: int
    is_file: bool = True
    is_folder: bool = False
    """Both are true where the filesystem does not say which it is."""


@dataclass(frozen=True, slots=True)
class FileRange:
    """A part of a file: the bytes from `start` up to, not including, `stop`."""

    path: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


class Filesystem:
    """A filesystem below one root. Everything in it blocks.

    `creates_exclusively`: of two who create a file at once one succeeds, and it appears whole.
    """

    def __init__(self, fs: Any, root: str) -> None:
        fs, root = _unwrapped(fs, root)
        if getattr(fs, "asynchronous", False):
            raise ValueError("the filesystem must be made with asynchronous=False")
        self.root: str = fs._strip_protocol(root).rstrip("/")
        if any(sign in self.root for sign in "*?["):
            raise ValueError("the path must not have *, ? or [ in it: fsspec would search for it")
        # What it remembers of listings makes it miss what other servers have written since. Not by
        # an option: some (sftp) pass all that they are given on to somebody else.
        fs.dircache.use_listings_cache = False
        fs.dircache.clear()
        _send_at_once(fs)
        self.creates_exclusively = False
        self._fs = fs
        self.renames = False
        self._opens = False
        self._has_folders = False
        # One connection for one call at a time (sftp, ftp, …), unless it is made for many.
        # Closing a `_Spooled` asks once more within.
        is_parallel = fs.async_impl or isinstance(fs, LocalFileSystem | MemoryFileSystem)
        self._turn: Any = contextlib.nullcontext() if is_parallel else threading.RLock()

    @property
    def is_async(self) -> bool:
        return bool(self._fs.async_impl)

    # What there is.

    def read(self, path: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Return the bytes of a file, or a part of them. `FileNotFoundError` if it is missing."""
        with self._asked():
            self._forget(path)
            if start is None or stop is None or not (self._opens and self._is_plain("cat_file")):
                return bytes(self._fs.cat_file(path, start=start, end=stop))
            with self._fs.open(path, "rb") as file:
                file.seek(start)
                if hasattr(file, "prefetch"):  # sftp: or each 32 KiB would wait for an answer
                    file.prefetch(stop)
                return bytes(file.read(stop - start))

    def read_all(self, paths: list[str]) -> list[bytes]:
        """Return the bytes of several files, at once where the filesystem does that."""
        with self._asked():
            found: dict[str, bytes] = self._fs.cat(paths)
        return [found[path] for path in paths]

    def entries(self, folder: str) -> list[Entry]:
        """Return what is in a folder; nothing if it is missing."""
        with self._asked():
            self._fs.invalidate_cache(folder)
            try:
                found = self._fs.ls(folder, detail=True)
            except FileNotFoundError:
                return []
        # Some list a folder in itself, and some leave out the slash that paths begin with.
        paths = {self._fs._strip_protocol(entry["name"]).strip("/"): entry for entry in found}
        paths.pop(folder.strip("/"), None)
        return [_entry(path, about) for path, about in paths.items()]

    def size(self, path: str) -> int | None:
        """Return the size of a file; None if it is missing."""
        with self._asked():
            self._forget(path)
            try:
                return int(self._fs.info(path)["size"])
            except FileNotFoundError:
                return None

    def is_there(self, path: str) -> bool:
        """True if there is a file or a folder of this name."""
        with self._asked():
            self._forget(path)
            try:
                self._fs.info(path)
            except FileNotFoundError:
                return False
        return True

    # What changes it.

    def write(self, path: str, data: bytes) -> None:
        """Write a file in its place. A crash may leave half of it, unless `creates_exclusively`."""
        self._with_folder(path, lambda: self._write(path, data))

    def replace(self, path: str, data: bytes) -> None:
        """Write a file so that it is the old one or the new one, if the filesystem can."""
        if self.creates_exclusively or not self.renames:
            return self.write(path, data)
        new = f"{path.rpartition('/')[0]}/new-{uuid.uuid4().hex}"
        self.write(new, data)
        try:
            self.move(new, path)
        except OSError:
            with contextlib.suppress(OSError):
                self.remove([new])
            raise

    def create(self, path: str, data: bytes) -> None:
        """Write a file that must not be there: `FileExistsError`. Only if `creates_exclusively`.

        That error may also come of this very call, if its answer was lost and it was repeated.
        """
        self._with_folder(path, lambda: self._create(path, data))

    def move(self, source: str, target: str) -> None:
        """Rename a file, over another one too; by copying if it has to be."""
        with self._asked():
            self._fs.mv(source, target)

    def move_new(self, source: str, target: str) -> None:
        """Rename a file to a name that nothing has, in a folder that may be missing."""
        self._with_folder(target, lambda: self.move(source, target))

    def copy(self, source: str, target: str) -> bool:
        """Have the filesystem copy a file, if it can; return whether it did."""
        try:
            self._with_folder(target, lambda: self._copy(source, target))
        except NotImplementedError:
            return False
        return True

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, in any order; those that are missing are nothing to speak of."""
        paths = list(paths)
        if len(paths) > 1:
            with contextlib.suppress(FileNotFoundError), self._asked():
                self._fs.rm(paths)
                return
        for path in paths:
            with contextlib.suppress(FileNotFoundError), self._asked():
                self._fs.rm_file(path)

    def remove_folder(self, path: str) -> None:
        """Remove a folder if that is a thing of its own here, and empty."""
        if self._has_folders:
            with contextlib.suppress(OSError), self._asked():
                self._fs.rmdir(path)

    # Joining.

    def merge(self, sources: list[FileRange], target: str) -> bool:
        """Have the filesystem join whole files, if it can; return whether it did."""
        merge = getattr(self._fs, "merge", None)
        if merge is None or not 1 < len(sources) <= _MOST_MERGED:
            return False
        if any(source.size < _BLOCK for source in sources[:-1]):
            return False
        with self._asked():
            merge(target, [source.path for source in sources])
        return self.size(target) == sum(source.size for source in sources)

    def open_to_write(self, path: str) -> Any:
        """Open a file to write it from its beginning in blocks, with one of them in memory.

        What is written before `close` may be seen or not. `abandon` is `close` for the rest.
        """
        if not self._opens:
            return _Spooled(
                lambda spooled: self._with_folder(path, lambda: self._put(spooled, path))
            )
        return self._with_folder(path, lambda: self._open(path))

    def write_to(self, file: Any, data: bytes) -> None:
        with self._asked():
            file.write(data)

    def close(self, file: Any) -> None:
        with self._asked():
            file.close()

    def abandon(self, file: Any) -> None:
        """Close a file that is not to be finished; what is left of it is nothing to rely on."""
        with contextlib.suppress(*_CANNOT), self._asked():
            if isinstance(file, AbstractBufferedFile):
                disown(file)
                file.discard()
            elif isinstance(file, _Spooled):
                file.discard()
            else:
                file.close()

    # The first use.

    def probe(self) -> None:
        """Find out what the filesystem can. `UnusableFilesystem`: too little."""
        folder = f"{self.root}/probe-{uuid.uuid4().hex}"
        first, second = f"{folder}/first", f"{folder}/second"
        try:
            self._probe_core(folder, first)
        except StoreUnavailable:
            raise
        except _CANNOT as error:
            raise UnusableFilesystem(
                f"{type(self._fs).__name__} cannot write, read, list and delete files"
            ) from error
        try:
            self._opens = _tried(lambda: self._probe_open(first))
            self.creates_exclusively = _tried(lambda: self._probe_create(second))
            self.renames = _tried(lambda: self._probe_rename(first, second))
        finally:
            with contextlib.suppress(*_CANNOT):
                self.remove([first, second])
        self._has_folders = _tried(lambda: self._is_folder(folder))
        self.remove_folder(folder)

    def _probe_core(self, folder: str, path: str) -> None:
        self.write(path, b"12")
        _expect(self.read(path) == b"12" and self.read(path, 1, 2) == b"2")
        _expect(self.entries(folder) == [Entry("first", 2)] and self.size(path) == 2)
        self.write(path, b"345")
        _expect(self.read(path) == b"345")
        self.remove([path])
        _expect(self.entries(folder) == [] and self.size(path) is None)

    def _probe_open(self, path: str) -> bool:
        file = self._open(path)
        self.write_to(file, b"12")
        self.write_to(file, b"3")
        self.close(file)
        return self.read(path) == b"123"

    def _probe_create(self, path: str) -> bool:
        """Two at once cannot be tried: the base class is known to look first and to write then."""
        if self._is_plain("pipe_file"):
            return False
        self._create(path, b"12")
        try:
            self._create(path, b"345")
        except FileExistsError:
            return self.read(path) == b"12"
        return False

    def _probe_rename(self, source: str, target: str) -> bool:
        """A rename of its own is taken to be atomic; that of the base class copies."""
        if self._is_plain("mv"):
            return False
        self.write(source, b"12")
        self.write(target, b"345")
        self.move(source, target)
        return self.read(target) == b"12" and self.size(source) is None

    def _is_folder(self, folder: str) -> bool:
        with self._asked():
            self._forget(folder)
            return bool(self._fs.info(folder)["type"] == "directory")

    # The calls.

    def _forget(self, path: str) -> None:
        """Have the filesystem forget what it knows of the folder of a file, whatever it keeps."""
        self._fs.invalidate_cache(path.rpartition("/")[0])

    def _is_plain(self, name: str) -> bool:
        """True for a method that is that of the base class, made of `open` and other methods."""
        method = getattr(getattr(self._fs, name), "__func__", None)
        return method is getattr(AbstractFileSystem, name)

    def _write(self, path: str, data: bytes) -> None:
        if not (self._opens and self._is_plain("pipe_file")):
            with self._asked():
                self._fs.pipe_file(path, data)
            return
        with self._asked(), self._fs.open(path, "wb") as file:
            is_pipelined = _set_pipelined(file)
            file.write(data)
        if is_pipelined and self.size(path) != len(data):  # it raises nothing then
            raise OSError(errno.EIO, "the filesystem did not write everything")

    def _create(self, path: str, data: bytes) -> None:
        try:
            with self._asked():
                self._fs.pipe_file(path, data, mode="create")
        except OSError as error:
            if error.errno == errno.EINVAL:  # s3fs: a condition of the request did not hold
                raise FileExistsError(errno.EEXIST, "the file exists") from error
            raise

    def _copy(self, source: str, target: str) -> None:
        with self._asked():
            self._fs.cp_file(source, target)

    def _open(self, path: str) -> Any:
        with self._asked():
            return self._fs.open(path, "wb", block_size=_BLOCK)

    def _put(self, spooled: str, path: str) -> None:
        with self._asked():
            self._fs.put_file(spooled, path)

    def _with_folder(self, path: str, make: Callable[[], T]) -> T:
        # Again and again: a sweeper may remove the folder of an hour when it is empty.
        for _ in range(_TRIES):
            try:
                return make()
            except FileNotFoundError:
                with contextlib.suppress(OSError), self._asked():
                    self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        return make()

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        """Let one call through."""
        with self._turn, errors_mapped():
            yield


class _Spooled:
    """A file on the local disk until it is put to its place, for filesystems without `open`."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self._put = put
        number, self._path = tempfile.mkstemp()
        self._file = os.fdopen(number, "wb")

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def close(self) -> None:
        self._file.close()
        try:
            self._put(self._path)
        finally:
            os.unlink(self._path)

    def discard(self) -> None:
        self._file.close()
        os.unlink(self._path)


def disown(file: Any) -> None:
    """Keep a file that is not to be finished from being finished when it is collected."""
    if isinstance(file, AbstractBufferedFile):
        file.closed = True


def _entry(path: str, about: Mapping[str, Any]) -> Entry:
    kind = about.get("type")
    return Entry(
        path.rpartition("/")[2],
        about["size"] or 0,
        is_file=kind != "directory",
        is_folder=kind != "file",
    )


def check_place(place: object) -> None:
    """Check a URL whose filesystem is known, or a filesystem. Asks nobody."""
    if isinstance(place, type):
        raise TypeError(f"place must be an object, not a class: give {place.__name__}(…)")
    if isinstance(place, AbstractFileSystem):
        return
    if not isinstance(place, str):
        raise TypeError(f"place must be a URL or a filesystem of fsspec, not {place!r}")
    if not place:
        raise ValueError("place must be a URL, as sftp://host/folder, not ''")
    scheme = place.partition("://")[0] if "://" in place else "file"
    if "::" not in scheme and scheme not in (*fsspec.available_protocols(), *fsspec.registry):
        raise ValueError(f"place must be a URL that fsspec knows, which {scheme}:// is not")


def open_filesystem(url: str, options: Mapping[str, Any]) -> Filesystem:
    """Make a filesystem of its own for a URL."""
    with errors_mapped():
        fs, root = fsspec.url_to_fs(url, skip_instance_cache=True, **options)
    return Filesystem(fs, root)


def _unwrapped(fs: Any, root: str) -> tuple[Any, str]:
    """Look through wrappers that hide what the filesystem within can do."""
    while True:
        if isinstance(fs, DirFileSystem):
            fs, root = fs.fs, f"{fs.path.rstrip('/')}/{root.strip('/')}"
        elif isinstance(fs, AsyncFileSystemWrapper):
            fs = fs.sync_fs
        else:
            return fs, root


def _send_at_once(fs: Any) -> None:
    """Have the end of each call to an sftp server not wait for the answer to its beginning.

    The kernel holds back what does not fill a packet until the server has acknowledged those
    before, and the server waits 40 ms for more before it does (Nagle's algorithm).
    """
    get_transport = getattr(getattr(fs, "client", None), "get_transport", None)
    connection = getattr(get_transport and get_transport(), "sock", None)
    if isinstance(connection, socket.socket) and connection.family in _TCP:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _set_pipelined(file: Any) -> bool:
    """Have a file on an sftp server not wait for an answer after every 32 KiB.

    Only for one that is written and closed at once: paramiko loses the answers of such a file
    when another one is read meanwhile, and waits for them for ever.
    """
    if not hasattr(file, "set_pipelined"):
        return False
    file.set_pipelined(True)
    return True


def _tried(attempt: Callable[[], bool]) -> bool:
    try:
        return attempt()
    except _CANNOT:
        return False


def _expect(held: bool) -> None:
    if not held:
        raise OSError(errno.EIO, "the filesystem does not keep what it was given")
