"""API keys: how they are made, kept, and recognised.

A key is 256 random bits, so nobody can try them all: one SHA-256 is enough to keep a stolen
database from giving them away, and the slow hashes that passwords need would only make every
request slow.
"""

import hashlib
import hmac
import logging
import secrets
import uuid
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from examples.roughy.api.errors import Unauthenticated
from examples.roughy.ids import uuid7
from examples.roughy.ledger import add_grant
from examples.roughy.settings import Settings, SettingsError, parse_key
from examples.roughy.storage.database import Database
from examples.roughy.storage.private import read_or_make
from examples.roughy.storage.tables import Account, ApiKey, RevokedKey

logger = logging.getLogger("roughy.keys")

_MESSAGE = "this needs the header Authorization: Bearer with a valid API key"


def new_key() -> str:
    return f"sk_{secrets.token_urlsafe(32)}"


class Keys:
    """Tells whose key a request carries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def authenticate(self, request: Request) -> uuid.UUID:
        """Return the account of a REST request, or raise `Unauthenticated`."""
        return await self.account_of(", ".join(request.headers.getlist("authorization")))

    async def account_of(self, authorization: str | None) -> uuid.UUID:
        """Return the account of an `Authorization` header, or raise `Unauthenticated`."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated(_MESSAGE)
        async with self._db.reading() as session:
            account_id = await find_account(session, key.strip())
        if account_id is None:
            raise Unauthenticated(_MESSAGE)
        return account_id


async def find_account(session: AsyncSession, key: str) -> uuid.UUID | None:
    """Return the account of a key.

    A part of the digest finds the candidates in the index, and gives nothing away; the whole is
    compared in constant time.
    """
    digest = _digest(key)
    for known in await session.scalars(select(ApiKey).where(ApiKey.start == digest[:8])):
        if hmac.compare_digest(known.digest, digest):
            return known.account_id
    return None


def own_key(settings: Settings) -> str:
    """The key of an installation that was given none; it is kept in the data folder."""
    if settings.is_for_several_machines:
        raise SettingsError(
            "ROUGHY_API_KEYS must be set where processes share a bucket and a database: "
            "each of them would make another key"
        )
    try:
        return parse_key(read_or_make(settings.data / "api-key", new_key))
    except ValueError:
        raise SettingsError(f"{settings.data / 'api-key'} holds no key") from None


async def ensure_keys(
    db: Database, keys: Iterable[str], *, initial_credits: int, now: datetime
) -> None:
    """Give each key that was never known an account of its own."""
    async with db.alone() as session:
        for key in keys:
            if await session.get(RevokedKey, _digest(key)) is not None:
                logger.warning(
                    "a key of this installation was revoked, SHA-256 %s…", _digest(key)[:8]
                )
            elif await find_account(session, key) is None:
                account_id = await open_account(session, initial_credits, now)
                add_key(session, key, account_id, now)
                await session.flush()


async def open_account(session: AsyncSession, credits: int, now: datetime) -> uuid.UUID:
    account = Account(id=uuid7(now), created_at=now)
    session.add(account)
    await session.flush()
    if credits:
        add_grant(session, account.id, credits, now)
    return account.id


def add_key(session: AsyncSession, key: str, account_id: uuid.UUID, now: datetime) -> None:
    digest = _digest(key)
    session.add(ApiKey(digest=digest, start=digest[:8], account_id=account_id, created_at=now))


async def revoke_key(session: AsyncSession, key: str, now: datetime) -> bool:
    """Let a key open nothing any more, for good. Its account and everything in it stays."""
    digest = _digest(key)
    revoked = await session.scalar(
        delete(ApiKey).where(ApiKey.digest == digest).returning(ApiKey.digest)
    )
    if revoked is None:
        return False
    session.add(RevokedKey(digest=digest, revoked_at=now))
    return True


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
