"""Figures as Markdown: medians with their spread, ratios, tables, and the machine they are of."""

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column has words, the others figures."""
    aligned = ["---", *("---:" for _ in columns[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, aligned, *rows))


def median_and_spread(values: Sequence[float]) -> str:
    """Return as `12 (10-15)`: the median, the least and the most."""
    median = number(statistics.median(values))
    least, most = number(min(values)), number(max(values))
    return median if least == most else f"{median} ({least}-{most})"


def ratio(values: Sequence[float], others: Sequence[float]) -> str:
    """Return the median of the ratios of each round, whose figures were taken side by side."""
    pairs = zip(values, others, strict=True)
    ratios = [value / other for value, other in pairs if other > 0]
    return f"{statistics.median(ratios):.2f}" if ratios else "-"


def number(value: float) -> str:
    """Return three digits of it, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def machine() -> str:
    """Return in a line what the figures were taken on, and when."""
    with open("/proc/meminfo") as meminfo:
        gib = int(meminfo.readline().split()[1]) / 2**20
    packages = " · ".join(_versions("uvicorn", "httptools", "uvloop", "granian"))
    return (
        f"{len(os.sched_getaffinity(0))} cores, {gib:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, {packages}, "
        f"load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}"
    )


def _versions(*packages: str) -> Iterable[str]:
    for package in packages:
        try:
            yield f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"no {package}"


def filesystem(folder: str) -> str:
    """Return the kind of file system that a folder is on."""
    path = os.path.realpath(folder)
    found = {"": "unknown"}
    with open("/proc/self/mounts") as mounts:
        for mount in mounts:
            _, point, kind, *_ = mount.split()
            if path == point or path.startswith(point.rstrip("/") + "/"):
                found[point] = kind
    return found[max(found, key=len)]
