"""tusasgi beside the floor and beside other servers, all asked the same in the same rounds.

Every server runs at once and waits while another is asked, one after the other in each round, so
that whatever else the machine does falls on all alike. With one client the server has a core of
its own and the client another; with many, both have all of them.
"""

import importlib.util
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from benchmarks import loads
from benchmarks._client import MIB, UnexpectedAnswer
from benchmarks._server import Server, allow_connections, on_cores, running
from benchmarks._table import machine, median_and_spread, ratio, table
from benchmarks.contenders import FLOOR, SERVE, SETUPS, Contender, of_ours, on
from benchmarks.loads import FIGURES, Dose, Load, Sample

_WARM_UP = Dose(seconds=0.1, total=32 * MIB, slow_clients=10)


@dataclass(frozen=True)
class Case:
    """What is asked, of which setups of ours."""

    name: str
    load: Load
    setups: Sequence[str] = (SERVE,)
    has_one_core: bool = True


CASES = (
    Case("64 KiB PATCH", loads.small_patches, (*SETUPS, SERVE)),
    Case("HEAD", loads.heads, (SETUPS[0], SERVE)),
    Case("create", loads.creations, (SETUPS[0], SERVE)),
    Case("one PATCH", loads.one_patch),
    Case("16 MiB PATCHes", loads.middle_patches),
    Case("many slow PATCHes", loads.slow_patches),
    Case("16 clients, 8 MiB PATCHes", loads.many_clients, has_one_core=False),
)

Samples = dict[tuple[Case, str], list[Sample]]
"""One for each round, by what was asked and by the name of who was."""


def compare(
    kinds: Sequence[str],
    peers: Sequence[Contender],
    folders: Sequence[str],
    *,
    rounds: int,
    dose: Dose,
    show: Callable[[str], None] = print,
) -> None:
    """Show a table for each folder and each server of ASGI apps."""
    for kind in [kind for kind in kinds if importlib.util.find_spec(kind) is None]:
        show(f"{kind} is not installed and left out.")
    kinds = [kind for kind in kinds if importlib.util.find_spec(kind)]
    show(
        f"{machine()}.\nRounds: {rounds}, of {dose.seconds:g} s of small requests, "
        f"{dose.total / MIB:,.0f} MiB of large ones and {dose.slow_clients:,} slow PATCHes."
    )
    allow_connections(dose.slow_clients)
    for folder in folders:
        samples = _measure(kinds, peers, folder, rounds, dose, show)
        for kind in kinds:
            show(f"\n### {_filesystem(folder)}, {kind}\n\n{_as_table(samples, kind, peers)}")


def _measure(
    kinds: Sequence[str],
    peers: Sequence[Contender],
    folder: str,
    rounds: int,
    dose: Dose,
    show: Callable[[str], None],
) -> Samples:
    samples: Samples = {}
    for has_one_core in (True, False):
        cases = [case for case in CASES if case.has_one_core == has_one_core]
        of_server, of_client = _cores(has_one_core)
        with (
            _all_running(_contenders(kinds, cases, peers), folder, of_server) as servers,
            on_cores(of_client),
            ProcessPoolExecutor(1, get_context("spawn")) as client,
        ):
            for case in cases:
                samples |= _rounds(case, kinds, peers, servers, client, rounds, dose, show)
    return samples


def _contenders(
    kinds: Sequence[str], cases: Sequence[Case], peers: Sequence[Contender]
) -> list[Contender]:
    setups = dict.fromkeys(setup for case in cases for setup in (*case.setups, FLOOR))
    return [*(of_ours(setup, kind) for setup in setups for kind in kinds), *peers]


def _cores(has_one_core: bool) -> tuple[Collection[int], Collection[int]]:
    """Return those of a server and those of its client."""
    cores = sorted(os.sched_getaffinity(0))
    return ({cores[0]}, {cores[-1]}) if has_one_core else (cores, cores)


Running = dict[str, tuple[Server, str]]
"""Servers by name, and where uploads are created on them."""


@contextmanager
def _all_running(
    contenders: Sequence[Contender], folder: str, cores: Collection[int]
) -> Iterator[Running]:
    with ExitStack() as stack:
        servers: Running = {}
        for contender in contenders:
            place = stack.enter_context(tempfile.TemporaryDirectory(dir=folder))
            server = stack.enter_context(
                running(
                    [word.replace("{folder}", place) for word in contender.command],
                    {**contender.environment, "FOLDER": place},
                    cores=cores,
                    folder=contender.working_folder,
                )
            )
            servers[contender.name] = server, contender.target
        yield servers


def _rounds(
    case: Case,
    kinds: Sequence[str],
    peers: Sequence[Contender],
    servers: Running,
    client: ProcessPoolExecutor,
    rounds: int,
    dose: Dose,
    show: Callable[[str], None],
) -> Samples:
    """Ask everyone in turn; who once answers otherwise than expected is not asked again."""
    ours = [on(setup, kind) for kind in kinds for setup in (*case.setups, FLOOR)]
    names = [*ours, *(peer.name for peer in peers)]
    samples: Samples = {(case, name): [] for name in names}
    for number in range(rounds + 1):
        for name in [name for name in names if (case, name) in samples][:: (-1) ** number]:
            server, target = servers[name]
            try:
                asked = client.submit(case.load, server, target, dose if number else _WARM_UP)
                sample = asked.result()
            except (UnexpectedAnswer, OSError) as error:
                if name in ours:
                    raise
                show(f"{name}, {case.name}: left out, {error}")
                del samples[case, name]
                continue
            if number:
                samples[case, name].append(sample)
    return samples


def _as_table(samples: Samples, kind: str, peers: Sequence[Contender]) -> str:
    others = [FLOOR, *(peer.name for peer in peers)]
    columns = ["", "tusasgi", *(word for other in others for word in (other, f"of {other}"))]
    names = [on(FLOOR, kind), *(peer.name for peer in peers)]
    return table(columns, list(_lines(samples, kind, names)))


def _lines(samples: Samples, kind: str, names: Sequence[str]) -> Iterator[list[str]]:
    for figure in FIGURES:
        for case in CASES:
            for setup in case.setups:
                ours = _values(samples[case, on(setup, kind)], figure)
                if ours:
                    line = [_title(case, setup, figure), median_and_spread(ours)]
                    for name in names:
                        theirs = _values(samples.get((case, name), []), figure)
                        line += [median_and_spread(theirs), ratio(ours, theirs)] if theirs else "--"
                    yield line


def _title(case: Case, setup: str, figure: str) -> str:
    what = f"{case.name}, {setup}" if len(case.setups) > 1 else case.name
    return f"{what}: {figure}"


def _values(samples: Sequence[Sample], figure: str) -> list[float]:
    return [sample[figure] for sample in samples if figure in sample]


def _filesystem(folder: str) -> str:
    """Return the kind of file system that a folder is on."""
    path = os.path.realpath(folder)
    found = {"": "unknown"}
    with open("/proc/self/mounts") as mounts:
        for mount in mounts:
            _, point, kind, *_ = mount.split()
            if path == point or path.startswith(point.rstrip("/") + "/"):
                found[point] = kind
    return found[max(found, key=len)]
