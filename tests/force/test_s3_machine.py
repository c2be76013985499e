"""Any life of any uploads through two replicas on one prefix, against the model of all stores.

The parts are of 1,500 bytes here, which moto takes when it is told to, so that the short uploads of
the model have parts, pieces and tails. No locker is shared.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from tests.engine.test_state_machine import LivesOfUploads, bodies, ids, lengths, settled
from tests.services.s3 import Moto
from tests.stores.s3._server import content_of, store_on
from tusasgi import (
    Append,
    Body,
    OffsetConflict,
    Upload,
    UploadLocked,
    UploadPending,
    Uploads,
)
from tusasgi.stores.s3 import S3Store, appending, part_sizes, progress
from tusasgi.testing import END, Client

pytestmark = pytest.mark.timeout(600)  # of which a quick machine takes 30: examples are the bound

PART = 1500
IDS = ["a", "b", "c-1"]
_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def small_parts(moto: Moto) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
        patch.setattr(part_sizes, "_MIB", 1)  # to which parts are rounded up
        patch.setattr(appending, "INLINE", 500)
        patch.setattr(progress, "FREE", 300)
        OverReplicas.server = moto
        yield


class OverReplicas(LivesOfUploads):
    """Each call goes to one of two replicas, by dice that hypothesis throws."""

    server: ClassVar[Moto]

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.prefix = f"machine-{next(_numbers)}"
        self.dice = random.Random(0)
        self.calls = self.calls_seen = 0
        self.contents: dict[str | None, bytes] = {}
        super().__init__()
        self.other_store = self.open_store()
        self.other_engine = self.open_engine(self.other_store)

    @initialize(
        seed=st.integers(0, 99),
        begun=st.lists(
            st.tuples(lengths, st.booleans(), bodies, bodies, bodies), min_size=3, max_size=3
        ),
    )
    def begin(self, seed: int, begun: list[Any]) -> None:
        """Have some uploads from the start: each step is dearer here than with other stores."""
        self.dice = random.Random(seed)
        for upload_id, (length, is_partial, chunks, *both) in zip(IDS, begun, strict=True):
            self.create(upload_id, length, is_partial)
            self._append(upload_id, self.model[upload_id], chunks, END)
            self.race(upload_id, *both)

    def open_store(self) -> S3Store:
        store = store_on(self.server, self.prefix, check=False)
        store._part_size = PART
        store._clock = lambda: self.now
        return store

    @property
    def uploads(self) -> Uploads:
        return self.dice.choice([self.engine, self.other_engine])

    async def content(self, upload: Upload) -> bytes:
        # What a version names never changes.
        if upload.version not in self.contents:
            store = self.dice.choice([self.store, self.other_store])
            self.contents[upload.version] = await content_of(store, self.server, upload)
        return self.contents[upload.version]

    def run(self, call: Callable[[], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            return await call()

        self.calls += 1
        return self.runner.run(main())

    @invariant()
    def everything_is_there(self) -> None:
        """Look only when something was called: most of the time goes into this."""
        if self.calls > self.calls_seen:
            super().everything_is_there()
            self.calls_seen = self.calls

    @rule()
    def restart(self) -> None:
        """The replicas take turns in being the one that knows nothing."""
        self.run(self.store.aclose)
        self.store, self.engine = self.other_store, self.other_engine
        self.other_store = self.open_store()
        self.other_engine = self.open_engine(self.other_store)

    @rule(upload_id=ids, chunks=bodies, other=bodies)
    def race(self, upload_id: str, chunks: list[bytes], other: list[bytes]) -> None:
        """Two clients append different bytes at the same place, each through its replica."""
        kept = self.alive(upload_id)
        if kept is None or kept.parts or kept.is_complete:
            return
        both = [chunks, [bytes(byte ^ 255 for byte in chunk) for chunk in other]]
        if any(not 0 < sum(map(len, one)) <= kept.room for one in both):
            return

        async def append(engine: Uploads, chunks: list[bytes]) -> Upload | None:
            body = Body(Client(chunks).receive, timeout=None)
            try:
                return await engine.append(upload_id, Append(offset=len(kept.content)), body)
            except (OffsetConflict, UploadLocked, UploadPending):
                return None

        async def race() -> list[Upload | None]:
            engines = (self.engine, self.other_engine)
            return await asyncio.gather(*map(append, engines, both))

        won = [b"".join(one) for one, upload in zip(both, self.run(race), strict=True) if upload]
        assert len(won) == 1, f"{len(won)} of two were acknowledged"
        kept.is_open = False
        self._grow(kept, won[0])

    def teardown(self) -> None:
        try:
            self._sweep_all()
        finally:
            for store in (self.store, self.other_store):
                self.run(store.aclose)
            self.runner.close()

    def _sweep_all(self) -> None:
        """Of what is terminated or has expired nothing is left."""
        self.now = datetime(2100, 1, 1, tzinfo=UTC)
        for _ in range(2):
            self.run(self.uploads.sweep)
        for upload_id in [key for key, one in self.model.items() if not one.is_expired(self.now)]:
            self.run(lambda: self.uploads.terminate(upload_id))  # noqa: B023
        bucket = self.server.bucket
        assert self.server.keys(bucket, f"{self.prefix}/") == []
        left = [key for key, _ in self.server.multiparts(bucket) if key.startswith(self.prefix)]
        assert left == []


TestOverReplicas = settled(OverReplicas, 15, steps=30)
