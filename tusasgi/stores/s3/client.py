"""The calls to an S3 server: one client per event loop, and what its errors mean.

s3fs holds the configuration and the session; the calls go to its client. The methods of s3fs
itself drop parameters that they do not know without a word, a condition among them.
"""

import asyncio
import base64
import contextlib
import hashlib
import io
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from aiobotocore.session import AioSession
from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.to_thread import run_sync
from s3fs import S3FileSystem

from tusasgi.errors import StoreUnavailable
from tusasgi.stores.s3.failures import GONE, translated

T = TypeVar("T")

_TRANSFERS = 32  # bodies on the way at once; a slot is held only while S3 is spoken to
_LONG = ("complete_multipart_upload", "upload_part_copy")  # which may take a while
_PATIENCE = 30  # seconds for all others, with their repetitions
_SLOWEST = 64 * 1024  # bytes of a body per second; a server that is slower counts as away
_PAUSES = (0.1, 0.5, 2.0)  # seconds before a cut answer is asked for again
_RESERVED = 16  # connections for everything else, which is small and must not wait for bodies
CONFIGURATION: Mapping[str, Any] = {
    "signature_version": "s3v4",  # links would be signed by version 2 without a region
    # Checksums that many servers do not know; ours are sent on purpose.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
    "retries": {"mode": "standard", "total_max_attempts": 4},
    "max_pool_connections": _TRANSFERS + _RESERVED,
    "connect_timeout": 5,
    "read_timeout": 60,  # a completion may be silent for long
    # The body is a rope, hashed by ourselves where it is to be.
    "s3": {"payload_signing_enabled": False},
}


