"""The bytes of one append on their way from a source to a store, judged as they pass."""

import time
from collections.abc import Callable

from anyio.to_thread import run_sync

from tusasgi.checksums import ALGORITHMS
from tusasgi.engine.rules import check_end, check_size
from tusasgi.errors import ChecksumMismatch
from tusasgi.models import Append, Checksum, Ending, Limits, Source, Upload

_PROGRESS_INTERVAL = 1.0  # seconds
_LONG_CHUNK = 256 * 1024  # hashing more than this at once would hold up the event loop


class CutShort(Exception):
    """The source ended before all bytes had come that its checksum is for."""


class Chunks:
    """The chunks of a source; the first can be seen before they are taken.

    The iteration raises as soon as more bytes come than `upload` can take, and at the end if the
    append says that it is another one: then nothing of it is to be kept. With a checksum it ends
    only if all bytes came and it is theirs; else it raises `ChecksumMismatch`, or `CutShort`. Once
    a second `progressed` is told how far the upload has come.
    """

    def __init__(
        self,
        source: Source,
        upload: Upload,
        append: Append,
        limits: Limits,
        progressed: Callable[[Upload], None],
    ) -> None:
        self._source = source
        self._iterator = aiter(source)
        self._upload = upload
        self._append = append
        self._limits = limits
        self._checksum = append.checksum
        self._hash = None if self._checksum is None else ALGORITHMS[self._checksum.algorithm]()
        self._head: list[bytes] = []
        self._size = 0
        self._progressed = progressed
        self._next_progress = time.monotonic() + _PROGRESS_INTERVAL

    @property
    def have_come(self) -> bool:
        """True once a byte came, whether it was right or not."""
        return self._size > 0

    @property
    def is_whole(self) -> bool:
        """True once all bytes came that the client sends with this request."""
        return self._source.ending is Ending.COMPLETE

    @property
    def is_cut(self) -> bool:
        """True once the source ended in any other way."""
        return self._source.ending is not None and not self.is_whole

    @property
    def is_over(self) -> bool:
        """True once no more chunks follow; it may be False and none follow all the same."""
        return self._source.ending is not None and not self._head

    def __aiter__(self) -> "Chunks":
        return self

    async def __anext__(self) -> bytes:
        if self._head:
            return self._head.pop()
        try:
            chunk = await anext(self._iterator)
        except StopAsyncIteration:
            self._check_end()
            raise
        self._size += len(chunk)
        check_size(self._size, self._upload, self._limits)
        if time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + _PROGRESS_INTERVAL
            self._progressed(self._upload.at(self._upload.offset + self._size))
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

    def _check_end(self) -> None:
        if self._checksum is not None and self._hash is not None:
            self._check_digest(self._checksum, self._hash.digest())
        if self.is_whole:
            check_end(self._size, self._upload, self._append)

    def _check_digest(self, checksum: Checksum, digest: bytes) -> None:
        if not self.is_whole:
            raise CutShort
        if digest != checksum.digest:
            raise ChecksumMismatch(
                f"the bytes have another {checksum.algorithm} than the request says"
            )
