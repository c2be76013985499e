"""Which upload a key in the bucket is for, and which keys an object may have; pure."""

import re

_SEGMENT = re.compile(r"[^/\x00-\x1f\x7f]+")
_RANDOM = re.compile(r"[0-9a-f]{32}")
_LONGEST = 700  # bytes; S3 allows 1,024 with the prefix


def id_in(key: str) -> str:
    """Return the id of the upload that a key of an object is for, if it is one of ours."""
    return key.rpartition("/")[2].partition(".")[0]


def owner_of(name: str) -> str | None:
    """Return the id of the upload that a segment or page is of, by its name below `pieces/`.

    None for the name of something that is not ours.
    """
    upload_id, _, rest = name.partition("/")
    return upload_id if _RANDOM.fullmatch(rest) else None


def check_object_key(key: str, upload_id: str) -> None:
    """Raise `ValueError` for a key below the prefix that the object of an upload must not have."""
    if not _is_good(key.split("/")) or id_in(key) != upload_id or len(key.encode()) > _LONGEST:
        raise ValueError(
            "the key of an object must end in the id of its upload, with or without a "
            "suffix, have no empty segments, and not begin with state/ or pieces/"
        )


def _is_good(segments: list[str]) -> bool:
    folders = segments[:-1]
    if folders and folders[0] in ("state", "pieces"):
        return False
    has_dots = any(folder in (".", "..") for folder in folders)
    return not has_dots and all(_SEGMENT.fullmatch(segment) for segment in segments)
