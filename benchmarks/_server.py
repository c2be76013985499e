"""Servers as child processes, with what they cost."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "{app}", "--port", "{port}", "--log-level", "error"],
    "hypercorn": ["-m", "hypercorn", "{app}", "--bind", "127.0.0.1:{port}"],
    "granian": [
        "-m", "granian", "--interface", "asgi", "--no-ws", "--log-level", "error",
        "--host", "127.0.0.1", "--port", "{port}", "{app}",
    ],
}  # fmt: skip


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

    def _memory(self, name: str) -> int:
        kib = 0
        for pid in self._family():
            with open(f"/proc/{pid}/status") as status:
                kib += sum(int(line.split()[1]) for line in status if line.startswith(name))
        return kib * 1024

    def _family(self) -> list[int]:
        pids = [self.pid]
        for pid in pids:
            with (
                contextlib.suppress(FileNotFoundError),
                open(f"/proc/{pid}/task/{pid}/children") as children,
            ):
                pids += map(int, children.read().split())
        return pids


@contextlib.contextmanager
def running(kind: str, app: str, **environment: str) -> Iterator[Server]:
    """Run a server on a free port until the block ends."""
    port = free_port()
    words = [word.format(app=app, port=port) for word in COMMANDS[kind]]
    process = subprocess.Popen([sys.executable, *words], env={**os.environ, **environment})
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
