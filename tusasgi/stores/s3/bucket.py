"""The bucket of the S3 store: where things are, and each change as one call.

<prefix>state/<id>             the state of an upload, replaced by compare-and-swap
<prefix>pieces/<id>/<random>   bytes that are not in a part yet, and pages of parts
<prefix><key>                  the finished object, and the multipart upload it grows in
"""

import contextlib
import json
import re
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar

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
from tusasgi.stores.s3.client import Client, Conflict, Gone, NotModified, TooFast
from tusasgi.stores.s3.rope import Rope
from tusasgi.stores.s3.state import (
    Part,
    Piece,
    S3Object,
    State,
    dump_parts,
    dump_state,
    load_parts,
    load_state,
)

V = TypeVar("V")

Integrity = Literal["md5", "crc32", "none"]

_PAGE_PARTS = 500
_READ_SIZE = 256 * 1024
_RANGE_SIZE = 1024 * 1024
_SWAP_TRIES = 5
_TURN = 1.0  # seconds, after which the same key may be written again
_PAUSE = 0.1  # seconds before a swap is repeated that met another one that failed
_KEY_SEGMENT = re.compile(r"[^/\x00-\x1f\x7f]+")
_RANDOM = re.compile(r"[0-9a-f]{32}")
_LONGEST_KEY = 700  # bytes; S3 allows 1,024 with the prefix


class DescribeFailed(RuntimeError):
    """The host's `describe` raised; its `__cause__` says what."""


