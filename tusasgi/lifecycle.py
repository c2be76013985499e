"""The lifecycle of an upload: its states, and what leads from one to the next.

`TRANSITIONS` is the whole of it; `docs/lifecycle.md` shows the same table, held by a test.
All states but `expired` are recorded in the store, or follow from what is stored there. So what
a crash or a failing hook interrupts is taken up again: `joining`, `completing` and `removing`
are left by the next request or sweep that finds them.
"""

import enum
from collections.abc import Mapping
from datetime import datetime

from tusasgi.models import Upload


class State(enum.StrEnum):
    """What an upload is like at a moment."""

    RECEIVING = "receiving"
    """It takes bytes."""
    JOINING = "joining"
    """A final upload that does not hold all bytes of its partial uploads yet."""
    COMPLETING = "completing"
    """All bytes are there; they are made durable and handed to the `completed` hook."""
    COMPLETE = "complete"
    """The `completed` hook is done. (A partial upload has none, and is just durable.)"""
    EXPIRED = "expired"
    """It was not finished in time, or is a partial upload whose time has passed."""
    REMOVING = "removing"
    """Nobody can use it any more; the hook and the removal are still to be done."""


class Event(enum.StrEnum):
    """What happens to an upload."""

    CREATED = "created"
    ANNOUNCED = "announced"
    """A final upload was created, whose bytes are still to be joined."""
    APPENDED = "appended"
    FILLED = "filled"
    """The last byte came, or the length was declared to be what is there."""
    JOINED = "joined"
    COMPLETED = "completed"
    TERMINATED = "terminated"
    """A client, the host or a refused inspection wants it removed."""
    EXPIRED = "expired"
    """The sweeper found it past its time."""
    REMOVED = "removed"


TOLD = (Event.CREATED, Event.COMPLETED, Event.TERMINATED, Event.EXPIRED)
"""What hooks may have told to others: see `Hooks.tell`."""

TRANSITIONS: Mapping[tuple[State | None, Event], State | None] = {
    (None, Event.CREATED): State.RECEIVING,
    (None, Event.ANNOUNCED): State.JOINING,
    (State.RECEIVING, Event.APPENDED): State.RECEIVING,
    (State.RECEIVING, Event.FILLED): State.COMPLETING,
    (State.JOINING, Event.JOINED): State.COMPLETING,
    (State.COMPLETING, Event.COMPLETED): State.COMPLETE,
    (State.RECEIVING, Event.TERMINATED): State.REMOVING,
    (State.JOINING, Event.TERMINATED): State.REMOVING,
    (State.COMPLETING, Event.TERMINATED): State.REMOVING,
    (State.COMPLETE, Event.TERMINATED): State.REMOVING,
    (State.EXPIRED, Event.TERMINATED): State.REMOVING,
    (State.EXPIRED, Event.EXPIRED): State.REMOVING,
    (State.REMOVING, Event.REMOVED): None,
}
"""What an event makes of an upload. None: there is no upload (yet, or any more)."""


def state_of(upload: Upload, now: datetime) -> State:
    """Return the state of an upload as it stands in the store."""
    if upload.removal is not None:
        return State.REMOVING
    if upload.is_expired(now):
        return State.EXPIRED
    if upload.is_complete:
        return State.COMPLETE
    if upload.has_all_bytes:
        return State.COMPLETING
    return State.JOINING if upload.parts else State.RECEIVING
