"""What has happened to uploads, told to others: at least once, in order, and behind clients' backs.

What is to be told stands in the record of the upload, `Upload.untold`, put there by the same write
as what has happened; of a removal the record itself tells. So nothing is lost with the process, and
whoever finds the upload, in a sweep or because something just happened to it, goes on from there.
The upload is not held while others are told; it is, to record that they were.
"""

import contextlib
import heapq
import itertools
import logging
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import NoReturn

import anyio

from tusasgi.engine.calling import called
from tusasgi.engine.delivering import deliver_each
from tusasgi.engine.locks import Locks
from tusasgi.errors import TryAgain, UploadLocked, UploadNotFound, UploadPending
from tusasgi.hooks import Hooks
from tusasgi.lifecycle import Event
from tusasgi.models import Upload
from tusasgi.observer import Observer
from tusasgi.stores import Store, WriteConflict
from tusasgi.stores.capabilities import Capabilities

logger = logging.getLogger("tusasgi.hooks")

_AT_ONCE = 16  # uploads that are told of at the same time
_REMEMBERED = 10_000  # uploads that wait for their turn; a sweep finds those beyond
_SHORTEST, _LONGEST = 1.0, 300.0  # seconds before what failed is told again
_HELD = (UploadLocked, WriteConflict)


@dataclass(eq=False, kw_only=True)
class Delivery:
    """What this process knows of an upload that there is something to tell of."""

    upload_id: str
    told: set[tuple[str, datetime]] = field(default_factory=set)
    """What was told, and is not recorded to have been."""
    place: int | None = None
    """Its place in the queue, unless it is running."""
    failures: int = 0
    """How often it has failed in a row."""
    has_more: bool = False
    """True if something has happened since it was begun."""
    may_end: bool = False
    """True once the hook of its removal was done: that is told then, and the upload ended."""


