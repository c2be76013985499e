"""How long the parts of an upload are."""

from tusasgi.models import Upload
from tusasgi.stores.s3.manifest import Manifest

_MIB = 1024 * 1024
MOST_PARTS = 10_000
# Of the numbers for parts, so many are meant for bytes; the rest is spent where a server dies.
_PLANNED_PARTS = 6_500
_DOUBLE_EVERY = 1_000


def part_size(manifest: Manifest, least: int) -> int:
    """Return how long the next part is to be, in bytes.

    All parts of an upload are equal, as some servers demand, but for the last one and for what
    cannot be foreseen: an upload without any bound, and thousands of numbers lost with servers
    that died.
    """
    upload = manifest.upload
    planned = manifest.part_size or _planned_size(upload, least)
    if upload.length is not None:
        left = max(MOST_PARTS - manifest.used_to, 1)
        rest = upload.length - manifest.parts_size
        return planned if planned * left >= rest else _whole_mib(rest / left)
    if upload.max_size is not None:
        return planned
    return int(planned * 2 ** (manifest.used_to // _DOUBLE_EVERY))


def _planned_size(upload: Upload, least: int) -> int:
    bound = upload.max_size if upload.length is None else upload.length
    return max(least, _whole_mib((bound or 0) / _PLANNED_PARTS))


def _whole_mib(size: float) -> int:
    return int(-(-size // _MIB)) * _MIB
