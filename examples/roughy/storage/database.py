"""The tables, and how a piece of code gets a transaction on them.

The tables are made with `create_all` when Roughy starts, and a version number beside them is
checked. A table more is no other version: it is made beside those that are there, and code that
does not know it goes on. There are no migrations: a reference is read and copied. Who builds on
it adds Alembic and takes over from `SCHEMA_VERSION`.
"""

import enum
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

import anyio
from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    String,
    TypeDecorator,
    UniqueConstraint,
    event,
    func,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 1

_STATEMENT_SECONDS = 30  # then the database is in trouble, and a request is answered 500


class State(enum.StrEnum):
    """The life of an asset.

    PENDING_UPLOAD -> PROCESSING -> READY, or PENDING_PAYMENT until a top-up, or FAILED. A file
    that is refused by its first bytes goes from PENDING_UPLOAD to FAILED at once.
    """

    PENDING_UPLOAD = "pending_upload"
    PROCESSING = "processing"
    PENDING_PAYMENT = "pending_payment"
    READY = "ready"
    FAILED = "failed"


class SchemaMismatch(Exception):
    """The database was made by another version of this code."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in Python, also from SQLite, which keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime, int: BigInteger}


class SchemaVersion(Base):
    __tablename__ = "schema_version"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]


class ApiKey(Base):
    """A key of an account: its SHA-256, found by the first digits of it. See `keys.py`."""

    __tablename__ = "api_keys"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    start: Mapped[str] = mapped_column(String(8), index=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]


class RevokedKey(Base):
    """The SHA-256 of a key that opens nothing any more, although it may still be in a setting."""

    __tablename__ = "revoked_keys"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    revoked_at: Mapped[datetime]


class Project(Base):
    __tablename__ = "projects"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str] = mapped_column(String(256))
    archived_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Asset(Base):
    """An asset; its upload has the same id."""

    __tablename__ = "assets"
    __table_args__ = (Index("ix_assets_list", "account_id", "created_at"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    project_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("projects.id"), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    type: Mapped[str | None] = mapped_column(String(5))
    extension: Mapped[str | None] = mapped_column(String(16))
    content_type: Mapped[str | None] = mapped_column(String(64))
    size_bytes: Mapped[int | None]
    duration_ms: Mapped[int | None]
    language: Mapped[str | None] = mapped_column(String(2))
    error_code: Mapped[str | None] = mapped_column(String(32))
    error_message: Mapped[str | None] = mapped_column(String(256))
    created_at: Mapped[datetime]
    unpaid_since: Mapped[datetime | None]
    """When it became `pending_payment`."""
    claimed_by: Mapped[uuid.UUID | None]
    """The claim of the worker that prepares it, as long as `claimed_until` lies ahead."""
    claimed_until: Mapped[datetime | None]
    """By `Database.now`."""


class GivenUpAsset(Base):
    """How often measuring an asset was given up, and perhaps for its sake. See `worker.py`."""

    __tablename__ = "given_up_assets"

    asset_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True
    )
    times: Mapped[int]


class LedgerEntry(Base):
    """A change of a balance. Entries are only ever added, and outlive what they paid for."""

    __tablename__ = "ledger"
    # However often a charge is tried, and by however many processes: one per asset.
    __table_args__ = (UniqueConstraint("type", "asset_id"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    type: Mapped[str] = mapped_column(String(16))
    delta: Mapped[int]
    asset_id: Mapped[uuid.UUID | None]
    grant_id: Mapped[uuid.UUID | None]
    stripe_invoice_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]


class Removal(Base):
    """An upload whose asset is gone and whose bytes are still to be removed."""

    __tablename__ = "removals"

    upload_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)


class Database:
    """Hands out transactions. `close` it when done.

    A transaction is short, and cancellation waits for its end: a driver that is cut off within
    a statement loses the connection, and aiosqlite then waits for it for ever.
    """

    def __init__(self, url: URL) -> None:
        self._is_sqlite = url.get_backend_name() == "sqlite"
        limit = {"timeout" if self._is_sqlite else "command_timeout": _STATEMENT_SECONDS}
        # A kept connection may have ended with the server, which was started again meanwhile.
        self._engine = create_async_engine(url, connect_args=limit, pool_pre_ping=True)
        if self._is_sqlite:
            event.listen(self._engine.sync_engine, "connect", _set_up_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
        self._writing_engine = self._engine.execution_options(is_writing=True)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A transaction that sees one state of the database and changes nothing."""
        with anyio.CancelScope(shield=True):
            async with AsyncSession(self._engine, expire_on_commit=False) as session:
                yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A transaction that is kept when the block ends, and undone when it raises."""
        with anyio.CancelScope(shield=True):
            async with (
                AsyncSession(self._writing_engine, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[AsyncSession]:
        """A writing transaction that no other process is in at the same time: for setting up."""
        async with self.writing() as session:
            if not self._is_sqlite:
                await session.execute(text("SELECT pg_advisory_xact_lock(7237246)"))
            yield session

    async def now(self, session: AsyncSession) -> datetime:
        """The time by the one clock that all processes have in common."""
        if self._is_sqlite:  # a file, and so they are all on this machine
            return datetime.now(UTC)
        now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
        return now

    async def prepare(self) -> None:
        """Make what is missing of the tables. Any number of processes may do so at once."""
        async with self.alone() as session:
            connection = await session.connection()
            await connection.run_sync(Base.metadata.create_all)
            version = await session.scalar(select(SchemaVersion.version))
            if version is None:
                session.add(SchemaVersion(version=SCHEMA_VERSION))
            elif version != SCHEMA_VERSION:
                raise SchemaMismatch(
                    f"the database has version {version}, this code needs {SCHEMA_VERSION}"
                )

    async def close(self) -> None:
        await self._engine.dispose()


def _set_up_sqlite(connection: Any, record: Any) -> None:
    # We begin transactions ourselves, below; Python's sqlite3 would begin some of them late.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its turn at the beginning: what it reads stays true until it commits. On
    # PostgreSQL the rows that matter are locked one by one (`lock_account`, `with_for_update`).
    is_writing = connection.get_execution_options().get("is_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")
