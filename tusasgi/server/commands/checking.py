"""`tusasgi check`: tries what the store depends on, with files that are removed again."""

import contextlib
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import anyio

from tusasgi.server.checks import check_extra, check_place
from tusasgi.server.output import print_json, printable, say
from tusasgi.server.settings import Settings
from tusasgi.server.storage import closing, connect, make_store
from tusasgi.server.trials import Finding, Trial, find_out, trials_of

_LOCKER = "give all servers the same --locker"


def run(settings: Settings, words: Mapping[str, Any]) -> None:
    """Print what holds and what does not; what is needed and does not hold is code 1."""
    if settings.is_in_bucket:
        check_extra("a bucket", "s3", "s3fs")
    else:
        check_place(settings, may_be_away=False)
        # All of it can be removed at the end. In a bucket a sweep finds what is left.
        settings = _below(settings, f"check-{uuid.uuid4().hex}")
    stores = [make_store(settings), make_store(settings)]
    with _place(settings):
        is_good = anyio.run(_check, _trials(settings, stores), stores, "json" in words)
    if not is_good:
        sys.exit(1)


def _below(settings: Settings, name: str) -> Settings:
    if settings.is_in_folder:
        return replace(settings, dir=os.path.join(settings.place, name))
    return replace(settings, store=f"{settings.place.rstrip('/')}/{name}")


async def _check(trials: list[Trial], stores: list[Any], is_json: bool) -> bool:
    """Return whether all holds that is needed."""
    is_good = True
    async with contextlib.AsyncExitStack() as stack:
        for store in stores:
            await stack.enter_async_context(closing(store))
        for trial in trials:
            finding = await find_out(trial)
            _tell(finding, is_json=is_json)
            is_good &= finding.holds or not finding.is_needed
    if not is_json:
        say("All that is needed holds." if is_good else "This is no place for uploads.")
    return is_good


@contextlib.contextmanager
def _place(settings: Settings) -> Iterator[None]:
    """Have the place there, and remove it at the end if it is one of its own."""
    if settings.is_in_folder:
        os.mkdir(settings.place)
    try:
        yield
    finally:
        if settings.is_in_folder:
            shutil.rmtree(settings.place)
        elif not settings.is_in_bucket:
            _remove_all(settings.place)


def _remove_all(url: str) -> None:
    import fsspec

    fs, path = fsspec.url_to_fs(url, skip_instance_cache=True)
    with contextlib.suppress(FileNotFoundError):
        fs.rm(path, recursive=True)


def _trials(settings: Settings, stores: list[Any]) -> list[Trial]:
    one, other = stores
    if settings.is_in_folder:
        from tusasgi.server.folder_trials import trials_of_folder

        return [*trials_of_folder(settings.place), *trials_of(one, other, needs_locker=None)]
    if settings.is_in_bucket:

        async def open_both() -> None:
            for store in stores:
                await connect(store)

        conditions = Trial(name="conditional writes hold, of many at once too", run=open_both)
        return [conditions, *trials_of(one, other, needs_locker=None)]
    return trials_of(one, other, needs_locker=_LOCKER)


def _tell(finding: Finding, *, is_json: bool) -> None:
    if is_json:
        print_json(asdict(finding))
        return
    verdict = "holds" if finding.holds else "FAILS" if finding.is_needed else "no"
    detail = f"  {printable(finding.detail)}" if finding.detail else ""
    say(f"{verdict:<6} {finding.name:<44}{detail}".rstrip())
