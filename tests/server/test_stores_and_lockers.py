"""`tusasgi serve` over sftp, with locks in Redis: two workers, and settings by the environment."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from blockbuster import BlockBuster

from tests.hosts._process import free_port, running
from tests.hosts._wire import UPLOAD, Client, Connection, wait_until
from tests.services import redis as services
from tests.services.redis import RedisServer
from tests.stores.fsspec._sftp import SftpServer
from tests.stores.fsspec.test_remote import need_sftp
from tusasgi.server.command import main

redis_server = services.redis_server

DATA = os.urandom(5_000_000)


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    need_sftp()
    with SftpServer(tmp_path_factory.mktemp("sftp")) as server:
        yield server


@pytest.fixture
def place(sftp: SftpServer, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """Return a URL, and the variables by which fsspec knows who asks."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    return f"sftp://127.0.0.1{folder}", {"FSSPEC_SFTP": json.dumps(sftp.options)}


def test_two_workers_share_a_store_over_sftp_by_locks_in_redis(
    place: tuple[str, dict[str, str]], redis_server: RedisServer, tmp_path: Path
) -> None:
    (url, environment), port = place, free_port()
    command = ["-m", "tusasgi", "serve", "--store", url, "--port", str(port), "--workers", "2"]
    environment = {**environment, "TUSASGI_LOCKER": redis_server.url}
    with running("tusasgi on sftp", command, port, tmp_path, **environment) as server:
        client = Client(port)
        path = client.create(len(DATA))
        with client.patching(path, 0, len(DATA)) as patch:
            patch.send(DATA[:3_000_000])
            wait_until(lambda: client.offset(path) >= 2_000_000)
            with Connection(port) as newer:  # of whichever worker: it gets its turn
                offset = client.offset(path)
                head = {**UPLOAD, "Upload-Offset": str(offset), "Content-Length": "0"}
                newer.start("PATCH", path, head)
                assert newer.answer().status in (204, 409)
            assert patch.answer().status == 423
        client.resume(path, DATA)
        assert client.get(path).body == DATA
        (line,) = server.output().splitlines()
        assert url in line


def test_check_says_that_sftp_needs_a_locker(
    sftp: SftpServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    blockbuster: BlockBuster,
) -> None:
    blockbuster.deactivate()
    monkeypatch.setitem(fsspec.config.conf, "sftp", sftp.options)
    main(["check", "--store", f"sftp://127.0.0.1{tmp_path}"])
    output = capsys.readouterr().out
    assert "no     of many writers at once one succeeds" in output
    assert "give all servers the same --locker" in output
    assert output.endswith("All that is needed holds.\n")
    assert list(tmp_path.iterdir()) == []
