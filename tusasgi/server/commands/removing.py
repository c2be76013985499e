"""`tusasgi remove ID…`: removes uploads, finished or not, as a client's DELETE does."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from tusasgi import Uploads
from tusasgi.server.checks import check_hooks, check_locker, check_place, check_web_hooks
from tusasgi.server.commands.showing import find
from tusasgi.server.output import complain, print_json, progress, reason, say
from tusasgi.server.settings import Settings
from tusasgi.server.storage import closing, make_uploads


def run(settings: Settings, words: Mapping[str, Any]) -> None:
    """Remove each upload, and call the hooks; what cannot be ends it with code 1, a line each."""
    check_hooks(settings.hooks)
    check_web_hooks(settings, install="hooks")
    settings = check_place(settings, may_be_away=False)
    check_locker(settings)
    if not anyio.run(_remove_all, make_uploads(settings), words["ids"], "json" in words):
        sys.exit(1)


async def _remove_all(uploads: Uploads, ids: Sequence[str], is_json: bool) -> bool:
    """Return whether all of them were there and are gone."""
    async with closing(uploads.store, uploads.hooks):
        return all([await _remove(uploads, upload_id, is_json) for upload_id in ids])


async def _remove(uploads: Uploads, upload_id: str, is_json: bool) -> bool:
    upload = await find(uploads, upload_id)
    if upload is None:
        return False
    try:
        await uploads.terminate(upload_id)
    except Exception as error:  # of a long list, hooks among it: who runs it wants the cause
        complain(f"upload {upload_id} could not be removed: {reason(error)}")
        return False
    if is_json:
        print_json({"removed": upload_id})
    else:
        say(f"{upload_id} removed, {progress(upload)}")
    return True
