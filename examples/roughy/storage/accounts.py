"""Accounts and their keys: how they are made, and how a key is taken back."""

import logging
import uuid
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from examples.roughy.ids import uuid7
from examples.roughy.keys import digest_of, find_account, new_key
from examples.roughy.ledger import add_grant
from examples.roughy.settings import Settings, SettingsError, parse_key
from examples.roughy.storage.database import Database
from examples.roughy.storage.private import read_or_make
from examples.roughy.storage.tables import Account, ApiKey, RevokedKey

logger = logging.getLogger("roughy.accounts")


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
            if await session.get(RevokedKey, digest_of(key)) is not None:
                logger.warning(
                    "a key of this installation was revoked, SHA-256 %s…", digest_of(key)[:8]
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
    digest = digest_of(key)
    session.add(ApiKey(digest=digest, start=digest[:8], account_id=account_id, created_at=now))


async def revoke_key(session: AsyncSession, key: str, now: datetime) -> bool:
    """Let a key open nothing any more, for good. Its account and everything in it stays."""
    digest = digest_of(key)
    revoked = await session.scalar(
        delete(ApiKey).where(ApiKey.digest == digest).returning(ApiKey.digest)
    )
    if revoked is None:
        return False
    session.add(RevokedKey(digest=digest, revoked_at=now))
    return True
