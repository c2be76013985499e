"""`tusasgi show ID…`: all that is known of some uploads. Disturbs nobody, and changes nothing."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import anyio

from tusasgi import Upload, Uploads, state_of
from tusasgi.server.checks import check_readable
from tusasgi.server.output import (
    as_json,
    complain,
    metadata_of,
    print_json,
    printable,
    progress,
    reason,
    say,
    when,
)
from tusasgi.server.settings import Settings
from tusasgi.server.storage import closing, make_uploads


def run(settings: Settings, words: Mapping[str, Any]) -> None:
    """Print each upload; one that is not there is told of, and ends it with code 1."""
    settings = check_readable(settings)
    if not anyio.run(_show, make_uploads(settings), words["ids"], "json" in words):
        sys.exit(1)


async def _show(uploads: Uploads, ids: Sequence[str], is_json: bool) -> bool:
    """Return whether all of them are there."""
    found = 0
    async with closing(uploads.store):
        for upload_id in ids:
            upload = await find(uploads, upload_id)
            if upload is None:
                continue
            if is_json:
                print_json(_with_place(uploads, upload))
            else:
                say(("\n" if found else "") + "\n".join(_lines(uploads, upload)))
            found += 1
    return found == len(ids)


async def find(uploads: Uploads, upload_id: str) -> Upload | None:
    """Return the upload as it stands; say why in a line, and return None, if there is none."""
    try:
        return await uploads.store.get(upload_id)
    except Exception as error:  # of a long list; whoever runs it wants the reason alone
        complain(f"upload {upload_id}: {reason(error)}")
        return None


def _with_place(uploads: Uploads, upload: Upload) -> dict[str, Any]:
    return as_json(upload, uploads.now()) | {"path": _path_of(uploads, upload)}


def _path_of(uploads: Uploads, upload: Upload) -> str | None:
    path = getattr(uploads.store, "path", None)
    return None if path is None else str(path(upload.id))


def _lines(uploads: Uploads, upload: Upload) -> list[str]:
    now = uploads.now()
    about = {
        "id": upload.id,
        "state": state_of(upload, now).value,
        "bytes": progress(upload),
        "created": _moment(upload.created, now),
        "expires": _moment(upload.expires, now) if upload.can_expire and upload.expires else None,
        "owner": upload.owner,
        "protocol": upload.protocol,
        "partial": "a part of a final upload" if upload.is_partial else None,
        "parts": " ".join(upload.parts),
        "sha256": upload.sha256,
        "file": _path_of(uploads, upload),
    }
    about |= {f"metadata {key}": value for key, value in metadata_of(upload).items()}
    about |= {f"fact {key}": str(value) for key, value in upload.facts.items()}
    return [f"{printable(name):<10} {printable(text)}" for name, text in about.items() if text]


def _moment(moment: datetime, now: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC, {when(moment, now)}"
