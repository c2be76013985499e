"""A real OpenSSH server on loopback, for its sftp."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paramiko

_START_SECONDS = 90.0
_CONFIGURATION = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
Subsystem sftp internal-sftp
"""


def why_not() -> str | None:
    """Say why no server can run here; None if it can."""
    return None if _sshd() else "needs sshd (openssh-server)"


class SftpServer:
    """A server for the time of a `with` block. It can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def options(self) -> dict[str, Any]:
        """What the filesystem of fsspec is to be given."""
        return {
            "port": self._port,
            "username": os.environ.get("USER", "root"),
            "key_filename": str(self._folder / "client_key"),
            "allow_agent": False,
            "look_for_keys": False,
        }

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in ("host_key", "client_key"):
            key = paramiko.ECDSAKey.generate()
            key.write_private_key_file(str(self._folder / name))
            if name == "client_key":
                line = f"{key.get_name()} {key.get_base64()}\n"
                (self._folder / "authorized_keys").write_text(line)
        self._port = _free_port()
        configuration = _CONFIGURATION.format(port=self._port, folder=self._folder)
        (self._folder / "sshd_config").write_text(configuration)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it wants that when it is root
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        command = [_sshd() or "sshd", "-D", "-e", "-f", str(self._folder / "sshd_config")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        give_up = time.monotonic() + _START_SECONDS
        while not _is_answering(self._port):
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise RuntimeError(f"sshd does not answer:\n{(self._folder / 'log').read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server with its connections."""
        if self._process is not None:
            # It is the first of a session of its own; each connection is a process in it.
            for pid in _session(self._process.pid):
                os.kill(pid, signal.SIGKILL)
            self._process.wait()
        self._process = None


def _session(leader: int) -> list[int]:
    """Return the processes of a session; those of connections make one of their own each."""
    children = [leader]
    for parent in children:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            children.extend(int(pid) for pid in path.read_text().split())
    return children


def _sshd() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _is_answering(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
