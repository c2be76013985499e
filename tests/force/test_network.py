"""What networks do to connections, through a proxy that does it on purpose: nothing is lost."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Iterator

import pytest

from tests.force._client import TUS, UPLOAD, Ask, Body, bring, send
from tests.force._proxy import Fault, Proxy
from tests.force._server import connected, owner, serving, settled_offset, workers_of
from tests.hosts._process import Server
from tests.hosts._wire import Client, wait_until

DATA = os.urandom(1_300_007)
SOON = 4.0  # seconds; it takes milliseconds on a quiet machine, and patience would end after 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("network"), workers=2) as server:
        wait_until(lambda: len(workers_of(server)) == 2)
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    """Goes to the server directly."""
    return Client(server.port)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


def _bring(proxy: Proxy, path: str, data: bytes = DATA) -> int:
    return asyncio.run(bring(proxy.port, path, data))


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("seed", range(2))
def test_connections_that_end_on_the_way_to_the_server_lose_nothing(
    client: Client, proxy: Proxy, is_reset: bool, seed: int
) -> None:
    dice = random.Random(seed)
    path = client.create(len(DATA))
    # Both in the heads of requests, a few hundred bytes long, and in the bodies.
    places = [dice.choice([dice.randrange(1, 300), dice.randrange(300_000)]) for _ in range(12)]
    proxy.plan(*[Fault(cut_up=place, is_reset=is_reset) for place in places])
    assert _bring(proxy, path) >= 3
    assert client.get(path).body == DATA


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_what_was_told_before_a_connection_ended_is_kept(
    client: Client, proxy: Proxy, framing: str, is_reset: bool
) -> None:
    path = client.create(len(DATA))
    proxy.plan(Fault(cut_up=400_000, is_reset=is_reset))
    size = len(DATA) if framing == "length" else None
    with Client(proxy.port).patching(path, 0, size) as patch:
        send_piece = patch.send if framing == "length" else patch.send_chunk
        send_piece(DATA[:300_000])
        wait_until(lambda: client.offset(path) == 300_000)
        with contextlib.suppress(ConnectionError):
            send_piece(DATA[300_000:])
            assert patch.is_closed()
    assert 300_000 <= settled_offset(client, path) <= 400_000
    client.resume(path, DATA)
    assert client.get(path).body == DATA


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
def test_connections_that_end_within_the_answer_lose_nothing(
    client: Client, proxy: Proxy, is_reset: bool
) -> None:
    dice = random.Random(3)
    path = client.create(len(DATA))
    proxy.plan(*[Fault(cut_down=dice.randrange(1, 150), is_reset=is_reset) for _ in range(6)])
    assert _bring(proxy, path) >= 3
    assert client.get(path).body == DATA


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(delay=0.02), id="slow-to-come"),
        pytest.param(Fault(bytes_per_second=1_500_000), id="narrow"),
    ],
)
def test_a_slow_network_changes_nothing(client: Client, proxy: Proxy, fault: Fault) -> None:
    path = client.create(len(DATA))
    proxy.plan(*[fault] * 3)
    assert _bring(proxy, path) == 0
    assert client.get(path).body == DATA


def test_a_patch_whose_answer_is_lost_is_stored_whole(client: Client, proxy: Proxy) -> None:
    path = client.create(len(DATA))
    for end in (500_000, len(DATA)):
        offset = client.offset(path)
        proxy.plan(Fault(loses_answer=True))
        with pytest.raises(ConnectionError):
            asyncio.run(send(proxy.port, _patch(path, offset, DATA[offset:end])))
        assert client.offset(path) == end
    assert client.get(path).body == DATA


def _patch(path: str, offset: int, data: bytes) -> Ask:
    headers = {**UPLOAD, "Upload-Offset": str(offset)}
    return Ask(method="PATCH", path=path, headers=headers, body=Body(data=data))


def test_a_patch_that_is_sent_again_after_its_answer_was_lost_stores_nothing_twice(
    client: Client, proxy: Proxy
) -> None:
    path = client.create(len(DATA))
    proxy.plan(Fault(loses_answer=True))
    with pytest.raises(ConnectionError):
        asyncio.run(send(proxy.port, _patch(path, 0, DATA[:500_000])))
    assert asyncio.run(send(proxy.port, _patch(path, 0, DATA[:500_000]))).status == 409
    assert client.offset(path) == 500_000
    assert _bring(proxy, path) == 0
    assert client.get(path).body == DATA


def test_a_creation_and_a_removal_whose_answers_are_lost_are_done(
    server: Server, client: Client, proxy: Proxy
) -> None:
    before = set(server.folder.rglob("*.info"))
    proxy.plan(*[Fault(loses_answer=True)] * 2)
    headers = {**TUS, "Upload-Length": "10"}
    with pytest.raises(ConnectionError):
        asyncio.run(send(proxy.port, Ask(method="POST", path="/files/", headers=headers)))
    (record,) = set(server.folder.rglob("*.info")) - before
    path = f"/files/{record.stem}"
    assert client.offset(path) == 0
    with pytest.raises(ConnectionError):
        asyncio.run(send(proxy.port, Ask(method="DELETE", path=path)))
    assert client.head(path).status == 404


@pytest.mark.parametrize("worker", ["the same", "the other"])
def test_a_client_comes_back_from_a_half_open_connection_through(
    server: Server, client: Client, proxy: Proxy, worker: str
) -> None:
    path, offset = client.create(len(DATA)), 400_000
    with Client(proxy.port).patching(path, 0, len(DATA)) as old:
        old.send(DATA[:offset])
        wait_until(lambda: client.offset(path) == offset)
        holder = owner(server, proxy.upstream_ports[0])
        assert holder is not None
        (other,) = workers_of(server) - {holder}
        proxy.silence()
        old.send(DATA[offset:600_000])  # disappears in the network
        with connected(server, holder if worker == "the same" else other) as new:
            began = time.monotonic()
            headers = {"Upload-Offset": str(offset), "Content-Length": str(len(DATA) - offset)}
            new.start("PATCH", path, {**UPLOAD, **headers})
            new.send(DATA[offset:])
            answer = new.answer()
        assert (answer.status, answer.offset) == (204, len(DATA))
        assert time.monotonic() - began < SOON
    assert client.get(path).body == DATA


def test_a_connection_that_went_silent_by_itself_holds_nobody_up(
    client: Client, proxy: Proxy
) -> None:
    path = client.create(len(DATA))
    proxy.plan(*[Fault(silent_up=size) for size in (50, 100_000, 250_000)])
    with contextlib.ExitStack() as silent:
        for _ in range(3):
            offset = client.offset(path)
            old = silent.enter_context(
                Client(proxy.port).patching(path, offset, len(DATA) - offset)
            )
            old.send(DATA[offset : offset + 400_000])
        began = time.monotonic()
        client.resume(path, DATA)
        assert time.monotonic() - began < SOON
    assert client.get(path).body == DATA
