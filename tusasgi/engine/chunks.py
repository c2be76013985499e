"""The bytes of one append on their way from a source to a store, judged as they pass."""

import math

from anyio.to_thread import run_sync

from tusasgi.checksums import ALGORITHMS
from tusasgi.errors import ChecksumMismatch, TooLarge
from tusasgi.models import Checksum, Ending, Source

_LONG_CHUNK = 256 * 1024  # hashing more than this at once would hold up the event loop


class Unverified(Exception):
    """The source ended before all bytes had come that its checksum is for."""


class Chunks:
    """The chunks of a source, none past `room`; the first can be seen before they are taken.

    With a `checksum` the iteration ends only if all bytes came and it is theirs; else it raises
    `ChecksumMismatch`, or `Unverified` where the source was cut.
    """

    def __init__(
        self, source: Source, *, room: int | None, checksum: Checksum | None = None
    ) -> None:
        self._source = source
        self._iterator = aiter(source)
        self._room = math.inf if room is None else room
        self._checksum = checksum
        self._hash = None if checksum is None else ALGORITHMS[checksum.algorithm]()
        self._head: list[bytes] = []
        self.have_come = False
        """True once a byte came, whether it was right or not."""

    def __aiter__(self) -> "Chunks":
        return self

    async def __anext__(self) -> bytes:
        if self._head:
            return self._head.pop()
        try:
            chunk = await anext(self._iterator)
        except StopAsyncIteration:
            self._verify()
            raise
        self.have_come = True
        self._room -= len(chunk)
        if self._room < 0:
            raise TooLarge("the body runs past the end of the upload")
        if self._hash is not None:
            if len(chunk) > _LONG_CHUNK:
                await run_sync(self._hash.update, chunk)
            else:
                self._hash.update(chunk)
        return chunk

    async def head(self, size: int) -> bytes:
        """Return the first bytes, `size` or more of them if so many come; they stay in line."""
        head = bytearray()
        chunks: list[bytes] = []
        while len(head) < size:
            try:
                chunks.append(await anext(self))
            except StopAsyncIteration:
                break
            head += chunks[-1]
        self._head = chunks[::-1]
        return bytes(head)

    async def verify(self) -> None:
        """Read on to the end and drop it all, if only the end tells whether it is right."""
        if self._checksum is not None:
            async for _ in self:
                pass

    def _verify(self) -> None:
        if self._checksum is None or self._hash is None:
            return
        if self._source.ending is not Ending.COMPLETE:
            raise Unverified
        if self._hash.digest() != self._checksum.digest:
            raise ChecksumMismatch(
                f"the bytes have another {self._checksum.algorithm} than Upload-Checksum says"
            )
