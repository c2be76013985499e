"""The interop versions of the IETF draft, as a table: where they differ in what we do.

A request names its version, and nothing of it is kept with an upload: one that was begun in one
version goes on in any other. Where a later version asks for more than an earlier one forbids,
all are served alike, and have no cell here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """What one interop version has its own way of. The defaults are the newest one."""

    version: int
    completeness: str = "Upload-Complete"
    """The field that says whether an upload is complete."""
    is_negated: bool = False
    """True if that field says whether it is incomplete instead."""
    completes_by_default: bool = False
    """True if an append without that field is the last one."""
    has_media_type: bool = True
    """True if an append is known by its media type; else it may have any."""
    partial_status: int = 204
    """The status for an append after which more is to come."""
    refused_on_head: tuple[str, ...] = ()
    """The fields that make a HEAD a bad request."""
    refused_on_delete: tuple[str, ...] = ()
    lifetime: str = "max-age"
    """The member of `Upload-Limit` for the seconds that are left to an upload."""
    reports_progress: bool = True
    """True if an interim response may tell an offset."""
    ends_at_length: Literal["never", "described", "always"] = "never"
    """Whether the last byte of a known length ends an upload, though more is said to come.

    A server may say that an upload is complete whatever was said. Here it does for the sake of
    tus-js-client, which speaks two of the versions, ends at the length, and calls last only what
    it reads in one piece: in Node a file that is sent in several would never be complete. Version
    6 wants completeness to be told, so there it is those that are `described`, by the field
    `Upload-Metadata`, which no other client of the draft sends, and uploads of no bytes.
    """
    repeats_answer: bool = True
    """True if an empty append to a complete upload has the last answer again, not a refusal."""
    overrun_terminates: bool = True
    """True if an append that runs past the length is the end of the upload."""


_OFFSET, _COMPLETE, _INCOMPLETE = "Upload-Offset", "Upload-Complete", "Upload-Incomplete"

DIALECTS: Mapping[int, Dialect] = {
    dialect.version: dialect
    for dialect in (
        Dialect(
            version=3,
            completeness=_INCOMPLETE,
            is_negated=True,
            completes_by_default=True,
            has_media_type=False,
            partial_status=201,
            refused_on_head=(_OFFSET, _INCOMPLETE),
            refused_on_delete=(_OFFSET, _INCOMPLETE),
            reports_progress=False,
            overrun_terminates=False,
        ),
        Dialect(
            version=4,
            has_media_type=False,
            partial_status=201,
            refused_on_head=(_OFFSET, _COMPLETE),
            refused_on_delete=(_OFFSET, _COMPLETE),
            reports_progress=False,
            overrun_terminates=False,
        ),
        Dialect(
            version=5,
            has_media_type=False,
            partial_status=201,
            refused_on_head=(_OFFSET, _COMPLETE),
            refused_on_delete=(_OFFSET, _COMPLETE),
            ends_at_length="always",
            overrun_terminates=False,
        ),
        Dialect(
            version=6,
            partial_status=201,
            refused_on_head=(_OFFSET, _COMPLETE, "Upload-Length"),
            refused_on_delete=(_OFFSET, _COMPLETE),
            lifetime="expires",
            ends_at_length="described",
            repeats_answer=False,
            overrun_terminates=False,
        ),
        # The last of the drafts behind version 7 ends an upload that is overrun, the first two
        # only refuse the request. A client cannot say which it means: what it sent is kept.
        Dialect(version=7, repeats_answer=False, overrun_terminates=False),
        Dialect(version=8, repeats_answer=False),
        Dialect(version=9),
    )
}
"""By the number that a request names in `Upload-Draft-Interop-Version`."""

NEWEST = DIALECTS[9]
"""The rules for a request that names no version, or one that is not known."""
