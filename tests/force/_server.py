"""The server of this suite: uvicorn with one or two workers on a folder."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.hosts._process import Server, free_port, running
from tests.hosts._wire import Client, Connection, wait_until


@contextlib.contextmanager
def serving(folder: Path, *, workers: int = 1, **environment: str) -> Iterator[Server]:
    """Run uvicorn on the folder until the block ends, whoever has killed it by then."""
    port = free_port()
    command = [
        "-m", "uvicorn", "--factory", "tests.force.app:create_app", "--port", str(port),
        "--workers", str(workers), "--log-level", "warning", "--timeout-graceful-shutdown", "1",
    ]  # fmt: skip
    name = f"uvicorn with {workers} workers"
    with running(
        name, command, port, folder, TUSASGI_TEST_FOLDER=str(folder), **environment
    ) as server:
        yield server


@contextlib.contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Let the server stand still while the block lasts."""
    process = psutil.Process(server.process.pid)
    process.suspend()
    try:
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED)
        yield
    finally:
        server.signal(signal.SIGCONT)


def owner(server: Server, client_port: int) -> int | None:
    """Return the process that has accepted the connection from this port, if one has already."""
    family = psutil.Process(server.process.pid)
    for process in [family, *family.children(recursive=True)]:
        for seen in process.net_connections("tcp"):
            if seen.raddr and seen.raddr.port == client_port:
                return process.pid
    return None


def workers_of(server: Server) -> set[int]:
    """Return the processes that answer: the children of a supervisor, or the one there is."""
    # The tracker of shared resources is a child as well, and listens to nothing.
    children = psutil.Process(server.process.pid).children()
    return {child.pid for child in children if _listens(child)} or {server.process.pid}


def _listens(process: psutil.Process) -> bool:
    try:
        return bool(process.net_connections("tcp"))
    except psutil.NoSuchProcess:  # it has just ended
        return False


@contextlib.contextmanager
def connected(server: Server, worker: int) -> Iterator[Connection]:
    """Connect until the kernel has chosen this worker."""
    with contextlib.ExitStack() as others:
        for _ in range(200):
            connection = Connection(server.port)
            client_port = connection.socket.getsockname()[1]
            wait_until(lambda port=client_port: owner(server, port) is not None)
            if owner(server, client_port) == worker:
                break
            others.enter_context(connection)
        else:
            raise AssertionError(f"the kernel never chose worker {worker}")
    with connection:
        yield connection


def stored(server: Server, path: str) -> bytes:
    """Return the bytes of an upload as they lie in the folder, complete or not."""
    upload_id = path.rpartition("/")[2]
    file = server.folder / "uploads" / upload_id[-2:] / upload_id
    return file.read_bytes() if file.exists() else b""


def settled_offset(client: Client, path: str) -> int:
    """Return the offset once nobody appends any more; whoever does is made to stop."""
    seen: list[int] = []

    def is_settled() -> bool:
        answer = client.head(path)
        if answer.status == 423:  # whoever appended was done, and is just completing it
            return False
        assert answer.status == 200, answer
        seen.append(answer.offset)
        return client.patch(path, seen[-1], b"").status == 204 and client.offset(path) == seen[-1]

    wait_until(is_settled)
    return seen[-1]
