"""API keys: what they look like, and whose one is.

A key is 256 random bits, so nobody can try them all: one SHA-256 is enough to keep a stolen
database from giving them away, and the slow hashes that passwords need would only make every
request slow.
"""

import hashlib
import hmac
import secrets
import uuid

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from examples.roughy.api.errors import Unauthenticated
from examples.roughy.storage.database import Database
from examples.roughy.storage.tables import ApiKey

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
    digest = digest_of(key)
    for known in await session.scalars(select(ApiKey).where(ApiKey.start == digest[:8])):
        if hmac.compare_digest(known.digest, digest):
            return known.account_id
    return None


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
