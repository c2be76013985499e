"""The engine of the command: its store, its locker and its limits, by the settings."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from tusasgi import Expiry, Hooks, Limits, Observer, UploadNotFound, Uploads
from tusasgi.observer import Several
from tusasgi.server.access import Access
from tusasgi.server.credentials import Credentials
from tusasgi.server.lockers import make_locker
from tusasgi.server.python_hooks import load_hooks
from tusasgi.server.running import Running
from tusasgi.server.settings import Settings
from tusasgi.server.web_hooks import make_web_hooks, place_in
from tusasgi.stores import Store

_MIB = 1024 * 1024
_NOBODY = "tusasgi-reach"  # an id that no upload has: a store gives none like it


def make_uploads(
    settings: Settings,
    credentials: Sequence[Credentials] = (),
    running: Running | None = None,
) -> Uploads:
    """Return the engine; with credentials it is asked for them before any other hook."""
    window = None if settings.expires_after is None else timedelta(seconds=settings.expires_after)
    store = make_store(settings)
    return Uploads(
        store,
        locker=make_locker(settings),
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
    if settings.is_in_folder:
        from tusasgi.stores.file import FileStore

        return FileStore(settings.place, durability=settings.durability)
    if settings.is_in_bucket:
        from tusasgi.stores.s3 import S3Store

        return S3Store(settings.place, check=settings.check_bucket, integrity=settings.integrity)
    from tusasgi.stores.fsspec import FsspecStore

    return FsspecStore(settings.place, piece_size=_piece_size(settings.place))


def _piece_size(url: str) -> int:
    """Return a size that pays: calls to object stores are slow, and few large ones are joined."""
    import fsspec

    kind = fsspec.get_filesystem_class(url.partition("://")[0])
    return (8 if kind.async_impl else 2) * _MIB


def _observer(settings: Settings, running: Running | None) -> Observer | None:
    if settings.monitor is None:
        return None
    from tusasgi.metrics import Metrics

    return Metrics() if running is None else Several(Metrics(), running)


async def connect(store: Store) -> None:
    """Connect to where the store is, if that is somewhere else: no request has to wait for it."""
    if hasattr(store, "open"):
        await store.open()


async def reach(store: Store) -> None:
    """Ask the store for what it cannot have; raises what it raises if it cannot be reached."""
    with contextlib.suppress(UploadNotFound):
        await store.get(_NOBODY)


@contextlib.asynccontextmanager
async def closing(*owners: object) -> AsyncIterator[None]:
    """Close the connections of stores and hooks at the end, if they have any."""
    async with contextlib.AsyncExitStack() as stack:
        for one in owners:
            if hasattr(one, "aclose"):
                stack.push_async_callback(one.aclose)
        yield
