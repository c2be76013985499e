"""Interim responses behind the proxies that people have: what `docs/deploying.md` says of each."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.needs import program
from tests.hosts._process import Server, free_port
from tests.hosts._wire import Client, Connection, path_of, wait_until
from tests.server.test_interim import DATA, DRAFT, VERSION, Draft, describe, finish, tusasgi_serve

_HAPROXY = """
defaults
    mode http
    timeout client 75s
    timeout server 75s
    timeout connect 2s
frontend uploads
    bind 127.0.0.1:{port}
    default_backend tusasgi
backend tusasgi
    server one 127.0.0.1:{server}
"""

_NGINX = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    log_format status "$request_method $status";
    access_log access.log status;
    client_body_temp_path temporary-body;
    proxy_temp_path temporary-proxy;
    fastcgi_temp_path temporary-fastcgi;
    uwsgi_temp_path temporary-uwsgi;
    scgi_temp_path temporary-scgi;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{http2} http2;
        location / {{
            proxy_pass http://127.0.0.1:{server};
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            client_max_body_size 0;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("behind")
    with tusasgi_serve("httptools", folder, "--interim-responses") as server:
        yield server


@contextlib.contextmanager
def proxying(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """Run a proxy until the block ends."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None, (folder / "log").read_text()
        yield
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture
def haproxy(server: Server, tmp_path: Path) -> Iterator[int]:
    port = free_port()
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(_HAPROXY.format(port=port, server=server.port))
    with proxying([program("haproxy"), "-db", "-f", str(configuration)], port, tmp_path):
        yield port


def test_haproxy_passes_them_on_and_an_upload_is_resumed_behind_it(
    server: Server, haproxy: int
) -> None:
    with Draft(haproxy) as connection:
        connection.create(**DRAFT)
        status, headers = connection.interim()
        assert (status, headers[VERSION.lower()]) == (104, "8")
        connection.send(DATA[:1_000_000])
        offset = 0
        while offset < 1_000_000:
            status, progress = connection.interim()
            offset = int(progress["upload-offset"])
        connection.cut()
    path = path_of(headers["location"])
    assert describe(server, path).offset == 1_000_000
    assert finish(server, path, DATA).status == 201
    assert Client(server.port).get(path).body == DATA


@pytest.fixture
def nginx(server: Server, tmp_path: Path) -> Iterator[tuple[int, int]]:
    """The ports of nginx for HTTP/1.1 and for HTTP/2; what it logs is in `access.log`."""
    port, http2 = free_port(), free_port()
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(_NGINX.format(port=port, http2=http2, server=server.port))
    command = [program("nginx"), "-p", str(tmp_path), "-c", str(configuration), "-e", "stderr"]
    with proxying(command, port, tmp_path):
        yield port, http2


def test_nginx_takes_the_first_one_for_the_answer(nginx: tuple[int, int], tmp_path: Path) -> None:
    with Connection(nginx[0]) as connection:
        asks = {**DRAFT, "Upload-Complete": "?1", "Content-Length": "5", "Connection": "close"}
        connection.start("POST", "/files/", asks)
        assert connection.first_line().startswith(b"HTTP/1.1 104 ")
        connection.send(b"hello")
        wait_until(lambda: (tmp_path / "access.log").read_text() == "POST 104\n")


def test_behind_nginx_an_upload_over_http_2_fails(nginx: tuple[int, int]) -> None:
    url = f"http://127.0.0.1:{nginx[1]}/files/"
    command = [
        program("curl"),
        "--silent",
        "--show-error",
        "--http2-prior-knowledge",
        "--max-time",
        "20",
    ]
    command += ["--data-binary", "hello", "--header", "Upload-Complete: ?1", url]
    done = subprocess.run([*command, "--header", f"{VERSION}: 8"], capture_output=True, text=True)
    assert (done.returncode, "PROTOCOL_ERROR" in done.stderr) == (92, True)
    # One that names no version is sent no 104, and has no trouble.
    assert subprocess.run(command, capture_output=True).returncode == 0
