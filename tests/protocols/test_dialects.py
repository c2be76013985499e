"""The table of interop versions, cell by cell, as the drafts have it."""

from dataclasses import fields

import pytest

from tusasgi.protocols.dialects import DIALECTS, NEWEST, Dialect

_OFFSET, _COMPLETE, _INCOMPLETE = "Upload-Offset", "Upload-Complete", "Upload-Incomplete"

# One line for each cell that differs, one entry for each version from 3 to 9.
TABLE: dict[str, list[object]] = {
    "version": [3, 4, 5, 6, 7, 8, 9],
    "completeness": [_INCOMPLETE, *[_COMPLETE] * 6],
    "is_negated": [True, False, False, False, False, False, False],
    "completes_by_default": [True, False, False, False, False, False, False],
    "has_media_type": [False, False, False, True, True, True, True],
    "partial_status": [201, 201, 201, 201, 204, 204, 204],
    "refused_on_head": [
        (_OFFSET, _INCOMPLETE),
        (_OFFSET, _COMPLETE),
        (_OFFSET, _COMPLETE),
        (_OFFSET, _COMPLETE, "Upload-Length"),
        (),
        (),
        (),
    ],
    "refused_on_delete": [(_OFFSET, _INCOMPLETE), *[(_OFFSET, _COMPLETE)] * 3, (), (), ()],
    "lifetime": ["max-age", "max-age", "max-age", "expires", "max-age", "max-age", "max-age"],
    "reports_progress": [False, False, True, True, True, True, True],
    "ends_at_length": ["never", "never", "always", "described", "never", "never", "never"],
    "repeats_answer": [True, True, True, False, False, False, True],
    "overrun_terminates": [False, False, False, False, False, True, True],
}


@pytest.mark.parametrize("cell", TABLE)
def test_the_versions_differ_as_the_drafts_do(cell: str) -> None:
    assert [getattr(dialect, cell) for dialect in DIALECTS.values()] == TABLE[cell]


def test_every_cell_is_in_the_table() -> None:
    assert [cell.name for cell in fields(Dialect)] == list(TABLE)


def test_a_version_is_found_by_its_number() -> None:
    assert all(dialect.version == version for version, dialect in DIALECTS.items())
    assert NEWEST.version == max(DIALECTS)
