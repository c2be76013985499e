"""`/health` and `/metrics`, for whoever looks after a running Roughy; see `ROUGHY_MONITORING`.

Both are open, as what asks them has no key: they name no account, id or path.
"""

import os
import time
from collections.abc import Iterator, Mapping

import anyio
from anyio.to_thread import run_sync
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from examples.roughy.api.errors import Unavailable
from examples.roughy.api.routing import resource
from examples.roughy.storage.database import Database
from examples.roughy.storage.place import Place
from examples.roughy.storage.tables import Asset, SchemaVersion, State
from tusasgi.metrics import Metrics

_COUNT_SECONDS = 10.0  # however often somebody asks, assets are counted once in this time


class Monitoring:
    """`metrics` is the observer of the uploads. `place` is where their bytes go."""

    def __init__(self, db: Database, place: Place) -> None:
        self._db = db
        self._place = place
        self._registry = CollectorRegistry()
        self._counted: tuple[float, Mapping[str, int]] | None = None
        self._counting = anyio.Lock()
        self.metrics = Metrics(self._registry)

    def routes(self) -> list[BaseRoute]:
        return [
            resource("/health", get=self.health),
            resource("/metrics", get=self.read_metrics),
        ]

    async def health(self, request: Request) -> Response:
        """Answer 503 if the database does not answer, or nothing can be stored."""
        try:
            async with self._db.reading() as session:
                await session.execute(select(SchemaVersion))
        except (SQLAlchemyError, OSError):
            raise Unavailable("the database does not answer as it should") from None
        await self._place.check()
        return JSONResponse({"status": "ok"})

    async def read_metrics(self, request: Request) -> Response:
        body = await run_sync(self._render, _AssetCounts(await self._count_assets()))
        return Response(body, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _count_assets(self) -> Mapping[str, int]:
        """Return how many assets are in each state; nothing if the database does not answer."""
        async with self._counting:
            now = time.monotonic()
            if self._counted is None or now - self._counted[0] >= _COUNT_SECONDS:
                try:
                    self._counted = now, await self._read_counts()
                except (SQLAlchemyError, OSError):
                    return {}
            return self._counted[1]

    async def _read_counts(self) -> Mapping[str, int]:
        states = select(Asset.state, func.count()).group_by(Asset.state)
        async with self._db.reading() as session:
            found = dict((await session.execute(states)).tuples().all())
        return {state: found.get(state, 0) for state in State}

    def _render(self, assets: Collector) -> bytes:
        return generate_latest(self._process_registry()) + generate_latest(assets)

    def _process_registry(self) -> CollectorRegistry:
        """This process's own, or the sum of all where prometheus_client was told to keep one."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return self._registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry


class _AssetCounts(Collector):
    """What the database says now. No `Gauge`, which would be counted for each process."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("roughy_assets", "Assets by state.", labels=["state"])
        for state, count in self._counts.items():
            family.add_metric([state], count)
        yield family
