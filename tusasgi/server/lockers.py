"""The locker of the command: which one, by the settings, and what is wrong about it."""

import os

from tusasgi.lockers import Locker
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.server.settings import Settings

_SECONDS = 3.0
_FOR_ALL = "--locker file:/path on one machine, or redis://host:6379/0 on several"


def make_locker(settings: Settings) -> Locker:
    """Return the locker; needs the extra `redis` for a URL."""
    locker = _chosen(settings)
    if locker == "memory":
        return MemoryLocker()
    if locker.startswith("file"):
        from tusasgi.lockers.file import FileLocker

        folder = locker.removeprefix("file").removeprefix(":")
        return FileLocker(folder or os.path.join(settings.place, "locks"))
    from tusasgi.lockers.redis import RedisLocker

    return RedisLocker(locker)


def url_of_redis(settings: Settings) -> str | None:
    """Return where Redis is, if the locks are there."""
    locker = _chosen(settings)
    return locker if "://" in locker else None


async def ask_redis(url: str) -> None:
    """Return if Redis answers; raise `OSError` or `RedisError`, in some seconds at the most."""
    from redis.asyncio import Redis

    client = Redis.from_url(url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS)
    async with client:
        await client.ping()


def wrong_locker(settings: Settings) -> str | None:
    """Say what is wrong about the locker, if it does not reach as far as it has to."""
    locker = _chosen(settings)
    if locker == "file" and not settings.is_in_folder:
        return f"--locker file is for --dir; with --store give {_FOR_ALL}"
    if settings.workers == 1 or settings.is_in_bucket:  # the bucket itself keeps them apart
        return None
    if settings.store is not None and settings.store.startswith("memory://"):
        return "--store memory:// is within one process: it needs --workers 1"
    if locker == "memory":
        return f"--workers {settings.workers} needs a locker for all of them: {_FOR_ALL}"
    return None


def _chosen(settings: Settings) -> str:
    return settings.locker or ("file" if settings.is_in_folder else "memory")
