"""Keeping out of the log what opens a download to whoever reads it."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

_ACCESS_LOG = logging.getLogger("uvicorn.access")
_SIGNATURE = re.compile(r"(?<=signature=)[^&\s]+")


@contextmanager
def without_signatures() -> Iterator[None]:
    """Have uvicorn log the paths of signed links without their signatures."""
    _ACCESS_LOG.addFilter(_cut_signatures)
    try:
        yield
    finally:
        _ACCESS_LOG.removeFilter(_cut_signatures)


def _cut_signatures(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            _SIGNATURE.sub("…", value) if isinstance(value, str) else value for value in record.args
        )
    return True
