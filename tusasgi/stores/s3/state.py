"""What the S3 store knows of an upload: one immutable value, one object in the bucket.

    bytes 0 to offset  =  the parts, then the segments, then the tail

Everything that a state names is stored already and never changes. So whoever replaces the state
object (and only the holder of its last ETag can) replaces the truth, all at once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tusasgi.models import Upload
from tusasgi.stores.records import dump_record, load_record
from tusasgi.stores.s3.rope import Rope

_VERSION = 1
_MIB = 1024 * 1024
MOST_PARTS = 10_000
# Of the numbers for parts, so many are meant for bytes; the rest is spent where a server dies.
_PLANNED_PARTS = 6_500
_DOUBLE_EVERY = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Object:
    """How an upload is stored in the end.

    `key` is below the store's prefix; its last segment is the id of the upload, with or without
    a suffix that begins with a dot: `films/2026/<id>.mp4`. So no two uploads meet, and what is
    left behind can be told whose it is.
    """

    key: str
    content_type: str = "application/octet-stream"
    content_disposition: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part of a multipart upload; its number carries this content and never another."""

    number: int
    etag: str
    crc32: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """An object of ours that never changes: bytes of the upload, or a page of its parts."""

    key: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """The truth about one upload."""

    upload: Upload
    commit: str = ""
    """Random, new with each write: an answer that was lost can be told from another's write."""
    previous: str = ""
    """The commit of the state that this one has replaced."""
    object: S3Object | None = None
    """Decided with the first byte."""
    multipart_id: str | None = None
    pages: tuple[Piece, ...] = ()
    """Where the oldest parts are written down, `size` of them in each."""
    parts: tuple[Part, ...] = ()
    parts_size: int = 0
    part_size: int = 0
    """How long its parts are, in bytes; 0 while there are none."""
    used_to: int = 0
    """Part numbers up to this one may carry content already, known or unknown."""
    segments: tuple[Piece, ...] = ()
    tail: Rope = field(default_factory=Rope)
    unused: tuple[str, ...] = ()
    """Keys of pieces that are of no use any more; the next append removes them."""
    stored_size: int = 0
    """How many bytes the finished object has, once they are nowhere else any more."""
    etag: str = field(default="", compare=False)
    """Of the object that this was read from or written to."""

    @property
    def rest_size(self) -> int:
        """How many bytes are not in parts yet."""
        return sum(segment.size for segment in self.segments) + len(self.tail)

    @property
    def offset(self) -> int:
        return self.stored_size + self.parts_size + self.rest_size

    @property
    def names(self) -> set[str]:
        """The keys of all that is of use to this state alone."""
        return {piece.key for piece in (*self.pages, *self.segments)}

    @property
    def is_settled(self) -> bool:
        """True once no sweeper will have to look at it again."""
        upload = self.upload
        return upload.is_complete and upload.removal is None and not upload.can_expire

    def told(self) -> Upload:
        """Return the upload as the engine is to see it."""
        return replace(self.upload, offset=self.offset, version=self.etag)

    def emptied(self) -> "State":
        """Return the state of an upload whose bytes are in its object now."""
        return replace(
            self,
            stored_size=self.offset,
            multipart_id=None, pages=(), parts=(), parts_size=0, part_size=0,
            segments=(), tail=Rope(), unused=(),
        )  # fmt: skip


def is_settled_size(size: int) -> bool:
    """Tell by the size of a state object whether a sweeper has to read it."""
    return size % 2 == 1


def dump_state(state: State) -> Rope:
    """Write one line of JSON, then the tail as it is.

    A blank makes the size odd or even, which is what `is_settled_size` reads from a listing.
    """
    line = json.dumps(
        {
            "version": _VERSION,
            "commit": state.commit,
            "previous": state.previous,
            "record": json.loads(dump_record(state.upload)),
            "stored_size": state.stored_size,
            "object": _dump_object(state.object),
            "multipart_id": state.multipart_id,
            "pages": [[page.key, page.size] for page in state.pages],
            "parts": dump_parts(state.parts),
            "parts_size": state.parts_size,
            "part_size": state.part_size,
            "used_to": state.used_to,
            "segments": [[segment.key, segment.size] for segment in state.segments],
            "unused": state.unused,
        },
        separators=(",", ":"),
    ).encode()
    size = len(line) + 1 + len(state.tail)
    blank = b"" if is_settled_size(size) == state.is_settled else b" "
    return Rope([line + blank + b"\n"]) + state.tail


def load_state(text: bytes, etag: str) -> State:
    """Read what `dump_state` wrote.

    Raises `ValueError` for what is no state, or was written by a later, incompatible release.
    """
    end = text.index(b"\n")
    try:
        return _state_of(json.loads(text[:end]), Rope([memoryview(text)[end + 1 :]]), etag)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("this is no state of an upload") from error


def _state_of(found: dict[str, Any], tail: Rope, etag: str) -> State:
    if found["version"] != _VERSION:
        raise ValueError(f"state version {found['version']} is not {_VERSION}")
    record = json.dumps(found["record"]).encode()
    return State(
        upload=load_record(record, offset=0),
        stored_size=found["stored_size"],
        commit=found["commit"],
        previous=found["previous"],
        object=None if found["object"] is None else S3Object(**found["object"]),
        multipart_id=found["multipart_id"],
        pages=tuple(Piece(key=key, size=size) for key, size in found["pages"]),
        parts=load_parts(found["parts"]),
        parts_size=found["parts_size"],
        part_size=found["part_size"],
        used_to=found["used_to"],
        segments=tuple(Piece(key=key, size=size) for key, size in found["segments"]),
        tail=tail,
        unused=tuple(found["unused"]),
        etag=etag,
    )


def dump_parts(parts: tuple[Part, ...]) -> list[list[Any]]:
    return [[part.number, part.etag] + ([part.crc32] if part.crc32 else []) for part in parts]


def load_parts(found: list[list[Any]]) -> tuple[Part, ...]:
    return tuple(
        Part(number=number, etag=etag, crc32=crc32[0] if crc32 else None)
        for number, etag, *crc32 in found
    )


def part_size(state: State, least: int) -> int:
    """Return how long the next part is to be, in bytes.

    All parts of an upload are equal, as some servers demand, but for the last one and for what
    cannot be foreseen: an upload without any bound, and thousands of numbers lost with servers
    that died.
    """
    upload = state.upload
    planned = state.part_size or _planned_size(upload, least)
    if upload.length is not None:
        left = max(MOST_PARTS - state.used_to, 1)
        rest = upload.length - state.parts_size
        return planned if planned * left >= rest else _whole_mib(rest / left)
    if upload.max_size is not None:
        return planned
    return int(planned * 2 ** (state.used_to // _DOUBLE_EVERY))


def _planned_size(upload: Upload, least: int) -> int:
    bound = upload.max_size if upload.length is None else upload.length
    return max(least, _whole_mib((bound or 0) / _PLANNED_PARTS))


def _whole_mib(size: float) -> int:
    return int(-(-size // _MIB)) * _MIB


def _dump_object(stored: S3Object | None) -> dict[str, Any] | None:
    if stored is None:
        return None
    return {
        "key": stored.key,
        "content_type": stored.content_type,
        "content_disposition": stored.content_disposition,
        "metadata": dict(stored.metadata),
    }
