"""Keeping an upload from expiring while its bytes are gathered, judged, or on their way."""

from datetime import datetime, timedelta

from tusasgi.models import Upload

_REST = 0.75  # of the window: with more than this left there is no hurry
_MOST = timedelta(minutes=1)


def renewed_if_due(upload: Upload, now: datetime) -> Upload:
    """Return the upload with a later date if it would soon expire, though its bytes come."""
    if upload.expires is None or upload.window is None:
        return upload
    return upload if upload.expires - now > upload.window * _REST else upload.alive(now)


def renewal_interval(upload: Upload) -> float | None:
    """Return after how many seconds to ask again; None for an upload whose date does not move."""
    if upload.expires is None or upload.window is None:
        return None
    return min(upload.window, _MOST).total_seconds() / 4
