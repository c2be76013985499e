"""From the first bytes of an upload to its format."""

from collections.abc import Iterable

import anyio.to_thread

from tusasgi.errors import UnsupportedMedia
from tusasgi.media.rules import MediaFormat, Rule, first_match
from tusasgi.media.signatures import find_signatures
from tusasgi.media.table import FORMATS

HEAD_SIZE = 16_384
"""How many first bytes are judged: the track list of a short or streamable MP4 fits."""

MIN_HEAD_SIZE = 64
"""With fewer bytes even the common formats are not recognised."""


def detect(head: bytes, formats: Iterable[Rule] = FORMATS) -> MediaFormat | None:
    """Name the format that starts with these bytes; None for whatever no rule knows.

    No more than `HEAD_SIZE` bytes are looked at, so the cost has a bound.
    """
    head = head[:HEAD_SIZE]
    return first_match(head, formats, find_signatures(head))


async def inspect_head(head: bytes, formats: Iterable[Rule] = FORMATS) -> MediaFormat:
    """Name the format in a worker thread, or raise `UnsupportedMedia`."""
    media = await anyio.to_thread.run_sync(detect, head, formats)
    if media is None:
        raise UnsupportedMedia(f"the first {len(head)} bytes are of no known audio or video format")
    return media
