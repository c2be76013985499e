"""`os` as the file store sees it, with somebody looking at every call."""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tusasgi.stores.file import (
    adopting,
    appending,
    directory,
    files,
    handing_over,
    locked,
    store,
)

CHANGES = frozenset(
    {
        "open",
        "link",
        "unlink",
        "rename",
        "mkdir",
        "fsync",
        "pwritev",
        "pwrite",
        "ftruncate",
        "utime",
        "rmdir",
        "copy_file_range",
    }
)


class Os:
    """Passes every call on, after `before(name, arguments)`, or to a function in its place."""

    def __init__(
        self,
        before: Callable[[str, tuple[Any, ...]], None] = lambda name, arguments: None,
        **instead: Callable[..., Any],
    ) -> None:
        self._before = before
        self._instead = instead

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if not callable(real):
            return real
        function = self._instead.get(name, real)

        def call(*arguments: Any, **keywords: Any) -> Any:
            self._before(name, arguments)
            return function(*arguments, **keywords)

        return call


@contextlib.contextmanager
def seen_by(shim: Os) -> Iterator[None]:
    """Let the file store call the shim."""
    modules: list[Any] = [files, directory, locked, appending, adopting, handing_over, store]
    for module in modules:
        module.os = shim
    try:
        yield
    finally:
        for module in modules:
            module.os = os


class Crash(BaseException):
    """The process has died."""


class Power:
    """Fails before the n-th change, from 0; nothing but closing works from then on."""

    def __init__(self, change: int) -> None:
        self._left = change
        self.is_off = False

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name in CHANGES and not self.is_off:
            self.is_off = self._left == 0
            self._left -= 1
        if self.is_off and name != "close":
            raise Crash


class FailsOnce:
    """Lets the n-th call of the system fail, from 0; those that only look do not."""

    _SAFE = frozenset({"fstat", "stat", "close", "listdir"})

    def __init__(self, call: int, error: OSError) -> None:
        self._left = call
        self._error = error
        self.failed: str | None = None

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name in self._SAFE or self.failed is not None:
            return
        if self._left == 0:
            self.failed = name
            raise self._error
        self._left -= 1


class Counts:
    """Counts the calls by name."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._counting = threading.Lock()

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        with self._counting:
            self.calls[name] += 1


class Disk:
    """A disk with space for so many more bytes; a write that does not fit is cut short."""

    def __init__(self, space: int) -> None:
        self.space = space

    def pwritev(self, file: int, views: list[memoryview], offset: int) -> int:
        if self.space == 0:
            raise OSError(28, "No space left on device")
        data = b"".join(views)[: self.space]
        self.space -= len(data)
        return os.pwrite(file, data, offset)
