"""An S3 server inside the process: objects, conditions, multipart uploads, one step a call."""

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from tests.explorer._schedule import Schedule
from tusasgi import StoreUnavailable
from tusasgi.stores.s3.failures import Conflict, Gone, NotModified

_READS = {"get_object", "head_object", "list_objects_v2", "list_multipart_uploads"}


@dataclass(frozen=True)
class Stored:
    content: bytes
    etag: str
    modified: datetime


@dataclass
class Multipart:
    key: str
    begun: datetime
    parts: dict[int, Stored] = field(default_factory=dict)


class Server:
    """The server: each method is an operation of the SDK, and takes effect at once."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.objects: dict[str, Stored] = {}
        self.multiparts: dict[str, Multipart] = {}
        self._clock = clock
        self._numbers = itertools.count(1)

    def _stored(self, body: Any) -> Stored:
        content = bytes(body)
        etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        return Stored(content, etag, self._clock())

    def put_object(
        self,
        *,
        Key: str,  # noqa: N803 (the SDK's names, here and below)
        Body: Any,  # noqa: N803
        IfMatch: str | None = None,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
        **_: Any,
    ) -> dict[str, Any]:
        now = self.objects.get(Key)
        if IfNoneMatch is not None and now is not None:
            raise Conflict("PreconditionFailed")
        if IfMatch is not None and now is None:
            raise Gone("NoSuchKey")
        if IfMatch is not None and now is not None and now.etag != IfMatch:
            raise Conflict("PreconditionFailed")
        self.objects[Key] = self._stored(Body)
        return {"ETag": self.objects[Key].etag}

    def get_object(
        self,
        *,
        Key: str,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
        Range: str | None = None,  # noqa: N803
        **_: Any,
    ) -> tuple[dict[str, Any], bytes]:
        if Key not in self.objects:
            raise Gone("NoSuchKey")
        found = self.objects[Key]
        if found.etag == IfNoneMatch:
            raise NotModified
        return {"ETag": found.etag}, _range_of(found.content, Range)

    def head_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        if Key not in self.objects:
            raise Gone("404")
        return {"ContentLength": len(self.objects[Key].content), "ETag": self.objects[Key].etag}

    def delete_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        self.objects.pop(Key, None)
        return {}

    def delete_objects(self, *, Delete: Mapping[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803
        for named in Delete["Objects"]:
            self.objects.pop(named["Key"], None)
        return {}

    def list_objects_v2(self, *, Prefix: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        contents = [
            {"Key": key, "Size": len(found.content), "LastModified": found.modified}
            for key, found in sorted(self.objects.items())
            if key.startswith(Prefix)
        ]
        return {"Contents": contents, "IsTruncated": False}

    def create_multipart_upload(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        upload_id = f"multipart-{next(self._numbers)}"
        self.multiparts[upload_id] = Multipart(Key, self._clock())
        return {"UploadId": upload_id}

    def upload_part(
        self,
        *,
        Key: str,  # noqa: N803
        UploadId: str,  # noqa: N803
        PartNumber: int,  # noqa: N803
        Body: Any,  # noqa: N803
        **_: Any,
    ) -> dict[str, Any]:
        part = self._multipart(Key, UploadId).parts[PartNumber] = self._stored(Body)
        return {"ETag": part.etag}

    def upload_part_copy(
        self,
        *,
        Key: str,  # noqa: N803
        UploadId: str,  # noqa: N803
        PartNumber: int,  # noqa: N803
        CopySource: Mapping[str, str],  # noqa: N803
        CopySourceRange: str,  # noqa: N803
        **_: Any,
    ) -> dict[str, Any]:
        _, content = self.get_object(Key=CopySource["Key"], Range=CopySourceRange)
        part = self._multipart(Key, UploadId).parts[PartNumber] = self._stored(content)
        return {"CopyPartResult": {"ETag": part.etag}}

    def complete_multipart_upload(
        self,
        *,
        Key: str,  # noqa: N803
        UploadId: str,  # noqa: N803
        MultipartUpload: Mapping[str, Any],  # noqa: N803
        **_: Any,
    ) -> dict[str, Any]:
        made = self._multipart(Key, UploadId)
        content = b""
        named = [(part["PartNumber"], part["ETag"]) for part in MultipartUpload["Parts"]]
        assert named == sorted(named), "InvalidPartOrder"
        for number, etag in named:
            part = made.parts[number]
            assert part.etag == etag, "InvalidPart"
            content += part.content
        self.objects[Key] = self._stored(content)
        del self.multiparts[UploadId]
        return {"ETag": self.objects[Key].etag}

    def abort_multipart_upload(self, *, Key: str, UploadId: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        self._multipart(Key, UploadId)
        del self.multiparts[UploadId]
        return {}

    def list_multipart_uploads(self, *, Prefix: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        uploads = [
            {"Key": found.key, "UploadId": upload_id, "Initiated": found.begun}
            for upload_id, found in self.multiparts.items()
            if found.key.startswith(Prefix)
        ]
        return {"Uploads": uploads, "IsTruncated": False}

    def _multipart(self, key: str, upload_id: str) -> Multipart:
        found = self.multiparts.get(upload_id)
        if found is None or found.key != key:
            raise Gone("NoSuchUpload")
        return found


class InProcess:
    """Stands for `tusasgi.stores.s3.client.Client`: the same methods, each call one step."""

    bucket = "bucket"

    def __init__(self, server: Server, schedule: Schedule) -> None:
        self._server = server
        self._schedule = schedule

    async def open(self) -> None: ...

    async def aclose(self) -> None: ...

    async def call(self, operation: str, **parameters: Any) -> Any:
        key = parameters.get("Key") or parameters.get("Prefix") or parameters.get("Delete")
        number = f" part {parameters['PartNumber']}" if "PartNumber" in parameters else ""
        condition = " if" if parameters.keys() & {"IfMatch", "IfNoneMatch"} else ""
        is_write = operation not in _READS
        return await self._schedule.call(
            f"{operation} {key}{number}{condition}",
            partial(getattr(self._server, operation), **parameters),
            # A name that is random is known to nobody else yet.
            is_private=operation == "put_object" and "/pieces/" in str(key),
            is_sent=is_write,
            failure=_away,
        )

    transfer = call

    async def read(self, key: str, **parameters: Any) -> tuple[dict[str, Any], bytes]:
        found: tuple[dict[str, Any], bytes] = await self.call("get_object", Key=key, **parameters)
        return found

    read_small = read

    async def listed(self, prefix: str) -> AsyncIterator[dict[str, Any]]:
        for found in (await self.call("list_objects_v2", Prefix=prefix))["Contents"]:
            yield found

    async def multiparts(self, prefix: str) -> AsyncIterator[dict[str, Any]]:
        for found in (await self.call("list_multipart_uploads", Prefix=prefix))["Uploads"]:
            yield found

    async def delete(self, keys: list[str]) -> None:
        if keys:
            await self.call("delete_objects", Delete={"Objects": [{"Key": key} for key in keys]})


def _away() -> Exception:
    return StoreUnavailable("the object storage is away")


def _range_of(content: bytes, asked: str | None) -> bytes:
    if asked is None:
        return content
    first, last = asked.removeprefix("bytes=").split("-")
    return content[int(first) : int(last) + 1]
