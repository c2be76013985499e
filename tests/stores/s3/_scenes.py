"""Every operation of the S3 store in a scene, and what has to be true after it was disturbed."""

import os
import random
import secrets
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
)
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

import anyio
import anyio.lowlevel
from anyio.to_thread import run_sync

from tests.services.s3 import S3Server
from tests.stores.s3._server import content_of, store_on
from tusasgi import StoreUnavailable, Upload, UploadNotFound
from tusasgi.stores.s3 import S3Store, writer
from tusasgi.stores.s3.client import Client
from tusasgi.stores.s3.window import Window
from tusasgi.testing.stores import NOW, new_upload

KIB, MIB = 1024, 1024 * 1024
PART = 5 * MIB
CONTENT = random.Random(1).randbytes(16 * MIB)
OTHER = random.Random(2).randbytes(16 * MIB)
"""What a second client sends, for the same places."""
THOROUGH = os.environ.get("TUSASGI_TEST_THOROUGH") == "1"


class Wrong(Exception):
    """What the chunks raise that are refused."""


@dataclass(kw_only=True)
class Scene:
    """An upload just before the operation."""

    upload: Upload
    content: bytes = b""
    """All bytes that the upload will have in the end."""
    acknowledged: int = 0
    """How many of them were acknowledged."""
    sent: int = 0
    """How many of them there may be afterwards at the most."""
    may_be_gone: bool = False
    is_contested: bool = False
    """True if another server works on it as well."""
    others: tuple[Upload, ...] = ()


Prepare = Callable[[S3Store], Awaitable[Scene]]
Run = Callable[[S3Store, Scene], Awaitable[object]]


@dataclass(frozen=True)
class Operation:
    name: str
    prepare: Prepare
    run: Run

    def __str__(self) -> str:
        return self.name


async def chunks_of(
    content: bytes, *, size: int = 256 * KIB, error: Exception | None = None
) -> AsyncGenerator[bytes]:
    for start in range(0, len(content), size):
        await anyio.lowlevel.checkpoint()
        yield content[start : start + size]
    if error is not None:
        raise error


async def appended(store: S3Store, upload: Upload, *contents: bytes, **options: Any) -> Upload:
    for content in contents:
        upload = await store.append(upload, chunks_of(content), **options)
    return upload


async def filled(store: S3Store, content: bytes, *sizes: int, **fields: Any) -> Upload:
    """Create an upload and add its bytes in appends of these sizes."""
    fields = {"expires": NOW, "length": len(content), **fields}
    upload = await store.create(new_upload(**fields))
    for size in sizes:
        upload = await appended(store, upload, content[upload.offset :][:size])
    return upload


async def completed(store: S3Store, upload: Upload) -> Upload:
    """Do what the engine does when all bytes are there."""
    upload = await store.finish(upload)
    return await store.update(replace(upload, is_complete=True))


async def swept(store: S3Store, *, days: int = 400) -> list[str]:
    """Sweep, and return what was found due."""
    return [upload_id async for upload_id in store.due(NOW + timedelta(days=days * 10))]


# Scenes.


async def _new(store: S3Store) -> Scene:
    return Scene(upload=new_upload(length=MIB, expires=NOW), content=CONTENT[:MIB])


async def _begun(store: S3Store, sizes: Iterable[int], length: int, more: int = 0) -> Scene:
    content = CONTENT[:length]
    upload = await filled(store, content, *sizes)
    acknowledged = sum(sizes)
    return Scene(
        upload=upload, content=content, acknowledged=acknowledged, sent=acknowledged + more
    )


def begun(*sizes: int, length: int, more: int) -> Prepare:
    """An upload that got these sizes in one append each, to which `more` bytes will be added."""
    return partial(_begun, sizes=sizes, length=length, more=more)


async def _deferred(store: S3Store) -> Scene:
    """An upload with a part and a tail, whose length was not known."""
    content = CONTENT[: PART + 300 * KIB]
    upload = await filled(store, content, len(content), length=None)
    upload = await store.declare_length(upload, len(content))
    return Scene(upload=upload, content=content, acknowledged=len(content), sent=len(content))


