"""The engine of the command: its store, its locker and its limits, by the settings."""

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from tusasgi import Expiry, Hooks, Limits, Observer, Uploads
from tusasgi.lockers import Locker
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.server.access import Access
from tusasgi.server.credentials import Credentials
from tusasgi.server.python_hooks import load_hooks
from tusasgi.server.running import Running, Several
from tusasgi.server.settings import Settings
from tusasgi.server.web_hooks import make_web_hooks, place_in
from tusasgi.stores import Store


def make_uploads(
    settings: Settings,
    credentials: Sequence[Credentials] = (),
    running: Running | None = None,
) -> Uploads:
    """Return the engine; with credentials it is asked for them before any other hook."""
    window = None if settings.expires_after is None else timedelta(seconds=settings.expires_after)
    store, locker = _in_bucket(settings) if settings.is_in_bucket else _in_folder(settings)
    return Uploads(
        store,
        locker=locker,
        hooks=_hooks(settings, credentials, store),
        limits=Limits(max_size=settings.max_size, max_append=settings.max_append_size),
        expiry=Expiry(initial=window, after_append=window),
        observer=_observer(settings, running),
    )


def _hooks(settings: Settings, credentials: Sequence[Credentials], store: Store) -> Hooks:
    hooks = Hooks() if settings.hooks is None else load_hooks(settings.hooks)
    if settings.hook is not None:
        hooks = make_web_hooks(settings, place_in(settings, store))
    return Access(hooks, credentials) if credentials else hooks


def make_store(settings: Settings) -> Store:
    """Return the store alone."""
    store, _ = _in_bucket(settings) if settings.is_in_bucket else _in_folder(settings)
    return store


def _in_bucket(settings: Settings) -> tuple[Store, Locker]:
    from tusasgi.stores.s3 import S3Store

    store = S3Store(settings.place, check=settings.check_bucket, integrity=settings.integrity)
    return store, MemoryLocker()  # the store itself keeps processes apart


def _in_folder(settings: Settings) -> tuple[Store, Locker]:
    from tusasgi.lockers.file import FileLocker
    from tusasgi.stores.file import FileStore

    store = FileStore(settings.place, durability=settings.durability)
    return store, FileLocker(os.path.join(settings.place, "locks"))


def _observer(settings: Settings, running: Running | None) -> Observer | None:
    if settings.monitor is None:
        return None
    from tusasgi.metrics import Metrics

    return Metrics() if running is None else Several(Metrics(), running)


async def connect(store: Store) -> None:
    """Connect to where the store is, if that is somewhere else: no request has to wait for it."""
    if hasattr(store, "open"):
        await store.open()


@contextlib.asynccontextmanager
async def closing(*owners: object) -> AsyncIterator[None]:
    """Close the connections of stores and hooks at the end, if they have any."""
    async with contextlib.AsyncExitStack() as stack:
        for one in owners:
            if hasattr(one, "aclose"):
                stack.push_async_callback(one.aclose)
        yield
