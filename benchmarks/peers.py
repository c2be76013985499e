"""tusasgi beside the floor and beside other servers, all asked the same in the same rounds.

Every server runs at once and waits while another is asked, one after the other in each round, so
that whatever else the machine does falls on all alike. With one client the server has a core of
its own and the client another; with many, both have all of them.
"""

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from benchmarks import loads
from benchmarks._client import MIB, UnexpectedAnswer
from benchmarks._server import Server, allow_connections, on_cores
from benchmarks._table import filesystem, machine, median_and_spread, ratio, table
from benchmarks.contenders import (
    DEFAULT,
    FLOOR,
    LOCKED,
    SERVE,
    SLIDING,
    UNFLUSHED,
    Contender,
    of_ours,
    on,
)
from benchmarks.loads import FIGURES, Dose, Load, Sample

_WARM_UP = 0.03
"""The scale of the round that is not counted."""


@dataclass(frozen=True)
class Case:
    """What is asked, of which setups of ours."""

    name: str
    load: Load
    setups: Sequence[str] = (SERVE,)
    has_one_core: bool = True


CASES = (
    Case("64 KiB PATCH", loads.small_patches, (DEFAULT, LOCKED, SLIDING, SERVE)),
    Case("HEAD", loads.heads, (DEFAULT, SERVE)),
    Case("create", loads.creations, (DEFAULT, UNFLUSHED, SERVE)),
    Case("one PATCH", loads.one_patch, (UNFLUSHED, SERVE)),
    Case("16 MiB PATCHes", loads.middle_patches, (UNFLUSHED, SERVE)),
    Case("many slow PATCHes", loads.slow_patches),
    Case("16 clients, 8 MiB PATCHes", loads.many_clients, has_one_core=False),
)

Samples = dict[tuple[Case, str], list[Sample]]
"""One for each round, by what was asked and by the name of who was."""

Running = dict[str, tuple[Server, str]]
"""Servers by name, and where uploads are created on them."""


@dataclass(frozen=True)
class Comparison:
    """Ours on some servers of ASGI apps, and others, asked in rounds of a scale (see `Dose`)."""

    kinds: Sequence[str]
    peers: Sequence[Contender]
    rounds: int
    scale: float
    show: Callable[[str], None]
    cases: Sequence[Case] = CASES

    def run(self, folders: Sequence[str]) -> None:
        """Show a table for each folder and each server of ASGI apps."""
        dose = Dose.of(self.scale)
        self.show(
            f"{machine()}.\nRounds: {self.rounds}, of {dose.seconds:g} s of small requests, "
            f"{dose.total / MIB:,.0f} MiB of large ones and {dose.slow_clients:,} slow PATCHes."
        )
        allow_connections(dose.slow_clients)
        for folder in folders:
            samples = self._measure(folder)
            for kind in self.kinds:
                title = f"{filesystem(folder)}, {kind}"
                self.show(f"\n### {title}\n\n{self._as_table(samples, kind)}")

    def _measure(self, folder: str) -> Samples:
        samples: Samples = {}
        for has_one_core in (True, False):
            cases = [case for case in self.cases if case.has_one_core == has_one_core]
            if not cases:
                continue
            of_server, of_client = _cores(has_one_core)
            with (
                self._all_running(cases, folder, of_server) as servers,
                on_cores(of_client),
                ProcessPoolExecutor(1, get_context("spawn")) as client,
            ):
                for case in cases:
                    samples |= self._ask(case, servers, client)
        return samples

    @contextmanager
    def _all_running(
        self, cases: Sequence[Case], folder: str, cores: Collection[int]
    ) -> Iterator[Running]:
        setups = dict.fromkeys(setup for case in cases for setup in (*case.setups, FLOOR))
        ours = [of_ours(setup, kind) for setup in setups for kind in self.kinds]
        with ExitStack() as stack:
            servers: Running = {}
            for contender in (*ours, *self.peers):
                place = stack.enter_context(tempfile.TemporaryDirectory(dir=folder))
                server = stack.enter_context(contender.running(place, cores))
                servers[contender.name] = server, contender.target
            yield servers

    def _ask(self, case: Case, servers: Running, client: ProcessPoolExecutor) -> Samples:
        """Ask everyone in turn, in the other order each time; the first round is not counted.

        Of the peers, who once answers otherwise than expected is not asked again.
        """
        samples: Samples = {(case, name): [] for name in self._names(case)}
        doses = [Dose.of(min(self.scale, _WARM_UP)), *[Dose.of(self.scale)] * self.rounds]
        for number, dose in enumerate(doses):
            for _, name in list(samples)[:: (-1) ** number]:
                try:
                    sample = client.submit(case.load, *servers[name], dose).result()
                except (UnexpectedAnswer, OSError) as error:
                    if name not in [peer.name for peer in self.peers]:
                        raise
                    self.show(f"{name}, {case.name}: left out, {error}")
                    del samples[case, name]
                else:
                    samples[case, name] += [sample] if number else []
        return samples

    def _as_table(self, samples: Samples, kind: str) -> str:
        peers = [peer.name for peer in self.peers]
        columns = [
            "",
            "tusasgi",
            *(word for name in (FLOOR, *peers) for word in (name, f"of {name}")),
        ]
        return table(columns, self._lines(samples, kind, [on(FLOOR, kind), *peers]))

    def _lines(self, samples: Samples, kind: str, names: Sequence[str]) -> Iterator[list[str]]:
        for figure in FIGURES:
            for case in self.cases:
                for setup in case.setups:
                    if ours := _values(samples[case, on(setup, kind)], figure):
                        line = [_title(case, setup, figure), median_and_spread(ours)]
                        for name in names:
                            theirs = _values(samples.get((case, name), []), figure)
                            line += _beside(ours, theirs)
                        yield line

    def _names(self, case: Case) -> list[str]:
        ours = [on(setup, kind) for kind in self.kinds for setup in (*case.setups, FLOOR)]
        return [*ours, *(peer.name for peer in self.peers)]


def _cores(has_one_core: bool) -> tuple[Collection[int], Collection[int]]:
    """Return those of a server and those of its client."""
    cores = sorted(os.sched_getaffinity(0))
    return ({cores[0]}, {cores[-1]}) if has_one_core else (cores, cores)


def _title(case: Case, setup: str, figure: str) -> str:
    what = f"{case.name}, {setup}" if len(case.setups) > 1 else case.name
    return f"{what}: {figure}"


def _beside(ours: Sequence[float], theirs: Sequence[float]) -> list[str]:
    return [median_and_spread(theirs), ratio(ours, theirs)] if theirs else ["-", "-"]


def _values(samples: Sequence[Sample], figure: str) -> list[float]:
    return [sample[figure] for sample in samples if figure in sample]