def _finished(*sizes: int) -> Prepare:
    async def prepare(store: S3Store) -> Scene:
        scene = await _begun(store, sizes, sum(sizes))
        scene.upload = await store.finish(scene.upload)
        return scene

    return prepare


def _removable(*sizes: int, length: int, is_complete: bool = False) -> Prepare:
    async def prepare(store: S3Store) -> Scene:
        scene = await _begun(store, sizes, length)
        if is_complete:
            scene.upload = await completed(store, scene.upload)
        scene.may_be_gone = True
        return scene

    return prepare


def _joinable(*sizes: int) -> Prepare:
    async def prepare(store: S3Store) -> Scene:
        content = CONTENT[: sum(sizes)]
        parts, start = [], 0
        for size in sizes:
            piece = content[start : start + size]
            part = await filled(store, piece, size, is_partial=True, expires=None)
            parts.append(await completed(store, part))
            start += size
        final = new_upload(length=len(content), parts=tuple(part.id for part in parts))
        final = await store.create(final)
        return Scene(upload=final, content=content, sent=len(content), others=tuple(parts))

    return prepare


# Operations.


async def _create(store: S3Store, scene: Scene) -> object:
    return await store.create(scene.upload)


async def _append(store: S3Store, scene: Scene, *, size: int = MIB, **options: Any) -> object:
    content = scene.content[scene.acknowledged : scene.sent]
    return await store.append(scene.upload, chunks_of(content, size=size), **options)


async def _refused(store: S3Store, scene: Scene, *, size: int = MIB, **options: Any) -> object:
    content = scene.content[scene.acknowledged : scene.sent]
    chunks = chunks_of(content, size=size, error=Wrong())
    try:
        await store.append(scene.upload, chunks, **options)
    except Wrong:
        kept = await store.get(scene.upload.id)
        assert scene.is_contested or kept.offset == scene.acknowledged, "refused bytes were kept"
    return None


def saving(run: Callable[..., Awaitable[object]]) -> Run:
    """Have what came saved at every opportunity, not every few seconds."""

    async def run_saving(store: S3Store, scene: Scene) -> object:
        with patch.multiple(writer, _FIRST_SAVE=0.0, _SAVE=0.0):
            return await run(store, scene, size=2 * MIB)

    return run_saving


async def _finish(store: S3Store, scene: Scene) -> object:
    return await store.finish(scene.upload)


async def _complete(store: S3Store, scene: Scene) -> object:
    return await store.update(replace(scene.upload, is_complete=True))


async def _terminate(store: S3Store, scene: Scene) -> object:
    return await store.terminate(scene.upload.id)


async def _concat(store: S3Store, scene: Scene) -> object:
    return await store.concat(scene.upload)


async def _sweep(store: S3Store, scene: Scene) -> object:
    return await swept(store)


_STAGED = partial(_append, staged=True)
_REFUSED_STAGED = partial(_refused, staged=True)

