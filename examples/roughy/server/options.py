"""The parts that are there only where a setting asks for them, and may lack a package."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from examples.roughy.settings import Settings
from examples.roughy.storage.database import Database
from examples.roughy.storage.place import Place
from tusasgi.arguments import needs_extra

if TYPE_CHECKING:
    from examples.roughy.server.monitoring import Monitoring


def bucket_of(settings: Settings, clock: Callable[[], datetime]) -> Place | None:
    """Return where bytes go on S3. Raises `ImportError` that says what to install."""
    if settings.bucket is None:
        return None
    with needs_extra("s3"):
        from examples.roughy.replicas.bucket import Bucket

    return Bucket(settings.bucket, clock)


def monitoring_of(settings: Settings, db: Database, place: Place) -> "Monitoring | None":
    """Return what watches us. Raises `ImportError` that says what to install."""
    if not settings.is_monitored:
        return None
    with needs_extra("metrics"):
        from examples.roughy.server.monitoring import Monitoring

    return Monitoring(db, place)
