"""What nobody asks for any more, and what requests had to leave: looked after one by one."""

from collections.abc import Callable
from datetime import datetime

import anyio

from tusasgi.engine.completion import Completion
from tusasgi.engine.locks import Locks
from tusasgi.engine.telling import Telling
from tusasgi.errors import ChecksumMismatch, Rejected, UploadLocked, UploadNotFound
from tusasgi.lifecycle import State, state_of
from tusasgi.models import Upload
from tusasgi.stores import BytesLost, PartLost, Store, WriteConflict
from tusasgi.stores.capabilities import Capabilities

_SWEPT_AT_ONCE = 8


class Sweep:
    """One sweep: finds what is due, and looks after several uploads at a time."""

    def __init__(
        self,
        store: Store,
        capabilities: Capabilities,
        locks: Locks,
        completion: Completion,
        telling: Telling,
        clock: Callable[[], datetime],
    ) -> None:
        self.removed = 0
        """How many uploads were removed so far."""
        self.failures: list[Exception] = []
        """What went wrong so far; the next sweep tries it again."""
        self._store = store
        self._capabilities = capabilities
        self._locks = locks
        self._completion = completion
        self._telling = telling
        self._clock = clock
        self._slots = anyio.Semaphore(_SWEPT_AT_ONCE)

    async def run(self) -> None:
        """Look after everything that is due. Raises nothing of what fails on the way."""
        async with anyio.create_task_group() as tasks:
            try:
                async for upload_id in self._capabilities.sweeper.due(self._clock()):
                    await self._slots.acquire()
                    tasks.start_soon(self._look_after, upload_id)
            except Exception as failure:  # told of when those that were found are done
                self.failures.append(failure)

    async def _look_after(self, upload_id: str) -> None:
        try:
            await self._hold_and_do(upload_id)
        except (WriteConflict, UploadNotFound):
            return  # somebody was at work on it
        except Exception as failure:  # one upload must not keep the others alive
            failure.add_note(f"upload {upload_id}")
            self.failures.append(failure)
        finally:
            self._slots.release()

    async def _hold_and_do(self, upload_id: str) -> None:
        try:
            async with self._locks.hold(upload_id, take_over=False):
                await self._do_what_is_due(upload_id)
        except UploadLocked:  # somebody is at work on it, but whoever tells of it does not hold it
            if self._telling.is_due(await self._store.get(upload_id)):
                self._telling.found(upload_id)

    async def _do_what_is_due(self, upload_id: str) -> None:
        try:
            upload = await self._store.get(upload_id)
        except UploadNotFound:
            await self._capabilities.terminator.terminate(upload_id)  # a removal broke off
            return
        if self._telling.is_due(upload):
            self._telling.found(upload_id)
        match state_of(upload, self._clock()):
            case State.REMOVING | State.EXPIRED:
                await self._completion.remove(upload, "expired")
                self.removed += 1
            case State.JOINING | State.COMPLETING:
                await self._complete(upload)
            case _ if not upload.untold:
                await self._store.update(upload)  # so that it is not found again for nothing

    async def _complete(self, upload: Upload) -> None:
        try:
            await self._completion.complete(upload)
        except (PartLost, ChecksumMismatch, Rejected):
            self.removed += 1  # by the completion: this upload can never be complete
        except BytesLost:
            await self._completion.remove(upload, "terminated")
            self.removed += 1
