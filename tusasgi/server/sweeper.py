"""The sweeper of a server, which looks for what has expired again and again."""

import logging

import anyio

from tusasgi import Uploads
from tusasgi.server.failures import describe_each
from tusasgi.server.settings import Settings

logger = logging.getLogger("tusasgi.cli")

_SHORTEST, _LONGEST = 1.0, 3600.0  # seconds between two sweeps
_LONGEST_WITH_HOOK = 60.0  # for what a worker that died has not told


async def sweep_again_and_again(uploads: Uploads, interval: float) -> None:
    """Sweep every so many seconds, whatever fails, until cancelled."""
    while True:
        try:
            await uploads.sweep()
        except* Exception as failures:  # whatever it was must not end all sweeping
            logger.warning(
                "Not everything that is due could be done; it is tried again in %g seconds, and "
                "needs you if this goes on: %s",
                interval,
                "; ".join(describe_each(failures)),
            )
        await anyio.sleep(interval)


def sweep_interval(settings: Settings) -> float:
    """Often enough that nothing outlives its time by more than a tenth, and not too often."""
    longest = _LONGEST if settings.hook is None else _LONGEST_WITH_HOOK
    if settings.expires_after is None:
        return longest
    return min(max(settings.expires_after / 10, _SHORTEST), longest)
