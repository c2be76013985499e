"""A PostgreSQL server of our own, in a temporary folder, on a free port."""

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find_binaries() -> Path | None:
    """Return the folder with `initdb` and `postgres`, the newest first."""
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    if found := shutil.which("initdb"):
        folders.append(os.path.dirname(os.path.realpath(found)))
    for folder in map(Path, folders):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


@contextmanager
def running(binaries: Path) -> Iterator[str]:
    """Give the URL of a database as long as the block runs."""
    user = _user()
    # Not pytest's own folder: only its owner can enter that one.
    folder = tempfile.mkdtemp(prefix="roughy-postgres-")
    try:
        shutil.chown(folder, user)
        data, port = f"{folder}/data", _free_port()
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "roughy", "-A", "trust", "-E", "UTF8", "-N"],
            check=True,
            user=user,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        command = [binaries / "postgres", "-D", data, "-p", str(port), "-k", folder]
        for setting in ("listen_addresses=127.0.0.1", "fsync=off", "max_connections=60"):
            command += ["-c", setting]
        with subprocess.Popen(
            command, user=user, cwd=folder, stderr=subprocess.PIPE, text=True
        ) as server:
            try:
                _wait_until_ready(server)
                # It would stop at a log that nobody reads.
                threading.Thread(target=server.stderr.read).start()
                yield f"postgresql://roughy@127.0.0.1:{port}/postgres"
            finally:
                server.send_signal(signal.SIGINT)  # at once, whoever is connected
                server.wait(30)
    finally:
        shutil.rmtree(folder)


def _wait_until_ready(server: subprocess.Popen[str]) -> None:
    assert server.stderr is not None
    lines = []
    for line in server.stderr:
        lines.append(line)
        if "ready to accept connections" in line:
            return
    raise AssertionError("PostgreSQL did not start:\n" + "".join(lines))


def _user() -> str:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
