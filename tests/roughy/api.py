"""Roughy in one process without a server: a clock to turn, a client, and a look at the stores."""

import hashlib
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from sqlalchemy import select, update

from examples.roughy.app import Roughy
from examples.roughy.ids import uuid7
from examples.roughy.keys import find_account
from examples.roughy.ledger import top_up
from examples.roughy.storage.tables import Asset, Base, LedgerEntry

PATCH_TYPE = "application/offset+octet-stream"
ORIGIN = "https://app.example.com"


class Clock:
    """Goes on by a millisecond with each look, so that nothing happens at the same time."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 2, 8, 54, 52, 423000, UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def advance(self, **time: float) -> None:
        self.now += timedelta(**time)


class Api:
    """What a client with one key can do."""

    def __init__(self, roughy: Roughy, clock: Clock, key: str) -> None:
        self.roughy = roughy
        self.clock = clock
        self.key = key
        self.headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(roughy.app),
            base_url="http://roughy.test",
        )

    async def call(self, method: str, url: str, **more) -> httpx.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        return await self.http.request(method, url, headers=headers, **more)

    async def get(self, url: str, **params) -> httpx.Response:
        return await self.call("GET", url, params=params or None)

    async def post(self, url: str, body: object) -> httpx.Response:
        return await self.send_json("POST", url, body)

    async def send_json(self, method: str, url: str, body: object) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return await self.call(method, url, content=json.dumps(body), headers=headers)

    async def new_project(self, name: str = "clips") -> str:
        response = await self.post("/v1/projects", {"name": name})
        assert response.status_code == 201, response.text
        return response.json()["id"]

    async def create(self, size: int, **fields: object) -> httpx.Response:
        if "project_id" not in fields:
            fields["project_id"] = await self.new_project()
        return await self.post("/v1/assets", {"size_bytes": size, **fields})

    async def new_upload(self, size: int, **fields: object) -> str:
        """Return the upload URL of a new asset."""
        response = await self.create(size, **fields)
        assert response.status_code == 201, response.text
        return response.headers["location"]

    async def tus(self, method: str, url: str, content: bytes = b"", **headers: str):
        sent = {"Tus-Resumable": "1.0.0", **headers}
        return await self.call(method, url, headers=sent, content=content)

    async def patch(self, url: str, offset: int, content: bytes, **headers: str):
        told = {"Upload-Offset": str(offset), "Content-Type": PATCH_TYPE, **headers}
        return await self.tus("PATCH", url, content, **told)

    async def head(self, url: str) -> httpx.Response:
        return await self.tus("HEAD", url)

    async def cancel(self, url: str) -> httpx.Response:
        return await self.tus("DELETE", url)

    async def upload(self, content: bytes, **fields: object) -> str:
        """Upload a whole file and return the id of its asset, which is in `processing` then."""
        url = await self.new_upload(len(content), **fields)
        response = await self.patch(url, 0, content)
        assert response.status_code == 204, response.text
        return id_of(url)

    async def prepared(self, content: bytes, **fields: object) -> dict:
        """Upload a whole file, have it prepared, and return the asset."""
        asset_id = await self.upload(content, **fields)
        await self.work()
        return await self.asset(asset_id)

    async def asset(self, asset_id: str) -> dict:
        response = await self.get(f"/v1/assets/{asset_id}")
        assert response.status_code == 200, response.text
        return response.json()

    async def work(self) -> None:
        """Prepare everything that is waiting."""
        while await self.roughy.worker.prepare_next():
            pass

    async def balance(self) -> int:
        return (await self.get("/v1/credits/balance")).json()["balance"]

    async def history(self) -> list[dict]:
        return (await self.get("/v1/credits/history", limit=100)).json()["items"]

    async def top_up(self, amount: int) -> None:
        async with self.roughy.db.writing() as session:
            account_id = await find_account(session, self.key)
            assert account_id is not None
            await top_up(session, account_id, amount, self.clock())

    async def set_balance(self, balance: int) -> None:
        """Add one entry so that the account has this many credits."""
        now = self.clock()
        delta = balance - await self.balance()
        async with self.roughy.db.writing() as session:
            account_id = await find_account(session, self.key)
            assert account_id is not None
            session.add(
                LedgerEntry(
                    id=uuid7(now),
                    account_id=account_id,
                    type="adjustment",
                    delta=delta,
                    created_at=now,
                )
            )

    async def lapse(self) -> None:
        """End all claims, as time would."""
        async with self.roughy.db.writing() as session:
            past = datetime(2000, 1, 1, tzinfo=UTC)
            await session.execute(update(Asset).values(claimed_until=past))

    async def stored(self) -> dict:
        """Everything that is kept: each row of each table, and each file of the uploads."""
        # A mark that says "look at this upload" may be there for nothing.
        files = files_in(self.roughy.settings.data / "uploads")
        kept: dict = {
            "files": {name: sha256 for name, sha256 in files.items() if name[:6] != "due/0/"}
        }
        async with self.roughy.db.reading() as session:
            for table in Base.metadata.sorted_tables:
                kept[table.name] = sorted(map(repr, await session.execute(select(table))))
        return kept

    @asynccontextmanager
    async def nothing_stored(self):
        before = await self.stored()
        yield
        assert await self.stored() == before


def files_in(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def id_of(url: str) -> str:
    return url.rpartition("/")[2]


def error_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def fields_of(response: httpx.Response) -> list[str]:
    return [field["field"] for field in response.json()["error"].get("fields", [])]
