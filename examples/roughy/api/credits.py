"""`/v1/credits`: the balance, and where it comes from."""

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from examples.roughy.api.paging import answer_page, parse_paging
from examples.roughy.api.routing import resource
from examples.roughy.api.validation import Fields
from examples.roughy.api.wire import id_or_none, timestamp
from examples.roughy.keys import Keys
from examples.roughy.ledger import balance_of
from examples.roughy.storage.database import Database
from examples.roughy.storage.tables import LedgerEntry


class Credits:
    def __init__(self, db: Database, keys: Keys) -> None:
        self._db = db
        self._keys = keys

    def routes(self) -> list[BaseRoute]:
        return [
            resource("/v1/credits/balance", get=self.balance),
            resource("/v1/credits/history", get=self.history),
        ]

    async def balance(self, request: Request) -> Response:
        account_id = await self._keys.authenticate(request)
        async with self._db.reading() as session:
            return JSONResponse({"balance": await balance_of(session, account_id)})

    async def history(self, request: Request) -> Response:
        account_id = await self._keys.authenticate(request)
        query = Fields("query", request.query_params)
        paging = parse_paging(query)
        query.check()
        entries = select(LedgerEntry).where(LedgerEntry.account_id == account_id)
        newest_first = (LedgerEntry.created_at.desc(), LedgerEntry.id.desc())
        async with self._db.reading() as session:
            return await answer_page(session, entries, newest_first, paging, entry_json)


def entry_json(entry: LedgerEntry) -> dict[str, object]:
    return {
        "id": str(entry.id),
        "type": entry.type,
        "delta": entry.delta,
        "asset_id": id_or_none(entry.asset_id),
        "grant_id": id_or_none(entry.grant_id),
        "stripe_invoice_id": entry.stripe_invoice_id,
        "created_at": timestamp(entry.created_at),
    }
