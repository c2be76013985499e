"""`tusasgi list`: the uploads that are there, a line each."""

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import anyio

from tusasgi import State, Upload, Uploads, state_of
from tusasgi.server.checks import check_readable, fail
from tusasgi.server.output import (
    as_json,
    complain,
    counted,
    metadata_of,
    print_json,
    progress,
    reason,
    say,
    table,
    when,
)
from tusasgi.server.settings import Settings
from tusasgi.server.storage import closing, make_uploads

_HEAD = ("ID", "STATE", "BYTES", "CREATED", "EXPIRES", "OWNER", "NAME")
_PAGE = 100
_WIDTHS = (32, 10, 26, 14, 14, 12, 0)  # pages come one by one, and stand below each other


def run(settings: Settings, words: Mapping[str, Any]) -> None:
    """Print the uploads; records that cannot be read are told of, and end it with code 1."""
    settings = check_readable(settings)
    try:
        unreadable = anyio.run(_list, make_uploads(settings), words)
    except Exception as error:  # of a long list; whoever runs it wants the reason alone
        fail(f"the uploads cannot be listed: {reason(error)}")
    for upload_id in unreadable:
        complain(f"the record of upload {upload_id} cannot be read")
    if unreadable:
        sys.exit(1)


async def _list(uploads: Uploads, words: Mapping[str, Any]) -> list[str]:
    if words.get("json"):
        show, end = _print_json, None
    else:
        show, end = _print_lines, _print_total
        say("\n".join(table([_HEAD], widths=_WIDTHS)))
    async with closing(uploads.store):
        count, unreadable = await _each_page(uploads, words, show)
    if end is not None:
        end(count)
    return unreadable


async def _each_page(
    uploads: Uploads, words: Mapping[str, Any], show: Any
) -> tuple[int, list[str]]:
    count, unreadable, after = 0, list[str](), words.get("after")
    state = State(words["state"]) if "state" in words else None
    while True:
        limit = min(_PAGE, words["limit"] - count) if "limit" in words else _PAGE
        page = await uploads.list(owner=words.get("owner"), state=state, after=after, limit=limit)
        if page.uploads:
            show(page.uploads, uploads.now())
        count += len(page.uploads)
        unreadable += page.unreadable
        after = page.after
        if after is None or count == words.get("limit"):
            return count, unreadable


def _print_json(page: tuple[Upload, ...], now: datetime) -> None:
    for upload in page:
        print_json(as_json(upload, now))


def _print_lines(page: tuple[Upload, ...], now: datetime) -> None:
    rows = [
        (
            upload.id,
            state_of(upload, now).value,
            progress(upload),
            when(upload.created, now),
            when(upload.expires, now) if upload.can_expire and upload.expires else "",
            upload.owner or "",
            metadata_of(upload).get("filename", ""),
        )
        for upload in page
    ]
    say("\n".join(table(rows, widths=_WIDTHS)))


def _print_total(count: int) -> None:
    say(counted(count))
