"""The bucket of the S3 store: where things are, and each change as one call.

<prefix>state/<id>             the manifest of an upload, replaced by compare-and-swap
<prefix>pieces/<id>/<random>   a segment: bytes that are not in a part yet; or a page of parts
<prefix>files/<destination>    objects that were handed over to the host
<prefix><key>                  the finished object, and the multipart upload it grows in
"""

import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
from anyio.to_thread import run_sync

from tusasgi.errors import (
    StoreUnavailable,
    UploadExists,
    UploadNotFound,
    UploadPending,
)
from tusasgi.models import Upload, check_upload_id
from tusasgi.stores import BytesLost, WriteConflict
from tusasgi.stores.s3.calls import in_turn, together
from tusasgi.stores.s3.client import Client
from tusasgi.stores.s3.failures import Conflict, Gone, NotModified
from tusasgi.stores.s3.keys import check_object_key, id_in
from tusasgi.stores.s3.manifest import (
    Integrity,
    Manifest,
    Page,
    Part,
    S3Object,
    Segment,
    copied_part,
    dump_manifest,
    dump_parts,
    load_manifest,
    load_parts,
    named_parts,
)
from tusasgi.stores.s3.recent import Recent
from tusasgi.stores.s3.rope import Rope

_PAGE_PARTS = 500
_SHORT = 512 * 1024  # bytes that are not worth another journey to be sent
_READ_SIZE = 256 * 1024
_RANGE_SIZE = 1024 * 1024
_SWAP_TRIES = 5
_PAUSE = 0.1  # seconds before a swap is repeated that met another one that failed


class DescribeFailed(RuntimeError):
    """The host's `describe` raised; its `__cause__` says what."""


