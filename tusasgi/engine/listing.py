"""The uploads of a store, page by page."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio

from tusasgi.errors import UploadNotFound
from tusasgi.models import Page, Upload
from tusasgi.stores import Store

_AT_ONCE = 16


class Listing:
    """Reads the records of uploads, a few at a time, until a page is full."""

    def __init__(self, store: Store, is_wanted: Callable[[Upload], bool]) -> None:
        self._store = store
        self._is_wanted = is_wanted
        self._unreadable: list[str] = []
        self._failure: Exception | None = None

    async def page(self, ids: AsyncGenerator[str, None], limit: int) -> Page:
        """Return the first of these uploads that are wanted."""
        found: list[Upload] = []
        async with aclosing(ids), aclosing(_grouped(ids, _AT_ONCE)) as groups:
            async for group in groups:
                for upload in await self._read(group):
                    if self._is_wanted(upload):
                        found.append(upload)
                    if len(found) == limit:
                        return self._page(found, following=upload.id)
        return self._page(found, following=None)

    def _page(self, found: list[Upload], *, following: str | None) -> Page:
        return Page(uploads=tuple(found), after=following, unreadable=tuple(self._unreadable))

    async def _read(self, ids: list[str]) -> list[Upload]:
        """Return the uploads that are still there, in this order."""
        found: dict[str, Upload] = {}
        async with anyio.create_task_group() as tasks:
            for upload_id in ids:
                tasks.start_soon(self._read_one, upload_id, found)
        if self._failure is not None:
            raise self._failure
        return [found[upload_id] for upload_id in ids if upload_id in found]

    async def _read_one(self, upload_id: str, found: dict[str, Upload]) -> None:
        try:
            found[upload_id] = await self._store.get(upload_id)
        except UploadNotFound:
            pass  # removed meanwhile
        except ValueError:  # a record that was damaged, which must not hide all the others
            self._unreadable.append(upload_id)
        except Exception as failure:  # raised by `_read`, outside of the task group
            self._failure = failure


async def _grouped(ids: AsyncGenerator[str, None], size: int) -> AsyncGenerator[list[str], None]:
    group: list[str] = []
    async for upload_id in ids:
        group.append(upload_id)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
