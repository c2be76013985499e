"""The web hooks of the command: who is asked and told over HTTP, by the settings."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tusasgi import Upload
from tusasgi.server.settings import Settings
from tusasgi.server.values import without_password
from tusasgi.stores import Store

if TYPE_CHECKING:
    from tusasgi.webhooks import WebHooks


Place = Callable[[Upload], Mapping[str, str]]


def make_web_hooks(settings: Settings, place: Place | None = None) -> "WebHooks":
    """Return the hooks. Raises `OSError` and `ValueError` for what is of no use."""
    from tusasgi.webhooks import WebHooks

    assert settings.hook is not None
    return WebHooks(
        settings.hook,
        secret=_secret(settings.hook_secret_file),
        events=list(settings.hook_events) or None,
        format=settings.hook_format,
        timeout=settings.hook_timeout,
        forward_headers=settings.hook_forward_headers,
        place=place,
    )


def _secret(path: str | None) -> str | None:
    if path is None:
        return None
    with open(path, encoding="ascii") as file:
        return file.read()


def place_in(settings: Settings, store: Store) -> Place:
    """Return what tells where the bytes of an upload are, in tusd's words for it."""
    if settings.is_in_bucket:
        from tusasgi.stores.s3 import S3Store

        assert isinstance(store, S3Store)
        in_bucket, bucket = store, urlsplit(settings.place).netloc
        return lambda upload: {"Type": "s3store", "Bucket": bucket, "Key": in_bucket.key(upload)}
    if not settings.is_in_folder:
        from tusasgi.stores.fsspec import FsspecStore

        assert isinstance(store, FsspecStore)
        elsewhere, kind = store, f"{settings.place.partition('://')[0]}store"
        return lambda upload: {"Type": kind, "Path": without_password(elsewhere.path(upload.id))}
    from tusasgi.stores.file import FileStore

    assert isinstance(store, FileStore)
    in_folder = store
    return lambda upload: {"Type": "filestore", "Path": in_folder.path(upload.id)}
