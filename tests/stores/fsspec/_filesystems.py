"""Filesystems that the fsspec store is tested on, and those that fail or count."""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem


class Memory(MemoryFileSystem):
    """A memory of its own: that of fsspec is one for the whole process."""

    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.store = {}
        self.pseudo_dirs = [""]


class Plain(Memory):
    """Writes, reads, lists and deletes, and nothing else: no append, no rename, no exclusion."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        if mode != "overwrite":
            raise NotImplementedError
        super().pipe_file(path, value)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode not in ("rb", "wb"):
            raise NotImplementedError
        return super()._open(path, mode, **options)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        raise NotImplementedError

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        raise NotImplementedError


class Deceiving(Memory):
    """Says that it created a file although there was one, as some do with what they do not know."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        super().pipe_file(path, value)


class AsyncDict(AsyncFileSystem):
    """An object store in a dict, with awaits; without `open`, as some are."""

    protocol = "asyncdict"
    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.objects: dict[str, bytes] = {}

    async def _pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", **options: Any
    ) -> None:
        await asyncio.sleep(0)
        if mode == "create" and path in self.objects:
            raise FileExistsError(path)
        self.objects[path] = bytes(value)

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        await asyncio.sleep(0)
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path][start:end]

    async def _ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        await asyncio.sleep(0)
        prefix = f"{path.rstrip('/')}/"
        found: dict[str, Any] = {}
        for name, content in self.objects.items():
            if name.startswith(prefix):
                first, *more = name.removeprefix(prefix).split("/")
                kind = "directory" if more else "file"
                size = 0 if more else len(content)
                found[prefix + first] = {"name": prefix + first, "size": size, "type": kind}
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else list(found)

    async def _info(self, path: str, **options: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        if path not in self.objects:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.objects[path]), "type": "file"}

    async def _rm_file(self, path: str, **options: Any) -> None:
        await asyncio.sleep(0)
        if self.objects.pop(path, None) is None:
            raise FileNotFoundError(path)

    async def _put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        await asyncio.sleep(0)
        with open(lpath, "rb") as file:  # noqa: ASYNC230
            self.objects[rpath] = file.read()

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        await asyncio.sleep(0)


class Watched(AbstractFileSystem):
    """Passes every call on to another filesystem, after `before(name, path)`.

    Only one that may not be looked through, so that every call is seen. Files that are written
    through `open` are cut after `half` bytes of what is written when `before` raises there.
    """

    cachable = False
    protocol = "watched"

    def __init__(
        self, fs: Any, before: Callable[[str, str], None] = lambda name, path: None
    ) -> None:
        super().__init__()
        self.fs = fs
        self.before = before
        self.calls: Counter[str] = Counter()
        self.written = 0

    def _seen(self, name: str, path: Any) -> None:
        self.calls[name] += 1
        self.before(name, path if isinstance(path, str) else ",".join(path))

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self._seen("ls", path)
        return self.fs.ls(path, detail=detail)

    def info(self, path: str, **options: Any) -> Any:
        self._seen("info", path)
        return self.fs.info(path)

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> Any:
        self._seen("cat_file", path)
        return self.fs.cat_file(path, start, end)

    def rm_file(self, path: str) -> None:
        self._seen("rm_file", path)
        self.fs.rm_file(path)

    def rmdir(self, path: str) -> None:
        self._seen("rmdir", path)
        self.fs.rmdir(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self._seen("makedirs", path)
        self.fs.makedirs(path, exist_ok=exist_ok)

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb":
            return self.fs.open(path, mode)
        self._seen("open", path)
        return _WatchedFile(self, path, self.fs.open(path, mode, **options))


class WatchedObjects(Watched):
    """Over a filesystem whose files appear whole, and can be created exclusively."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self._seen("pipe_file", path)
        self.written += len(value)
        self.fs.pipe_file(path, value, mode=mode)


class WithoutOpen(WatchedObjects):
    """Takes files whole and one call at a time, as web services without parts do."""

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode != "rb":
            raise NotImplementedError
        return super().open(path, mode, **options)

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        self._seen("put_file", rpath)
        self.fs.pipe_file(rpath, Path(lpath).read_bytes())


class WatchedFiles(Watched):
    """Over a filesystem with files that grow, and with a rename."""

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        self._seen("mv", path1)
        self.fs.mv(path1, path2)


class _WatchedFile:
    def __init__(self, watched: Watched, path: str, file: Any) -> None:
        self._watched = watched
        self._path = path
        self._file = file

    def write(self, data: bytes) -> None:
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._watched._seen("write", self._path)
        self._file.write(data[half:])
        self._watched.written += len(data)

    def close(self) -> None:
        try:
            self._watched._seen("close", self._path)
        finally:
            self._file.close()

    def __enter__(self) -> "_WatchedFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def over_memory(before: Callable[[str, str], None] = lambda name, path: None) -> WatchedObjects:
    return WatchedObjects(Memory(), before)


def over_files(before: Callable[[str, str], None] = lambda name, path: None) -> WatchedFiles:
    return WatchedFiles(LocalFileSystem(skip_instance_cache=True), before)


def names_below(fs: Any, root: str) -> list[str]:
    """Return every file below a folder, by the filesystem's own calls."""
    if isinstance(fs, Watched):
        return names_below(fs.fs, root)
    if isinstance(fs, LocalFileSystem):
        return sorted(os.path.join(at, name) for at, _, names in os.walk(root) for name in names)
    found = fs.objects if isinstance(fs, AsyncDict) else fs.store
    return sorted(name for name in found if name.startswith(f"{root}/"))


def copy_below(fs: Any, source: str, target: str) -> None:
    """Copy every file below a folder to another one."""
    if isinstance(fs, LocalFileSystem):
        if os.path.isdir(source):
            shutil.copytree(source, target)
        return
    for name in names_below(fs, source):
        fs.pipe_file(target + name.removeprefix(source), fs.cat_file(name))