class Bucket:
    """What the store does with its bucket.

    `recent` bounds how many bytes of states and pieces are remembered, to be spared a call.
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
        self._integrity = integrity
        self._describe = describe
        self._states = Recent[State](recent // 2)
        self._pieces = Recent[Rope](recent // 2)

    # States.

    async def create(self, upload: Upload) -> State:
        """Write the first state, unless there is one."""
        state = State(upload=_record_of(upload), commit=_random())
        for _ in range(_SWAP_TRIES):
            with contextlib.suppress(Conflict):
                return await self._put_state(state, IfNoneMatch="*")
            with contextlib.suppress(UploadNotFound):  # whoever it met has not come to its end
                found = await self.read(upload.id)
                if found.commit == state.commit:  # the answer to the first attempt was lost
                    return found
                raise UploadExists("an upload with this id exists already")
            await anyio.sleep(_PAUSE)
        raise StoreUnavailable("the object storage does not say whether the upload was created")

    async def read(self, upload_id: str) -> State:
        """Return the state as it is now. Raises `UploadNotFound`."""
        key = self._state_key(upload_id)
        known = self._states.get(upload_id)
        condition = {} if known is None else {"IfNoneMatch": known.etag}
        try:
            answer, text = await self.client.read_small(key, **condition)
        except Gone:
            self._states.drop(upload_id)
            raise UploadNotFound() from None
        except NotModified:
            assert known is not None
            return known
        state = load_state(text, answer["ETag"])
        if state.upload.id != upload_id:
            raise ValueError("this state is a copy of that of another upload")
        return self._remembered(state, len(text))

    def known(self, upload_id: str) -> State | None:
        """Return the newest state that this process has seen, without asking."""
        return self._states.get(check_upload_id(upload_id))

    async def swap(self, old: State, new: State) -> State:
        """Replace a state. Raises `WriteConflict` if it is not the newest any more."""
        new = replace(new, upload=_record_of(new.upload), commit=_random(), previous=old.commit)
        for _ in range(_SWAP_TRIES):
            try:
                return await self._put_state(new, IfMatch=old.etag)
            except (Conflict, Gone):
                found = await self.read(new.upload.id)
            if found.commit == new.commit:  # the answer to the first attempt was lost
                return found
            if found.etag != old.etag:
                break
            await anyio.sleep(_PAUSE)
        raise WriteConflict("another server has changed this upload meanwhile")

    async def check_newest(self, state: State) -> None:
        """Raise `WriteConflict` or `UploadNotFound` if a state was replaced or removed."""
        if (await self.read(state.upload.id)).etag != state.etag:
            raise WriteConflict("another server has changed this upload meanwhile")

    async def remove_state(self, upload_id: str) -> None:
        self._states.drop(upload_id)
        await self.client.call("delete_object", Key=self._state_key(upload_id))

    async def _put_state(self, state: State, **condition: str) -> State:
        body = dump_state(state)
        put = partial(
            self.client.call,
            "put_object",
            Key=self._state_key(state.upload.id),
            Body=body,
            **await self._proof(body, is_truth=True),
            **condition,
        )
        answer = await in_turn(put)
        return self._remembered(replace(state, etag=answer["ETag"]), body.weight)

    def _remembered(self, state: State, size: int) -> State:
        self._states.put(state.upload.id, state, size)
        return state

    def _state_key(self, upload_id: str) -> str:
        return f"{self.prefix}state/{check_upload_id(upload_id)}"

    # Pieces.

    async def put_piece(self, upload_id: str, content: Rope, *, is_truth: bool = False) -> Piece:
        """Store bytes that never change under a name of their own."""
        piece = Piece(key=f"{self.pieces_of(upload_id)}{_random()}", size=len(content))
        proof = await self._proof(content, is_truth=is_truth)
        await self.client.transfer("put_object", Key=piece.key, Body=content, **proof)
        self._pieces.put(piece.key, content, content.weight)
        return piece

    async def load(self, pieces: Iterable[Piece]) -> Rope:
        """Return the bytes of pieces, in their order."""
        found: dict[str, Rope] = {}

        async def load(piece: Piece) -> None:
            content = self._pieces.get(piece.key)
            if content is None:
                content = Rope([await self._piece(piece.key)])
            if len(content) != piece.size:
                raise OSError("a piece of an upload is not as long as it was when it was stored")
            found[piece.key] = content

        wanted = list(pieces)
        await together([partial(load, piece) for piece in wanted])
        return Rope(chunk for piece in wanted for chunk in found[piece.key].chunks)

    async def _piece(self, key: str) -> bytes:
        try:
            return (await self.client.read(key))[1]
        except Gone:
            # It is removed only after a state that does not name it any more.
            raise WriteConflict("another server has changed this upload meanwhile") from None

    async def remove_unused(self, keys: Iterable[str]) -> None:
        """Remove pieces that no state names any more; what fails is left to the sweeper."""
        with contextlib.suppress(StoreUnavailable):
            await self.remove_pieces(keys)

    async def remove_pieces(self, keys: Iterable[str]) -> None:
        keys = sorted(keys)
        for key in keys:
            self._pieces.drop(key)
        await self.client.delete(keys)

    def pieces_of(self, upload_id: str) -> str:
        return f"{self.prefix}pieces/{check_upload_id(upload_id)}/"

    async def paged(self, state: State) -> tuple[State, set[str]]:
        """Return a state whose oldest parts are written down elsewhere, so that it stays small.

        And the keys of what was written.
        """
        made = set()
        while len(state.parts) > 2 * _PAGE_PARTS:
            oldest = state.parts[:_PAGE_PARTS]
            text = json.dumps(dump_parts(oldest), separators=(",", ":")).encode()
            piece = await self.put_piece(state.upload.id, Rope([text]), is_truth=True)
            made.add(piece.key)
            page = replace(piece, size=len(oldest))
            state = replace(state, pages=(*state.pages, page), parts=state.parts[_PAGE_PARTS:])
        return state, made

    async def all_parts(self, state: State) -> list[Part]:
        parts: list[Part] = []
        for page in state.pages:
            parts += load_parts(json.loads(await self._piece(page.key)))
        return [*parts, *state.parts]

    # The finished object, and the multipart upload that it grows in.

    def object_of(self, upload: Upload) -> S3Object:
        """Ask the host how an upload is to be stored: the one door to `describe`.

        Raises `DescribeFailed`, whatever the host raised: an error that it got from another
        upload must not look like one of this upload. `ValueError` for a key outside the rule.
        """
        try:
            stored = self._describe(upload)
        except Exception as failure:
            raise DescribeFailed("describe failed for an upload") from failure
        *folders, name = stored.key.split("/")
        if (
            not all(_KEY_SEGMENT.fullmatch(part) and part not in (".", "..") for part in folders)
            or not _KEY_SEGMENT.fullmatch(name)
            or id_in(name) != upload.id
            or len(stored.key.encode()) > _LONGEST_KEY
            or (folders and folders[0] in ("state", "pieces"))
        ):
            raise ValueError(
                "the key of an object must end in the id of its upload, with or without a "
                "suffix, have no empty segments, and not begin with state/ or pieces/"
            )
        return stored

    def key_of(self, stored: S3Object) -> str:
        return f"{self.prefix}{stored.key}"

    async def start_multipart(self, stored: S3Object) -> str:
        algorithm = {"ChecksumAlgorithm": "CRC32"} if self._integrity == "crc32" else {}
        answer = await self.client.call(
            "create_multipart_upload", **self._described(stored), **algorithm
        )
        return str(answer["UploadId"])

    async def put_part(self, state: State, number: int, content: Rope) -> Part:
        """Send a part. Raises `BytesLost` if the multipart upload was taken away."""
        proof = await self._proof(content)
        answer = await self._with_multipart(
            "upload_part", state, PartNumber=number, Body=content, **proof
        )
        return Part(number=number, etag=answer["ETag"], crc32=proof.get("ChecksumCRC32"))

    async def copy_part(
        self, state: State, number: int, source: State, start: int, stop: int
    ) -> Part:
        """Have the server copy a range of a finished object. Raises `Gone` without it."""
        assert source.object is not None
        copied = {"Bucket": self.client.bucket, "Key": self.key_of(source.object)}
        answer = await self._with_multipart(
            "upload_part_copy",
            state,
            PartNumber=number,
            CopySource=copied,
            CopySourceRange=f"bytes={start}-{stop - 1}",
        )
        result = answer["CopyPartResult"]
        return Part(number=number, etag=result["ETag"], crc32=result.get("ChecksumCRC32"))

    async def complete(self, state: State) -> None:
        """Make the object of the parts; may be repeated."""
        parts = [_named(part) for part in await self.all_parts(state)]
        assert state.object is not None
        try:
            await self.client.call(
                "complete_multipart_upload",
                Key=self.key_of(state.object),
                UploadId=state.multipart_id,
                MultipartUpload={"Parts": parts},
            )
        except Gone:
            if await self.size_of(state.object) != state.offset:
                await self.check_newest(state)
                raise _taken_away() from None

    async def put_object(self, stored: S3Object, content: Rope, **condition: str) -> None:
        """Store a finished object in one call. Raises `Conflict` if the condition fails."""
        await self.client.transfer(
            "put_object",
            **self._described(stored),
            Body=content,
            **await self._proof(content),
            **condition,
        )

    async def size_of(self, stored: S3Object) -> int | None:
        """Return the size of the finished object; None if there is none."""
        try:
            answer = await self.client.call("head_object", Key=self.key_of(stored))
        except Gone:
            return None
        return int(answer["ContentLength"])

    async def read_bytes(self, state: State, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield bytes of an upload: of its object, or of what is to become that.

        Raises `UploadPending` if some are in parts still, which nobody can read, and `Gone` if
        the object is not there.
        """
        if start >= stop:
            return
        if state.rest_size == state.offset:
            rest = await self.load(state.segments) + state.tail
            for position in range(start, stop, _READ_SIZE):
                yield bytes(rest.between(position, min(position + _READ_SIZE, stop)))
            return
        if state.object is None:
            raise UploadPending("the bytes can be read once all of them are here")
        key = self.key_of(state.object)
        for position in range(start, stop, _RANGE_SIZE):
            # Range by range: a client that reads slowly holds no connection to S3.
            last = min(position + _RANGE_SIZE, stop) - 1
            _, data = await self.client.read(key, Range=f"bytes={position}-{last}")
            yield data

    async def content(self, state: State, start: int, stop: int) -> Rope:
        """Return bytes of an upload at once."""
        return Rope([data async for data in self.read_bytes(state, start, stop)])

    async def abort_multiparts(self, upload_id: str, prefix: str) -> None:
        """Drop every multipart upload of an upload below a prefix, known or not."""
        async for found in self.client.multiparts(prefix):
            if id_in(found["Key"]) == upload_id:
                await self.abort(found["Key"], found["UploadId"])

    async def abort(self, key: str, multipart_id: str) -> None:
        with contextlib.suppress(Gone):
            await self.client.call("abort_multipart_upload", Key=key, UploadId=multipart_id)

    async def _with_multipart(
        self, operation: str, state: State, **parameters: Any
    ) -> dict[str, Any]:
        assert state.object is not None
        key = self.key_of(state.object)
        try:
            return await self.client.transfer(
                operation, Key=key, UploadId=state.multipart_id, **parameters
            )
        except Gone as gone:
            if gone.args != ("NoSuchUpload",):
                raise
        if (await self.read(state.upload.id)).multipart_id == state.multipart_id:
            raise _taken_away()
        raise WriteConflict("another server has changed this upload meanwhile")

    async def _proof(self, content: Rope, *, is_truth: bool = False) -> dict[str, str]:
        """Return what has the server check that the bytes arrived as they were sent.

        That of the truth, which tells where all bytes are, is not left out.
        """
        if self._integrity == "crc32":
            return {"ChecksumCRC32": await run_sync(content.crc32)}
        if self._integrity == "md5" or is_truth:
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


