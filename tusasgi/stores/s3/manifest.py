"""The manifest of an upload: one immutable value, one object in the bucket (`state/<id>`).

    bytes 0 to offset  =  the parts, then the segments, then the tail

Everything that a manifest names is stored already and never changes. So whoever replaces it (and
only the holder of its last ETag can) replaces the truth, all at once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from tusasgi.models import Upload
from tusasgi.stores.records import dump_record, load_record
from tusasgi.stores.s3.rope import Rope

_VERSION = 1

Integrity = Literal["md5", "crc32", "none"]
"""What goes along with bytes, so that the server sees whether they are those that were sent."""


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
class Segment:
    """Bytes of the upload in an object of their own, which never changes."""

    key: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Where so many parts are written down: in an object that never changes."""

    key: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The truth about one upload."""

    upload: Upload
    commit: str = ""
    """Random, new with each write: an answer that was lost can be told from another's write."""
    previous: str = ""
    """The commit of the manifest that this one has replaced."""
    object: S3Object | None = None
    """Decided with the first byte."""
    multipart_id: str | None = None
    integrity: Integrity = "none"
    """Of the parts: a multipart upload takes none that has another checksum than it began with."""
    pages: tuple[Page, ...] = ()
    """Where the oldest parts are written down."""
    parts: tuple[Part, ...] = ()
    parts_size: int = 0
    part_size: int = 0
    """How long its parts are, in bytes; 0 while there are none."""
    used_to: int = 0
    """Part numbers up to this one may carry content already, known or unknown."""
    segments: tuple[Segment, ...] = ()
    tail: Rope = field(default_factory=Rope)
    unused: tuple[str, ...] = ()
    """Keys of segments and pages that are of no use any more: the next append removes them.

    Of an upload that was handed over it is the key of its own object.
    """
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
        """The keys of its segments and pages."""
        return {page.key for page in self.pages} | {segment.key for segment in self.segments}

    @property
    def is_done(self) -> bool:
        """True once no sweeper will have to look at it again."""
        upload = self.upload
        is_kept = not upload.is_due and not upload.can_expire
        return upload.is_complete and is_kept and not self.has_leftover

    @property
    def has_leftover(self) -> bool:
        """True if it was handed over, and its own object is still to be removed."""
        return self.upload.is_handed_over and bool(self.unused)

    def as_upload(self) -> Upload:
        """Return the upload as the engine is to see it."""
        return replace(self.upload, offset=self.offset, version=self.etag)

    def follows_by_telling(self, before: "Manifest") -> bool:
        """True if this one has replaced that one to record what was told, and nothing else."""
        told = before.upload.untold.keys() - self.upload.untold.keys()
        upload = replace(self.upload, untold=before.upload.untold)
        same = replace(self, upload=upload, commit=before.commit, previous=before.previous)
        return bool(told) and self.previous == before.commit and same == before

    def rebased(self, before: "Manifest", after: "Manifest") -> "Manifest":
        """Return what was to replace `before` as it replaces `after`, which follows by telling."""
        told = before.upload.untold.keys() - after.upload.untold.keys()
        untold = {event: at for event, at in self.upload.untold.items() if event not in told}
        return replace(self, upload=replace(self.upload, untold=untold), previous=after.commit)

    def with_parts(self, parts: Sequence[Part], size: int) -> "Manifest":
        """Return the manifest with parts that hold all that was not in one, and more.

        They have `size` bytes together.
        """
        return replace(
            self,
            parts=(*self.parts, *parts),
            parts_size=self.parts_size + size,
            segments=(),
            tail=Rope(),
        )

    def emptied(self) -> "Manifest":
        """Return the manifest of an upload whose bytes are in its object now."""
        return replace(
            self,
            stored_size=self.offset,
            multipart_id=None, integrity="none",
            pages=(), parts=(), parts_size=0, part_size=0,
            segments=(), tail=Rope(), unused=(),
        )  # fmt: skip


def is_done_by_size(size: int) -> bool:
    """Tell by the size of a manifest whether a sweeper has to read it."""
    return size % 2 == 1


