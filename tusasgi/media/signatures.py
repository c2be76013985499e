"""The signatures of puremagic, looked up in a table: it would compare each of them in turn."""

from collections.abc import Iterable, Iterator

from tusasgi.arguments import needs_extra

with needs_extra("media"):
    from puremagic import PureMagic, magic_footer_array, magic_header_array, multi_part_dict

_Place = tuple[int, int | None]
"""Start and stop of a slice."""


def find_signatures(head: bytes) -> dict[str, int]:
    """Return what puremagic finds: by extension, the length of the longest signature."""
    found: dict[str, int] = {}
    for extension, length in _found(head):
        found[extension] = max(found.get(extension, 0), length)
    return found


def _found(head: bytes) -> Iterator[tuple[str, int]]:
    for (start, stop), signatures in _BY_PLACE.items():
        for signature in signatures.get(head[start:stop], ()):
            yield signature.extension, len(signature.byte_match)
            yield from _found_behind(signature, head)


def _found_behind(signature: PureMagic, head: bytes) -> Iterator[tuple[str, int]]:
    """Yield what the second signatures behind the first one make of it."""
    for second in multi_part_dict.get(signature.byte_match, ()):
        start, stop = _place_of(second)
        if head[start:stop] != second.byte_match:
            continue
        length = len(signature.byte_match) + len(second.byte_match)
        yield second.extension, length if stop is None or stop < 0 else stop - signature.offset


def _place_of(signature: PureMagic) -> _Place:
    """Return where a signature stands; one with a negative offset is counted from the end."""
    stop = signature.offset + len(signature.byte_match)
    return signature.offset, stop or None


def _by_place(signatures: Iterable[PureMagic]) -> dict[_Place, dict[bytes, list[PureMagic]]]:
    places: dict[_Place, dict[bytes, list[PureMagic]]] = {}
    for signature in signatures:
        at_place = places.setdefault(_place_of(signature), {})
        at_place.setdefault(signature.byte_match, []).append(signature)
    return places


_BY_PLACE = _by_place([*magic_header_array, *magic_footer_array])
