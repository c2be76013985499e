"""The command `tusasgi` on object storage: real processes on a real S3 server."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import anyio
import pytest
from blockbuster import BlockBuster

from tests.hosts._process import ROOT, Server, free_port, running
from tests.hosts._wire import Client, wait_until
from tests.server.test_command import NO_POSIX
from tests.server.test_monitor import ask
from tests.services.faults import FaultProxy
from tests.services.fixtures import QUICKLY_CHECKED
from tests.services.fixtures import moto as moto  # the fixtures
from tests.services.fixtures import seaweedfs as seaweedfs
from tests.services.s3 import Moto, S3Server
from tusasgi import Upload
from tusasgi.server.command import main
from tusasgi.stores.s3 import S3Store

DATA = os.urandom(12_000_000)  # a whole part of 8 MiB, and some of the next one
QUICKLY = ("-c", QUICKLY_CHECKED, "tusasgi")


def variables(s3: "S3Server | Behind") -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_ACCESS_KEY_ID": s3.key,
        "AWS_SECRET_ACCESS_KEY": s3.secret,
        "AWS_DEFAULT_REGION": s3.region,
    }


@contextlib.contextmanager
def serving(
    s3: "S3Server | Behind", folder: Path, *options: str, start: Sequence[str] = QUICKLY
) -> Iterator[Server]:
    port = free_port()
    url = f"s3://{s3.bucket}/{folder.name}"
    command = [*start, "serve", "--store", url, "--port", str(port), *options]
    with running("tusasgi serve", command, port, folder, **variables(s3)) as server:
        yield server


def kill(server: Server) -> None:
    """Kill the server with its workers."""
    os.killpg(server.process.pid, signal.SIGKILL)
    server.wait()


def run(
    s3: "S3Server | Behind", *words: str, start: Sequence[str] = QUICKLY
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *start, *words],
        cwd=ROOT,
        env={**os.environ, **variables(s3)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_upload_goes_on_through_another_server_after_a_cut(
    seaweedfs: S3Server, tmp_path: Path
) -> None:
    with serving(seaweedfs, tmp_path) as one, serving(seaweedfs, tmp_path) as other:
        path = Client(one.port).create(len(DATA))
        with Client(one.port).patching(path, 0, len(DATA)) as patch:
            patch.send(DATA[:9_345_678])
            patch.cut()
        client = Client(other.port)
        wait_until(lambda: client.offset(path) == 9_345_678)
        client.resume(path, DATA)
        whole = Client(one.port).get(path)
        assert (whole.status, sha256(whole.body).digest()) == (200, sha256(DATA).digest())
        part = client.get(path, Range="bytes=8388600-8388619")
        assert (part.status, part.body) == (206, DATA[8_388_600:8_388_620])
        assert client.request("DELETE", path).status == 204
        assert Client(one.port).head(path).status == 404
        assert seaweedfs.keys(seaweedfs.bucket, f"{tmp_path.name}/") == []


def test_a_bucket_needs_nothing_of_posix(seaweedfs: S3Server, tmp_path: Path) -> None:
    without_posix = ("-c", NO_POSIX + QUICKLY_CHECKED, "tusasgi")
    with serving(seaweedfs, tmp_path, start=without_posix) as server:
        client = Client(server.port)
        path = client.create(len(DATA))
        client.resume(path, DATA)
        assert sha256(client.get(path).body).digest() == sha256(DATA).digest()
    url = f"s3://{seaweedfs.bucket}/{tmp_path.name}"
    result = run(seaweedfs, "sweep", "--store", url, start=without_posix)
    assert (result.returncode, result.stderr) == (0, "")


def test_several_workers_and_a_killed_server_lose_nothing(
    seaweedfs: S3Server, tmp_path: Path
) -> None:
    with serving(seaweedfs, tmp_path, "--workers", "2", start=("-m", "tusasgi")) as server:
        client = Client(server.port)
        path = client.create(len(DATA))
        for offset in range(0, 9_000_000, 3_000_000):
            answer = client.patch(path, offset, DATA[offset : offset + 3_000_000])
            assert answer.status == 204
        kill(server)
    with serving(seaweedfs, tmp_path) as server:
        client = Client(server.port)
        assert client.offset(path) == 9_000_000
        client.resume(path, DATA)
        assert sha256(client.get(path).body).digest() == sha256(DATA).digest()


def test_the_line_at_the_start_names_the_bucket(seaweedfs: S3Server, tmp_path: Path) -> None:
    with serving(seaweedfs, tmp_path, start=("-m", "tusasgi")) as server:
        pass
    assert f"the bytes go to s3://{seaweedfs.bucket}/{tmp_path.name}" in server.output()
    assert "Unclosed" not in server.output()


def test_sweep_removes_what_has_expired_in_a_bucket(seaweedfs: S3Server, tmp_path: Path) -> None:
    with serving(seaweedfs, tmp_path, "--expires-after", "3") as server:
        client = Client(server.port)
        assert client.head("/files/unknown").status == 404  # it has tried its bucket by then
        path = client.create(10)
        assert client.patch(path, 0, b"abc").status == 204
        kill(server)
    url = f"s3://{seaweedfs.bucket}/{tmp_path.name}"
    counts = []
    wait_until(
        lambda: (
            counts.append(run(seaweedfs, "sweep", "--store", url).stdout) or counts[-1][0] == "1"
        )
    )
    assert counts[-1] == "1 expired upload removed\n"
    assert seaweedfs.keys(seaweedfs.bucket, f"{tmp_path.name}/") == []


@pytest.mark.parametrize("command", ["serve", "sweep"])
def test_a_bucket_that_cannot_be_used_gets_one_line_and_code_1(
    command: str, seaweedfs: S3Server
) -> None:
    result = run(seaweedfs, command, "--store", "s3://no-such-bucket/uploads")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("tusasgi: cannot use the bucket s3://no-such-bucket/uploads: ")
    assert "NoSuchBucket" in line
    assert seaweedfs.secret not in line


_IMPATIENT = """
import sys
seconds = float(sys.argv.pop(1))
from tusasgi.server.command import main
from tusasgi.stores.s3 import store
store.CONFIGURATION = {
    **store.CONFIGURATION,
    "read_timeout": seconds,
    "retries": {"total_max_attempts": 2},
}
main(sys.argv[1:])
"""


def test_an_address_where_nobody_answers_is_named(
    seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(seaweedfs), "endpoint", "http://127.0.0.1:9")
    start = ["-c", _IMPATIENT, "60"]
    result = run(seaweedfs, "sweep", "--store", "s3://bucket/uploads", start=start)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert 'Could not connect to the endpoint URL: "http://127.0.0.1:9/' in line


class Behind(FaultProxy):
    """A proxy that is an S3 server to the command."""

    def __init__(self, server: S3Server) -> None:
        super().__init__(server.endpoint)
        self.bucket, self.region = server.bucket, server.region
        self.key, self.secret = server.key, server.secret

    @property
    def tries(self) -> int:
        """How often a condition was tried."""
        return sum("/pieces/check-" in call.key for call in self.calls)


@pytest.fixture
def behind(moto: Moto) -> Iterator[Behind]:
    with Behind(moto) as proxy:
        yield proxy


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_bucket_is_tried_once_before_the_server_listens(
    workers: str, behind: Behind, tmp_path: Path
) -> None:
    with serving(behind, tmp_path, "--workers", workers) as server:
        tried = behind.tries
        assert tried > 0
        for _ in range(8):
            path = Client(server.port).create(10)
            assert Client(server.port).patch(path, 0, b"0123456789").status == 204
        assert behind.tries == tried


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_bucket_without_conditions_refuses_to_start(workers: str, behind: Behind) -> None:
    behind.fail("error_501", operation="PutObject", key="/pieces/check-", times=None)
    url = f"s3://{behind.bucket}/unfit"
    result = run(behind, "serve", "--store", url, "--workers", workers)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"tusasgi: cannot use the bucket {url}: RuntimeError: ")
    assert "does not know If-None-Match" in line


def test_a_bucket_that_is_away_at_the_start_is_tried_with_the_first_request(
    behind: Behind, tmp_path: Path
) -> None:
    behind.fail("error_503", times=None)
    with serving(behind, tmp_path) as server:
        tried = behind.tries
        behind.heal()
        client = Client(server.port)
        path = client.create(10)
        assert client.patch(path, 0, b"0123456789").status == 204
        assert behind.tries > tried
    (line,) = [line for line in server.output().splitlines() if "cannot be reached" in line]
    url = f"s3://{behind.bucket}/{tmp_path.name}"
    assert f" The bucket {url} cannot be reached for now; the first request tries" in line
    assert "SlowDown" in line


def test_a_server_is_ready_while_its_bucket_is_there_and_healthy_all_the_time(
    behind: Behind, tmp_path: Path
) -> None:
    monitor = free_port()
    with serving(behind, tmp_path, "--monitor", str(monitor)):
        url = f"http://127.0.0.1:{monitor}"
        assert ask(f"{url}/ready") == (200, "ok\n")
        behind.fail("error_503", times=None)
        status, trouble = ask(f"{url}/ready")
        assert status == 503
        assert trouble.startswith(("the store cannot be reached", "the store has not answered"))
        assert ask(f"{url}/health") == (200, "ok\n")
        behind.heal()
        assert ask(f"{url}/ready") == (200, "ok\n")


@pytest.fixture
def here(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, blockbuster: BlockBuster
) -> Callable[..., None]:
    """Run a command in this process, which is quicker than one of its own."""
    blockbuster.deactivate()
    for name, value in variables(behind).items():
        monkeypatch.setenv(name, value)
    return lambda *words: main(words)


async def _create(url: str) -> None:
    async with S3Store(url, check=False) as store:
        await store.create(Upload(id="one", length=10, created=datetime.now(UTC)))


def test_uploads_in_a_bucket_are_listed_shown_and_removed(
    behind: Behind, here: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"s3://{behind.bucket}/listed"
    anyio.run(_create, url)
    here("list", "--store", url)
    assert (
        "one                               receiving   0 B of 10 B (0 %)" in capsys.readouterr().out
    )
    here("show", "one", "--store", url)
    assert "id         one\n" in capsys.readouterr().out
    assert behind.tries == 0  # who only reads has nothing to try
    here("remove", "one", "--store", url)
    capsys.readouterr()
    here("list", "--store", url)
    assert capsys.readouterr().out.endswith("0 uploads\n")


def test_a_bucket_is_tried_by_check_and_left_as_it_was(
    behind: Behind, moto: Moto, here: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    here("check", "--store", f"s3://{behind.bucket}/checked")
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[0] == "holds  conditional writes hold, of many at once too"
    assert (len(lines), last) == (10, "All that is needed holds.")
    assert all(line.startswith("holds ") for line in lines)
    assert moto.keys(moto.bucket, "checked/") == []


def test_a_bucket_without_conditions_is_found_by_check(
    behind: Behind, here: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    behind.fail("error_501", operation="PutObject", key="/pieces/check-", times=None)
    with pytest.raises(SystemExit) as ended:
        here("check", "--store", f"s3://{behind.bucket}/unfit")
    output = capsys.readouterr().out
    assert ended.value.code == 1
    assert "FAILS  conditional writes hold, of many at once too" in output
    assert "does not know If-None-Match" in output
    assert output.endswith("This is no place for uploads.\n")


def test_a_server_that_is_silent_is_said_in_words(
    seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a call that takes too long has no text of its own."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(type(seaweedfs), "endpoint", endpoint)
        url = "s3://bucket/uploads"
        result = run(seaweedfs, "sweep", "--store", url, start=["-c", _IMPATIENT, "0.1"])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"tusasgi: cannot use the bucket {url}: TimeoutError: no answer in time; "
        "for object storage, AWS_ENDPOINT_URL says who is asked\n"
    )