class Telling:
    """Calls `Hooks.tell` for what is recorded to be told."""

    def __init__(
        self,
        store: Store,
        capabilities: Capabilities,
        hooks: Hooks,
        locks: Locks,
        observer: Observer,
        clock: Callable[[], datetime],
        *,
        hook_timeout: float | None,
    ) -> None:
        self.is_delivering = False
        """True while what happens is told at once."""
        self._store = store
        self._capabilities = capabilities
        self._hooks = hooks
        self._locks = locks
        self._observer = observer
        self._clock = clock
        self._hook_timeout = hook_timeout
        self._tells = frozenset(hooks.tells)
        self.is_on = bool(self._tells)
        """True if there is anything that is told."""
        self._deliveries: dict[str, Delivery] = {}
        self._queue: list[tuple[float, int, Delivery]] = []
        self._numbers = itertools.count()
        self._woken = anyio.Event()

    # What is to be told.

    def with_untold(self, upload: Upload, event: Event) -> Upload:
        """Return the upload as it is to be recorded when this happens to it."""
        if event not in self._tells:
            return upload
        return replace(upload, untold={**upload.untold, event.value: self._clock()})

    def is_due(self, upload: Upload) -> bool:
        """True if there is anything to tell of the upload, or to record that it was."""
        return self.is_on and (bool(upload.untold) or upload.removal in self._tells)

    def happened(self, upload_id: str) -> None:
        """Have the upload told of as soon as can be."""
        delivery = self._deliveries.get(upload_id)
        if delivery is None:
            self.found(upload_id)
        elif delivery.place is None:
            delivery.has_more = True
        else:
            self._put(delivery, after=0)

    def removed(self, upload_id: str, *, is_new: bool) -> None:
        """Have the removal told of which the host's own hook was called, and ended then.

        One that is not new was perhaps told in vain before, and waits for its turn.
        """
        delivery = self._deliveries.get(upload_id)
        if is_new or delivery is None or delivery.place is None:
            self.happened(upload_id)
        if (delivery := self._deliveries.get(upload_id)) is not None:
            delivery.may_end = True

    def found(self, upload_id: str) -> None:
        """Have the upload told of in its turn, if it has none yet."""
        if upload_id not in self._deliveries and len(self._deliveries) < _REMEMBERED:
            delivery = self._deliveries[upload_id] = Delivery(upload_id=upload_id)
            self._put(delivery, after=0)

    # Whose turn it is.

    async def deliver(self) -> NoReturn:
        """Tell what happens when it happens, and again what failed, until cancelled."""
        self.is_delivering = True
        try:
            await deliver_each(self._next, self._deliver, at_once=_AT_ONCE)
        finally:
            self.is_delivering = False
            for delivery in self._deliveries.values():
                self._put(delivery, after=0)

    async def deliver_once(self) -> list[Exception]:
        """Tell once of all that wait for it, and return what failed.

        Nothing more is begun when as many as are told at once have said that it is no time for it
        (`TryAgain`).
        """
        failures: list[Exception] = []
        put_off: list[Exception] = []
        waiting = iter(list(self._deliveries.values()))
        self._deliveries.clear()
        self._queue.clear()

        async def work() -> None:
            for delivery in waiting:
                try:
                    await self._tell(delivery)
                except _HELD:
                    pass  # told, and not recorded yet: whoever holds it goes on
                except Exception as failure:  # one upload must not keep the others from their turn
                    failure.add_note(f"upload {delivery.upload_id}")
                    failures.append(failure)
                    if isinstance(failure.__cause__, TryAgain):
                        put_off.append(failure)
                if len(put_off) >= _AT_ONCE:
                    return

        async with anyio.create_task_group() as tasks:
            for _ in range(_AT_ONCE):
                tasks.start_soon(work)
        return failures

    def _put(self, delivery: Delivery, *, after: float) -> None:
        """Give it a place in the queue, instead of the one that it may have."""
        delivery.place = next(self._numbers)
        due = after and anyio.current_time() + after
        heapq.heappush(self._queue, (due, delivery.place, delivery))
        self._woken.set()

    async def _next(self) -> Delivery:
        """Return the delivery whose turn it is, when it is."""
        while True:
            self._woken = anyio.Event()
            wait = math.inf
            while self._queue:
                due, place, delivery = self._queue[0]
                is_its_place = place == delivery.place
                wait = due - anyio.current_time()
                if is_its_place and wait > 0:
                    break
                heapq.heappop(self._queue)
                if is_its_place:
                    delivery.place = None
                    return delivery
                wait = math.inf
            with anyio.move_on_after(wait):
                await self._woken.wait()

    async def _deliver(self, delivery: Delivery) -> None:
        delivery.has_more = False
        try:
            await self._tell(delivery)
        except _HELD:
            self._repeat(delivery, after=0)
        except UploadPending as failure:
            self._log(delivery, failure.__cause__)
            is_asked_to = isinstance(failure.__cause__, TryAgain)
            self._repeat(delivery, after=failure.retry_after if is_asked_to else 0)
        except Exception as failure:  # of the store; one upload must not end all telling
            self._log(delivery, failure)
            self._repeat(delivery, after=0)
        else:
            delivery.failures = 0
            if delivery.has_more:
                self._put(delivery, after=0)
            else:
                self._deliveries.pop(delivery.upload_id, None)

    def _repeat(self, delivery: Delivery, *, after: float) -> None:
        """Have it told again, after longer each time that it fails; not all at the same moment."""
        pause = min(_SHORTEST * 2**delivery.failures, _LONGEST) * random.uniform(0.5, 1.0)
        delivery.failures = min(delivery.failures + 1, 30)
        self._put(delivery, after=max(pause, after))

    def _log(self, delivery: Delivery, failure: BaseException | None) -> None:
        if isinstance(failure, TryAgain):
            logger.info("Upload %s is told of later: %s", delivery.upload_id, failure)
        else:
            logger.error(
                "Upload %s could not be told of; it is tried again.",
                delivery.upload_id,
                exc_info=failure,
            )

    # The steps.

    async def _tell(self, delivery: Delivery) -> None:
        """Tell all that is to be told of an upload, and record that it was.

        Raises `UploadPending` if the hook fails, and `UploadLocked` or `WriteConflict` if somebody
        else is at work on the upload: then everything is told, and not recorded.
        """
        with contextlib.suppress(UploadNotFound):  # another process was faster
            while True:
                upload = await self._store.get(delivery.upload_id)
                for event, at in self._untold(upload, delivery):
                    if event in self._tells:
                        await self._call(upload, Event(event), at)
                    delivery.told.add(_key(upload, event, at))
                if await self._record(delivery):
                    return

    async def _call(self, upload: Upload, event: Event, at: datetime) -> None:
        hook = partial(self._hooks.tell, upload, event, at)
        await called(hook, f"{event} could not be told", timeout=self._hook_timeout)

    def _untold(self, upload: Upload, delivery: Delivery) -> Iterator[tuple[str, datetime]]:
        untold = dict(upload.untold)
        if upload.removal is not None and delivery.may_end:
            untold[upload.removal] = self._clock()
        for event, at in untold.items():
            if _key(upload, event, at) not in delivery.told:
                yield event, at

    async def _record(self, delivery: Delivery) -> bool:
        """Record that everything was told, and return True if nothing has happened meanwhile."""
        async with self._locks.hold(delivery.upload_id, take_over=False):
            upload = await self._store.get(delivery.upload_id)
            if any(self._untold(upload, delivery)):
                return False
            if upload.removal is not None and delivery.may_end:
                await self._capabilities.terminator.terminate(upload.id)
                self._observer.changed(upload, Event.REMOVED)
            elif upload.untold:
                await self._store.update(replace(upload, untold={}))
            return True


def _key(upload: Upload, event: str, at: datetime) -> tuple[str, datetime]:
    """Return what names an event of this upload, and not of a later one of the same id."""
    return event, upload.created if event == upload.removal else at
