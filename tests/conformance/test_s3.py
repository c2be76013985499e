"""Every statement of the protocol that a store has a say in again, over object storage.

On asyncio alone: the way from trio to S3 is tested with the store. What is stored is whatever
lies in the bucket, but for what only tells two writes of the same apart.
"""

import itertools
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests._stage import MakeStage, Stage, make_stage
from tests.conformance.generic import run_rule
from tests.conformance.test_conformance import STORED, test_statement_by_hand
from tests.services.fixtures import seaweedfs as seaweedfs  # the fixture
from tests.services.s3 import S3Server
from tests.stores.s3._server import content_of, store_on
from tusasgi.stores.s3 import S3Store

__all__ = ["test_statement_by_hand"]

PART_SIZE = 5 * 1024 * 1024
_prefixes = (f"conformance-{secrets.token_hex(4)}-{number}" for number in itertools.count())


class S3Stage(Stage):
    """A stage over a prefix of its own."""

    store: Any
    server: S3Server
    prefix: str

    async def content(self, upload_id: str) -> bytes:
        return await content_of(self.store, self.server, await self.store.get(upload_id))

    def snapshot(self) -> dict[str, Any]:
        bucket, client = self.server.bucket, self.server.client
        objects = {
            key.removeprefix(self.prefix): client.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in self.server.keys(bucket, f"{self.prefix}/")
        }
        multiparts = self.server.multiparts(bucket)
        return {
            **{key: _without_commit(key, content) for key, content in objects.items()},
            **{key: name for key, name in multiparts if key.startswith(f"{self.prefix}/")},
        }


def _without_commit(key: str, content: bytes) -> Any:
    """Return what is stored without the mark of its write, which is another each time."""
    if not key.startswith("/state/"):
        return content
    line, _, tail = content.partition(b"\n")
    return {**json.loads(line), "commit": ""}, tail


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def stage(seaweedfs: S3Server) -> AsyncIterator[MakeStage]:
    """A function that sets up one more stage, each with a store of its own."""
    stores: list[S3Store] = []

    def make(**options: Any) -> Stage:
        prefix = next(_prefixes)
        store = store_on(seaweedfs, prefix, part_size=PART_SIZE, check=False)
        stores.append(store)
        stage: Any = make_stage(store, **options)
        stage.__class__ = S3Stage
        stage.server, stage.prefix = seaweedfs, prefix
        return stage

    yield make
    for store in stores:
        await store.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("rule_id", STORED)
async def test_statement(rule_id: str, stage: MakeStage) -> None:
    await run_rule(rule_id, stage)
