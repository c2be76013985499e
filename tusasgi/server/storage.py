"""The engine of the command: its store, its locker and its limits, by the settings."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from tusasgi import Expiry, Limits, Observer, Uploads
from tusasgi.server.lockers import make_locker
from tusasgi.server.python_hooks import load_hooks
from tusasgi.server.settings import Settings
from tusasgi.stores import Store


def make_uploads(settings: Settings) -> Uploads:
    window = None if settings.expires_after is None else timedelta(seconds=settings.expires_after)
    return Uploads(
        make_store(settings),
        locker=make_locker(settings),
        hooks=None if settings.hooks is None else load_hooks(settings.hooks),
        limits=Limits(max_size=settings.max_size, max_append=settings.max_append_size),
        expiry=Expiry(initial=window, after_append=window),
        observer=None if settings.monitor is None else _metrics(),
    )


def make_store(settings: Settings) -> Store:
    if settings.is_in_folder:
        from tusasgi.stores.file import FileStore

        return FileStore(settings.place, durability=settings.durability)
    if settings.is_in_bucket:
        from tusasgi.stores.s3 import S3Store

        return S3Store(settings.place, check=settings.check_bucket, integrity=settings.integrity)
    from tusasgi.stores.fsspec import FsspecStore

    return FsspecStore(settings.place)


def _metrics() -> Observer:
    from tusasgi.metrics import Metrics

    return Metrics()


async def connect(store: Store) -> None:
    """Connect to where the store is, if that is somewhere else: no request has to wait for it."""
    if hasattr(store, "open"):
        await store.open()


@contextlib.asynccontextmanager
async def closing(store: Store) -> AsyncIterator[None]:
    """Close the connections of the store at the end, if it has any."""
    try:
        yield
    finally:
        if hasattr(store, "aclose"):
            await store.aclose()
