"""When a sweep has to look at an upload: the hours under which it is marked.

Stores whose names cannot be asked for "what has expired" keep a file for each upload and hour,
`due/<hour>/<id>`. So a sweep costs what is due, not what is stored.
"""

from collections.abc import Iterable
from datetime import datetime

from tusasgi.models import Upload

NOW = 0
"""The hour of marks that are always due."""

ABANDONED_AFTER = 3600.0
"""Seconds after which what was begun, and has no upload, counts as left behind."""


def hours_of(upload: Upload) -> set[int]:
    """Return the hours under which an upload has to be marked."""
    hours = {NOW} if upload.is_due else set()
    if upload.expires is not None and upload.can_expire:
        hours.add(hour_of(upload.expires))
    return hours


def marked_hours(expires: datetime | None) -> set[int]:
    """Return the hours under which an upload of this date may be marked, for whatever reason."""
    return {NOW} if expires is None else {NOW, hour_of(expires)}


def due_hours(names: Iterable[str], now: datetime) -> list[int]:
    """Return the hours that have come, of a folder whose names are hours, the oldest first."""
    hours = (int(name) for name in names if name.isdecimal())
    return sorted(hour for hour in hours if hour <= hour_of(now))


def hour_of(moment: datetime) -> int:
    """Return the whole hours since 1970."""
    return int(moment.timestamp()) // 3600
