"""Whether an S3 server compares CRC32 with what it got: tried before it is relied on."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from botocore.exceptions import ClientError

from tusasgi.stores.s3.check import Call
from tusasgi.stores.s3.failures import Damaged
from tusasgi.stores.s3.manifest import Part, copied_part, named_parts
from tusasgi.stores.s3.rope import Rope

_CONTENT = b"as it was sent"
_RIGHT = Rope([_CONTENT]).crc32()
_WRONG = Rope([b"otherwise"]).crc32()


async def compares_crc32(call: Call, *, bucket: str, prefix: str) -> bool:
    """Write small objects to see that a wrong CRC32 is refused wherever the store sends one.

    False also for a server that cannot do some of it, or not for now: MD5 needs nothing of this.
    """
    # Where the sweeper finds them if this is broken off.
    folder = f"{prefix}pieces/check-{uuid.uuid4().hex}"
    source, copy = f"{folder}/{uuid.uuid4().hex}", f"{folder}/{uuid.uuid4().hex}"
    try:
        if not await _refuses_damage(partial(call, "put_object", Key=source)):
            return False
        if not await _makes_of_parts(call, source):
            return False
        await _make_of_copies(call, copy, {"Bucket": bucket, "Key": source})
    except Exception:  # of whatever kind: it says that one had better not rely on it
        return False
    finally:
        removed = {"Objects": [{"Key": source}, {"Key": copy}], "Quiet": True}
        with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
            await call("delete_objects", Delete=removed)
    return True


async def _makes_of_parts(call: Call, key: str) -> bool:
    """Make an object of a part; False if a damaged part is taken as well."""
    async with _multipart(call, key) as named:
        put = partial(call, "upload_part", PartNumber=1, **named)
        if not await _refuses_damage(put):
            return False
        answer = await put(Body=_CONTENT, ChecksumCRC32=_RIGHT)
        part = Part(number=1, etag=answer["ETag"], crc32=_RIGHT)
        await call("complete_multipart_upload", MultipartUpload=named_parts([part]), **named)
    return True


async def _make_of_copies(call: Call, key: str, source: dict[str, str]) -> None:
    """Make an object of a copied part, of which only the server knows the checksum."""
    async with _multipart(call, key) as named:
        answer = await call("upload_part_copy", PartNumber=1, CopySource=source, **named)
        part = copied_part(1, answer)
        await call("complete_multipart_upload", MultipartUpload=named_parts([part]), **named)


async def _refuses_damage(put: Call) -> bool:
    """Tell whether a body is refused that is not what its checksum says."""
    try:
        await put(Body=_CONTENT, ChecksumCRC32=_WRONG)
    except (Damaged, ClientError):
        return True
    return False


@asynccontextmanager
async def _multipart(call: Call, key: str) -> AsyncIterator[dict[str, Any]]:
    answer = await call("create_multipart_upload", Key=key, ChecksumAlgorithm="CRC32")
    named = {"Key": key, "UploadId": answer["UploadId"]}
    try:
        yield named
    finally:
        with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
            await call("abort_multipart_upload", **named)
