"""The file system as `FileStore` sees it: real files, and each call of `os` one step.

The store's worker threads are greenlets here: they run in the thread of the event loop, and give
way at each call that another request could notice. So one order of calls is like any other run
of the same order.
"""

import asyncio
import builtins
import contextlib
import errno
import fcntl
import functools
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import greenlet
import pytest

from tests.explorer._schedule import Actor, Process, Schedule, Step, current
from tusasgi import threads

# What is not named here (fsync, close, …) commutes with all that others do while power is on.
_STEPS = {
    "open", "stat", "lstat", "fstat", "pwritev", "pwrite", "write", "pread", "preadv",
    "ftruncate", "truncate", "rename", "replace", "link", "unlink", "remove", "mkdir",
    "makedirs", "rmdir", "listdir", "scandir", "copy_file_range", "utime",
}  # fmt: skip
_NEED_ROOM = {"pwritev", "pwrite", "write", "link", "mkdir", "copy_file_range"}
_RENAMING = {"rename", "replace", "link"}
_real_run_sync = anyio.to_thread.run_sync


class Thread(greenlet.greenlet):
    """A worker thread that runs only when one of its steps was chosen."""

    def __init__(
        self,
        schedule: Schedule,
        actor: Actor | None,
        call: Future[Any],
        function: Callable[[], Any],
    ) -> None:
        super().__init__()
        self.actor = actor
        self._schedule = schedule
        self._call = call
        self._function = function

    def begin(self) -> None:
        if self._call.set_running_or_notify_cancel():
            self.switch()

    def run(self) -> None:
        try:
            result = self._function()
        except BaseException as error:  # raised by whoever waits for the call
            self._call.set_exception(error)
        else:
            self._call.set_result(result)

    def step(self, name: str, effect: Callable[[], Any], **more: Any) -> Any:
        assert self.actor is not None
        step = Step(self.actor, name, effect, self._resume, **more)
        self._schedule.wait(step)
        assert self.parent is not None
        self.parent.switch()
        self._schedule.check_alive(self.actor)
        return step.outcome()

    def _resume(self) -> None:
        self._schedule.loop.call_soon(self.switch)


class Threads:
    """Stands for a `ThreadPoolExecutor` of any size, and for `anyio.to_thread`."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def submit(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> Future[Any]:
        call: Future[Any] = Future()
        thread = Thread(self._schedule, current.get(), call, partial(function, *arguments, **more))
        self._schedule.loop.call_soon(thread.begin)
        return call

    async def run_sync(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        abandon_on_cancel: bool = False,
        limiter: anyio.CapacityLimiter | None = None,
    ) -> Any:
        await anyio.lowlevel.checkpoint()
        limiter = limiter or anyio.to_thread.current_default_thread_limiter()
        async with limiter:
            with anyio.CancelScope(shield=not abandon_on_cancel):
                return await asyncio.wrap_future(self.submit(function, *arguments))


class Disk:
    """Stands for `os`, `fcntl` and `open` in the modules of the store."""

    def __init__(self, schedule: Schedule, root: str) -> None:
        self._schedule = schedule
        self._root = root
        self._open: dict[int, tuple[Process | None, str]] = {}

    def call(self, name: str, real: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        thread = greenlet.getcurrent()
        actor = thread.actor if isinstance(thread, Thread) else current.get()
        self._schedule.check_alive(actor)
        effect = partial(self._do, name, real, actor, arguments, more)
        if not isinstance(thread, Thread) or actor is None or not self._schedule.is_choosing:
            return effect()
        path = self._path_of(arguments[0])
        needs_room = name in _NEED_ROOM or _creates(name, arguments)
        return thread.step(
            f"{name} {path}",
            effect,
            # The name is random: nobody else knows it until the file gets another.
            is_private=path.startswith("new/") and name not in _RENAMING,
            failure=_no_room if needs_room else None,
        )

    def _do(
        self,
        name: str,
        real: Callable[..., Any],
        actor: Actor | None,
        arguments: tuple[Any, ...],
        more: dict[str, Any],
    ) -> Any:
        result = real(*arguments, **more)
        if name == "open" and isinstance(result, int):
            process = None if actor is None else actor.process
            self._open[result] = process, self._path_of(arguments[0])
        return result

    def close(self, file: int) -> None:
        # One that is not known was closed when its process died.
        if self._open.pop(file, None) is not None:
            os.close(file)

    def kill(self, process: Process) -> None:
        """Do what the kernel does for a process that dies."""
        for file in [file for file, (owner, _) in self._open.items() if owner is process]:
            self.close(file)

    def close_all(self) -> list[str]:
        """Close what is open still, and return what it was."""
        found = [path for _, path in self._open.values()]
        for file in list(self._open):
            self.close(file)
        return found

    def _path_of(self, what: Any) -> str:
        if isinstance(what, int):
            return self._open.get(what, (None, "?"))[1]
        return os.path.relpath(str(what), self._root)


class _Os:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.path = _Path(disk)
        self.close = disk.close

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return partial(self._disk.call, name, real) if name in _STEPS else real


class _Path:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        real = getattr(os.path, name)
        asks = ("exists", "isdir", "isfile", "getsize", "getmtime", "lexists")
        return partial(self._disk.call, name, real) if name in asks else real


class _Fcntl:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        real = getattr(fcntl, name)
        return partial(self._disk.call, name, real) if name == "flock" else real


@contextlib.contextmanager
def in_place(schedule: Schedule, disk: Disk) -> Iterator[None]:
    """Have the stores use the threads and the disk of a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "ThreadPoolExecutor", lambda *_, **__: Threads(schedule))
        for module in _modules("tusasgi"):
            if vars(module).get("run_sync") is _real_run_sync:
                patch.setattr(module, "run_sync", Threads(schedule).run_sync)
        for module in _modules("tusasgi.stores"):
            if vars(module).get("os") is os and "fsspec" not in module.__name__:
                patch.setattr(module, "os", _Os(disk))
                patch.setattr(
                    module, "open", partial(disk.call, "open", builtins.open), raising=False
                )
            if vars(module).get("fcntl") is fcntl:
                patch.setattr(module, "fcntl", _Fcntl(disk))
        yield


@functools.cache
def _modules(prefix: str) -> list[ModuleType]:
    return [module for name, module in sys.modules.items() if name.startswith(prefix)]


def _creates(name: str, arguments: tuple[Any, ...]) -> bool:
    return name == "open" and isinstance(arguments[1], int) and bool(arguments[1] & os.O_CREAT)


def _no_room() -> Exception:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
