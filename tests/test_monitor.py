"""`tusasgi serve --monitor`: real processes, asked over real connections."""

import contextlib
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.servers._process import Server, free_port, running
from tests.servers._wire import Client, wait_until
from tests.test_cli import run


@contextlib.contextmanager
def monitored(folder: Path, *options: str) -> Iterator[tuple[Server, str]]:
    """Serve, and tell where the monitor is."""
    port, monitor = free_port(), free_port()
    command = ["-m", "tusasgi", "serve", "--dir", str(folder), "--port", str(port)]
    command += ["--monitor", str(monitor), *options]
    with running("tusasgi serve", command, port, folder) as server:
        yield server, f"http://127.0.0.1:{monitor}"


def ask(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def value(url: str, line: str) -> float:
    """Return the value of a sample, by what is written before it."""
    _, text = ask(f"{url}/metrics")
    found = [
        row.removeprefix(f"{line} ") for row in text.splitlines() if row.startswith(f"{line} ")
    ]
    return float(found[0]) if found else 0.0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_metrics_are_summed_over_the_workers(tmp_path: Path, workers: str) -> None:
    with monitored(tmp_path / "data", "--workers", workers) as (server, url):
        for _ in range(20):  # each on a connection of its own, which any worker may take
            client = Client(server.port)
            path = client.create(5)
            client.patch(path, 0, b"hello")
        completed = 'tusasgi_uploads_total{event="completed"}'
        appended = 'tusasgi_requests_total{operation="append",status="204"}'
        wait_until(lambda: value(url, appended) == 20)
        assert value(url, completed) == 20
        assert value(url, "tusasgi_received_bytes_total") == 100
        assert value(url, 'tusasgi_requests_running{operation="append"}') == 0
        status, text = ask(f"{url}/metrics")
    assert status == 200
    assert path.rsplit("/", 1)[1] not in text
    assert str(tmp_path) not in text


def test_health_is_ok_while_uploads_can_be_made(tmp_path: Path) -> None:
    with monitored(tmp_path / "data") as (_, url):
        assert ask(f"{url}/health") == (200, "ok\n")
        assert ask(f"{url}/elsewhere")[0] == 404


def test_health_tells_of_a_worker_that_does_not_answer(tmp_path: Path) -> None:
    with monitored(tmp_path / "data", "--workers", "2") as (server, url):
        assert ask(f"{url}/health")[0] == 200
        workers = _workers(server)
        assert len(workers) == 2
        for worker in workers:
            worker.send_signal(signal.SIGSTOP)
        try:
            assert ask(f"{url}/health") == (503, "the server has not answered within 2 seconds\n")
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGCONT)
        wait_until(lambda: ask(f"{url}/health")[0] == 200)


def _workers(server: Server) -> list[psutil.Process]:
    family = psutil.Process(server.process.pid).children(recursive=True)
    return [one for one in family if "spawn_main" in " ".join(one.cmdline())]


def test_health_tells_of_a_folder_that_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with monitored(folder) as (_, url):
        assert ask(f"{url}/health")[0] == 200
        folder.rename(tmp_path / "elsewhere")
        status, line = ask(f"{url}/health")
        (tmp_path / "elsewhere").rename(folder)
    assert (status, line) == (
        503,
        "cannot write to the folder of the uploads: No such file or directory\n",
    )


def test_nothing_is_told_on_the_public_port(tmp_path: Path) -> None:
    with monitored(tmp_path / "data") as (server, _):
        for path in ("/metrics", "/health", "/files/metrics"):
            assert ask(f"http://127.0.0.1:{server.port}{path}")[0] in (404, 412)


def test_the_folder_of_counters_goes_with_the_server(tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    port, monitor = free_port(), free_port()
    command = ["-m", "tusasgi", "serve", "--dir", str(tmp_path / "data"), "--port", str(port)]
    command += ["--monitor", str(monitor)]
    with running("tusasgi serve", command, port, tmp_path / "data", TMPDIR=str(place)) as server:
        assert list(place.iterdir()) != []
        server.signal(signal.SIGTERM)
        server.wait()
    assert list(place.iterdir()) == []


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with monitored(tmp_path / "data") as (_, url):
        taken = url.rsplit(":", 1)[1]
        command = ["serve", "--dir", str(tmp_path / "other"), "--port", "0", "--monitor", taken]
        done = run("-m", "tusasgi", *command)
    assert done.returncode == 1
    assert done.stderr == (
        f"tusasgi: cannot listen on 127.0.0.1 port {taken}: Address already in use\n"
    )


@pytest.mark.parametrize("value", ["", "x", "70000", "host:", ":9100", "1:2:3", "[::1]9100"])
def test_what_is_no_address_is_refused(value: str) -> None:
    done = run("-m", "tusasgi", "serve", "--monitor", value)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
