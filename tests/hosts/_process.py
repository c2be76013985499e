"""A server as a child process: started on a free port, waited for, and always ended."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
_START_SECONDS = 90.0  # on a machine that is that busy
_END_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Server:
    name: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def rss(self) -> int:
        """Resident memory of the server and its workers, in bytes."""
        family = psutil.Process(self.process.pid)
        return sum(one.memory_info().rss for one in [family, *family.children(recursive=True)])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = _END_SECONDS) -> int:
        return self.process.wait(seconds)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    port: int,
    folder: Path,
    *,
    at: Path | None = None,
    **environment: str,
) -> Iterator[Server]:
    """Run `python COMMAND` until the block ends; say what it printed if the block fails.

    It listens on the port, or on a unix socket at a path.
    """
    folder.mkdir(exist_ok=True)
    log = folder.with_name(f"{folder.name}-{port}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that its workers can be ended with it
        )
    server = Server(name=name, port=port, folder=folder, process=process, log=log)
    try:
        _wait_until_up(server, at)
        yield server
    except BaseException:
        print(f"--- {name} printed\n{server.output()}---")
        raise
    finally:
        _end(process)


def _wait_until_up(server: Server, at: Path | None) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up:
        if server.process.poll() is not None:
            raise RuntimeError(f"{server.name} ended with code {server.process.returncode}")
        with contextlib.suppress(OSError), connected(server, at):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{server.name} did not come up")


def connected(server: Server, at: Path | None) -> socket.socket:
    """Connect to the server at its port, or at a path."""
    if at is None:
        return socket.create_connection(("127.0.0.1", server.port), 1)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.connect(str(at))
    except OSError:
        made.close()
        raise
    return made


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
    # Workers too, which may have outlived a killed parent.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
