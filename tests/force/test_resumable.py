"""An app made resumable, on a server that is killed: before, while and after the app is called."""

import contextlib
import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts._process import Server, free_port, running
from tests.hosts._wire import Answer, Client, Connection, wait_until

DATA = os.urandom(1_500_003)
DIGEST = hashlib.sha256(DATA).hexdigest()
DRAFT = {"Upload-Draft-Interop-Version": "9"}


@contextlib.contextmanager
def _serving(folder: Path) -> Iterator[Server]:
    port = free_port()
    command = [
        "-m", "uvicorn", "--factory", "tests.force.resumable_app:create_app",
        "--port", str(port), "--log-level", "warning",
    ]  # fmt: skip
    with running("resumable", command, port, folder, TUSASGI_TEST_FOLDER=str(folder)) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def _kill(server: Server) -> None:
    server.signal(signal.SIGKILL)
    server.wait()


def _create(server: Server) -> str:
    headers = {**DRAFT, "Upload-Complete": "?0", "Content-Length": "0"}
    answer = Client(server.port).request("POST", "/take", headers)
    assert answer.status == 201, answer
    return answer.headers["location"]


def _append_headers(offset: int, *, is_last: bool, size: int) -> dict[str, str]:
    return {
        **DRAFT,
        "Content-Type": "application/partial-upload",
        "Content-Length": str(size),
        "Upload-Offset": str(offset),
        "Upload-Complete": "?1" if is_last else "?0",
    }


def _append(server: Server, path: str, offset: int, data: bytes, *, is_last: bool) -> Answer:
    headers = _append_headers(offset, is_last=is_last, size=len(data))
    return Client(server.port).request("PATCH", path, headers, data)


def _offset(server: Server, path: str) -> int:
    answer = Client(server.port).request("HEAD", path, DRAFT)
    assert (answer.status, answer.headers["upload-complete"]) == (204, "?0")
    return int(answer.headers["upload-offset"])


def _calls(folder: Path) -> list[str]:
    calls = folder / "calls"
    return calls.read_text().split() if calls.exists() else []


def test_a_server_killed_in_the_last_append_calls_nobody_and_keeps_what_came(
    folder: Path,
) -> None:
    with _serving(folder) as server:
        path = _create(server)
        assert _append(server, path, 0, DATA[:500_000], is_last=False).status == 204
        headers = _append_headers(500_000, is_last=True, size=len(DATA) - 500_000)
        with Connection(server.port) as connection:
            connection.start("PATCH", path, headers)
            connection.send(DATA[500_000:900_000])
            stored = folder / "store" / "uploads" / path[-2:] / path.rpartition("/")[2]
            wait_until(lambda: stored.stat().st_size == 900_000)
            _kill(server)
    with _serving(folder) as server:
        offset = _offset(server, path)
        assert offset == 900_000
        assert _calls(folder) == []
        answer = _append(server, path, offset, DATA[offset:], is_last=True)
        assert (answer.status, answer.body.decode()) == (201, DIGEST)
    assert _calls(folder) == [DIGEST]


def test_a_server_killed_while_the_app_is_at_work_calls_it_again_with_the_same_bytes(
    folder: Path,
) -> None:
    folder.mkdir()
    (folder / "waits").touch()
    with _serving(folder) as server:
        path = _create(server)
        headers = _append_headers(0, is_last=True, size=len(DATA))
        with Connection(server.port) as connection:
            connection.start("PATCH", path, headers)
            connection.send(DATA)
            wait_until(lambda: _calls(folder) == [DIGEST])
            _kill(server)
    (folder / "waits").unlink()
    with _serving(folder) as server:
        assert _offset(server, path) == len(DATA)
        answer = _append(server, path, len(DATA), b"", is_last=True)
        assert (answer.status, answer.body.decode()) == (201, DIGEST)
        assert answer.headers["upload-complete"] == "?1"
    assert _calls(folder) == [DIGEST, DIGEST]


def test_a_server_killed_after_the_end_gives_the_answer_again_and_calls_nobody(
    folder: Path,
) -> None:
    with _serving(folder) as server:
        path = _create(server)
        first = _append(server, path, 0, DATA, is_last=True)
        _kill(server)
    with _serving(folder) as server:
        again = _append(server, path, len(DATA), b"", is_last=True)
    assert (again.status, again.body) == (first.status, first.body) == (201, DIGEST.encode())
    assert _calls(folder) == [DIGEST]


def test_a_client_that_left_finds_the_answer_when_it_comes_back(folder: Path) -> None:
    folder.mkdir()
    (folder / "waits").touch()
    with _serving(folder) as server:
        path = _create(server)
        with Connection(server.port) as connection:
            connection.start("PATCH", path, _append_headers(0, is_last=True, size=len(DATA)))
            connection.send(DATA)
            wait_until(lambda: _calls(folder) == [DIGEST])
            connection.cut()
        (folder / "waits").unlink()

        def is_answered() -> bool:
            return _append(server, path, len(DATA), b"", is_last=True).status == 201

        wait_until(is_answered)
    assert _calls(folder) == [DIGEST]
