"""What the command prints: lines that a person reads, and lines of JSON for programs.

Whatever clients chose (names, metadata, owners) may hold anything, so nothing of it reaches a
terminal as it is.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tusasgi import TusError, Upload, state_of
from tusasgi.server.failures import describe

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_LONGEST = 48  # signs of one cell
_STEPS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def say(line: str) -> None:
    """Print a line; if nobody reads on (`| head`), that ends the command."""
    encoding = sys.stdout.encoding
    try:
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it again
        sys.exit(1)


def print_json(about: Mapping[str, Any]) -> None:
    """Print an object as one line, in ASCII."""
    say(json.dumps(about))


def complain(message: str) -> None:
    """Say in a line on the other stream what is wrong."""
    print(f"tusasgi: {printable(message)}", file=sys.stderr, flush=True)


def reason(error: BaseException) -> str:
    """Say in a line why something could not be done: our refusals are in words already."""
    is_ours = isinstance(error, TusError) and error.__cause__ is None
    return str(error) if is_ours else describe(error)


def printable(text: str) -> str:
    """Return a text without anything that a terminal would take for more than a sign."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def size(count: int) -> str:
    """Return a number of bytes in the unit that leaves one to four digits before the point."""
    amount = float(count)
    for unit in _UNITS[:-1]:
        if amount < 1024:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} {_UNITS[-1]}"


def span(time: timedelta) -> str:
    """Return a length of time by its largest unit."""
    seconds = abs(int(time.total_seconds()))
    for name, length in _STEPS:
        if seconds >= length:
            return _plural(seconds // length, name)
    return "0 seconds"


def when(moment: datetime, now: datetime) -> str:
    return f"{span(now - moment)} ago" if moment <= now else f"in {span(moment - now)}"


def counted(count: int, thing: str = "upload") -> str:
    return _plural(count, thing)


def progress(upload: Upload) -> str:
    """Say how much of an upload is there."""
    if upload.length is None:
        return f"{size(upload.offset)} of ?"
    if upload.offset == upload.length:
        return size(upload.offset)
    percent = upload.offset * 100 // upload.length  # never 100 before the last byte
    return f"{size(upload.offset)} of {size(upload.length)} ({percent} %)"


def metadata_of(upload: Upload) -> dict[str, str]:
    """Return metadata as text; bytes that are no UTF-8 are written as `\\xff`."""
    return {key: one.decode("utf-8", "backslashreplace") for key, one in upload.metadata.items()}


def as_json(upload: Upload, now: datetime) -> dict[str, Any]:
    """Return what programs are told of an upload."""
    return {
        "id": upload.id,
        "state": state_of(upload, now).value,
        "offset": upload.offset,
        "length": upload.length,
        "created": upload.created.isoformat(),
        "expires": None if upload.expires is None else upload.expires.isoformat(),
        "owner": upload.owner,
        "metadata": metadata_of(upload),
        "facts": dict(upload.facts),
        "is_partial": upload.is_partial,
        "parts": list(upload.parts),
        "protocol": upload.protocol,
        "sha256": upload.sha256,
    }


def table(rows: Sequence[Sequence[str]], *, widths: Sequence[int] = ()) -> list[str]:
    """Return lines with the cells below each other, in columns that are at least so wide."""
    cells = [[shortened(printable(cell)) for cell in row] for row in rows]
    columns = [max(map(len, column)) for column in zip(*cells, strict=True)]
    wide = [max(pair) for pair in zip(columns, widths or columns, strict=True)]
    return ["  ".join(map(str.ljust, row, wide)).rstrip() for row in cells]


def _plural(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
