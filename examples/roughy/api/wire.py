"""How values are written in JSON."""

import uuid
from datetime import datetime


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC with six digits: `2026-05-02T08:54:52.423000Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def timestamp_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)


def seconds_or_none(milliseconds: int | None) -> str | None:
    """A decimal as text, `"3782.413"`: JSON numbers are floats in many clients."""
    if milliseconds is None:
        return None
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"


def id_or_none(value: uuid.UUID | None) -> str | None:
    return None if value is None else str(value)