class Recent(Generic[V]):
    """The values used last, as many as have room in `limit` bytes together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._values: OrderedDict[str, tuple[V, int]] = OrderedDict()

    def get(self, key: str) -> V | None:
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: str, value: V, size: int) -> None:
        self.drop(key)
        if size > self._limit:
            return
        self._values[key] = (value, size)
        self._size += size
        while self._size > self._limit:
            self._size -= self._values.popitem(last=False)[1][1]

    def drop(self, key: str) -> None:
        if key in self._values:
            self._size -= self._values.pop(key)[1]


def id_in(key: str) -> str:
    """Return the id of the upload that a key of an object is for, if it is one of ours."""
    return key.rpartition("/")[2].partition(".")[0]


def piece_of(name: str) -> str | None:
    """Return the id of the upload that a piece is of, by its name below `pieces/`.

    None for the name of something that is not ours.
    """
    upload_id, _, rest = name.partition("/")
    return upload_id if _RANDOM.fullmatch(rest) else None


async def together(calls: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Make calls at the same time; raise the first failure as it is, with the others given up."""
    failures: list[Exception] = []

    async def run(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except Exception as failure:
            failures.append(failure)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(run, call)
    if failures:
        raise failures[0]


async def in_turn(put: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Write to a key that was just written: some servers take one write in a second."""
    for _ in range(_SWAP_TRIES - 1):
        with contextlib.suppress(TooFast):
            return await put()
        await anyio.sleep(_TURN)
    return await put()


def _record_of(upload: Upload) -> Upload:
    return replace(upload, offset=0, version=None)


def _named(part: Part) -> dict[str, Any]:
    named: dict[str, Any] = {"PartNumber": part.number, "ETag": part.etag}
    if part.crc32 is not None:
        named["ChecksumCRC32"] = part.crc32
    return named


def _taken_away() -> BytesLost:
    # By a rule of the bucket, or by hand: there is no way on, and it must not look complete.
    return BytesLost("the parts of this upload are no longer stored")


def _random() -> str:
    return uuid.uuid4().hex
