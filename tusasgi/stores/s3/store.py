"""Uploads in a bucket of an S3 server, through any number of servers of ours at once.

One small object holds the manifest of an upload and is replaced by compare-and-swap; bytes go into
equal parts of a multipart upload. `docs/s3.md` tells why nothing is lost on the way.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, get_args
from urllib.parse import quote

from tusasgi.arguments import check_callable, check_choice, check_integer, check_type
from tusasgi.errors import StoreUnavailable, UploadNotFound, UploadPending
from tusasgi.models import Upload, check_upload_id, is_upload_id, utc_now
from tusasgi.stores import PartLost, WriteConflict
from tusasgi.stores.s3.appending import Appender
from tusasgi.stores.s3.bucket import Bucket, DescribeFailed, overtaken
from tusasgi.stores.s3.budget import Budget
from tusasgi.stores.s3.check import Call, check_conditions
from tusasgi.stores.s3.checksums import compares_crc32
from tusasgi.stores.s3.client import CONFIGURATION, Client
from tusasgi.stores.s3.committing import Committer
from tusasgi.stores.s3.failures import Conflict, Gone
from tusasgi.stores.s3.handing_over import HandOver, handed_over_object
from tusasgi.stores.s3.joining import Joiner
from tusasgi.stores.s3.leftovers import remove_leftovers
from tusasgi.stores.s3.manifest import Integrity, Manifest, S3Object, is_done_by_size
from tusasgi.stores.s3.rope import Rope
from tusasgi.stores.s3.window import Window
from tusasgi.stores.s3.writer import Writer

__all__ = ["DescribeFailed", "S3Object", "S3Store"]

_MIB = 1024 * 1024
_LEAST_PART = 5 * _MIB  # what S3 takes


def _by_id(upload: Upload) -> S3Object:
    return S3Object(key=f"objects/{upload.id}")


class S3Store:
    """Keeps uploads in a bucket: `S3Store("s3://bucket/prefix")`.

    Supports termination, deferred lengths, concatenation, sweeping, reading, versions and hand-over
    (by a copy that the S3 server makes). Any number of servers may use the same prefix, without a
    common locker: each change of an upload is a compare-and-swap, and the newest request wins. The
    S3 server must honour `If-Match` and `If-None-Match` on PutObject; that is tried with the first
    connection (`check`).

    `describe` says under which key, with which content type and metadata the object of an upload
    is stored; it sees the facts of the inspection, and is asked when the first bytes are kept.
    What it raises is a failure of the host (`DescribeFailed`), and no refusal of the upload.
    `part_size` is the least size of a part in bytes. A running append holds one part that fills,
    and as many on their way as pay; `memory` bounds what all of them hold together, and as much
    again as `remembered` may be kept of manifests and short tails to be spared calls. `integrity`
    says what the server compares with the bytes it got: left to itself it is CRC32 where `check`
    finds that the server does, and MD5 elsewhere. `clock` says when bytes come, which dates of
    expiry follow from. Everything else is an option of s3fs (`endpoint_url`, `key`, `secret`,
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
        integrity: Integrity | Literal["auto"] = "auto",
        check: bool = True,
        clock: Callable[[], datetime] = utc_now,
        **options: Any,
    ) -> None:
        bucket, prefix = _parse_url(url)
        check_callable("describe", describe)
        check_integer("part_size", part_size, is_positive=True)
        if part_size < _LEAST_PART:
            raise ValueError("part_size must be at least 5 MiB, which is the least S3 takes")
        check_integer("memory", memory, is_positive=True)
        if memory < 2 * part_size:
            raise ValueError("memory must hold two parts")
        check_integer("remembered", remembered)
        check_choice("integrity", integrity, ("auto", *get_args(Integrity)))
        check_type("check", check, bool)
        check_callable("clock", clock)
        self._client = Client(bucket, _with_configuration(options), self._try if check else None)
        self._bucket = Bucket(
            self._client,
            prefix,
            integrity="md5" if integrity == "auto" else integrity,
            describe=describe,
            recent=remembered,
        )
        self._chooses_integrity = integrity == "auto"
        self._part_size = part_size
        self._clock = clock
        self._budget = Budget(memory)
        self._window = Window()

    @property
    def integrity(self) -> Integrity:
        """What the server compares with the bytes of what is begun from now on."""
        return self._bucket.integrity

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

    async def _try(self, call: Call) -> None:
        prefix = self._bucket.prefix
        await check_conditions(call, prefix)
        if self._chooses_integrity and await compares_crc32(
            call, bucket=self._client.bucket, prefix=prefix
        ):
            self._bucket.integrity = "crc32"

    async def create(self, upload: Upload) -> Upload:
        return (await self._bucket.create(upload)).as_upload()

    async def get(self, upload_id: str) -> Upload:
        return (await self._bucket.read(upload_id)).as_upload()

    async def latest(self, upload: Upload) -> Upload:
        known = self._bucket.known(upload.id)
        if known is None:  # it was removed, or there is no memory left for it
            return await self.get(upload.id)
        return known.as_upload()

    async def append(
        self,
        upload: Upload,
        chunks: AsyncIterable[bytes],
        *,
        staged: bool = False,
    ) -> Upload:
        manifest = await self._manifest_of(upload)
        appender = self._appender(manifest, upload, staged=staged)
        writer = Writer(appender, budget=self._budget, window=self._window)
        kept = (await writer.run(chunks)).as_upload()
        return replace(upload, version=kept.version) if kept.offset == manifest.offset else kept

    async def update(self, upload: Upload) -> Upload:
        try:
            manifest = await self._manifest_of(upload)
            new = replace(manifest, upload=upload)
            if upload.is_complete and manifest.offset == upload.length:
                new = self._completed(manifest, upload)
            new = await self._bucket.swap(manifest, new)
        except (WriteConflict, UploadNotFound):
            if upload.has_all_bytes:
                await self._remove_if_unwanted(upload)
            raise
        unnamed = {*manifest.names, *manifest.unused} - {*new.names, *new.unused}
        await self._bucket.remove_unused(unnamed)
        if new.has_leftover:
            await self._client.delete(list(new.unused))
            new = await self._bucket.swap(new, replace(new, unused=()))
        return new.as_upload()

    async def declare_length(self, upload: Upload, length: int) -> Upload:
        return await self.update(replace(upload, length=length))

    async def finish(self, upload: Upload) -> Upload:
        # What is not in a part is read for it, and a small upload is all in its manifest.
        async with self._budget.taken(min(upload.offset, self._part_size)):
            return await self._finish(upload)

    async def _finish(self, upload: Upload) -> Upload:
        manifest = await self._manifest_of(upload)
        if manifest.stored_size:
            return upload
        if manifest.multipart_id is None or manifest.offset == 0:
            await self._put_object(manifest, upload)
            return upload
        manifest = await self._sealed(manifest, upload)
        await self._bucket.complete(manifest)
        return replace(upload, version=manifest.etag)

    async def hand_over(self, upload: Upload) -> None:
        manifest = await self._manifest_of(upload)
        await HandOver(self._bucket, manifest, upload, self._budget).bring()

    async def take_back(self, upload: Upload) -> None:
        manifest = await self._manifest_of(upload)
        await HandOver(self._bucket, manifest, upload, self._budget).take_back()

    async def concat(self, upload: Upload) -> Upload:
        manifest = await self._manifest_of(upload)
        try:
            sources = [await self._bucket.read(part) for part in upload.parts]
        except UploadNotFound:
            raise PartLost from None
        committer = Committer(self._bucket, manifest, upload, least_part=self._part_size)
        joiner = Joiner(self._bucket, committer, upload, sources=sources, budget=self._budget)
        return (await joiner.run()).as_upload()

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
        manifest = await self._known(upload)
        if manifest.object is None or not manifest.upload.is_complete:
            raise UploadNotFound("the upload is not complete yet")
        answer = {}
        if filename is not None:
            answer["ResponseContentDisposition"] = _attachment(filename)
        if content_type is not None:
            answer["ResponseContentType"] = content_type
        key = self._bucket.key_of(manifest.object)
        return await self._client.link(key, seconds=seconds, **answer)

    def key(self, upload: Upload) -> str:
        """Return the key of the object that an upload is in once it is complete."""
        return self._bucket.key_of(self._bucket.object_of(upload))

    async def terminate(self, upload_id: str) -> None:
        manifest = await self._bucket.find(upload_id)
        if manifest is None:
            await self._bucket.remove_all(upload_id)
            return
        if manifest.upload.removal is None:
            # From here on nobody else can change it.
            removed = replace(manifest.upload, removal="terminated")
            manifest = await self._bucket.swap(manifest, replace(manifest, upload=removed))
        await self._remove_object(manifest)
        await self._bucket.remove_all(upload_id)
        await self._bucket.remove_manifest(upload_id)

    async def due(self, now: datetime) -> AsyncIterator[str]:
        prefix = f"{self._bucket.prefix}state/"
        async for found in self._client.listed(prefix):
            upload_id = found["Key"].removeprefix(prefix)
            if not is_done_by_size(found["Size"]) and await self._is_due(upload_id, now):
                yield upload_id
        await remove_leftovers(self._bucket, now)

    async def ids(self, *, after: str | None = None) -> AsyncGenerator[str, None]:
        prefix = f"{self._bucket.prefix}state/"
        behind = None if after is None else f"{prefix}{check_upload_id(after)}"
        async for found in self._client.listed(prefix, behind=behind):
            upload_id = found["Key"].removeprefix(prefix)
            if is_upload_id(upload_id):
                yield upload_id

    # The steps.

    def _completed(self, manifest: Manifest, upload: Upload) -> Manifest:
        """Return the manifest of an upload that is complete: its bytes are in an object."""
        own = manifest.object or self._bucket.object_of(upload)
        complete = replace(manifest, upload=upload, object=own).emptied()
        if not upload.is_handed_over:
            return complete
        target = handed_over_object(upload, own)
        left = manifest.unused if target.key == own.key else (self._bucket.key_of(own),)
        return replace(complete, object=target, unused=left)

    def _appender(self, manifest: Manifest, upload: Upload, *, staged: bool = False) -> Appender:
        return Appender(
            self._bucket,
            manifest,
            upload,
            least_part=self._part_size,
            clock=self._clock,
            staged=staged,
        )

    async def _remove_object(self, manifest: Manifest) -> None:
        """Remove the object of an upload, and the multipart uploads that it was to grow in."""
        upload = manifest.upload
        if upload.is_handed_over:
            await self._client.delete(list(manifest.unused))
        elif manifest.object is not None:
            key = self._bucket.key_of(manifest.object)
            await self._bucket.abort_multiparts(upload.id, key)
            await self._client.delete([key])
        elif upload.length is None or upload.length > self._part_size:
            # A server that died with the first bytes may have left one, under whatever key.
            await self._bucket.abort_multiparts(upload.id, self._bucket.prefix)

    async def _is_due(self, upload_id: str, now: datetime) -> bool:
        try:
            manifest = await self._bucket.read(upload_id)
            upload = manifest.as_upload()
        except UploadNotFound:
            return False  # removed meanwhile, or its name is none of ours
        except StoreUnavailable:
            raise
        except Exception:  # whoever looks after it finds out why, and goes on with others
            return True
        return upload.is_expired(now) or upload.is_due or manifest.has_leftover

    async def _known(self, upload: Upload) -> Manifest:
        """Return the manifest that an upload was read from if it is remembered, or the newest."""
        known = self._bucket.known(upload.id)
        if known is None or known.etag != upload.version:
            known = await self._bucket.read(upload.id)
        return known

    async def _manifest_of(self, upload: Upload) -> Manifest:
        """Return the manifest that an upload was read from; refuse one that was changed since."""
        known = await self._known(upload)
        if upload.version is not None and known.etag != upload.version:
            raise overtaken()
        return known

    async def _remove_if_unwanted(self, upload: Upload) -> None:
        """Remove an object that this server made while another one removed its upload."""
        manifest = await self._bucket.find(upload.id)
        if manifest is not None and (
            manifest.upload.removal is None or manifest.upload.is_handed_over
        ):
            return
        stored = None if manifest is None else manifest.object
        with contextlib.suppress(DescribeFailed):
            stored = stored or self._bucket.object_of(upload)
            await self._client.delete([self._bucket.key_of(stored)])
            if manifest is not None and upload.destination is not None:
                # Without a manifest it may have been complete, and what is there the host's.
                await HandOver(self._bucket, manifest, upload, self._budget).take_back()

    async def _put_object(self, manifest: Manifest, upload: Upload) -> None:
        """Store the object of an upload without parts."""
        stored = manifest.object or self._bucket.object_of(upload)
        content = await self._bucket.load(manifest.segments) + manifest.tail
        try:
            await self._bucket.put_object(stored, content, IfNoneMatch="*")
        except Conflict:
            # It was repeated, or the object belongs to another upload: this one was removed
            # while this server stood still, and its id is used again.
            await self._bucket.check_newest(manifest)
            await self._bucket.put_object(stored, content)

    async def _sealed(self, manifest: Manifest, upload: Upload) -> Manifest:
        """Return the manifest with all of its bytes in parts."""
        if manifest.rest_size == 0:
            return manifest
        appender = self._appender(manifest, upload)
        async with appender.cleaning_up():
            await appender.add_part(Rope())
            await appender.finish()
        return appender.committed


def _parse_url(url: str) -> tuple[str, str]:
    if not isinstance(url, str):
        raise TypeError(f"url must be s3://bucket or s3://bucket/prefix, not {url!r}")
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError(f"url must be s3://bucket or s3://bucket/prefix, not {url!r}")
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
