"""Uploads in a bucket of an S3 server, through any number of servers of ours at once.

One small object holds the state of an upload and is replaced by compare-and-swap; bytes go into
equal parts of a multipart upload. `docs/s3.md` tells why nothing is lost on the way.
"""

import contextlib
import enum
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tusasgi.errors import StoreUnavailable, UploadNotFound, UploadPending
from tusasgi.models import Renewal, Upload
from tusasgi.stores import PartLost, WriteConflict
from tusasgi.stores.s3.appending import Append, Budget
from tusasgi.stores.s3.bucket import Bucket, DescribeFailed, Integrity, id_in, piece_of
from tusasgi.stores.s3.check import check_conditions
from tusasgi.stores.s3.client import CONFIGURATION, Client, Conflict, Gone
from tusasgi.stores.s3.joining import Join
from tusasgi.stores.s3.state import S3Object, State, is_settled_size

__all__ = ["DescribeFailed", "S3Object", "S3Store"]

_MIB = 1024 * 1024
_LEAST_PART = 5 * _MIB  # what S3 takes
_UNDER_WAY_FOR = timedelta(days=1)  # after which what no state names counts as left behind


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _by_id(upload: Upload) -> S3Object:
    return S3Object(key=f"objects/{upload.id}")


class S3Store:
    """Keeps uploads in a bucket: `S3Store("s3://bucket/prefix")`.

    Supports termination, deferred lengths, concatenation, sweeping, reading and versions. Any
    number of servers may use the same prefix, without a common locker: each change of an upload
    is a compare-and-swap, and the newest request wins. The S3 server must honour `If-Match` and
    `If-None-Match` on PutObject; that is tried with the first connection (`check`).

    `describe` says under which key, with which content type and metadata the object of an upload
    is stored; it sees the facts of the inspection, and is asked when the first bytes are kept.
    What it raises is a failure of the host (`DescribeFailed`), and no refusal of the upload.
    `part_size` is the least size of a part in bytes. A running append holds at most two parts;
    `memory` bounds what all of them hold together, and as much again as `remembered` may be kept
    of states and short tails to be spared calls. `integrity` says what the server compares with
    the bytes it got. Everything else is an option of s3fs (`endpoint_url`, `key`, `secret`,
    `client_kwargs`, `config_kwargs`, …).

    Open it when the server starts and close it when it ends: `async with store:`, or `open` and
    `aclose`. What was not opened is opened by the first request.
    """

    def __init__(
        self,
        url: str,
        *,
        describe: Callable[[Upload], S3Object] = _by_id,
        part_size: int = 8 * _MIB,
        memory: int = 256 * _MIB,
        remembered: int = 32 * _MIB,
        integrity: Integrity = "md5",
        check: bool = True,
        **options: Any,
    ) -> None:
        bucket, prefix = _parse_url(url)
        if part_size < _LEAST_PART:
            raise ValueError("part_size must be at least 5 MiB, which is the least S3 takes")
        if memory < 2 * part_size:
            raise ValueError("memory must have room for two parts")
        if integrity not in ("md5", "crc32", "none"):
            raise ValueError('integrity must be "md5", "crc32" or "none"')
        client = Client(
            bucket,
            _with_configuration(options),
            partial(check_conditions, prefix=prefix) if check else None,
        )
        self._client = client
        self._bucket = Bucket(
            client, prefix, integrity=integrity, describe=describe, recent=remembered
        )
        self._part_size = part_size
        self._budget = Budget(memory)

    async def open(self) -> None:
        """Connect and try the server, so that no request has to wait for that.

        `StoreUnavailable`: it is away for now, and will be tried with the first request. Whatever
        else is raised (`RuntimeError`, errors of the SDK) does not pass by itself.
        """
        try:
            await self._client.open()
        except BaseException:
            await self._client.aclose()
            raise

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._client.aclose()

    async def create(self, upload: Upload) -> Upload:
        return (await self._bucket.create(upload)).told()

    async def get(self, upload_id: str) -> Upload:
        return (await self._bucket.read(upload_id)).told()

    async def latest(self, upload: Upload) -> Upload:
        known = self._bucket.known(upload.id)
        if known is None:  # it was removed, or there is no room to remember it
            return await self.get(upload.id)
        return known.told()

    async def append(
        self,
        upload: Upload,
        chunks: AsyncIterable[bytes],
        *,
        staged: bool = False,
        renewal: Renewal | None = None,
    ) -> Upload:
        state = await self._state_of(upload)
        append = Append(
            self._bucket,
            state,
            upload,
            budget=self._budget,
            least_part=self._part_size,
            staged=staged,
            renewal=renewal,
        )
        kept = (await append.run(chunks)).told()
        return replace(upload, version=kept.version) if kept.offset == state.offset else kept

    async def update(self, upload: Upload) -> Upload:
        try:
            state = await self._state_of(upload)
            new = replace(state, upload=upload)
            if upload.is_complete and state.offset == upload.length:
                new = replace(new, object=state.object or self._bucket.object_of(upload)).emptied()
            new = await self._bucket.swap(state, new)
        except (WriteConflict, UploadNotFound):
            if upload.has_all_bytes:
                await self._remove_if_unwanted(upload)
            raise
        await self._bucket.remove_unused({*state.names, *state.unused} - {*new.names, *new.unused})
        return new.told()

    async def declare_length(self, upload: Upload, length: int) -> Upload:
        return await self.update(replace(upload, length=length))

    async def finish(self, upload: Upload) -> Upload:
        # What is not in a part is read for it, and a small upload is all in its state.
        async with self._budget.taken(min(upload.offset, self._part_size)):
            return await self._finish(upload)

    async def _finish(self, upload: Upload) -> Upload:
        state = await self._state_of(upload)
        if state.stored_size:
            return upload
        if state.multipart_id is not None and state.offset:
            state = await self._sealed(state, upload)
            await self._bucket.complete(state)
            return replace(upload, version=state.etag)
        stored = state.object or self._bucket.object_of(upload)
        content = await self._bucket.load(state.segments) + state.tail
        try:
            await self._bucket.put_object(stored, content, IfNoneMatch="*")
        except Conflict:
            # It was repeated, or the object belongs to another upload: this one was removed
            # while this server stood still, and its id is used again.
            await self._bucket.check_newest(state)
            await self._bucket.put_object(stored, content)
        return upload

    async def concat(self, upload: Upload) -> Upload:
        state = await self._state_of(upload)
        try:
            sources = [await self._bucket.read(part) for part in upload.parts]
        except UploadNotFound:
            raise PartLost from None
        join = Join(
            self._bucket,
            state,
            upload,
            sources=sources,
            budget=self._budget,
            least_part=self._part_size,
        )
        return (await join.run()).told()

    async def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        known = await self._known(upload)
        try:
            async for data in self._bucket.read_bytes(known, start, min(stop, known.offset)):
                yield data
        except Gone:
            if upload.is_complete:
                raise UploadNotFound("the object of this upload is no longer stored") from None
            raise UploadPending("the bytes can be read once all of them are here") from None

    async def link(
        self,
        upload: Upload,
        *,
        seconds: int = 900,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """Return a signed URL from which the object of a finished upload can be downloaded.

        It is good for as many seconds, for whoever has it, and answers ranges. With a
        `filename` browsers save the file under that name instead of showing it.
        """
        state = await self._known(upload)
        if state.object is None or not state.upload.is_complete:
            raise UploadNotFound("the upload is not complete yet")
        answer = {}
        if filename is not None:
            answer["ResponseContentDisposition"] = _attachment(filename)
        if content_type is not None:
            answer["ResponseContentType"] = content_type
        return await self._client.link(self._bucket.key_of(state.object), seconds=seconds, **answer)

    async def terminate(self, upload_id: str) -> None:
        try:
            state = await self._bucket.read(upload_id)
        except UploadNotFound:
            await self._remove_pieces_of(upload_id)
            return
        if state.upload.removal is None:
            # From here on nobody else can change it.
            removed = replace(state.upload, removal="terminated")
            state = await self._bucket.swap(state, replace(state, upload=removed))
        if state.object is not None:
            await self._bucket.abort_multiparts(upload_id, self._bucket.key_of(state.object))
            await self._client.delete([self._bucket.key_of(state.object)])
        elif state.upload.length is None or state.upload.length > self._part_size:
            # A server that died with the first bytes may have left one, under whatever key.
            await self._bucket.abort_multiparts(upload_id, self._bucket.prefix)
        await self._remove_pieces_of(upload_id)
        await self._bucket.remove_state(upload_id)

    async def due(self, now: datetime) -> AsyncIterator[str]:
        prefix = f"{self._bucket.prefix}state/"
        async for found in self._client.listed(prefix):
            upload_id = found["Key"].removeprefix(prefix)
            if is_settled_size(found["Size"]):
                continue
            try:
                upload = await self.get(upload_id)
            except UploadNotFound:
                continue  # removed meanwhile, or its name is none of ours
            except StoreUnavailable:
                raise
            except Exception:  # whoever looks after it finds out why, and goes on with others
                yield upload_id
                continue
            if upload.is_expired(now) or upload.is_pending:
                yield upload_id
        await self._remove_left_behind(now)

    # The steps.

    async def _known(self, upload: Upload) -> State:
        """Return the state that an upload was read from if it is remembered, or the newest."""
        known = self._bucket.known(upload.id)
        if known is None or known.etag != upload.version:
            known = await self._bucket.read(upload.id)
        return known

    async def _state_of(self, upload: Upload) -> State:
        """Return the state that an upload was read from; refuse one that was changed since."""
        known = await self._known(upload)
        if upload.version is not None and known.etag != upload.version:
            raise WriteConflict("another server has changed this upload meanwhile")
        return known

    async def _remove_if_unwanted(self, upload: Upload) -> None:
        """Remove an object that this server made while another one removed its upload."""
        stored = None
        with contextlib.suppress(UploadNotFound):
            state = await self._bucket.read(upload.id)
            if state.upload.removal is None:
                return
            stored = state.object
        with contextlib.suppress(DescribeFailed):
            stored = stored or self._bucket.object_of(upload)
            await self._client.delete([self._bucket.key_of(stored)])

    async def _sealed(self, state: State, upload: Upload) -> State:
        """Return the state with all of its bytes in parts."""
        if state.rest_size == 0:
            return state
        held = Budget(self._part_size)  # by `finish`
        append = Append(self._bucket, state, upload, budget=held, least_part=self._part_size)
        return await append.run(_nothing())

    async def _remove_pieces_of(self, upload_id: str) -> None:
        prefix = self._bucket.pieces_of(upload_id)
        if keys := [found["Key"] async for found in self._client.listed(prefix)]:
            await self._bucket.remove_pieces(keys)

    async def _remove_left_behind(self, now: datetime) -> None:
        """Remove what servers that died or were overtaken have left, and no state names."""
        before = now - _UNDER_WAY_FOR
        fence = _Fence(self._bucket)
        prefix = f"{self._bucket.prefix}pieces/"
        async for found in self._client.listed(prefix):
            key = found["Key"]
            upload_id = piece_of(key.removeprefix(prefix))
            if upload_id is not None and found["LastModified"] < before:
                use = await fence.use_of(key, upload_id)
                if use is not _Use.NAMED:
                    await self._bucket.remove_pieces([key])
        async for found in self._client.multiparts(self._bucket.prefix):
            key, multipart_id = found["Key"], found["UploadId"]
            if found["Initiated"] >= before:
                continue
            # Without a state it may be somebody else's.
            if await fence.use_of(multipart_id, id_in(key)) is _Use.UNNAMED:
                await self._bucket.abort(key, multipart_id)


class _Use(enum.Enum):
    """What becomes of something in the bucket."""

    NAMED = "a state names it, or may yet"
    UNNAMED = "its upload does not name it, and never will"
    UNKNOWN = "there is no such upload"


class _Fence:
    """Tells what no state names, and sees to it that none will."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._states: dict[str, State | None] = {}
        self._fenced: set[str] = set()

    async def use_of(self, name: str, upload_id: str) -> _Use:
        try:
            state = await self._state(upload_id)
        except StoreUnavailable:
            raise
        except Exception:  # there is a state that cannot be read: as far as one can tell
            return _Use.NAMED
        if state is None:
            return _Use.UNKNOWN
        if name in state.names or name == state.multipart_id:
            return _Use.NAMED
        if upload_id not in self._fenced:
            # A server that stood still all the time could name it yet: not after this.
            try:
                self._states[upload_id] = await self._bucket.swap(state, state)
            except (WriteConflict, UploadNotFound):
                return _Use.NAMED
            self._fenced.add(upload_id)
        return _Use.UNNAMED

    async def _state(self, upload_id: str) -> State | None:
        if upload_id not in self._states:
            try:
                self._states[upload_id] = await self._bucket.read(upload_id)
            except UploadNotFound:
                self._states[upload_id] = None
        return self._states[upload_id]


def _parse_url(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError("the URL of a bucket is s3://bucket or s3://bucket/prefix")
    prefix = prefix.strip("/")
    return bucket, f"{prefix}/" if prefix else ""


def _with_configuration(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for s3fs with what the store depends on."""
    config = dict(CONFIGURATION)
    for name, value in (options.get("config_kwargs") or {}).items():
        # `s3` and `retries` hold settings of their own: those that are not given stay.
        config[name] = {**config.get(name, {}), **value} if isinstance(value, dict) else value
    return {**options, "config_kwargs": config}


def _attachment(filename: str) -> str:
    plain = filename.encode("ascii", "replace").decode().replace("?", "_")
    plain = "".join("_" if char in '"\\/' or not char.isprintable() else char for char in plain)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