OPERATIONS = [
    Operation("create", _new, _create),
    Operation("append-short", begun(length=7 * MIB, more=100 * KIB), _append),
    Operation("append-segment", begun(length=7 * MIB, more=400 * KIB), _append),
    Operation("append-whole-small", begun(length=400 * KIB, more=400 * KIB), _append),
    Operation("append-parts", begun(length=11 * MIB, more=11 * MIB), _append),
    Operation(
        "append-onto-a-tail",
        begun(300 * KIB, 100 * KIB, length=7 * MIB, more=6 * MIB),
        _append,
    ),
    Operation("append-onto-parts", begun(6 * MIB, length=13 * MIB, more=7 * MIB), _append),
    Operation("append-staged", begun(300 * KIB, length=7 * MIB, more=6 * MIB), _STAGED),
    Operation("append-staged-onto-parts", begun(6 * MIB, length=13 * MIB, more=7 * MIB), _STAGED),
    Operation("append-saving", begun(300 * KIB, length=9 * MIB, more=8 * MIB), saving(_append)),
    Operation(
        "append-saving-onto-parts",
        begun(6 * MIB, length=13 * MIB, more=6 * MIB),
        saving(_append),
    ),
    Operation("refused-saving", begun(300 * KIB, length=9 * MIB, more=8 * MIB), saving(_refused)),
    Operation("refused-segments", begun(300 * KIB, length=7 * MIB, more=4 * MIB), saving(_refused)),
    Operation("refused", begun(300 * KIB, length=7 * MIB, more=6 * MIB), _refused),
    Operation("refused-onto-parts", begun(6 * MIB, length=13 * MIB, more=6 * MIB), _refused),
    Operation("refused-staged", begun(300 * KIB, length=7 * MIB, more=6 * MIB), _REFUSED_STAGED),
    Operation("finish-small", begun(300 * KIB, 1, length=300 * KIB + 1, more=0), _finish),
    Operation("finish-parts", begun(6 * MIB, length=6 * MIB, more=0), _finish),
    Operation("finish-with-a-tail", _deferred, _finish),
    Operation("complete-small", _finished(300 * KIB, 1), _complete),
    Operation("complete-parts", _finished(6 * MIB), _complete),
    Operation("terminate-small", _removable(300 * KIB, length=MIB), _terminate),
    Operation("terminate-parts", _removable(6 * MIB, length=13 * MIB), _terminate),
    Operation(
        "terminate-complete", _removable(6 * MIB, length=6 * MIB, is_complete=True), _terminate
    ),
    Operation("concat-short", _joinable(300 * KIB, MIB), _concat),
    Operation("concat", _joinable(6 * MIB, 7 * MIB), _concat),
    Operation("due", begun(300 * KIB, PART, length=6 * MIB, more=0), _sweep),
]
BY_NAME = {operation.name: operation for operation in OPERATIONS}


def moments(*, after: Collection[str], before: Collection[str]) -> list[tuple[str, str]]:
    """Return which operations are broken off after their calls, and which before them too.

    Before a call there is what was there after the one before, for all that call one by one.
    """
    return [
        (operation.name, moment)
        for operation in OPERATIONS
        for moment, names in (("before", before), ("after", after))
        if THOROUGH or operation.name in names
    ]


# What has to be true afterwards.


