"""How close is TusApp to an app that does nothing but write the same bytes?

One server process runs all three apps of `floor_apps`; the rounds alternate between them, so
that whatever else the machine does falls on all alike. Ratios of one run mean something; the
absolute numbers are those of this machine at this hour.
"""

import contextlib
import http.client
import os
import platform
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from benchmarks._server import Server, running

MIB = 1024 * 1024
BLOCK = os.urandom(MIB)
KINDS = ("drop", "write", "tus")


@dataclass(frozen=True)
class Case:
    """`total` bytes in requests of `chunk` bytes each."""

    name: str
    total: int
    chunk: int


@dataclass(frozen=True)
class Result:
    case: str
    kind: str
    mib_per_second: float
    requests_per_second: float
    cpu_seconds_per_gib: float
    peak_over_idle_mib: float


def cases(scale: float) -> list[Case]:
    return [
        Case("one PATCH", int(1024 * scale) * MIB, int(1024 * scale) * MIB),
        Case("16 MiB", int(1024 * scale) * MIB, 16 * MIB),
        Case("64 KiB", int(128 * scale) * MIB, 64 * 1024),
    ]


def measure(kind: str, rounds: int, scale: float, folder: str | None) -> list[Result]:
    """Run all cases against one server and return one result for each case and app."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        running(kind, "benchmarks.floor_apps:app", FLOOR_DIR=place) as server,
    ):
        for app in KINDS:
            _transfer(server, app, Case("warm-up", 32 * MIB, 8 * MIB), place)
        return [
            result for case in cases(scale) for result in _measure_case(server, case, rounds, place)
        ]


def _measure_case(server: Server, case: Case, rounds: int, place: str) -> Iterator[Result]:
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    cpu: dict[str, list[float]] = {kind: [] for kind in KINDS}
    peak: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            server.reset_peak()
            idle, cpu_before, start = server.rss(), server.cpu_seconds(), time.perf_counter()
            _transfer(server, kind, case, place)
            seconds[kind].append(time.perf_counter() - start)
            cpu[kind].append(server.cpu_seconds() - cpu_before)
            peak[kind].append(server.peak_rss() - idle)
    for kind in KINDS:
        took = statistics.median(seconds[kind])
        yield Result(
            case=case.name,
            kind=kind,
            mib_per_second=case.total / MIB / took,
            requests_per_second=case.total / case.chunk / took,
            cpu_seconds_per_gib=statistics.median(cpu[kind]) * 1024 * MIB / case.total,
            peak_over_idle_mib=max(peak[kind]) / MIB,
        )


def _transfer(server: Server, kind: str, case: Case, place: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    name = uuid.uuid4().hex
    url = create(connection, case.total) if kind == "tus" else ""
    for offset in range(0, case.total, case.chunk):
        target = {
            "drop": f"/drop/{case.chunk}",
            "write": f"/write/{name}/{offset}/{case.total}",
            "tus": url,
        }[kind]
        patch(connection, target, offset, case.chunk)
    if kind == "tus":
        request(connection, "DELETE", url, 204)
    if kind == "write":
        os.unlink(os.path.join(place, name))
    connection.close()


def create(connection: http.client.HTTPConnection, total: int) -> str:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(total)}
    connection.request("POST", "/tus/", headers=headers)
    response = connection.getresponse()
    response.read()
    return response.headers["Location"]


def patch(
    connection: http.client.HTTPConnection,
    target: str,
    offset: int,
    size: int,
    *,
    block_at: Callable[[int], bytes] = lambda position: BLOCK,
) -> None:
    """Send a PATCH, a MiB at a time; `block_at` gives the bytes that begin at a position."""
    connection.putrequest("PATCH", target)
    connection.putheader("Tus-Resumable", "1.0.0")
    connection.putheader("Upload-Offset", str(offset))
    connection.putheader("Content-Type", "application/offset+octet-stream")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    with contextlib.suppress(BrokenPipeError):  # it was refused: the answer says why
        for start in range(offset, offset + size, MIB):
            connection.send(memoryview(block_at(start))[: min(MIB, offset + size - start)])
    _expect(connection, 204)


def request(
    connection: http.client.HTTPConnection, method: str, url: str, status: int, **headers: str
) -> bytes:
    connection.request(method, url, headers={"Tus-Resumable": "1.0.0", **headers})
    return _expect(connection, status)


def _expect(connection: http.client.HTTPConnection, status: int) -> bytes:
    response = connection.getresponse()
    body = response.read()
    if response.status != status:
        raise SystemExit(f"answered {response.status} instead of {status}: {body[:200]!r}")
    return body


def table(server: str, results: list[Result]) -> str:
    """The results as a Markdown table, each beside its ratio to the app that only writes."""
    floor = {result.case: result for result in results if result.kind == "write"}
    lines = [
        f"### {server}",
        "",
        "| case | app | MiB/s | of write | PATCH/s | CPU s/GiB | peak over idle, MiB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        ratio = result.mib_per_second / floor[result.case].mib_per_second
        lines.append(
            f"| {result.case} | {result.kind} | {result.mib_per_second:.0f} | {ratio:.2f} "
            f"| {result.requests_per_second:.0f} | {result.cpu_seconds_per_gib:.2f} "
            f"| {result.peak_over_idle_mib:.1f} |"
        )
    return "\n".join(lines)


def machine() -> dict[str, object]:
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "when": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }


def as_json(results: list[Result]) -> list[dict[str, object]]:
    return [asdict(result) for result in results]
