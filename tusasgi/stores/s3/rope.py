"""Bytes as they came, without joining them, in the shape of a file."""

import base64
import hashlib
import zlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

_PIECE = 256 * 1024


class Rope:
    """Chunks in a row that can be read like a file, and again from the start for a retry."""

    def __init__(self, chunks: Iterable[bytes | bytearray | memoryview] = ()) -> None:
        self.chunks = list(chunks)
        self._size = sum(map(len, self.chunks))
        self._position = 0

    def __len__(self) -> int:
        return self._size

    @property
    def weight(self) -> int:
        """How many bytes of memory it keeps from being given back."""
        return sum(map(_weight, self.chunks))

    def __bytes__(self) -> bytes:
        return b"".join(self.chunks)

    def __add__(self, other: "Rope") -> "Rope":
        return Rope([*self.chunks, *other.chunks])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rope):
            return NotImplemented
        return self is other or (len(self) == len(other) and bytes(self) == bytes(other))

    __hash__ = None  # type: ignore[assignment]

    def between(self, start: int, stop: int) -> "Rope":
        """Return some of it, without copying."""
        found = []
        for chunk in self.chunks:
            if start < min(stop, len(chunk)):
                found.append(memoryview(chunk)[start:stop])
            start, stop = max(0, start - len(chunk)), max(0, stop - len(chunk))
        return Rope(found)

    # What an HTTP client asks for.

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._size, self._position + size)
        found = bytes(self.between(self._position, stop))
        self._position = stop
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    async def __aiter__(self) -> AsyncIterator[bytes | bytearray | memoryview]:
        for chunk in self.chunks:
            if len(chunk) <= _PIECE:
                yield chunk
                continue
            # The event loop copies what the socket does not take at once.
            for start in range(0, len(chunk), _PIECE):
                yield memoryview(chunk)[start : start + _PIECE]

    # What a server compares.

    def md5(self) -> str:
        running = hashlib.md5(usedforsecurity=False)
        for chunk in self.chunks:
            running.update(chunk)
        return base64.b64encode(running.digest()).decode()

    def crc32(self) -> str:
        running = 0
        for chunk in self.chunks:
            running = zlib.crc32(chunk, running)
        return base64.b64encode(running.to_bytes(4, "big")).decode()


def _weight(chunk: bytes | bytearray | memoryview) -> int:
    whole: Any = chunk.obj if isinstance(chunk, memoryview) else chunk
    return len(whole)
