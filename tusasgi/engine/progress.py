"""How far running appends have come, told to the observer at once and to the host behind them."""

import logging
from collections.abc import Callable
from typing import NoReturn

import anyio

from tusasgi.engine.delivering import deliver_each
from tusasgi.errors import Rejected
from tusasgi.hooks import Hooks, is_overridden
from tusasgi.models import Upload
from tusasgi.observer import Observer

logger = logging.getLogger("tusasgi.hooks")

_AT_ONCE = 16  # uploads whose progress is told at the same time


class Progress:
    """The progress of one append. Calling it raises what the host has refused the upload with."""

    def __init__(self, tell: Callable[["Progress"], None], observer: Observer) -> None:
        self.upload: Upload | None = None
        """As it was a moment ago."""
        self.refusal: Rejected | None = None
        self._tell = tell
        self._observer = observer

    def __call__(self, upload: Upload) -> None:
        if self.refusal is not None:
            raise self.refusal
        self._observer.progressed(upload)
        self.upload = upload
        self._tell(self)


class ProgressTelling:
    """Calls the `progressed` hook for the appends of this process, as far as it keeps up."""

    def __init__(self, hooks: Hooks, observer: Observer, *, hook_timeout: float | None) -> None:
        self._hooks = hooks
        self._observer = observer
        self._hook_timeout = hook_timeout
        self._is_wanted = is_overridden(hooks, "progressed")
        self._is_delivering = False
        self._waiting: dict[Progress, None] = {}
        self._running: set[Progress] = set()
        self._woken = anyio.Event()

    def of_append(self) -> Progress:
        return Progress(self._take, self._observer)

    def _take(self, progress: Progress) -> None:
        if self._is_wanted and self._is_delivering and progress not in self._running:
            self._waiting[progress] = None
            self._woken.set()

    async def deliver(self) -> NoReturn:
        """Call the hook for what comes, until cancelled."""
        self._is_delivering = True
        try:
            await deliver_each(self._next, self._deliver, at_once=_AT_ONCE)
        finally:
            self._is_delivering = False
            self._waiting.clear()
            self._running.clear()

    async def _next(self) -> Progress:
        while not self._waiting:
            self._woken = anyio.Event()
            await self._woken.wait()
        progress = next(iter(self._waiting))
        del self._waiting[progress]
        self._running.add(progress)
        return progress

    async def _deliver(self, progress: Progress) -> None:
        upload = progress.upload
        assert upload is not None
        try:
            with anyio.fail_after(self._hook_timeout):
                await self._hooks.progressed(upload)
        except Rejected as refusal:
            progress.refusal = refusal
        except Exception as failure:  # the next one says more than this one did
            logger.info("The progress of upload %s could not be told: %s", upload.id, failure)
        finally:
            self._running.discard(progress)
