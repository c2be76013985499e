"""How close is S3Store to an app that does nothing but pass the same bytes on to S3?

SeaweedFS runs beside, on this machine, and takes most of its time: compare ratios.
"""

import contextlib
import math
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._client import BLOCK, MIB, Client
from benchmarks._server import Cost, Meter, Server, asgi, running
from benchmarks._table import table
from benchmarks.distant import distant

if TYPE_CHECKING:
    from tests.services.s3 import SeaweedFS

PART = 8 * MIB
ROOM = 8192 * MIB
"""After so many bytes in small PATCHes the room of what was removed is taken back."""


@contextlib.contextmanager
def serving(folder: str | None) -> Iterator[tuple[Server, "SeaweedFS"]]:
    """Run SeaweedFS and our server until the block ends."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.services.s3 import SeaweedFS

    with tempfile.TemporaryDirectory(dir=folder) as place, SeaweedFS(Path(place)) as s3:
        account = {
            "AWS_ENDPOINT_URL": s3.endpoint,
            "AWS_ACCESS_KEY_ID": s3.key,
            "AWS_SECRET_ACCESS_KEY": s3.secret,
            "AWS_DEFAULT_REGION": s3.region,
        }
        with _apps(s3.bucket, account) as server:
            yield server, s3


@contextlib.contextmanager
def _apps(bucket: str, account: Mapping[str, str]) -> Iterator[Server]:
    """Run our server before a bucket."""
    environment = {"S3_URL": f"s3://{bucket}/bench", **account}
    with running(asgi("uvicorn", "benchmarks.s3_apps:app"), environment) as server:
        # Clients and code are loaded then, and the memory is that of an idle server.
        _measured(server, "raw", 1000, 1000)
        _measured(server, "tus", 1000, 1000)
        yield server


def compare(rounds: int, scale: float, folder: str | None) -> None:
    """One PATCH of 1 GiB (times `scale`), and the same in smaller ones, beside the raw app."""
    total = int(1024 * scale) * MIB
    rows: list[tuple[str, ...]] = []
    with serving(folder) as (server, _):
        rates: dict[str, float] = {}
        for name, app, size, chunk in (
            ("received and dropped", "drop", total, total),
            ("raw, one request", "raw", total, total),
            ("one PATCH", "tus", total, total),
            ("64 MiB", "tus", total, 64 * MIB),
            ("8 MiB", "tus", total, 8 * MIB),
            ("1 MiB", "tus", total // 8, MIB),
        ):
            found = [_measured(server, app, size, chunk) for _ in range(rounds)]
            rates[name] = size / MIB / statistics.median(cost.seconds for cost in found)
            cpu = statistics.median(cost.cpu_seconds for cost in found) * 1024 * MIB / size
            peak = max(cost.peak for cost in found) / MIB
            ratio = rates[name] / rates.get("raw, one request", math.nan)
            rows.append((name, f"{rates[name]:.0f}", f"{ratio:.2f}", f"{cpu:.2f}", f"{peak:.1f}"))
    print(table(("case", "MiB/s", "of raw", "CPU s/GiB", "peak over idle, MiB"), rows))


def alternate(rounds: int, scale: float, folder: str | None) -> None:
    """One request to each app in turn, so that what else happens falls on all."""
    total = int(1024 * scale) * MIB
    ratios, costs = [], []
    with serving(folder) as (server, _):
        idle = server.rss()
        for _ in range(rounds):
            tus = _measured(server, "tus", total, total)
            peak = server.peak_rss() - idle
            raw = _measured(server, "raw", total, total)
            drop = _measured(server, "drop", total, total)
            ratios.append(raw.seconds / tus.seconds)
            costs.append(tus.cpu_seconds / drop.cpu_seconds)
            mib, gib = total / MIB, total / MIB / 1024
            print(
                f"raw {mib / raw.seconds:.0f} MiB/s, one PATCH {mib / tus.seconds:.0f} MiB/s, "
                f"ratio {ratios[-1]:.2f}, peak {peak / MIB:.1f} MiB over idle; "
                f"CPU s/GiB: dropped {drop.cpu_seconds / gib:.2f}, "
                f"raw {raw.cpu_seconds / gib:.2f}, one PATCH {tus.cpu_seconds / gib:.2f}",
                flush=True,
            )
    print(
        f"median ratio {statistics.median(ratios):.2f}; "
        f"CPU of one PATCH, of dropping the body: {statistics.median(costs):.2f}"
    )


def far(rounds: int, scale: float) -> None:
    """One PATCH of 256 MiB (times `scale`) to a bucket far away: see `distant`."""
    total = int(256 * scale) * MIB
    with distant() as account, _apps("far", account) as server:
        for _ in range(rounds):
            raw = _measured(server, "raw", total, total)
            tus = _measured(server, "tus", total, total)
            print(
                f"raw {total / MIB / raw.seconds:.0f} MiB/s, "
                f"one PATCH {total / MIB / tus.seconds:.0f} MiB/s, "
                f"CPU {tus.cpu_seconds * 1024 * MIB / total:.2f} s/GiB, "
                f"peak {tus.peak / MIB:.1f} MiB over idle",
                flush=True,
            )


def long(gib: float, chunk: int, folder: str | None) -> None:
    """One upload of many parts: is the last PATCH as quick as the first, and HEAD too?"""
    total = int(gib * 1024) * MIB
    with serving(folder) as (server, s3):
        client = Client(server.port)
        url = client.create("/tus/", total)
        server.reset_peak()
        idle, calls = server.rss(), _calls(client)
        patches: list[float] = []
        heads: list[float] = []
        sent = 0
        for offset in range(0, total, chunk):
            size = min(chunk, total - offset)
            start = time.perf_counter()
            client.patch(url, offset, size, content=_content(offset, size))
            middle = time.perf_counter()
            client.request("HEAD", url, 200)
            patches.append(middle - start)
            heads.append(time.perf_counter() - middle)
            sent += size
            if chunk < PART and sent >= ROOM:
                s3.vacuum()  # of pieces that were removed; the disk is not that large
                client.close()  # or the server does, which has waited for long
                client = Client(server.port)
                sent = 0
        took, calls = sum(patches), _calls(client) - calls - len(heads)
        peak = (server.peak_rss() - idle) / MIB
        print(f"{gib} GiB in {len(patches)} PATCHes of {chunk / MIB:g} MiB: {took:.0f} s")
        print(
            f"{total / MIB / took:.0f} MiB/s, {calls} calls, {calls / len(patches):.2f} for a "
            f"PATCH, peak {peak:.1f} MiB over idle"
        )
        tenth = max(1, len(patches) // 10)
        rows = []
        for number in range(0, len(patches), tenth):
            patched = statistics.median(patches[number : number + tenth]) * 1000
            asked = statistics.median(heads[number : number + tenth]) * 1000
            which = f"PATCHes {number + 1} to {number + tenth}"
            rows.append((which, f"{patched:.1f}", f"{asked:.2f}"))
        print(table(("part of the upload", "PATCH, ms", "HEAD, ms"), rows))
        print(f"the last PATCH, with the completion: {patches[-1] * 1000:.0f} ms", flush=True)
        _look_into(client, url, total)
        client.request("DELETE", url, 204)


def _content(offset: int, size: int) -> Iterator[bytes]:
    for start in range(offset, offset + size, MIB):
        yield _block_at(start)[: offset + size - start]


def _block_at(position: int) -> bytes:
    """Return the MiB that begins at a position; no other is the same."""
    return position.to_bytes(8, "big") + BLOCK[8:]


def _look_into(client: Client, url: str, total: int) -> None:
    """Read the upload in a thousand places and compare."""
    for start in {0, total - MIB, *random.Random(1).choices(range(0, total, MIB), k=1000)}:
        answer = client.request("GET", url, 206, Range=f"bytes={start}-{start + MIB - 1}")
        if answer.body != _block_at(start):
            raise SystemExit(f"other bytes than were sent at {start}")
    print("1,000 MiB of it were read and are what was sent")


def _calls(client: Client) -> int:
    return int(client.request("GET", "/calls", 200).body)


def _measured(server: Server, app: str, total: int, chunk: int) -> Cost:
    """Return what the PATCHes cost, without what makes and removes the upload."""
    with Client(server.port) as client:
        target = f"/{app}/{uuid.uuid4().hex}"
        if app == "tus":
            target = client.create("/tus/", total)
        meter = Meter(server)
        for offset in range(0, total, chunk):
            client.patch(target, offset, min(chunk, total - offset))
        cost = meter.read()
        client.request("DELETE", target, 204)
    return cost
