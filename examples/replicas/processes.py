"""Programs that run until a `with` block ends, and ports for them."""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_START_SECONDS = 60.0
_END_SECONDS = 15.0
_POLL_SECONDS = 0.05


class Failed(Exception):
    """Something did not start, or ended by itself; the message says what."""


class Program:
    """A program that runs, and writes what it says to a file.

    `is_up` tells when it can be used. It has a session of its own, so that Ctrl-C reaches us
    alone, and we end it with `stop_signal`, by its process id.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        is_up: Callable[[], bool],
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._is_up = is_up
        self._environ = environ
        self._folder = folder
        self._user = user
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None as long as it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=None if self._environ is None else dict(self._environ),
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_until_up(self) -> None:
        give_up = time.monotonic() + _START_SECONDS
        while time.monotonic() < give_up and self.exit_code is None:
            if self._is_up():
                return
            time.sleep(_POLL_SECONDS)
        raise Failed(f"{self.name} did not start:\n{self.output()[-2000:]}")

    def stop(self) -> None:
        """End it, in the hard way if it takes too long; nothing if it does not run."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def output(self) -> str:
        return self.log.read_text(errors="replace")


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def free_pairs(count: int, distance: int) -> list[int]:
    """Return ports that are free together with the ones `distance` above.

    They are below those that the kernel hands out.
    """
    found: list[int] = []
    while len(found) < count:
        port = 12_000 + secrets.randbelow(8_000)
        if port not in found and _is_free(port) and _is_free(port + distance):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def own_user() -> str | None:
    """Whom to run PostgreSQL as, which refuses to run as root; None for whoever we are."""
    return "postgres" if os.geteuid() == 0 else None
