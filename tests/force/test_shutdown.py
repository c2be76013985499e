"""Two workers that are told to stop while many clients are in the middle of their PATCHes."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts._process import Server, free_port, running
from tests.hosts._wire import Client, Connection, wait_until

DATA = os.urandom(900_001)
CLIENTS = 12


@contextlib.contextmanager
def _tusasgi_serve(on: str, folder: Path) -> Iterator[Server]:
    port = free_port()
    command = ["-m", "tusasgi", "serve", "--dir", str(folder), "--port", str(port)]
    command += ["--server", on, "--workers", "2", "--shutdown-timeout", "1"]
    with running("tusasgi serve", command, port, folder) as server:
        yield server


@pytest.mark.parametrize("on", ["uvicorn", "granian"])
def test_a_stopping_server_answers_every_running_patch_and_keeps_its_bytes(
    on: str, tmp_path: Path
) -> None:
    told: dict[str, int] = {}
    with _tusasgi_serve(on, tmp_path / "data") as server, contextlib.ExitStack() as stack:
        client = Client(server.port)
        patches: dict[str, Connection] = {}
        for number in range(CLIENTS):
            path, seen = client.create(len(DATA)), 1 + number * 70_000
            patches[path] = stack.enter_context(client.patching(path, 0, len(DATA)))
            patches[path].send(DATA[:seen])
            told[path] = seen
        for path, seen in told.items():
            wait_until(lambda path=path, seen=seen: client.offset(path) == seen)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        for patch in patches.values():
            answer = patch.answer()
            assert answer.status in (204, 503), answer
        assert server.wait(seconds=5) == 0
        assert time.monotonic() - began < 5
        assert "Traceback" not in server.output()
    with _tusasgi_serve(on, tmp_path / "data") as server:
        client = Client(server.port)
        for path, seen in told.items():
            assert client.offset(path) == seen
            client.resume(path, DATA)
            assert client.get(path).body == DATA