class Client:
    """Calls on one bucket, from any event loop and from trio.

    `check` gets what calls an operation before the first call is made, and raises if the server
    cannot be relied on.

    An S3 client belongs to the asyncio loop that it was made in: each loop gets one with its
    first call. Under trio the calls run in an asyncio loop of their own in a thread.
    """

    def __init__(
        self,
        bucket: str,
        options: Mapping[str, Any],
        check: Callable[[Callable[..., Awaitable[dict[str, Any]]]], Awaitable[None]] | None = None,
    ) -> None:
        self.bucket = bucket
        self._check = check
        self._session = _Session(options)
        self._loops: dict[object, _Loop] = {}
        self._lock = threading.Lock()

    async def open(self) -> None:
        """Make ready to call, and see that the server does what it has to."""
        loop = await self._ready()
        await loop.run(loop.opened)

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation by its name in the SDK.

        Raises `Gone`, `Conflict`, `NotModified`, `StoreFull`, `StoreUnavailable` for everything
        that time may heal, and the error of the SDK for what it will not.
        """
        return await self._ask(await self._ready(), operation, **parameters)

    async def transfer(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation with a long body, when there is a slot for it."""
        loop = await self._ready()
        async with loop.slots:
            return await loop.run(loop.call, operation, {"Bucket": self.bucket, **parameters})

    async def read(self, key: str, **parameters: Any) -> tuple[dict[str, Any], bytes]:
        """Return the answer to GetObject and the whole object, when there is a slot for it."""
        loop = await self._ready()
        async with loop.slots:
            return await loop.run(loop.read, {"Bucket": self.bucket, "Key": key, **parameters})

    async def read_small(self, key: str, **parameters: Any) -> tuple[dict[str, Any], bytes]:
        """Return the same at once: what is small does not wait for long bodies."""
        loop = await self._ready()
        return await loop.run(loop.read, {"Bucket": self.bucket, "Key": key, **parameters})

    async def listed(
        self, prefix: str, *, behind: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield what stands under a prefix, as ListObjectsV2 tells it, behind that key if given."""
        more: dict[str, Any] = {} if behind is None else {"StartAfter": behind}
        while True:
            answer = await self.call("list_objects_v2", Prefix=prefix, **more)
            for found in answer.get("Contents", []):
                yield found
            following = {"ContinuationToken": answer.get("NextContinuationToken")}
            # Some servers give the same page for ever.
            if not answer.get("IsTruncated") or following in (more, {"ContinuationToken": None}):
                return
            more = following

    async def multiparts(self, prefix: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the unfinished multipart uploads whose keys begin with a prefix."""
        more: dict[str, Any] = {}
        seen: set[tuple[str, str]] = set()
        while True:
            answer = await self.call("list_multipart_uploads", Prefix=prefix, **more)
            news = [
                found
                for found in answer.get("Uploads", [])
                if (found["Key"], found["UploadId"]) not in seen
            ]
            for found in news:
                seen.add((found["Key"], found["UploadId"]))
                yield found
            # Some servers give the same page for ever.
            if not news or not answer.get("IsTruncated"):
                return
            more = {
                "KeyMarker": answer.get("NextKeyMarker", news[-1]["Key"]),
                "UploadIdMarker": answer.get("NextUploadIdMarker", news[-1]["UploadId"]),
            }

    async def delete(self, keys: list[str]) -> None:
        """Remove objects; those that are not there count as removed."""
        for start in range(0, len(keys), 1000):
            names = [{"Key": key} for key in keys[start : start + 1000]]
            answer = await self.call("delete_objects", Delete={"Objects": names, "Quiet": True})
            failed = [e for e in answer.get("Errors", []) if e.get("Code") not in GONE]
            if failed:
                raise StoreUnavailable("the object storage did not remove everything")

    async def link(self, key: str, *, seconds: int, **parameters: Any) -> str:
        """Return a signed URL to GET an object for as many seconds. Asks nobody."""
        loop = await self._ready()
        return await loop.run(loop.link, {"Bucket": self.bucket, "Key": key, **parameters}, seconds)

    async def aclose(self) -> None:
        """Close the connections of this event loop. The next call opens new ones."""
        with self._lock:
            loop = self._loops.pop(_loop_key(), None)
        if loop is not None:
            await loop.aclose()

    async def _ready(self) -> "_Loop":
        """Return the client of this event loop, once it is known that it can be relied on."""
        loop = self._loop()
        if self._check is not None:
            async with loop.checking:
                if self._check is not None:
                    await self._check(partial(self._ask, loop))
                    self._check = None
        return loop

    async def _ask(self, loop: "_Loop", operation: str, **parameters: Any) -> dict[str, Any]:
        return await loop.run(loop.call, operation, {"Bucket": self.bucket, **parameters})

    def _loop(self) -> "_Loop":
        key = _loop_key()
        with self._lock:
            if key not in self._loops:
                kind = _Loop if isinstance(key, asyncio.AbstractEventLoop) else _BridgedLoop
                self._loops[key] = kind(self._session)
            return self._loops[key]


def _loop_key() -> object:
    """Return the event loop of asyncio that runs, or what stands for the loop of trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return anyio.lowlevel.current_token()


class _Session:
    """What clients share: the SDK's description of S3, which takes a while to read."""

    _shared: Any = None
    _lock = threading.Lock()

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    async def filesystem(self) -> S3FileSystem:
        """Return what makes a client, without reading files in the event loop."""
        await run_sync(self._prepare)
        return self._new()

    def _prepare(self) -> None:
        with _Session._lock:
            if _Session._shared is None:
                _Session._shared = AioSession()
                # What the first client reads is kept by the session.
                asyncio.run(self._read_files())

    async def _read_files(self) -> None:
        client = await self._new().set_session()
        await client.close()

    def _new(self) -> S3FileSystem:
        return S3FileSystem(
            asynchronous=True,
            skip_instance_cache=True,
            **{"session": _Session._shared, **self._options},
        )


class _Loop:
    """The client of one asyncio event loop."""

    def __init__(self, session: _Session) -> None:
        self.slots = anyio.Semaphore(_TRANSFERS)
        self.checking = anyio.Lock()
        self._session = session
        self._opening = asyncio.Lock()  # the client is always in an asyncio loop
        self._filesystem: Any = None
        self._client: Any = None
        self._open = AsyncExitStack()

    async def run(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        return await function(*arguments)

    async def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        client = await self.opened()
        # The SDK's own timeout runs only once a whole body was sent: a server that stops taking
        # it, or never asks for it (`100 Continue`), would hold the call for ever.
        patience = 2 * client.meta.config.read_timeout
        if operation not in _LONG:
            patience = min(patience, _PATIENCE)
        patience += len(parameters.get("Body", b"")) / _SLOWEST
        with translated():
            async with asyncio.timeout(patience):
                answer: dict[str, Any] = await getattr(client, operation)(**parameters)
                return answer

    async def read(self, parameters: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        # The SDK repeats a call as well, but only until the body of its answer begins.
        for pause in _PAUSES:
            answer = await self.call("get_object", parameters)
            with contextlib.suppress(StoreUnavailable):
                return answer, await _body_of(answer)
            await asyncio.sleep(pause)
        answer = await self.call("get_object", parameters)
        return answer, await _body_of(answer)

    async def link(self, parameters: dict[str, Any], seconds: int) -> str:
        client = await self.opened()
        url: str = await client.generate_presigned_url(
            "get_object", Params=parameters, ExpiresIn=seconds
        )
        return url

    async def aclose(self) -> None:
        await self._open.aclose()
        self._client = None

    async def opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                # It closes its client when nobody refers to it any more.
                self._filesystem = await self._session.filesystem()
                self._client = await self._filesystem.set_session()
                self._client.meta.events.register("before-sign.s3.DeleteObjects", _add_md5)
                self._client.meta.events.register("before-sign.s3.PutObject", _send_at_once)
                self._open.push_async_callback(self._client.close)
        return self._client


class _BridgedLoop(_Loop):
    """The same for trio: the client lives in an asyncio loop of its own, in a thread."""

    def __init__(self, session: _Session) -> None:
        super().__init__(session)
        self._thread = ExitStack()
        self._portal: BlockingPortal = self._thread.enter_context(start_blocking_portal("asyncio"))
        # One thread for each call that waits, which are no more than there are connections.
        self._waiting = anyio.CapacityLimiter(_TRANSFERS + _RESERVED)

    async def run(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        future = self._portal.start_task_soon(function, *arguments)
        try:
            return await run_sync(future.result, abandon_on_cancel=True, limiter=self._waiting)
        finally:
            future.cancel()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.run(super().aclose)
            await run_sync(self._thread.close)


def _add_md5(request: Any, **about: object) -> None:
    """Prove DeleteObjects as every server knows it, without the newer checksum of the SDK.

    Some servers refuse a header that they do not know.
    """
    for name in list(request.headers):
        if name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum-")):
            del request.headers[name]
    proof = hashlib.md5(request.data, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(proof).decode()


def _send_at_once(request: Any, **about: object) -> None:
    """Have bytes sent along with the head, and only a rope once the server has asked for it.

    That takes another journey (`100 Continue`), which is worth it for a long body alone.
    """
    if isinstance(request.data, io.BytesIO):  # what the SDK makes of bytes
        del request.headers["Expect"]


async def _body_of(answer: dict[str, Any]) -> bytes:
    with translated():
        async with answer["Body"] as body:
            content: bytes = await body.read()
            return content