class Bucket:
    """What the store does with its bucket.

    `recent` bounds how many bytes of manifests and segments are remembered, to be spared a call.
    `integrity` is that of what is begun from now on, and may change.
    """

    def __init__(
        self,
        client: Client,
        prefix: str,
        *,
        integrity: Integrity,
        describe: Callable[[Upload], S3Object],
        recent: int,
    ) -> None:
        self.client = client
        self.prefix = prefix
        self.integrity = integrity
        self._describe = describe
        self._manifests = Recent[Manifest](recent // 2)
        self._segments = Recent[Rope](recent // 2)

    # Manifests.

    async def create(self, upload: Upload) -> Manifest:
        """Write the first manifest, unless there is one."""
        manifest = Manifest(upload=_record_of(upload), commit=_random())
        for _ in range(_SWAP_TRIES):
            with contextlib.suppress(Conflict):
                return await self._put_manifest(manifest, IfNoneMatch="*")
            found = await self.find(upload.id)
            if found is not None and found.commit == manifest.commit:
                return found  # the answer to the first attempt was lost
            if found is not None:
                raise UploadExists("an upload with this id exists already")
            await anyio.sleep(_PAUSE)  # whoever it met has not come to its end
        raise StoreUnavailable("the object storage does not say whether the upload was created")

    async def read(self, upload_id: str) -> Manifest:
        """Return the manifest as it is now. Raises `UploadNotFound`."""
        found = await self.find(upload_id)
        if found is None:
            raise UploadNotFound()
        return found

    async def find(self, upload_id: str) -> Manifest | None:
        """Return the manifest as it is now, or None if there is no such upload."""
        key = self._manifest_key(upload_id)
        known = self._manifests.get(upload_id)
        condition = {} if known is None else {"IfNoneMatch": known.etag}
        try:
            answer, text = await self.client.read_small(key, **condition)
        except Gone:
            self._manifests.drop(upload_id)
            return None
        except NotModified:
            return known
        manifest = load_manifest(text, answer["ETag"])
        if manifest.upload.id != upload_id:
            raise ValueError("this manifest is a copy of that of another upload")
        return self._remembered(manifest, len(text))

    def known(self, upload_id: str) -> Manifest | None:
        """Return the newest manifest that this process has seen, without asking."""
        return self._manifests.get(check_upload_id(upload_id))

    async def swap(self, old: Manifest, new: Manifest) -> Manifest:
        """Replace a manifest. Raises `WriteConflict` if it is not the newest any more.

        One that differs only by what was told of the upload meanwhile is replaced all the same.
        """
        new = replace(new, upload=_record_of(new.upload), commit=_random(), previous=old.commit)
        for _ in range(_SWAP_TRIES):
            try:
                return await self._put_manifest(new, IfMatch=old.etag)
            except (Conflict, Gone):
                found = await self.read(new.upload.id)
            if found.commit == new.commit:  # the answer to the first attempt was lost
                return found
            if found.etag == old.etag:
                await anyio.sleep(_PAUSE)
            elif found.follows_by_telling(old):
                new = new.rebased(old, found)
                old = found
            else:
                break
        raise overtaken()

    async def check_newest(self, manifest: Manifest) -> None:
        """Raise `WriteConflict` or `UploadNotFound` if a manifest was replaced or removed."""
        if (await self.read(manifest.upload.id)).etag != manifest.etag:
            raise overtaken()

    async def remove_manifest(self, upload_id: str) -> None:
        self._manifests.drop(upload_id)
        await self.client.call("delete_object", Key=self._manifest_key(upload_id))

    async def _put_manifest(self, manifest: Manifest, **condition: str) -> Manifest:
        body = dump_manifest(manifest)
        put = partial(
            self.client.call,
            "put_object",
            Key=self._manifest_key(manifest.upload.id),
            Body=_at_once(body),
            **await self._proof(body, self._required),
            **condition,
        )
        answer = await in_turn(put)
        return self._remembered(replace(manifest, etag=answer["ETag"]), body.weight)

    def _remembered(self, manifest: Manifest, size: int) -> Manifest:
        self._manifests.put(manifest.upload.id, manifest, size)
        return manifest

    def _manifest_key(self, upload_id: str) -> str:
        return f"{self.prefix}state/{check_upload_id(upload_id)}"

    # Segments and pages, which never change.

    async def put_segment(self, upload_id: str, content: Rope) -> Segment:
        """Store bytes of an upload in an object of their own."""
        key = await self._put_new(upload_id, content, self.integrity)
        self._segments.put(key, content, content.weight)
        return Segment(key=key, size=len(content))

    async def load(self, segments: Iterable[Segment]) -> Rope:
        """Return the bytes of segments, in their order."""
        found: dict[str, Rope] = {}

        async def load(segment: Segment) -> None:
            content = self._segments.get(segment.key)
            if content is None:
                content = Rope([await self._read_named(segment.key)])
            if len(content) != segment.size:
                raise OSError("a segment is not as long as it was when it was stored")
            found[segment.key] = content

        wanted = list(segments)
        await together([partial(load, segment) for segment in wanted])
        return Rope(chunk for segment in wanted for chunk in found[segment.key].chunks)

    async def paged(self, manifest: Manifest) -> tuple[Manifest, set[str]]:
        """Return a manifest whose oldest parts are written down elsewhere, so that it stays small.

        And the keys of the new pages.
        """
        made = set()
        while len(manifest.parts) > 2 * _PAGE_PARTS:
            page = await self._put_page(manifest.upload.id, manifest.parts[:_PAGE_PARTS])
            made.add(page.key)
            pages, parts = (*manifest.pages, page), manifest.parts[_PAGE_PARTS:]
            manifest = replace(manifest, pages=pages, parts=parts)
        return manifest, made

    async def all_parts(self, manifest: Manifest) -> list[Part]:
        parts: list[Part] = []
        for page in manifest.pages:
            parts += load_parts(json.loads(await self._read_named(page.key)))
        return [*parts, *manifest.parts]

    async def remove_unused(self, keys: Iterable[str]) -> None:
        """Remove what no manifest names any more; what fails is left to the sweeper."""
        with contextlib.suppress(StoreUnavailable):
            await self.remove(keys)

    async def remove(self, keys: Iterable[str]) -> None:
        """Remove segments and pages."""
        keys = sorted(keys)
        for key in keys:
            self._segments.drop(key)
        await self.client.delete(keys)

    async def remove_all(self, upload_id: str) -> None:
        """Remove all segments and pages of an upload, whether a manifest names them or not."""
        if keys := [found["Key"] async for found in self.client.listed(self._folder_of(upload_id))]:
            await self.remove(keys)

    def _folder_of(self, upload_id: str) -> str:
        return f"{self.prefix}pieces/{check_upload_id(upload_id)}/"

    async def _put_page(self, upload_id: str, parts: tuple[Part, ...]) -> Page:
        text = Rope([json.dumps(dump_parts(parts), separators=(",", ":")).encode()])
        key = await self._put_new(upload_id, text, self._required)
        return Page(key=key, count=len(parts))

    async def _put_new(self, upload_id: str, content: Rope, integrity: Integrity) -> str:
        key = f"{self._folder_of(upload_id)}{_random()}"
        proof = await self._proof(content, integrity)
        await self.client.transfer("put_object", Key=key, Body=_at_once(content), **proof)
        return key

    async def _read_named(self, key: str) -> bytes:
        try:
            return (await self.client.read(key))[1]
        except Gone:
            # It is removed only after a manifest that does not name it any more.
            raise overtaken() from None

    # The finished object, and the multipart upload that it grows in.

    def object_of(self, upload: Upload) -> S3Object:
        """Ask the host how an upload is to be stored: the one place that calls `describe`.

        Raises `DescribeFailed`, whatever the host raised: an error that it got from another
        upload must not look like one of this upload. `ValueError` for a key outside the rule.
        """
        try:
            stored = self._describe(upload)
        except Exception as failure:
            raise DescribeFailed("describe failed for an upload") from failure
        check_object_key(stored.key, upload.id)
        return stored

    def key_of(self, stored: S3Object) -> str:
        return f"{self.prefix}{stored.key}"

    async def start_multipart(self, manifest: Manifest, stored: S3Object) -> Manifest:
        """Return the manifest with a multipart upload in which the object is to grow."""
        integrity = self.integrity
        algorithm = {"ChecksumAlgorithm": "CRC32"} if integrity == "crc32" else {}
        answer = await self.client.call(
            "create_multipart_upload", **self._described(stored), **algorithm
        )
        multipart_id = str(answer["UploadId"])
        return replace(manifest, object=stored, multipart_id=multipart_id, integrity=integrity)

    async def put_part(self, manifest: Manifest, number: int, content: Rope) -> Part:
        """Send a part. Raises `BytesLost` if the multipart upload was taken away."""
        proof = await self._proof(content, manifest.integrity)
        answer = await self._with_multipart(
            "upload_part", manifest, PartNumber=number, Body=content, **proof
        )
        return Part(number=number, etag=answer["ETag"], crc32=proof.get("ChecksumCRC32"))

    async def copy_part(
        self, manifest: Manifest, number: int, source: Manifest, start: int, stop: int
    ) -> Part:
        """Have the server copy a range of a finished object. Raises `Gone` without it."""
        assert source.object is not None
        copied = {"Bucket": self.client.bucket, "Key": self.key_of(source.object)}
        answer = await self._with_multipart(
            "upload_part_copy",
            manifest,
            PartNumber=number,
            CopySource=copied,
            CopySourceRange=f"bytes={start}-{stop - 1}",
        )
        return copied_part(number, answer)

    async def complete(self, manifest: Manifest) -> None:
        """Make the object of the parts; may be repeated."""
        parts = await self.all_parts(manifest)
        assert manifest.object is not None
        try:
            await self.client.call(
                "complete_multipart_upload",
                Key=self.key_of(manifest.object),
                UploadId=manifest.multipart_id,
                MultipartUpload=named_parts(parts),
            )
        except Gone:
            if await self.size_of(manifest.object) != manifest.offset:
                await self.check_newest(manifest)
                raise _taken_away() from None

    async def complete_new(self, manifest: Manifest, parts: list[Part]) -> None:
        """Make an object of these parts where there is none. Raises `Conflict` and `Gone`."""
        assert manifest.object is not None
        await self.client.call(
            "complete_multipart_upload",
            Key=self.key_of(manifest.object),
            UploadId=manifest.multipart_id,
            MultipartUpload=named_parts(parts),
            IfNoneMatch="*",
        )

    async def put_object(self, stored: S3Object, content: Rope, **condition: str) -> None:
        """Store a finished object in one call. Raises `Conflict` if the condition fails."""
        await self.client.transfer(
            "put_object",
            **self._described(stored),
            Body=_at_once(content),
            **await self._proof(content, self.integrity),
            **condition,
        )

    async def size_of(self, stored: S3Object) -> int | None:
        """Return the size of the finished object; None if there is none."""
        try:
            answer = await self.client.call("head_object", Key=self.key_of(stored))
        except Gone:
            return None
        return int(answer["ContentLength"])

    async def metadata_of(self, stored: S3Object) -> Mapping[str, str] | None:
        """Return the metadata of an object; None if there is none."""
        try:
            answer = await self.client.call("head_object", Key=self.key_of(stored))
        except Gone:
            return None
        metadata: Mapping[str, str] = answer["Metadata"]
        return metadata

    async def read_bytes(self, manifest: Manifest, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield bytes of an upload: of its object, or of what is to become that.

        Raises `UploadPending` if some are in parts still, which nobody can read, and `Gone` if
        the object is not there.
        """
        if start >= stop:
            return
        if manifest.rest_size == manifest.offset:
            rest = await self.load(manifest.segments) + manifest.tail
            for position in range(start, stop, _READ_SIZE):
                yield bytes(rest.between(position, min(position + _READ_SIZE, stop)))
            return
        if manifest.object is None:
            raise UploadPending("the bytes can be read once all of them are here")
        key = self.key_of(manifest.object)
        for position in range(start, stop, _RANGE_SIZE):
            # Range by range: a client that reads slowly holds no connection to S3.
            last = min(position + _RANGE_SIZE, stop) - 1
            _, data = await self.client.read(key, Range=f"bytes={position}-{last}")
            yield data

    async def content(self, manifest: Manifest, start: int, stop: int) -> Rope:
        """Return bytes of an upload at once."""
        return Rope([data async for data in self.read_bytes(manifest, start, stop)])

    async def abort_multiparts(self, upload_id: str, prefix: str) -> None:
        """Drop every multipart upload of an upload below a prefix, known or not."""
        async for found in self.client.multiparts(prefix):
            if id_in(found["Key"]) == upload_id:
                await self.abort(found["Key"], found["UploadId"])

    async def abort(self, key: str, multipart_id: str) -> None:
        with contextlib.suppress(Gone):
            await self.client.call("abort_multipart_upload", Key=key, UploadId=multipart_id)

    async def _with_multipart(
        self, operation: str, manifest: Manifest, **parameters: Any
    ) -> dict[str, Any]:
        assert manifest.object is not None
        key = self.key_of(manifest.object)
        try:
            return await self.client.transfer(
                operation, Key=key, UploadId=manifest.multipart_id, **parameters
            )
        except Gone as gone:
            if not gone.is_of_multipart:
                raise
        if (await self.read(manifest.upload.id)).multipart_id == manifest.multipart_id:
            raise _taken_away()
        raise overtaken()

    @property
    def _required(self) -> Integrity:
        """What goes along with what says where all bytes are."""
        return "md5" if self.integrity == "none" else self.integrity

    async def _proof(self, content: Rope, integrity: Integrity) -> dict[str, str]:
        """Return what has the server check that the bytes arrived as they were sent."""
        if integrity == "crc32":
            return {"ChecksumCRC32": await run_sync(content.crc32)}
        if integrity == "md5":
            return {"ContentMD5": await run_sync(content.md5)}
        return {}

    def _described(self, stored: S3Object) -> dict[str, Any]:
        described: dict[str, Any] = {
            "Key": self.key_of(stored),
            "ContentType": stored.content_type,
            "Metadata": dict(stored.metadata),
        }
        if stored.content_disposition is not None:
            described["ContentDisposition"] = stored.content_disposition
        return described


def overtaken() -> WriteConflict:
    return WriteConflict("another server has changed this upload meanwhile")


def _record_of(upload: Upload) -> Upload:
    return replace(upload, offset=0, version=None)


def _at_once(content: Rope) -> bytes | Rope:
    """Return a short body as bytes, which the client sends along with the head."""
    return bytes(content) if len(content) <= _SHORT else content


def _taken_away() -> BytesLost:
    # By a rule of the bucket, or by hand: it can never be complete, and must not look so.
    return BytesLost("the parts of this upload are no longer stored")


def _random() -> str:
    return uuid.uuid4().hex
