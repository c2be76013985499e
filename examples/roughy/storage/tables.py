"""The tables."""

import enum
import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    String,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


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
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    """How often measuring it came to no end."""
    claimed_by: Mapped[uuid.UUID | None]
    """The claim of the worker that prepares it, as long as `claimed_until` lies ahead."""
    claimed_until: Mapped[datetime | None]
    """By `Database.now`."""


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
