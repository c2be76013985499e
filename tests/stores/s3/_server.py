"""Stores on the S3 servers of the tests, and what is really stored there."""

from typing import Any

import anyio.to_thread

from tests.services.s3 import S3Server
from tusasgi import Upload
from tusasgi.stores.s3 import S3Store


def store_on(
    server: S3Server, prefix: str, *, endpoint: str | None = None, **options: Any
) -> S3Store:
    return S3Store(
        f"s3://{server.bucket}/{prefix}",
        endpoint_url=endpoint or server.endpoint,
        key=server.key,
        secret=server.secret,
        client_kwargs={"region_name": server.region},
        **options,
    )


async def content_of(store: S3Store, server: S3Server, upload: Upload) -> bytes:
    """Return the bytes up to the offset as the server has them, unfinished parts too."""
    manifest = await store._bucket.read(upload.id)
    if manifest.multipart_id is None:
        return b"".join([data async for data in store.read(upload, 0, upload.offset)])
    assert manifest.object is not None
    found = []
    for part in await store._bucket.all_parts(manifest):
        found.append(
            await anyio.to_thread.run_sync(
                server.unfinished_part,
                server.bucket,
                store._bucket.key_of(manifest.object),
                manifest.multipart_id,
                part.number,
            )
        )
    rest = await store._bucket.load(manifest.segments) + manifest.tail
    content = b"".join(found)
    assert len(content) == manifest.parts_size
    return (content + bytes(rest))[: upload.offset]
