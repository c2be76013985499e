"""What is asked of a server: each load runs in a process of its own and returns one sample."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks._client import MIB, Client
from benchmarks._server import Cost, Meter, Server

SMALL = 64 * 1024
MIDDLE = 16 * MIB
CLIENTS = 16
OF_EACH_CLIENT = 8 * MIB

SLOW_EVERY = 0.25  # seconds
_SLOW_BYTES = b"x" * 512
_SLOW_LENGTH = MIB
_SLOW_SECONDS = 4  # times those of small requests

_NEVER_FULL = 64 * 1024 * MIB
_HEAD_EVERY = 0.005  # seconds

FIGURES = (
    "per second",
    "MiB/s",
    "HEAD p99, ms",
    "CPU, ms each",
    "CPU, s/GiB",
    "CPU, s",
    "RSS, MiB",
)
"""All that a sample may have. Of those after the first two less is better."""

Sample = dict[str, float]
"""Some of the figures."""


@dataclass(frozen=True)
class Dose:
    seconds: float
    """Of small requests."""
    total: int
    """Bytes of large ones."""
    slow_clients: int

    @classmethod
    def of(cls, scale: float) -> "Dose":
        """Return a second, 1 GiB and 1,000 slow clients, times `scale`."""
        return cls(
            seconds=scale,
            total=max(1, round(1024 * scale)) * MIB,
            slow_clients=max(1, round(1000 * scale)),
        )


Load = Callable[[Server, str, Dose], Sample]
"""Takes a server and the path where uploads are created."""


def small_patches(server: Server, target: str, dose: Dose) -> Sample:
    with Client(server.port) as client:
        upload = client.create(target, _NEVER_FULL)
        sample = _repeated(
            server, dose.seconds, lambda number: client.patch(upload, number * SMALL, SMALL)
        )
        client.request("DELETE", upload, 204)
    return sample


def heads(server: Server, target: str, dose: Dose) -> Sample:
    with Client(server.port) as client:
        upload = client.create(target, _NEVER_FULL)
        sample = _repeated(server, dose.seconds, lambda _: client.request("HEAD", upload, 200))
        client.request("DELETE", upload, 204)
    return sample


def creations(server: Server, target: str, dose: Dose) -> Sample:
    with Client(server.port) as client:
        return _repeated(server, dose.seconds, lambda _: client.create(target, SMALL))


def _repeated(server: Server, seconds: float, request: Callable[[int], object]) -> Sample:
    meter, count = Meter(server), 0
    while meter.seconds() < seconds:
        request(count)
        count += 1
    cost = meter.read()
    return {"per second": count / cost.seconds, "CPU, ms each": cost.cpu_seconds / count * 1000}


def one_patch(server: Server, target: str, dose: Dose) -> Sample:
    return _whole_upload(server, target, dose.total, dose.total)


def middle_patches(server: Server, target: str, dose: Dose) -> Sample:
    return _whole_upload(server, target, dose.total, MIDDLE)


def _whole_upload(server: Server, target: str, total: int, size: int) -> Sample:
    with Client(server.port) as client:
        upload = client.create(target, total)
        meter = Meter(server)
        _send(client, upload, total, size)
        cost = meter.read()
        client.request("DELETE", upload, 204)
    return _of_bytes(total, cost.seconds, cost)


def many_clients(server: Server, target: str, dose: Dose) -> Sample:
    """Uploads of many clients at once, and HEADs of one more client beside."""
    each = dose.total // CLIENTS
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        clients = [stack.enter_context(Client(server.port)) for _ in range(CLIENTS + 1)]
        uploads = [client.create(target, each) for client in clients]
        *senders, watcher = clients
        *sent, watched = uploads
        meter, begin = Meter(server), time.perf_counter()
        sending = [
            pool.submit(_send, client, upload, each, OF_EACH_CLIENT)
            for client, upload in zip(senders, sent, strict=True)
        ]
        head_p99 = _watch(watcher, watched, sending)
        took = max(one.result() for one in sending) - begin
        cost = meter.read()
        for client, upload in zip(clients, uploads, strict=True):
            client.request("DELETE", upload, 204)
    return {**_of_bytes(each * CLIENTS, took, cost), "HEAD p99, ms": head_p99}


def slow_patches(server: Server, target: str, dose: Dose) -> Sample:
    """A little of many PATCHes now and then, and HEADs of one more client beside."""
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        clients = begin_slow_patches(server, target, dose.slow_clients, stack)
        watcher = stack.enter_context(Client(server.port))
        watched = watcher.create(target, _SLOW_LENGTH)
        meter = Meter(server)
        head_p99 = _watch(watcher, watched, [pool.submit(_drip, clients, dose.seconds)])
        cost = meter.read()
    server.settle()
    return {"HEAD p99, ms": head_p99, "CPU, s": cost.cpu_seconds, "RSS, MiB": cost.rss / MIB}


def begin_slow_patches(server: Server, target: str, count: int, stack: ExitStack) -> list[Client]:
    """Return clients that each began a PATCH and go on by `send_slowly`."""
    clients = [stack.enter_context(Client(server.port)) for _ in range(count)]
    for client in clients:
        client.begin_patch(client.create(target, _SLOW_LENGTH), 0, _SLOW_LENGTH)
    return clients


def send_slowly(clients: list[Client]) -> None:
    """To be called again every `SLOW_EVERY` seconds."""
    for client in clients:
        client.send(_SLOW_BYTES)


def _drip(clients: list[Client], seconds: float) -> None:
    end = time.monotonic() + seconds * _SLOW_SECONDS
    while time.monotonic() < end:
        send_slowly(clients)
        time.sleep(SLOW_EVERY)


def _send(client: Client, upload: str, total: int, size: int) -> float:
    """Send a whole upload in PATCHes of a size, and return when it was answered."""
    for offset in range(0, total, size):
        client.patch(upload, offset, min(size, total - offset))
    return time.perf_counter()


def _watch(client: Client, upload: str, sending: Sequence[Future[Any]]) -> float:
    """Send HEADs until all is sent, and return how long the slowest of a hundred took, in ms."""
    waits: list[float] = []
    while not waits or not all(one.done() for one in sending):
        start = time.perf_counter()
        client.request("HEAD", upload, 200)
        waits.append(time.perf_counter() - start)
        time.sleep(_HEAD_EVERY)
    return percentile_99(waits) * 1000


def percentile_99(values: list[float]) -> float:
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _of_bytes(total: int, seconds: float, cost: Cost) -> Sample:
    return {
        "MiB/s": total / MIB / seconds,
        "CPU, s/GiB": cost.cpu_seconds * 1024 * MIB / total,
        "RSS, MiB": cost.rss / MIB,
    }
