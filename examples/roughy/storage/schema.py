"""The tables are made when Roughy starts, and those of an older version are brought up to date.

A table more is no other version: it is made beside those that are there, and code that does not
know it goes on. For anything else there is a step here, from each version to the next one. Who
builds on this adds Alembic and takes over from `SCHEMA_VERSION`.
"""

from collections.abc import Callable

from sqlalchemy import Connection, insert, inspect, select, text, update

from examples.roughy.storage.tables import Base, SchemaVersion

SCHEMA_VERSION = 2


class SchemaMismatch(Exception):
    """The database was made by a later version of this code."""


def bring_up_to_date(connection: Connection) -> None:
    """Make what is missing; raise `SchemaMismatch` for what is newer than we are."""
    Base.metadata.create_all(connection)
    version = connection.scalar(select(SchemaVersion.version))
    if version is None:
        connection.execute(insert(SchemaVersion).values(version=SCHEMA_VERSION))
        return
    if not 1 <= version <= SCHEMA_VERSION:
        raise SchemaMismatch(
            f"the database has version {version}, this code needs {SCHEMA_VERSION}"
        )
    for step in _STEPS[version - 1 :]:
        step(connection)
    connection.execute(update(SchemaVersion).values(version=SCHEMA_VERSION))


def _count_attempts_in_assets(connection: Connection) -> None:
    """From 1 to 2: they were counted in a table of their own.

    The column has a default for the replicas of version 1 that still run.
    """
    connection.execute(text("ALTER TABLE assets ADD COLUMN attempts BIGINT DEFAULT 0 NOT NULL"))
    if inspect(connection).has_table("given_up_assets"):
        connection.execute(
            text(
                "UPDATE assets SET attempts = given_up_assets.times "
                "FROM given_up_assets WHERE given_up_assets.asset_id = assets.id"
            )
        )
        connection.execute(text("DROP TABLE given_up_assets"))


_STEPS: tuple[Callable[[Connection], None], ...] = (_count_attempts_in_assets,)
"""The first one leads from version 1 to 2, and so on."""
