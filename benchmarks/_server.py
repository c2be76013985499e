"""Servers as child processes, with what they cost."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

ASGI = {
    "uvicorn": ["uvicorn", "--port", "{port}", "--log-level", "error", "--no-access-log"],
    "granian": [
        "granian", "--interface", "asgi", "--no-ws", "--log-level", "error",
        "--host", "127.0.0.1", "--port", "{port}",
    ],
}  # fmt: skip
"""Servers of ASGI apps, by their options."""


def asgi(kind: str, app: str, *options: str, python: str = sys.executable) -> list[str]:
    """Return the command that runs an ASGI app."""
    return [python, "-m", *ASGI[kind], *options, app]


@dataclass(frozen=True)
class Server:
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time of the process and its children so far."""
        ticks = 0
        for pid in self._family():
            with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss(self) -> int:
        """Resident memory now, in bytes."""
        return self._memory("VmRSS")

    def peak_rss(self) -> int:
        """Highest resident memory since `reset_peak`, in bytes."""
        return self._memory("VmHWM")

    def reset_peak(self) -> None:
        for pid in self._family():
            with open(f"/proc/{pid}/clear_refs", "w") as refs:
                refs.write("5")

    def settle(self) -> None:
        """Wait until the server has nothing to do."""
        before = -1.0
        while before != (before := self.cpu_seconds()):
            time.sleep(0.1)

    def _memory(self, name: str) -> int:
        kib = 0
        for pid in self._family():
            with open(f"/proc/{pid}/status") as status:
                kib += sum(int(line.split()[1]) for line in status if line.startswith(name))
        return kib * 1024

    def _family(self) -> list[int]:
        """Return the process and what any thread of it or of its children has started."""
        pids = [self.pid]
        for pid in pids:
            with contextlib.suppress(FileNotFoundError):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{thread}/children") as children:
                        pids += map(int, children.read().split())
        return pids


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu_seconds: float
    rss: int
    """Bytes of memory, at the most."""
    peak: int
    """The same, over what there was at the beginning."""


class Meter:
    """What passes, and what a server spends, from now on."""

    def __init__(self, server: Server) -> None:
        self._server = server
        server.reset_peak()
        self._idle = server.rss()
        self._cpu = server.cpu_seconds()
        self._start = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def read(self) -> Cost:
        seconds, rss = self.seconds(), self._server.peak_rss()
        return Cost(
            seconds=seconds,
            cpu_seconds=self._server.cpu_seconds() - self._cpu,
            rss=rss,
            peak=rss - self._idle,
        )


@contextlib.contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    cores: Collection[int] | None = None,
    folder: str | None = None,
) -> Iterator[Server]:
    """Run a server until the block ends, on these cores, with this working folder.

    `{port}` in a word of the command becomes a free port.
    """
    port = free_port()
    words = [word.replace("{port}", str(port)) for word in command]
    with on_cores(cores or os.sched_getaffinity(0)):
        process = subprocess.Popen(
            words, env={**os.environ, **environment}, cwd=folder, stdout=subprocess.DEVNULL
        )
    try:
        wait_until_up(port, process)
        yield Server(port=port, pid=process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """Start processes and threads on these cores, until the block ends."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_connections(count: int) -> None:
    """Let this process, and those that it starts from now on, have so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * count)), hard))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_up(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit("the server did not come up")
