"""Ids: version 7 UUIDs, which sort by the time they were made."""

import re
import secrets
import uuid
from datetime import datetime

_TEXT = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def uuid7(now: datetime) -> uuid.UUID:
    """Make an id: 48 bits of milliseconds, 12 bits of their fractions, 62 random bits (RFC 9562).

    Python has `uuid.uuid7` from 3.14 on. It takes no time from outside.
    """
    microseconds = int(now.timestamp() * 1_000_000)
    milliseconds, rest = divmod(microseconds, 1000)
    fraction = rest * 4096 // 1000
    value = milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | secrets.randbits(62)
    return uuid.UUID(int=value)


def parse_uuid(text: str) -> uuid.UUID | None:
    """Read the one usual spelling; `uuid.UUID` alone would also take braces and URNs."""
    return uuid.UUID(text) if _TEXT.fullmatch(text) else None
