"""`tusasgi sweep`: removes once what has expired, and takes up what was interrupted."""

import sys
from collections.abc import Mapping
from typing import Any

import anyio

from tusasgi import Uploads
from tusasgi.server.checks import check_hooks, check_locker, check_place, check_web_hooks
from tusasgi.server.failures import describe_each
from tusasgi.server.output import complain, counted, print_json, say
from tusasgi.server.settings import Settings
from tusasgi.server.storage import closing, make_uploads


def run(settings: Settings, words: Mapping[str, Any]) -> None:
    """Sweep, and say how much was removed; what failed ends it with code 1, a line each."""
    check_hooks(settings.hooks)
    check_web_hooks(settings, install="hooks")
    settings = check_place(settings, may_be_away=False)
    check_locker(settings)
    uploads = make_uploads(settings)
    try:
        removed = anyio.run(_sweep, uploads)
    except* Exception as failures:  # whatever it was: who runs it wants the causes alone
        for cause in describe_each(failures):
            complain(f"not everything could be done: {cause}")
        sys.exit(1)
    if words.get("json"):
        print_json({"removed": removed})
    else:
        say(f"{counted(removed, 'expired upload')} removed")


async def _sweep(uploads: Uploads) -> int:
    async with closing(uploads.store, uploads.hooks):
        return await uploads.sweep()
