"""How a piece of code gets a transaction, on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
from sqlalchemy import Connection, event, func, select, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from examples.roughy.storage.schema import bring_up_to_date

_STATEMENT_SECONDS = 30  # then the database is in trouble, and a request is answered 500


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
        """Make or renew the tables. Any number of processes may do so at once."""
        async with self.alone() as session:
            await (await session.connection()).run_sync(bring_up_to_date)

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
