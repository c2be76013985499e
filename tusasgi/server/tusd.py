"""The folder of tusd (`-upload-dir`): what is in it, as uploads of ours. Only reads.

tusd keeps `<id>`, the bytes, whose size is the offset, and `<id>.info`, a JSON document. While a
request is at work on an upload there is `<id>.lock`, with the number of its process.
"""

import contextlib
import errno
import json
import os
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tusasgi import Creation, Upload
from tusasgi.fields import check_creation
from tusasgi.models import is_upload_id

try:
    import fcntl
except ImportError:  # no POSIX: then there is no folder of ours to import into either
    fcntl = None  # type: ignore[assignment]

_HAS_LEASES = hasattr(fcntl, "F_SETLEASE")
_INFO = ".info"
_LONGEST_INFO = 1024 * 1024


class Untaken(Exception):
    """Why an upload of tusd is not taken, in a few words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """An upload of tusd: as ours, and where its files are."""

    upload: Upload
    path: str
    info: str
    has_bytes: bool
    """False if the file with the bytes is missing, as when a move has broken off."""


class TusdFolder:
    """A folder of tusd, where final uploads are found under URLs that begin with `path`."""

    def __init__(self, root: str, *, path: str, window: timedelta | None) -> None:
        self.root = os.path.realpath(root)
        self._path = path
        self._window = window

    def names(self) -> list[str]:
        """Return the ids of all uploads, with those of parts before the final ones of them.

        Ids that hooks have chosen may have slashes, and are paths in the folder.
        """
        names = []
        for folder, _, files in os.walk(self.root):
            within = os.path.relpath(folder, self.root)
            names += [
                os.path.normpath(os.path.join(within, name.removesuffix(_INFO)))
                for name in files
                if name.endswith(_INFO)
            ]
        return sorted(names, key=lambda name: (self._is_final(name), name))

    def _is_final(self, name: str) -> bool:
        with contextlib.suppress(Untaken):
            return bool(self._info(name).get("IsFinal"))
        return False

    def find(self, name: str) -> Found:
        """Return the upload, or raise `Untaken`."""
        if not is_upload_id(name):
            raise Untaken("ids here have letters, digits, - and _ alone, and at most 64 of them")
        info = self._info(name)
        path = self._path_of(name, info)
        self._check_is_idle(name, path)
        written = _stat_of(path)
        created = datetime.fromtimestamp(os.stat(self._info_path(name)).st_mtime, UTC)
        offset = 0 if written is None else written.st_size
        upload = self._upload(name, info, created=created, offset=offset)
        if written is not None:
            upload = self._expiring(upload, datetime.fromtimestamp(written.st_mtime, UTC))
        return Found(
            upload=upload, path=path, info=self._info_path(name), has_bytes=written is not None
        )

    # What is in a document.

    def _info_path(self, name: str) -> str:
        return os.path.join(self.root, f"{name}{_INFO}")

    def _info(self, name: str) -> dict[str, Any]:
        try:
            with open(self._info_path(name), "rb") as file:
                is_short = os.fstat(file.fileno()).st_size <= _LONGEST_INFO
                info = json.loads(file.read()) if is_short else None
        except (OSError, ValueError, RecursionError):
            raise Untaken("its .info cannot be read") from None
        if not isinstance(info, dict) or info.get("ID") != name:
            raise Untaken("its .info is none of tusd, or of another upload")
        return info

    def _path_of(self, name: str, info: dict[str, Any]) -> str:
        """Return where the bytes are, within the folder, which may have been moved since."""
        storage = info.get("Storage") or {}
        if storage.get("Type", "filestore") != "filestore":
            raise Untaken(f"its bytes are in a {storage['Type']}")
        default = os.path.join(self.root, name)
        given = storage.get("Path")
        if not given or os.path.lexists(default):
            return default
        path = os.path.realpath(os.path.join(self.root, str(given)))
        if os.path.lexists(path) and os.path.commonpath([path, self.root]) != self.root:
            raise Untaken(f"its bytes are outside of the folder, at {given}")
        return path if os.path.lexists(path) else default

    def _upload(self, name: str, info: dict[str, Any], *, created: datetime, offset: int) -> Upload:
        try:
            length = None if info.get("SizeIsDeferred") else _count(info["Size"])
            metadata = {
                str(key): str(value).encode("utf-8", "replace")
                for key, value in (info.get("MetaData") or {}).items()
            }
            parts = tuple(map(str, info.get("PartialUploads") or ())) if info["IsFinal"] else ()
            is_partial = bool(info["IsPartial"])
        except (KeyError, TypeError, AttributeError, ValueError):
            raise Untaken("its .info lacks what tusd writes") from None
        concat = "partial" if is_partial else self._concat_header(parts)
        try:
            check_creation(Creation(length=length, metadata=metadata, concat_header=concat))
        except ValueError as error:
            raise Untaken(str(error)) from None
        if length is not None and offset > length:
            raise Untaken(f"it has {offset} bytes, more than its length of {length}")
        is_complete = offset == length
        if not is_complete:
            self._check_can_be_joined(parts)
        return Upload(
            id=name,
            length=length,
            created=created,
            offset=offset,
            metadata=metadata,
            is_partial=is_partial,
            parts=parts,
            concat_header=concat,
            is_complete=is_complete,
        )

    def _concat_header(self, parts: tuple[str, ...]) -> str | None:
        return f"final;{' '.join(self._path + part for part in parts)}" if parts else None

    def _check_can_be_joined(self, parts: tuple[str, ...]) -> None:
        for part in parts:
            if not is_upload_id(part) or not os.path.exists(os.path.join(self.root, part)):
                raise Untaken("it was not joined to its end, and its parts are gone")

    def _expiring(self, upload: Upload, written: datetime) -> Upload:
        if self._window is None or upload.parts or (upload.is_complete and not upload.is_partial):
            return upload
        return replace(upload, expires_after=self._window, expires=written + self._window)

    # Whether tusd is at work on it.

    def _check_is_idle(self, name: str, path: str) -> None:
        process = _locking_process(os.path.join(self.root, f"{name}.lock"))
        if process is not None:
            raise Untaken(f"process {process} is at work on it: stop tusd first")
        if _is_open_for_writing(path):
            raise Untaken("it is being written to: stop tusd first")


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError
    return value


def _stat_of(path: str) -> os.stat_result | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise Untaken("its bytes are no plain file")
    return found


def _locking_process(path: str) -> int | None:
    """Return the process that has locked an upload, if it is alive on this machine."""
    try:
        with open(path) as file:
            process = int(file.read(32))
        if process <= 0:  # which would be a group of processes
            return None
        os.kill(process, 0)
    except PermissionError:
        return process  # it is there, and somebody else's
    except (OSError, ValueError, OverflowError):
        return None
    return process


def _is_open_for_writing(path: str) -> bool:
    """Tell whether any process has the file open to write, where the system can tell (Linux).

    Nobody gets a read lease on a file that is. Whoever opens it while we have the lease makes the
    kernel send SIGIO, which `ignoring_leases` has nobody die of.
    """
    if not _HAS_LEASES:
        return False
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN  # else it is somebody else's file, or a lease is unknown
    finally:
        os.close(file)
    return False


@contextlib.contextmanager
def ignoring_leases() -> Iterator[None]:
    """Have the process not end by what `_is_open_for_writing` may bring upon it."""
    if not _HAS_LEASES:
        yield
        return
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGIO, before)