def dump_manifest(manifest: Manifest) -> Rope:
    """Write one line of JSON, then the tail as it is.

    A blank makes the size odd or even, which is what `is_done_by_size` reads from a listing.
    """
    line = json.dumps(
        {
            "version": _VERSION,
            "commit": manifest.commit,
            "previous": manifest.previous,
            "record": json.loads(dump_record(manifest.upload)),
            "stored_size": manifest.stored_size,
            "object": _dump_object(manifest.object),
            "multipart_id": manifest.multipart_id,
            "integrity": manifest.integrity,
            "pages": [[page.key, page.count] for page in manifest.pages],
            "parts": dump_parts(manifest.parts),
            "parts_size": manifest.parts_size,
            "part_size": manifest.part_size,
            "used_to": manifest.used_to,
            "segments": [[segment.key, segment.size] for segment in manifest.segments],
            "unused": manifest.unused,
        },
        separators=(",", ":"),
    ).encode()
    size = len(line) + 1 + len(manifest.tail)
    blank = b"" if is_done_by_size(size) == manifest.is_done else b" "
    return Rope([line + blank + b"\n"]) + manifest.tail


def load_manifest(text: bytes, etag: str) -> Manifest:
    """Read what `dump_manifest` wrote.

    Raises `ValueError` for what is no manifest, or was written by a later, incompatible release.
    """
    end = text.index(b"\n")
    try:
        return _manifest_of(json.loads(text[:end]), Rope([memoryview(text)[end + 1 :]]), etag)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("this is no manifest of an upload") from error


def _manifest_of(found: dict[str, Any], tail: Rope, etag: str) -> Manifest:
    if found["version"] != _VERSION:
        raise ValueError(f"manifest version {found['version']} is not {_VERSION}")
    record = json.dumps(found["record"]).encode()
    return Manifest(
        upload=load_record(record, offset=0),
        stored_size=found["stored_size"],
        commit=found["commit"],
        previous=found["previous"],
        object=None if found["object"] is None else S3Object(**found["object"]),
        multipart_id=found["multipart_id"],
        integrity=_integrity_of(found),
        pages=tuple(Page(key=key, count=count) for key, count in found["pages"]),
        parts=load_parts(found["parts"]),
        parts_size=found["parts_size"],
        part_size=found["part_size"],
        used_to=found["used_to"],
        segments=tuple(Segment(key=key, size=size) for key, size in found["segments"]),
        tail=tail,
        unused=tuple(found["unused"]),
        etag=etag,
    )


def _integrity_of(found: dict[str, Any]) -> Integrity:
    """Return what goes along with the parts; earlier releases told only of the CRC32 of each."""
    if "integrity" in found:
        return cast(Integrity, found["integrity"])
    return "crc32" if any(part.crc32 for part in load_parts(found["parts"])) else "md5"


def dump_parts(parts: tuple[Part, ...]) -> list[list[Any]]:
    return [[part.number, part.etag] + ([part.crc32] if part.crc32 else []) for part in parts]


def load_parts(found: list[list[Any]]) -> tuple[Part, ...]:
    return tuple(
        Part(number=number, etag=etag, crc32=crc32[0] if crc32 else None)
        for number, etag, *crc32 in found
    )


def copied_part(number: int, answer: Mapping[str, Any]) -> Part:
    """Return the part that the server has copied, as the answer to UploadPartCopy tells it."""
    result = answer["CopyPartResult"]
    return Part(number=number, etag=result["ETag"], crc32=result.get("ChecksumCRC32"))


def named_parts(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the parts as CompleteMultipartUpload is told them."""
    return {"Parts": [_named(part) for part in parts]}


def _named(part: Part) -> dict[str, Any]:
    named: dict[str, Any] = {"PartNumber": part.number, "ETag": part.etag}
    if part.crc32 is not None:
        named["ChecksumCRC32"] = part.crc32
    return named


def _dump_object(stored: S3Object | None) -> dict[str, Any] | None:
    if stored is None:
        return None
    return {
        "key": stored.key,
        "content_type": stored.content_type,
        "content_disposition": stored.content_disposition,
        "metadata": dict(stored.metadata),
    }