@dataclass
class Place:
    """A prefix in a bucket, the stores that work there, and what is really in it."""

    server: S3Server
    prefix: str
    endpoint: str | None = None
    options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self._clients: dict[str, Client] = {}

    def store(self, endpoint: str | None = None, *, name: str = "", **options: Any) -> S3Store:
        """Return a store that remembers nothing: another process.

        Those of one `name` share their connections, as it takes a while to make a client.
        """
        # Without the check nothing would be found out: CRC32 is what most servers get.
        found = {"part_size": PART, "check": False, "integrity": "crc32"}
        options = {**found, **(self.options or {}), **options}
        store = store_on(self.server, self.prefix, endpoint=endpoint or self.endpoint, **options)
        store._client = store._bucket.client = self._clients.setdefault(name, store._client)
        # As if it had been found that several parts at once pay: their order is more than one.
        store._window = Window(4)
        return store

    async def left(self) -> list[str]:
        """Return the names of all that is stored below the prefix, unfinished uploads too."""
        bucket, prefix = self.server.bucket, f"{self.prefix}/"
        keys = await run_sync(self.server.keys, bucket, prefix)
        multiparts = await run_sync(self.server.multiparts, bucket)
        return keys + [f"{key} (multipart)" for key, _ in multiparts if key.startswith(prefix)]

    async def check(self, scene: Scene) -> None:
        """Check what is stored after the operation, go on to the end, and remove everything."""
        store = self.store()
        upload_id = scene.upload.id
        try:
            upload = await store.get(upload_id)
        except UploadNotFound:
            assert scene.may_be_gone or scene.acknowledged == 0 == scene.sent, "it is gone"
            if scene.may_be_gone:
                return await self.check_removal(store, scene)
            upload = await store.create(scene.upload)
        if upload.removal is not None:
            assert scene.may_be_gone
            return await self.check_removal(store, scene)
        assert scene.acknowledged <= upload.offset <= scene.sent
        kept = await self.content(store, upload)
        assert kept == scene.content[: upload.offset], "other bytes than were sent"
        await self.check_end(store, upload, scene)
        return await self.check_removal(store, scene)

    async def content(self, store: S3Store, upload: Upload) -> bytes:
        """Return what is really there of an upload."""
        try:
            return await content_of(store, self.server, upload)
        except KeyError:  # there are no parts any more: they have become the object
            return await read(store, upload)

    async def check_end(self, store: S3Store, upload: Upload, scene: Scene) -> None:
        """Bring the upload to its end and compare all bytes."""
        if upload.parts and not upload.has_all_bytes:
            upload = await store.concat(upload)
        elif not upload.has_all_bytes:
            upload = await appended(store, upload, scene.content[upload.offset :])
        assert upload.has_all_bytes
        if not upload.is_complete:
            upload = await completed(store, upload)
        assert upload.is_complete
        found = await read(self.store(), upload)
        assert found == scene.content, "the object has other bytes than were sent"

    async def check_removal(
        self, store: S3Store, scene: Scene, *, but_objects: bool = False
    ) -> None:
        """Remove the uploads of the scene, sweep, and see that nothing is left of them."""
        for upload in (scene.upload, *scene.others):
            await store.terminate(upload.id)
            try:
                await store.get(upload.id)
            except UploadNotFound:
                continue
            raise AssertionError("what was terminated is still there")
        assert await swept(store) == []
        left = [
            name
            for name in await self.left()
            if not (but_objects and name.startswith(f"{self.prefix}/objects/"))
        ]
        assert left == [], left
        if but_objects:
            self.prefix = f"place-{secrets.token_hex(8)}"


async def read(store: S3Store, upload: Upload) -> bytes:
    return b"".join([data async for data in store.read(upload, 0, upload.offset)])


def new_place(server: S3Server, endpoint: str | None = None, **options: Any) -> Place:
    return Place(server, f"place-{secrets.token_hex(8)}", endpoint, options)


# The calls of a store, one by one.


class Killed(BaseException):
    """The process is gone: nothing after this happens in it."""


Listener = Callable[[int, str, dict[str, Any]], Awaitable[None]]


class Wire:
    """The way from one store to its server, where a test may stand.

    `before` is called with number (from 1), operation and parameters before a call is sent, and
    `after` when it took effect, before the store hears of it. What they raise reaches the store.
    """

    def __init__(self, store: S3Store) -> None:
        self.count = 0
        self.names: list[str] = []
        self.before: Listener | None = None
        self.after: Listener | None = None
        self.late_at = 0
        """The number of a call that the store is told has failed, and that `land` sends later."""
        self.is_dead = False
        self._store = store
        self._held: list[Callable[[], Awaitable[Any]]] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Wire"]:
        loop = await self._store._client._ready()
        self._run = loop.run
        loop.run = self._listen
        try:
            yield self
        finally:
            loop.run = self._run

    async def _listen(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        if function.__name__ not in ("call", "read"):
            return await self._run(function, *arguments)
        self._live()
        name = arguments[0] if function.__name__ == "call" else "get_object"
        self.count += 1
        number = self.count
        self.names.append(name)
        if self.before is not None:
            await self.before(number, name, arguments[-1])
        if number == self.late_at:
            self._held.append(partial(self._run, function, *arguments))
            raise StoreUnavailable("no answer came in time")
        try:
            return await self._run(function, *arguments)
        finally:
            if self.after is not None:
                await self.after(number, name, arguments[-1])
            self._live()

    async def land(self) -> None:
        """Let what was held arrive at the server now; nobody waits for the answer."""
        for call in self._held:
            with suppress(Exception):
                await call()

    def _live(self) -> None:
        if self.is_dead:
            raise Killed

    def kill(self) -> None:
        """Raise `Killed` here and at each call from now on."""
        self.is_dead = True
        raise Killed
