"""A replica on object storage that stands still in a PATCH, or waits on a dead connection.

Nobody waits for it: the client comes back through another replica, and whatever the first one
does when it wakes up changes nothing that counts.
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Iterator

import anyio
import pytest

from tests._stage import make_stage
from tests.force._fleet import environment
from tests.force._server import serving, stopped
from tests.force.app import FAR_FUTURE, PART_SIZE, s3_engine, sweep_twice
from tests.hosts._process import Server
from tests.hosts._wire import Answer, Client, Connection, wait_until
from tests.services.s3 import S3Server, SeaweedFS
from tests.stores.s3._server import store_on
from tusasgi.testing import STALL

MIB = 1024 * 1024
DATA = os.urandom(14 * MIB + 7)
OTHER = os.urandom(14 * MIB + 7)
SEEN = 12_300_000
SOON = 4.0  # seconds; it takes milliseconds on a quiet machine, and patience would end after 5
REFUSED = (404, 410, 423)
PREFIX = f"stopped-{secrets.token_hex(4)}"

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def replicas(
    seaweedfs: SeaweedFS, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    """Two servers on one prefix, which share nothing else."""
    folder = tmp_path_factory.mktemp("stopped") / "replicas"
    settings = environment(seaweedfs, prefix=PREFIX)
    with serving(folder, **settings) as first, serving(folder, **settings) as second:
        yield first, second


@pytest.fixture
def first(replicas: tuple[Server, Server]) -> Server:
    return replicas[0]


@pytest.fixture
def second(replicas: tuple[Server, Server]) -> Client:
    return Client(replicas[1].port)


@contextlib.contextmanager
def _patching(
    server: Server, other: Client, *, is_saved: bool
) -> Iterator[tuple[str, Connection, int]]:
    """Be in the middle of a PATCH, known to others or not yet; give the offset they know."""
    client = Client(server.port)
    path = client.create(len(DATA))
    with client.patching(path, 0, len(DATA)) as patch:
        patch.send(DATA[:SEEN])
        if is_saved:
            wait_until(lambda: other.offset(path) == SEEN)
        yield path, patch, other.offset(path)


def _come_back(client: Client, path: str) -> bytes:
    """Get the next turn soon, and bring the rest with other bytes; return what it then is."""
    began = time.monotonic()
    offset = 0

    def is_brought() -> bool:
        nonlocal offset
        offset = client.offset(path)
        return client.patch(path, offset, OTHER[offset : offset + MIB]).status == 204

    wait_until(is_brought)
    assert time.monotonic() - began < SOON
    assert client.patch(path, offset + MIB, OTHER[offset + MIB :]).status == 204
    return DATA[:offset] + OTHER[offset:]


def _answer(patch: Connection) -> Answer | None:
    """Return the answer; None if the connection is broken."""
    with contextlib.suppress(ConnectionError):
        return patch.answer()
    return None


def _send(patch: Connection, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # it was refused and closed already
        patch.send(data)


def _names_of(server: S3Server, path: str) -> tuple[list[str], int]:
    """Return what there is of an upload: keys, without its id, and how many multiparts."""
    upload_id = path.rpartition("/")[2]
    keys = [key for key in server.keys(server.bucket, f"{PREFIX}/") if upload_id in key]
    multiparts = [key for key, _ in server.multiparts(server.bucket) if upload_id in key]
    return [key.removeprefix(f"{PREFIX}/").partition("/")[0] for key in keys], len(multiparts)


def _sweep(server: S3Server) -> None:
    async def sweep() -> None:
        async with store_on(server, PREFIX, part_size=PART_SIZE, check=False) as store:
            await sweep_twice(s3_engine(store, clock=lambda: FAR_FUTURE))

    asyncio.run(sweep())


@pytest.mark.parametrize("is_saved", [True, False], ids=["saved", "not-saved-yet"])
def test_what_a_replica_does_after_it_stood_still_changes_nothing(
    seaweedfs: SeaweedFS, first: Server, second: Client, is_saved: bool
) -> None:
    with _patching(first, second, is_saved=is_saved) as (path, patch, offset):
        with stopped(first):
            sent = SEEN
            if is_saved:  # else there may be no room for more
                sent += 200_000
                patch.send(DATA[SEEN:sent])  # waits in the kernel
            whole = _come_back(second, path)
            assert whole[:offset] == DATA[:offset]
            assert second.get(path).body == whole
        _send(patch, DATA[sent:])
        answer = _answer(patch)
        assert answer is None or answer.status in REFUSED
    for client in (second, Client(first.port)):
        assert client.offset(path) == len(DATA)
        assert client.get(path).body == whole
    # The one that stood still may be removing what it has made in vain.
    wait_until(lambda: _names_of(seaweedfs, path) == (["objects", "state"], 0), seconds=20)


@pytest.mark.parametrize("is_finished", [True, False], ids=["finished-before", "unfinished"])
@pytest.mark.parametrize("is_saved", [True, False], ids=["saved", "not-saved-yet"])
def test_what_was_deleted_while_a_replica_stood_still_does_not_come_back(
    seaweedfs: SeaweedFS, first: Server, second: Client, is_saved: bool, is_finished: bool
) -> None:
    with _patching(first, second, is_saved=is_saved) as (path, patch, _):
        with stopped(first):
            if is_finished:
                _come_back(second, path)
            began = time.monotonic()
            assert second.request("DELETE", path).status == 204
            assert time.monotonic() - began < SOON
        _send(patch, DATA[SEEN:])
        answer = _answer(patch)
        assert answer is None or answer.status in REFUSED
    for client in (second, Client(first.port)):
        assert client.head(path).status == 404
    _sweep(seaweedfs)
    assert _names_of(seaweedfs, path) == ([], 0)


@pytest.mark.parametrize("is_saved", [True, False], ids=["saved", "not-saved-yet"])
def test_a_client_whose_connection_hangs_comes_back_through_another_replica(
    first: Server, second: Client, is_saved: bool
) -> None:
    with _patching(first, second, is_saved=is_saved) as (path, patch, _):
        # The connection stays open, and nothing comes.
        whole = _come_back(second, path)
        assert second.get(path).body == whole
        _send(patch, DATA[SEEN:])  # and all of it comes late
        answer = _answer(patch)
        assert answer is None or answer.status in REFUSED
    for client in (second, Client(first.port)):
        assert client.get(path).body == whole


def test_two_replicas_that_take_turns_on_hanging_connections_lose_nothing(
    replicas: tuple[Server, Server],
) -> None:
    clients = [Client(server.port) for server in replicas]
    path = clients[0].create(len(DATA))
    with contextlib.ExitStack() as hanging:
        for turn in range(3):
            client = clients[turn % 2]
            offset = client.offset(path)
            patch = hanging.enter_context(client.patching(path, offset, len(DATA) - offset))
            patch.send(DATA[offset : offset + 3_000_000])
            wait_until(lambda: clients[1 - turn % 2].offset(path) == offset + 3_000_000)  # noqa: B023
        offset = clients[0].offset(path)
        assert offset == 3 * 3_000_000
        assert clients[0].patch(path, offset, DATA[offset:]).status == 204
        assert clients[1].get(path).body == DATA


async def test_in_one_process_the_hand_over_is_exact_to_the_byte(seaweedfs: SeaweedFS) -> None:
    async with store_on(seaweedfs, PREFIX, part_size=PART_SIZE, check=False) as store:
        stage = make_stage(store)
        upload = await stage.upload(length=len(DATA))
        chunks = [DATA[start : start + 65_536] for start in range(0, SEEN, 65_536)]
        chunks[-1] = chunks[-1][: SEEN % 65_536]
        stale = stage.exchange(upload.id, 0, [*chunks, STALL], {"Content-Length": str(len(DATA))})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stale.run)
            await stale.starved()
            began = time.monotonic()
            # Nothing is saved yet, so that is where the client comes back.
            late = await stage.patch(upload.id, 0, DATA)
            assert (late.status, late.headers["upload-offset"]) == (409, str(SEEN))
            fresh = await stage.patch(upload.id, SEEN, DATA[SEEN:])
            assert (fresh.status, fresh.headers["upload-offset"]) == (204, str(len(DATA)))
            assert time.monotonic() - began < SOON
        assert stale.answer.status == 423
        assert await stage.content(upload.id) == DATA
