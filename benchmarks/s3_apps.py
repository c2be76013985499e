"""The apps that `s3` compares, behind one server.

    /drop/<name>   reads the body and drops it
    /raw/<name>    reads the body and sends it to S3 as one multipart upload, as well as we know
                   how: parts of 8 MiB, one filled while another is on its way
    /tus/…         TusApp with S3Store
    /calls         how many calls to S3 the store has made

Where S3 is, is told by S3_URL and the variables of AWS; S3_CHECK=0 spares the trial at the start.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from tusasgi import TusApp, Uploads
from tusasgi.stores.gathering import Buffer
from tusasgi.stores.s3 import S3Store
from tusasgi.stores.s3.client import CONFIGURATION, _Loop
from tusasgi.stores.s3.rope import Rope

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PART = 8 * 1024 * 1024
URL = os.environ["S3_URL"]
BUCKET = URL.removeprefix("s3://").partition("/")[0]
store = S3Store(URL, integrity="crc32", check=os.environ.get("S3_CHECK") != "0")
tus = TusApp(Uploads(store), prefix="/tus", downloads=True)
clients = AsyncExitStack()
opened: dict[str, Any] = {}
call = _Loop.call
calls = 0


async def counted(loop: _Loop, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
    global calls
    calls += 1
    return await call(loop, operation, parameters)


_Loop.call = counted  # type: ignore[method-assign, assignment]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan" or scope["path"].startswith("/tus"):
        await tus(scope, receive, send)
        return
    if scope["path"] == "/calls":
        await _answer(send, 200, str(calls).encode())
        return
    key = scope["path"].removeprefix("/")
    if key.startswith("drop/"):
        while (await receive()).get("more_body", False):
            pass
    elif scope["method"] == "DELETE":
        await (await _client()).delete_object(Bucket=BUCKET, Key=key)
    else:
        await _raw(key, receive)
    await _answer(send, 204)


async def _answer(send: Send, status: int, body: bytes = b"") -> None:
    headers = [(b"content-length", str(len(body)).encode())] if body else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _raw(key: str, receive: Receive) -> None:
    s3 = await _client()
    upload = await s3.create_multipart_upload(Bucket=BUCKET, Key=key, ChecksumAlgorithm="CRC32")
    named = {"Bucket": BUCKET, "Key": key, "UploadId": upload["UploadId"]}
    parts: list[dict[str, object]] = []

    async def send_part(number: int, content: Rope) -> None:
        proof = {"ChecksumCRC32": await asyncio.to_thread(content.crc32)}
        answer = await s3.upload_part(**named, PartNumber=number, Body=content, **proof)
        parts.append({"PartNumber": number, "ETag": answer["ETag"], **proof})

    buffer, running, more = Buffer(), None, True
    while more or buffer.size:
        while more and buffer.size < PART:
            message = await receive()
            buffer.add(message.get("body", b""))
            more = message.get("more_body", False)
        if running is not None:
            await running
        content = Rope(buffer.take(PART))
        running = asyncio.create_task(send_part(len(parts) + 1, content))
    if running is not None:
        await running
    await s3.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})


async def _client() -> Any:
    if not opened:
        making = get_session().create_client("s3", config=AioConfig(**CONFIGURATION))
        opened["s3"] = await clients.enter_async_context(making)
    return opened["s3"]
