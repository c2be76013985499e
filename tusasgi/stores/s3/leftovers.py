"""What servers that died or were overtaken have left in the bucket: a sweep removes it."""

import enum
from datetime import datetime, timedelta

from tusasgi.errors import StoreUnavailable, UploadNotFound
from tusasgi.stores import WriteConflict
from tusasgi.stores.s3.bucket import Bucket
from tusasgi.stores.s3.keys import id_in, owner_of
from tusasgi.stores.s3.manifest import Manifest

_UNDER_WAY_FOR = timedelta(days=1)  # after which what no manifest names counts as left behind


async def remove_leftovers(bucket: Bucket, now: datetime) -> None:
    """Remove what no manifest names, and has not been named for a day."""
    before = now - _UNDER_WAY_FOR
    fence = _Fence(bucket)
    await _remove_objects(bucket, fence, before)
    await _abort_multiparts(bucket, fence, before)


async def _remove_objects(bucket: Bucket, fence: "_Fence", before: datetime) -> None:
    """Remove segments and pages."""
    prefix = f"{bucket.prefix}pieces/"
    async for found in bucket.client.listed(prefix):
        key = found["Key"]
        upload_id = owner_of(key.removeprefix(prefix))
        if upload_id is None or found["LastModified"] >= before:
            continue
        if await fence.use_of(key, upload_id) is not _Use.NAMED:
            await bucket.remove([key])


async def _abort_multiparts(bucket: Bucket, fence: "_Fence", before: datetime) -> None:
    async for found in bucket.client.multiparts(bucket.prefix):
        key, multipart_id = found["Key"], found["UploadId"]
        if found["Initiated"] >= before:
            continue
        # Without a manifest it may be somebody else's.
        if await fence.use_of(multipart_id, id_in(key)) is _Use.UNNAMED:
            await bucket.abort(key, multipart_id)


class _Use(enum.Enum):
    """What becomes of something in the bucket."""

    NAMED = "a manifest names it, or may yet"
    UNNAMED = "its upload does not name it, and never will"
    UNKNOWN = "there is no such upload"


class _Fence:
    """Tells what no manifest names, and sees to it that none will."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._manifests: dict[str, Manifest | None] = {}
        self._fenced: set[str] = set()

    async def use_of(self, name: str, upload_id: str) -> _Use:
        try:
            manifest = await self._manifest(upload_id)
        except StoreUnavailable:
            raise
        except Exception:  # there is a manifest that cannot be read: as far as one can tell
            return _Use.NAMED
        if manifest is None:
            return _Use.UNKNOWN
        if name in manifest.names or name == manifest.multipart_id:
            return _Use.NAMED
        return _Use.UNNAMED if await self._is_fenced(manifest) else _Use.NAMED

    async def _is_fenced(self, manifest: Manifest) -> bool:
        """Replace the manifest by itself: a server that stood still can name nothing after that.

        False if another one was faster.
        """
        upload_id = manifest.upload.id
        if upload_id not in self._fenced:
            try:
                self._manifests[upload_id] = await self._bucket.swap(manifest, manifest)
            except (WriteConflict, UploadNotFound):
                return False
            self._fenced.add(upload_id)
        return True

    async def _manifest(self, upload_id: str) -> Manifest | None:
        if upload_id not in self._manifests:
            try:
                self._manifests[upload_id] = await self._bucket.read(upload_id)
            except UploadNotFound:
                self._manifests[upload_id] = None
        return self._manifests[upload_id]
