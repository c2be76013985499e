"""`tusasgi serve --monitor`: real processes, asked over real connections."""

import contextlib
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.hosts._process import Server, free_port, running
from tests.hosts._wire import Client, wait_until
from tests.server.test_command import run, serving
from tusasgi.server.monitor import Monitor, Watched, find_trouble
from tusasgi.server.values import Address


@contextlib.contextmanager
def monitored(folder: Path, *options: str) -> Iterator[tuple[Server, str]]:
    """Serve, and tell where the monitor is."""
    monitor = free_port()
    with serving(folder, "--monitor", str(monitor), *options) as server:
        yield server, f"http://127.0.0.1:{monitor}"


def watched(folder: Path, address: Address) -> Watched:
    return Watched(
        directory=str(folder), address=address, path="/files/", backend_trouble=lambda: None
    )


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
def test_metrics_are_summed_over_the_workers(on: str, tmp_path: Path, workers: str) -> None:
    with monitored(tmp_path / "data", "--server", on, "--workers", workers) as (server, url):
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


def test_what_a_killed_worker_was_doing_is_forgotten_and_what_it_did_is_not(
    on: str,
    tmp_path: Path,
) -> None:
    running_now = 'tusasgi_requests_running{operation="append"}'
    ended = 'tusasgi_requests_total{operation="create",status="201"}'
    with monitored(tmp_path / "data", "--server", on, "--workers", "2") as (server, url):
        client = Client(server.port)
        path = client.create(10)
        with client.patching(path, 0, 10) as patch:
            patch.send(b"hello")
            wait_until(lambda: client.offset(path) == 5)
            assert value(url, running_now) == 1
            for worker in _workers(server):
                worker.kill()
            wait_until(lambda: value(url, running_now) == 0)
        assert value(url, ended) == 1
        wait_until(lambda: len(_workers(server)) == 2)
        wait_until(lambda: ask(f"{url}/health")[0] == 200)


def test_health_is_ok_while_uploads_can_be_made(tmp_path: Path) -> None:
    with monitored(tmp_path / "data") as (_, url):
        assert ask(f"{url}/health") == (200, "ok\n")
        assert ask(f"{url}/ready") == (200, "ok\n")
        assert ask(f"{url}/elsewhere")[0] == 404


def test_health_tells_of_a_worker_that_does_not_answer(on: str, tmp_path: Path) -> None:
    with monitored(tmp_path / "data", "--server", on, "--workers", "2") as (server, url):
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
        answers = [ask(f"{url}/{page}") for page in ("health", "ready")]
        (tmp_path / "elsewhere").rename(folder)
    trouble = "cannot write to the folder of the uploads: No such file or directory\n"
    assert answers == [(503, trouble)] * 2


def test_nothing_is_told_on_the_public_port(tmp_path: Path) -> None:
    with monitored(tmp_path / "data") as (server, _):
        for path in ("/metrics", "/health", "/files/metrics"):
            assert ask(f"http://127.0.0.1:{server.port}{path}")[0] in (404, 412)


def test_nothing_but_the_public_port_is_open_by_default(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        seen = psutil.Process(server.process.pid).net_connections("tcp")
        open_ports = {one.laddr.port for one in seen if one.status == psutil.CONN_LISTEN}
        assert open_ports == {server.port}


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_the_monitor_listens_where_it_is_told_to(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path / "data", "--monitor", f"[::1]:{port}") as server:
        assert f" http://[::1]:{port}/health and " in server.output()
        assert ask(f"http://[::1]:{port}/health") == (200, "ok\n")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 5)


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        pytest.param(signal.SIGTERM, "1", id="TERM-1"),
        pytest.param(signal.SIGINT, "2", id="INT-2"),
    ],
)
def test_the_folder_of_counters_goes_with_the_server(
    on: str, tmp_path: Path, number: signal.Signals, workers: str
) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    port, monitor = free_port(), free_port()
    command = ["-m", "tusasgi", "serve", "--dir", str(tmp_path / "data"), "--port", str(port)]
    command += ["--monitor", str(monitor), "--server", on, "--workers", workers]
    with running("tusasgi serve", command, port, tmp_path / "data", TMPDIR=str(place)) as server:
        assert list(place.iterdir()) != []
        server.signal(number)
        server.wait()
    assert list(place.iterdir()) == []
    assert "Traceback" not in server.output()


def test_the_server_ends_with_the_code_that_it_has_without(on: str, tmp_path: Path) -> None:
    codes = []
    for options in ([], ["--monitor", "0"]):
        with serving(tmp_path / "data", "--server", on, *options) as server:
            server.signal(signal.SIGTERM)
            codes.append(server.wait())
    assert codes[0] == codes[1]


def test_counters_that_are_just_made_are_asked_for_again(tmp_path: Path) -> None:
    with contextlib.closing(Monitor(Address("127.0.0.1", 0), str(tmp_path))) as monitor:
        monitor.watch(watched(tmp_path, Address("", 1)))
        url = f"http://127.0.0.1:{monitor.address.port}/metrics"
        begun = tmp_path / "counter_1.db"
        begun.touch()
        assert ask(url) == (503, "the metrics are changing, ask again\n")
        begun.unlink()
        assert ask(url) == (200, "")


# What `/health` finds, beside what is above.


@contextlib.contextmanager
def answering(text: bytes) -> Iterator[Address]:
    """Answer one connection with these bytes, whatever it asks, and close it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)

        def answer() -> None:
            with contextlib.suppress(TimeoutError), listening.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(text)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield Address(*listening.getsockname())
        finally:
            thread.join()


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", None, id="well"),
        pytest.param(b"HTTP/1.1 500 \r\n\r\n", "the server answers with status 500", id="500"),
        pytest.param(b"", "the server has broken off its answer", id="broken-off"),
        pytest.param(b"ready\r\n", "the server has broken off its answer", id="not-http"),
    ],
)
def test_health_tells_what_the_server_answers(
    tmp_path: Path, text: bytes, trouble: str | None
) -> None:
    with answering(text) as address:
        target = watched(tmp_path, address)
        assert find_trouble(target) == trouble


def test_health_asks_here_where_the_server_listens_everywhere(tmp_path: Path) -> None:
    with answering(b"HTTP/1.1 204 No Content\r\n\r\n") as address:
        everywhere = Address("0.0.0.0", address.port)
        target = watched(tmp_path, everywhere)
        assert find_trouble(target) is None


def test_health_tells_of_a_server_that_is_gone(tmp_path: Path) -> None:
    gone = Address("127.0.0.1", free_port())
    trouble = find_trouble(watched(tmp_path, gone))
    assert trouble == "the server cannot be reached: Connection refused"


# What a person gets wrong.


_WITHOUT_EXTRA = """
import sys
sys.modules.update(prometheus_client=None)
from tusasgi.server.command import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(("on", "extra"), [("uvicorn", "server"), ("granian", "granian")])
def test_monitoring_without_its_extra_says_what_to_install(
    on: str, extra: str, tmp_path: Path
) -> None:
    command = ["serve", "--dir", str(tmp_path), "--port", "0", "--server", on, "--monitor", "0"]
    done = run("-c", _WITHOUT_EXTRA, *command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"tusasgi: --monitor needs the extra `metrics`: pip install 'tusasgi[{extra},metrics]'\n"
    )


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
