"""The record of an upload as JSON, for stores that keep bytes somewhere else."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tusasgi.models import Checksum, FinalResponse, Target, Upload

_VERSION = 1
_VERSION_OF_OPEN = 2
"""Of uploads whose end is declared, which earlier releases would complete at their length."""
_VERSION_OF_DESTINATION = 3
"""Of uploads whose bytes are elsewhere in the end, where earlier releases would miss them."""

UNREADABLE = (ValueError, KeyError)
"""What `load_record` raises for what is no record, or not one of this release."""


def dump_record(upload: Upload, **more: str | int | None) -> bytes:
    """Write everything but the offset, which is derived from the bytes, and what a store adds.

    What it adds stands at the end, or in the place of what would be written.
    """
    return json.dumps(
        {
            "version": _version_of(upload),
            "is_complete": upload.is_complete,
            "id": upload.id,
            "length": upload.length,
            "created": upload.created.isoformat(),
            "metadata": {
                key: base64.b64encode(value).decode() for key, value in upload.metadata.items()
            },
            "metadata_header": upload.metadata_header,
            "max_size": upload.max_size,
            "min_size": upload.min_size,
            "owner": upload.owner,
            "facts": dict(upload.facts),
            "expires": upload.expires.isoformat() if upload.expires else None,
            "is_partial": upload.is_partial,
            "parts": upload.parts,
            "concat_header": upload.concat_header,
            "sha256": upload.sha256,
            "removal": upload.removal,
            **_seldom_fields(upload),
            **more,
        },  # on one line: indented, it would be encoded in Python, in ten times the time
    ).encode()


def load_record(text: bytes, *, offset: int) -> Upload:
    """Read a record, one of an earlier release too.

    Raises `ValueError` for what is none, or was written by a later, incompatible release.
    """
    upload, _ = load_fields(text)
    return replace(upload, offset=offset)


def load_fields(text: bytes) -> tuple[Upload, dict[str, Any]]:
    """Read a record as `load_record` does; return all its fields too, for what a store added."""
    try:
        record: dict[str, Any] = json.loads(text)
        return _upload_of(record), record
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("this is no record of an upload") from error


def _upload_of(record: dict[str, Any]) -> Upload:
    if record["version"] not in (_VERSION, _VERSION_OF_OPEN, _VERSION_OF_DESTINATION):
        raise ValueError(f"records of version {record['version']} are not known")
    return Upload(
        id=record["id"],
        length=record["length"],
        created=_moment(record["created"]),
        metadata={key: base64.b64decode(value) for key, value in record["metadata"].items()},
        metadata_header=record["metadata_header"],
        max_size=record["max_size"],
        min_size=record.get("min_size", 0),
        owner=record["owner"],
        facts=record["facts"],
        expires=_moment(record["expires"]) if record["expires"] else None,
        expires_after=_window_of(record.get("expires_after")),
        grace=_window_of(record.get("grace")),
        is_partial=record.get("is_partial", False),
        parts=tuple(record.get("parts", ())),
        concat_header=record.get("concat_header"),
        sha256=record.get("sha256"),
        destination=record.get("destination"),
        is_complete=bool(record["is_complete"]),
        removal=record.get("removal"),
        protocol=record.get("protocol", "tus"),
        is_open=record.get("is_open", False),
        checksum=_checksum_of(record.get("checksum")),
        final_response=_final_response_of(record.get("final_response")),
        target=_target_of(record.get("target")),
        untold={event: _moment(at) for event, at in record.get("untold", {}).items()},
    )


def _version_of(upload: Upload) -> int:
    if upload.destination is not None:
        return _VERSION_OF_DESTINATION
    return _VERSION_OF_OPEN if upload.is_open or upload.checksum else _VERSION


def _seldom_fields(upload: Upload) -> dict[str, Any]:
    """Return what most uploads do not have, and their records need not have."""
    fields: dict[str, Any] = {}
    if upload.expires_after is not None:
        fields["expires_after"] = upload.expires_after.total_seconds()
    if upload.grace is not None:
        fields["grace"] = upload.grace.total_seconds()
    if upload.protocol != "tus":
        fields["protocol"] = upload.protocol
    if upload.is_open:
        fields["is_open"] = True
    if upload.checksum is not None:
        fields["checksum"] = {
            "algorithm": upload.checksum.algorithm,
            "digest": upload.checksum.digest.hex(),
        }
    if upload.destination is not None:
        fields["destination"] = upload.destination
    if upload.final_response is not None:
        fields["final_response"] = {
            "status": upload.final_response.status,
            "headers": dict(upload.final_response.headers),
            "body": base64.b64encode(upload.final_response.body).decode(),
        }
    if upload.target is not None:
        raw_path = upload.target.raw_path
        fields["target"] = {
            "method": upload.target.method,
            "path": upload.target.path,
            "raw_path": None if raw_path is None else raw_path.decode("latin-1"),
            "query_string": upload.target.query_string.decode("latin-1"),
            "headers": upload.target.headers,
        }
    if upload.untold:
        fields["untold"] = {event: at.isoformat() for event, at in upload.untold.items()}
    return fields


def _window_of(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _checksum_of(record: dict[str, str] | None) -> Checksum | None:
    if record is None:
        return None
    return Checksum(algorithm=record["algorithm"], digest=bytes.fromhex(record["digest"]))


def _final_response_of(record: dict[str, Any] | None) -> FinalResponse | None:
    if record is None:
        return None
    body = base64.b64decode(record["body"])
    return FinalResponse(status=record["status"], headers=record["headers"], body=body)


def _target_of(record: dict[str, Any] | None) -> Target | None:
    if record is None:
        return None
    raw_path = record["raw_path"]
    return Target(
        method=record["method"],
        path=record["path"],
        raw_path=None if raw_path is None else raw_path.encode("latin-1"),
        query_string=record["query_string"].encode("latin-1"),
        headers=tuple((name, value) for name, value in record["headers"]),
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
