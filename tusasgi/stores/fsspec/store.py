"""Uploads on any filesystem of fsspec, also on those that cannot append.

Below the root of a store:

    uploads/<id>             the bytes of a finished upload
    state/<id>/record        the record, replaced whole
    state/<id>/<start>…      pieces of the bytes until it is finished, see `pieces`
    state/<id>/staged-…      pieces that are not seen before the end of their append
    state/<id>/hand…         how far the bytes are on their way to the host
    files/<destination>      bytes that were handed over to the host, who may take them away
    due/<hour>/<id>          a small file for each upload that expires in that hour (since 1970)
    due/0/<id>               the same for what is pending or being removed

The offset is where the pieces end that follow each other without a gap; without pieces it is the
size of the finished bytes. Every change is one step that either happened or did not, and whatever
is replaced is removed only after its replacement was found.

The modules of this store, from the ground up: `failures` says what errors mean, `filesystem` calls
the filesystem, `pieces` and `marks` are what is kept beside the records, `directory` is all of
it, `connection` opens it, `appending`, `joining` and `handing_over` are the steps of what takes
several. All but this one block: for threads.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
)
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import anyio

from tusasgi.arguments import check_callable, check_integer, check_type
from tusasgi.errors import StoreUnavailable, UploadNotFound
from tusasgi.models import Upload, check_upload_id, utc_now
from tusasgi.repeating import repeating
from tusasgi.stores import PartLost
from tusasgi.stores.fsspec.appending import Appender
from tusasgi.stores.fsspec.connection import Connection
from tusasgi.stores.fsspec.directory import Directory, steps
from tusasgi.stores.fsspec.filesystem import FileRange, UnusableFilesystem, check_place
from tusasgi.stores.fsspec.handing_over import HandOver
from tusasgi.stores.fsspec.joining import Joiner
from tusasgi.stores.gathering import Gatherer
from tusasgi.stores.renewal import renewal_interval
from tusasgi.threads import Threads

__all__ = ["FsspecStore", "UnusableFilesystem"]

P = ParamSpec("P")
T = TypeVar("T")

_MIB = 1024 * 1024
_LINGER = 1.0  # seconds a piece waits to be filled: each costs calls now and when it is joined
_THREADS = 16  # for one store: a filesystem that hangs takes them from nobody else
_RENEWALS = 4  # which do not wait for the bytes that make them necessary
_READ_SIZE = _MIB
_READ_AT_ONCE = 3  # pieces, while uploads are joined
_TRIES = 3  # to read what is merged or joined meanwhile


class FsspecStore:
    """Keeps uploads on a filesystem of fsspec: `FsspecStore("sftp://host/folder")`.

    Supports termination, deferred lengths, concatenation, sweeping, reading and hand-over. `place`
    is a URL, with `options` for its filesystem, or a filesystem, with a `root` on it, whose cache
    of listings is switched off. Prefer the URL: a connection that broke is made anew by it, and
    stays broken in a filesystem of yours that does not make it anew itself (sftp, ftp). The first
    use finds out what the filesystem can (`UnusableFilesystem`).

    Servers that share a place need a locker that reaches all of them. Where files are created
    exclusively and appear whole (the large object stores), a second writer gets
    `WriteConflict` without one too. What is acknowledged has been written, and is
    as safe as the filesystem keeps it: nothing here can flush a local disk.

    Bytes are kept in pieces of at most `piece_size` bytes until the upload is finished. A running
    append holds at most four times as much. `clock` says when bytes come, which dates of expiry
    follow from.
    """

    def __init__(
        self,
        place: Any,
        root: str = "",
        *,
        options: Mapping[str, Any] | None = None,
        piece_size: int = 2 * _MIB,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        check_place(place)
        check_type("root", root, str)
        check_type("options", options or {}, Mapping)
        if isinstance(place, str) and root:
            raise ValueError("the root is a part of the URL")
        if not isinstance(place, str) and options:
            raise ValueError("options belong to a URL, not to a filesystem that is made already")
        check_integer("piece_size", piece_size, least=64 * 1024, most=64 * _MIB)
        check_callable("clock", clock)
        self._place = place
        self._root = root
        self._piece_size = piece_size
        self._clock = clock
        self._connection = Connection(place, root, options or {})
        self._threads = Threads(_THREADS)
        self._renewing = Threads(_RENEWALS)

    def path(self, upload_id: str) -> str:
        """Return where the bytes of the upload are once it is finished, as the place was given.

        Until they are handed over: then they are at `files/<destination>` below the place.
        """
        root = self._place if isinstance(self._place, str) else self._root
        path = f"uploads/{check_upload_id(upload_id)}"
        return f"{root.rstrip('/')}/{path}" if root else path

    async def create(self, upload: Upload) -> Upload:
        return await self._thread(Directory.create, upload)

    async def get(self, upload_id: str) -> Upload:
        return await self._thread(Directory.get, upload_id)

    async def append(
        self,
        upload: Upload,
        chunks: AsyncIterable[bytes],
        *,
        staged: bool = False,
    ) -> Upload:
        check_upload_id(upload.id)
        appender = Appender(upload, self._piece_size, self._clock)
        put = appender.stage if staged else appender.write
        writer = _Writer(
            lambda data: self._step(appender, partial(put, data=data)),
            lambda: self._surely(appender.take_back),
            size=self._piece_size,
        )
        try:
            await writer.gather(chunks)
            while appender.has_staged:
                await self._step(appender, appender.show_staged)
            last = b"".join(writer.buffer.take())
            if not last and appender.upload.offset == upload.offset:
                return upload  # nothing came
            return await self._step(appender, partial(appender.finish, data=last))
        finally:
            if appender.is_to_be_cleaned:
                await self._surely(appender.clean)

    async def update(self, upload: Upload) -> Upload:
        return await self._thread(Directory.update, upload)

    async def finish(self, upload: Upload) -> Upload:
        sources = await self._thread(Directory.sources_to_join, upload.id)
        if sources is not None:
            await self._join(upload.id, sources)
        await self._thread(Directory.remove_joined, upload.id)
        return upload

    async def hand_over(self, upload: Upload) -> None:
        hand_over = HandOver(upload)
        sources = await self._thread(hand_over.begin)
        if sources:
            await self._write(hand_over.target, sources)
            await self._thread(hand_over.end)

    async def take_back(self, upload: Upload) -> None:
        await self._thread(HandOver(upload).take_back)

    async def terminate(self, upload_id: str) -> None:
        await self._thread(Directory.terminate, upload_id)

    async def declare_length(self, upload: Upload, length: int) -> Upload:
        return await self.update(replace(upload, length=length))

    async def concat(self, upload: Upload) -> Upload:
        sources = await self._thread(Directory.sources_of_parts, upload)
        if sources is not None:
            try:
                await self._join(upload.id, sources)
            except FileNotFoundError:
                raise PartLost from None  # it was removed meanwhile
        return replace(upload, offset=upload.length or 0)

    async def due(self, now: datetime) -> AsyncIterator[str]:
        for hour in await self._thread(Directory.due_hours, now):
            for upload_id in await self._thread(Directory.due_uploads, hour, now):
                yield upload_id
            await self._thread(Directory.remove_hour_if_empty, hour)

    async def ids(self, *, after: str | None = None) -> AsyncGenerator[str, None]:
        for upload_id in await self._thread(Directory.ids):
            if after is None or upload_id > after:
                yield upload_id

    async def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        misses = 0
        while start < stop:
            sources = await self._thread(Directory.sources_between, upload.id, start, stop)
            if not sources:
                return
            try:
                for source in steps(sources, _READ_SIZE):
                    data = await self._thread(Directory.read, source)
                    start += len(data)
                    yield data
            except FileNotFoundError:
                if upload.is_handed_over:
                    raise _taken_away() from None
                misses += 1
                if misses == _TRIES:
                    raise

    async def _step(self, appender: Appender, step: Callable[[Directory], T]) -> T:
        """Take a step of an append, and keep the upload from expiring however long it takes."""
        work = self._thread(step)
        interval = renewal_interval(appender.upload)
        if interval is None:
            return await work

        async def renew() -> None:
            await self._renewing.run(self._take, appender.renew)

        return await repeating(work, renew, interval=interval)

    async def _join(self, upload_id: str, sources: list[FileRange]) -> None:
        """Write the sources to the place of the finished bytes, in steps."""
        if await self._thread(Directory.merge, upload_id, sources):
            return
        await self._write(lambda directory: directory.finished_path(upload_id), sources)

    async def _write(self, place: Callable[[Directory], str], sources: list[FileRange]) -> None:
        joiner = Joiner(place)
        try:
            await self._thread(joiner.open)
            pieces = list(steps(sources, self._piece_size))
            for start in range(0, len(pieces), _READ_AT_ONCE):
                for data in await self._read_all(pieces[start : start + _READ_AT_ONCE]):
                    await self._thread(joiner.write, data)
            await self._thread(joiner.close)
        except BaseException:
            joiner.disown()  # or whoever collects the file would finish it
            await self._surely(joiner.abandon)
            raise

    async def _read_all(self, sources: list[FileRange]) -> list[bytes]:
        """Return the bytes of a few sources, read at the same time where calls go side by side."""
        found = [b""] * len(sources)
        failures: list[Exception] = []

        async def read(number: int, source: FileRange) -> None:
            try:
                found[number] = await self._thread(Directory.read, source)
            except Exception as failure:  # raised outside of the task group
                failures.append(failure)

        async with anyio.create_task_group() as tasks:
            for number, source in enumerate(sources):
                tasks.start_soon(read, number, source)
        if failures:
            raise failures[0]
        return found

    async def _thread(
        self,
        step: Callable[Concatenate[Directory, P], T],
        /,
        *arguments: P.args,
        **keywords: P.kwargs,
    ) -> T:
        """Take a step, in a worker thread: everything that asks the filesystem blocks.

        Returns or raises when the step is at its end, whoever cancels: who then lets go of the
        lock on the upload leaves nobody behind who still changes it.
        """
        return await self._threads.run(self._take, step, *arguments, **keywords)

    async def _surely(self, step: Callable[[Directory], T]) -> T:
        """Take a step that cleans up, also when this task is cancelled, by whatever means."""
        return await self._threads.run_surely(partial(self._take, step))

    # What runs in worker threads.

    def _take(
        self,
        step: Callable[Concatenate[Directory, P], T],
        /,
        *arguments: P.args,
        **keywords: P.kwargs,
    ) -> T:
        directory = self._connection.get()
        try:
            return step(directory, *arguments, **keywords)
        except StoreUnavailable:
            self._connection.drop(directory)
            raise


def _taken_away() -> UploadNotFound:
    return UploadNotFound("the file of this upload was taken from where it was handed over to")


class _Writer(Gatherer):
    """Has the chunks of one append stored in pieces of `size` bytes."""

    def __init__(
        self,
        put: Callable[[bytes], Awaitable[None]],
        take_back: Callable[[], Awaitable[None]],
        *,
        size: int,
    ) -> None:
        super().__init__(size=size, linger=_LINGER)
        self._put = put
        self._take_back = take_back

    async def store(self) -> None:
        await self._put(b"".join(self.take(self.size)))

    async def take_back(self) -> None:
        await self._take_back()
