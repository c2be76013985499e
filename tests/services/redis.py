"""A Redis server on loopback that keeps nothing, as a process that can be stopped and killed."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

_START_SECONDS = 90.0
_POLL_SECONDS = 0.01
# Below those that the kernel hands out, so that a killed server finds its port free again.
_PORTS = range(22_000, 32_000)


def need_redis() -> None:
    """Skip the test unless Redis can run here; fail it where services are required."""
    if shutil.which("redis-server") is not None:
        return
    reason = "needs redis-server"
    if os.environ.get("TUSASGI_REQUIRE_SERVICES") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def redis_server() -> Iterator["RedisServer"]:
    """One for all; tests keep apart by prefixes. Who stops a server starts one of its own."""
    need_redis()
    with running_redis() as server:
        yield server


@contextlib.contextmanager
def running_redis() -> Iterator["RedisServer"]:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()


class RedisServer:
    """`kill` and `start` may follow each other; the port stays, the data does not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when it answers."""
        give_up = time.monotonic() + _START_SECONDS
        while not self._begin(self.port or secrets.choice(_PORTS), give_up):
            if self.port or time.monotonic() > give_up:
                raise RuntimeError(f"redis-server ended:\n{self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """Kill the process as it is (SIGKILL); nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Let it stand still while the block lasts: it takes connections and answers nothing."""
        assert self._process is not None, "it does not run"
        process = psutil.Process(self._process.pid)
        process.suspend()
        try:
            while process.status() != psutil.STATUS_STOPPED:
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @property
    def _log(self) -> Path:
        return self._folder / "redis.log"

    def _begin(self, port: int, give_up: float) -> bool:
        """Start on the port; return False if the process ends, as it does on a taken one."""
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                [*command, "--appendonly", "no", "--dir", str(self._folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while not _answers(port, process.pid):
            if process.poll() is not None:
                return False
            if time.monotonic() > give_up:
                raise RuntimeError("redis-server was not ready in time")
            time.sleep(_POLL_SECONDS)
        self.port = port
        return True


def _answers(port: int, pid: int) -> bool:
    """True if this process answers there, and not another one."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
        probe.sendall(b"INFO server\r\n")
        return f"process_id:{pid}\r\n".encode() in probe.recv(4096)
    return False
