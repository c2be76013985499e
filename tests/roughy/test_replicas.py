"""Three processes on S3 and PostgreSQL: who prepares what, and what if one is killed meanwhile."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import psutil
import pytest

from tests.services.faults import Call, FaultProxy
from tests.services.fixtures import QUICKLY_CHECKED
from tests.services.s3 import SeaweedFS

from . import s3
from .conftest import empty
from .server import Server, wait_for

MIB = 1024 * 1024


@pytest.fixture
def blockbuster() -> None:
    """Switched off: the servers are other processes."""


@pytest.fixture(scope="module")
def started(
    tmp_path_factory: pytest.TempPathFactory, seaweedfs: SeaweedFS, postgres_server: str
) -> Iterator[tuple[list[Server], FaultProxy]]:
    """Three processes that share what is on S3 and in PostgreSQL, and nothing else."""
    asyncio.run(empty(postgres_server))
    with FaultProxy(seaweedfs.endpoint) as proxy, ExitStack() as stack:
        environ = {
            "ROUGHY_DATABASE_URL": postgres_server,
            **s3.environment(seaweedfs, seaweedfs.new_bucket(), proxy.endpoint),
        }
        start, folder = ("-c", QUICKLY_CHECKED), tmp_path_factory.mktemp("replicas")
        servers = [Server(folder / str(number), start=start, **environ) for number in range(3)]
        yield [stack.enter_context(server) for server in servers], proxy


@pytest.fixture
def servers(started: tuple[list[Server], FaultProxy]) -> Iterator[list[Server]]:
    """The three of them, all running."""
    servers, _ = started
    for server in servers:
        if server.process.poll() is not None:
            server.http.close()
            server.start()
    yield servers
    for server in servers:
        server.process.send_signal(signal.SIGCONT)  # where a test failed before it


@pytest.fixture
def proxy(started: tuple[list[Server], FaultProxy]) -> Iterator[FaultProxy]:
    """Their way to S3, and the calls of this test alone."""
    _, proxy = started
    proxy.clear()
    yield proxy
    proxy.heal()


def measurings(proxy: FaultProxy) -> list[str]:
    """The object of each measuring that was begun; an MP4 is read from its start once."""

    def begins(call: Call) -> bool:
        return call.operation == "GetObject" and call.headers["Range"].startswith("bytes=0-")

    return [call.key for call in proxy.calls if "/assets/" in call.key and begins(call)]


def prices(server: Server, asset: dict) -> list[int]:
    """What was paid for an asset, each time."""
    return [entry["delta"] for entry in server.charges() if entry["asset_id"] == asset["id"]]


def test_processes_measure_and_charge_each_asset_once(servers, proxy, mp4):
    def upload(number: int) -> str:
        url = servers[number % 3].new_upload(len(mp4))
        assert servers[(number + 1) % 3].patch(url, 0, mp4).status_code == 204
        return url

    before = servers[0].balance()
    with ThreadPoolExecutor(4) as threads:
        urls = list(threads.map(upload, range(9)))
    assert {servers[0].ready(url)["state"] for url in urls} == {"ready"}
    assert len(measurings(proxy)) == len(set(measurings(proxy))) == 9
    charged = [entry["asset_id"] for entry in servers[0].charges()]
    of_these = {url.rpartition("/")[2] for url in urls}
    assert sorted(of_these) == sorted(asset for asset in charged if asset in of_these)
    assert servers[0].balance() == before - 9


def test_killed_while_it_measures_a_process_is_replaced_and_paid_once(servers, proxy, film):
    url = servers[0].new_upload(len(film))
    reading = proxy.fail("stall", operation="GetObject", key="/assets/")
    assert servers[0].patch(url, 0, film).status_code == 204
    reading.wait()
    programs = {server: psutil.Process(server.process.pid).children() for server in servers}
    ((measuring, (program,)),) = [found for found in programs.items() if found[1]]
    measuring.kill()
    assert psutil.wait_procs([program], timeout=20)[1] == []  # it waits for nobody's bytes
    other = next(server for server in servers if server is not measuring)
    asset = other.ready(url)
    assert (asset["state"], asset["duration_seconds"]) == ("ready", "65.000")
    assert len(measurings(proxy)) == 2
    assert prices(other, asset) == [-2]
    assert httpx.get(asset["download_url"]).content == film


def test_a_process_that_was_frozen_spoils_nothing_when_it_wakes_up(servers, long_film):
    first, second, _ = servers
    url = first.new_upload(len(long_film))
    over = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield long_film[: 12 * MIB]
        over.wait(60)
        yield b"x" * 9 * MIB  # what this client sends is not what the other one does

    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(first.patch, url, 0, slowly())
        wait_for(lambda: second.offset(url) >= 8 * MIB, "the first part to be stored")
        first.process.send_signal(signal.SIGSTOP)
        offset = second.offset(url)
        assert second.patch(url, offset, long_film[offset:]).status_code == 204
        assert second.ready(url)["state"] == "ready"
        over.set()
        first.process.send_signal(signal.SIGCONT)
        with contextlib.suppress(httpx.TransportError):
            assert sending.result().status_code >= 400
    asset = first.asset(url)
    assert asset["state"] == "ready"
    assert httpx.get(asset["download_url"]).content == long_film
    assert prices(first, asset) == [-2]
