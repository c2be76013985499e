"""The commands that work on the database: keys and credits."""

import argparse
import asyncio
import uuid
from collections.abc import Awaitable, Callable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from examples.roughy.app import utc_now
from examples.roughy.ids import parse_uuid
from examples.roughy.keys import find_account, new_key
from examples.roughy.ledger import balance_of, top_up
from examples.roughy.settings import Settings
from examples.roughy.storage.accounts import add_key, open_account, revoke_key
from examples.roughy.storage.database import Database
from examples.roughy.storage.tables import Account

Command = Callable[[AsyncSession, Settings, argparse.Namespace], Awaitable[str]]


class CommandError(Exception):
    """A command cannot do what it was asked to; the message is for the terminal."""


def run_command(command: Command, settings: Settings, options: argparse.Namespace) -> None:
    """Run it in one transaction and print what it returns. A server may be running meanwhile."""
    print(asyncio.run(_run(command, settings, options)))


async def _run(command: Command, settings: Settings, options: argparse.Namespace) -> str:
    db = Database(settings.database_url)
    try:
        await db.prepare()
        async with db.writing() as session:
            return await command(session, settings, options)
    finally:
        await db.close()


async def add_a_key(session: AsyncSession, settings: Settings, options: argparse.Namespace) -> str:
    now = utc_now()
    if options.account is None:
        account_id = await open_account(session, settings.initial_credits, now)
    else:
        account_id = await _account(session, options.account)
    key = new_key()
    add_key(session, key, account_id, now)
    return f"{key}  (account {account_id})"


async def revoke_a_key(
    session: AsyncSession, settings: Settings, options: argparse.Namespace
) -> str:
    if not await revoke_key(session, options.key, utc_now()):
        raise CommandError("there is no such key")
    return "revoked"


async def add_credits(
    session: AsyncSession, settings: Settings, options: argparse.Namespace
) -> str:
    if not 1 <= options.amount <= 10**9:
        raise CommandError("the amount must be a whole number of credits, 1 or more")
    if options.key is not None:
        account_id = await find_account(session, options.key)
        if account_id is None:
            raise CommandError("there is no such key")
    elif options.account is not None:
        account_id = await _account(session, options.account)
    else:
        account_id = await _only_account(session)
    await top_up(session, account_id, options.amount, utc_now())
    return f"account {account_id} has {await balance_of(session, account_id)} credits"


async def _account(session: AsyncSession, text: str) -> uuid.UUID:
    account_id = parse_uuid(text)
    if account_id is None or await session.get(Account, account_id) is None:
        raise CommandError("there is no such account")
    return account_id


async def _only_account(session: AsyncSession) -> uuid.UUID:
    accounts = list(await session.scalars(select(Account.id).limit(2)))
    if len(accounts) != 1:
        raise CommandError("name the account with --account or --key: there is not exactly one")
    return accounts[0]
