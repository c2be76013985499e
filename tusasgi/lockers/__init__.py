"""What a locker is: one writer per upload, and the newest request wins."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Locker(Protocol):
    """Gives locks on uploads. Locks vanish with the process that holds them."""

    def lock(
        self, upload_id: str, *, interrupt: Callable[[], None], take_over: bool = True
    ) -> AbstractAsyncContextManager[object]:
        """Hold the upload for the length of an `async with`.

        If the upload is held, its holder's `interrupt` is called (in the holder's event loop)
        and the lock is awaited for as long as the locker is patient; then `UploadLocked` is
        raised. With `take_over` off nobody is asked and `UploadLocked` is raised at once.
        While held, `interrupt` may be called more than once; it must not raise. However the task
        is cancelled, the lock is never let go before the body has ended, and always then.
        """
        ...
