"""Letting go of running uploads when the server is told to stop.

The shutdown of a lifespan comes too late for that: uvicorn first waits for the requests that are
running, and a PATCH over a slow line runs for hours.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from tusasgi import Uploads

_SECONDS = 5.0  # in which a quick client may finish


@contextlib.contextmanager
def stopped_by_signal(uploads: Uploads) -> Iterator[None]:
    """Shut the engine down some seconds after SIGINT or SIGTERM; the server gets them as before."""
    if threading.current_thread() is not threading.main_thread():  # where signals do not come
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(loop.call_later, _SECONDS, uploads.shutdown)
        server = before[signal.Signals(number)]
        if callable(server):
            server(number, frame)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, server in before.items():
            signal.signal(number, server)
