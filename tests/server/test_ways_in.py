"""`serve` on TLS, on a unix socket and on one of systemd: what holds on a port holds here."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import requests

from tests.clients.needs import HERE, need, program
from tests.force._server import owner, workers_of
from tests.hosts._process import Server, connected, free_port, running
from tests.hosts._wire import TUS, UPLOAD, Client, wait_until
from tests.server._keys import certificate
from tests.server.conftest import SERVERS
from tests.server.test_command import serving
from tests.server.test_connections import QUESTION

DATA = os.urandom(3_500_000)
TIMES = ["--header-timeout", "1", "--keep-alive", "1"]
IMPATIENT = "import tusasgi.server.connections as c; c.UNTAKEN_SECONDS = 1"


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way in: how to connect, and what clients have to be told."""

    server: Server
    connect: Callable[[], socket.socket]
    url: str
    environment: dict[str, str]
    curl: list[str]
    at: str = ""

    @property
    def client(self) -> Client:
        return Client(self.server.port, connect=self.connect)

    def raw(self) -> socket.socket:
        """Connect without TLS."""
        return socket.create_connection(("127.0.0.1", self.server.port), 20)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("pem"))


def trusting(certfile: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certfile))


@contextlib.contextmanager
def on_tls(on: str, folder: Path, pem: tuple[Path, Path], *options: str) -> Iterator[Way]:
    certfile, keyfile = map(str, pem)
    words = ["--server", on, "--ssl-certfile", certfile, "--ssl-keyfile", keyfile, *options]
    with serving(folder, *words, first=IMPATIENT) as server:

        def connect() -> socket.socket:
            made = socket.create_connection(("127.0.0.1", server.port), 20)
            return trusting(pem[0]).wrap_socket(made, server_hostname="localhost")

        yield Way(
            server=server,
            connect=connect,
            url=f"https://localhost:{server.port}",
            environment={"NODE_EXTRA_CA_CERTS": certfile, "REQUESTS_CA_BUNDLE": certfile},
            curl=["--cacert", certfile],
        )


@contextlib.contextmanager
def on_socket(on: str, folder: Path, *options: str) -> Iterator[Way]:
    at = folder.with_name("s")
    words = ["-m", "tusasgi", "serve", "--server", on, "--dir", str(folder), *options]
    words += ["--unix-socket", str(at)]
    with running("on a socket", words, 0, folder, at=at) as server:
        yield Way(
            server=server,
            connect=partial(connected, server, at),
            url="http://files.example",
            environment={"SOCKET": str(at)},
            curl=["--unix-socket", str(at)],
            at=str(at),
        )


TLS = [("tls", on) for on in SERVERS]
UNIX = [("unix", on) for on in SERVERS]


@pytest.fixture(scope="module", params=[*TLS, *UNIX], ids="-".join)
def way(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    pem: tuple[Path, Path],
) -> Iterator[Way]:
    kind, on = request.param
    folder = tmp_path_factory.mktemp(kind) / "data"
    options = [*TIMES, "--monitor", "0", "--workers", "2"]
    if on == "uvicorn":
        options.append("--interim-responses")
    if kind == "tls":
        opened = on_tls(on, folder, pem, *options)
    else:
        opened = on_socket(on, folder, *options, "--forwarded-allow-ips", "unix")
    with opened as way:
        yield way


tls_only = pytest.mark.parametrize("way", TLS, indirect=True, ids="-".join)
unix_only = pytest.mark.parametrize("way", UNIX, indirect=True, ids="-".join)


# By hand.


def test_an_upload_is_cut_and_resumed_at_the_very_byte(way: Way) -> None:
    client = way.client
    path = client.create(len(DATA))
    with client.patching(path, 0, len(DATA)) as patch:
        patch.send(DATA[:400_000])
        wait_until(lambda: client.offset(path) == 400_000)
        patch.socket.close()
    client.resume(path, DATA)
    assert sha256(client.get(path).body).digest() == sha256(DATA).digest()


def seconds_until_closed(connection: socket.socket) -> float:
    since = time.monotonic()
    with contextlib.suppress(OSError):  # of TLS too, which is not ended by a word
        while connection.recv(10_000):
            pass
    return time.monotonic() - since


def test_connections_that_bring_no_request_are_ended(way: Way) -> None:
    with contextlib.ExitStack() as stack:
        silent, half, idle = (stack.enter_context(way.connect()) for _ in range(3))
        half.sendall(QUESTION[:-2])
        idle.sendall(QUESTION)
        assert idle.recv(10_000).startswith(b"HTTP/1.1 204 ")
        for connection in (silent, half, idle):
            connection.settimeout(20)
            assert seconds_until_closed(connection) < 15


@tls_only
def test_a_client_that_takes_nothing_of_a_download_is_left_on_tls(way: Way) -> None:
    size = 20_000_000
    path = way.client.create(size)
    way.client.resume(path, bytes(size))
    with way.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        port = connection.getsockname()[1]
        wait_until(lambda: owner(way.server, port) is not None)
        wait_until(lambda: owner(way.server, port) is None, 30)


def test_location_is_a_url_by_the_way_in(way: Way) -> None:
    headers = {**TUS, "Upload-Length": "1"}
    answer = way.client.request("POST", "/files/", headers)
    scheme = way.url.partition(":")[0]
    assert answer.headers["Location"].startswith(f"{scheme}://127.0.0.1:{way.server.port}/files/")


@tls_only
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_is_spoken_in_its_two_versions_and_in_no_older_one(
    way: Way, version: ssl.TLSVersion, pem: tuple[Path, Path]
) -> None:
    context = trusting(pem[0])
    context.minimum_version = context.maximum_version = version
    with context.wrap_socket(way.raw(), server_hostname="localhost") as connection:
        connection.sendall(QUESTION)
        assert connection.recv(10_000).startswith(b"HTTP/1.1 204 ")
    older = trusting(pem[0])
    older.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        older.minimum_version = older.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)), way.raw() as raw:
        older.wrap_socket(raw, server_hostname="localhost")


@tls_only
def test_without_tls_nothing_is_answered_on_its_port(way: Way) -> None:
    with way.raw() as raw, contextlib.suppress(ConnectionError):
        raw.sendall(QUESTION)
        assert not raw.recv(10_000).startswith(b"HTTP/")


def test_the_line_at_the_start_says_where_clients_upload(way: Way) -> None:
    url = f"https://127.0.0.1:{way.server.port}/files/"
    place = f"/files/ of the socket {way.at}" if way.at else url
    assert f" {place} " in way.server.output()


@unix_only
def test_a_proxy_on_the_socket_is_believed(way: Way) -> None:
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "files.example"}
    answer = way.client.request("POST", "/files/", {**TUS, **told, "Upload-Length": "1"})
    assert answer.headers["Location"].startswith("https://files.example/files/")


def test_health_asks_the_server_where_it_listens(way: Way) -> None:
    url = way.server.output().splitlines()[1].rpartition(" ")[2]
    assert requests.get(url, timeout=20).text == "ok\n"


@pytest.mark.parametrize("way", [TLS[0], UNIX[0]], indirect=True, ids="-".join)
def test_interim_responses_say_where_the_upload_is(way: Way) -> None:
    with way.client.connection() as connection:
        draft = {"Upload-Draft-Interop-Version": "8", "Upload-Complete": "?1"}
        connection.start("POST", "/files/", {**draft, "Content-Length": "5"})
        first = connection.first_line().decode()
        assert first.startswith("HTTP/1.1 104 ")
        scheme = way.url.partition(":")[0]
        assert f"\r\nlocation: {scheme}://127.0.0.1:" in first.lower()


# Stopping, and starting again.


def test_a_renewed_certificate_is_read_by_renewed_workers(on: str, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    workers = "2" if on == "uvicorn" else "1"  # which renews one as well
    with on_tls(on, tmp_path / "data", pem, "--workers", workers) as way:
        before = _served(way)
        certificate(tmp_path)
        assert _served(way) == before
        way.server.signal(signal.SIGHUP)
        wait_until(lambda: _served(way) not in (before, None))


def _served(way: Way) -> bytes | None:
    """Return the certificate that is shown; None while workers change."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError), context.wrap_socket(way.raw()) as connection:
        return connection.getpeercert(binary_form=True)
    return None


def test_a_stopped_server_takes_its_socket_away_and_a_killed_one_is_followed(
    on: str, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    with on_socket(on, folder) as way:
        path = way.client.create(3)
        way.server.signal(signal.SIGKILL)
        way.server.wait()
        assert Path(way.at).exists()
        wait_until(lambda: not _is_taken(way))  # by workers, which end with their parent
    with on_socket(on, folder) as way:
        assert way.client.patch(path, 0, b"abc").status == 204
        way.server.signal(signal.SIGTERM)
        way.server.wait()
        assert not Path(way.at).exists()


def _is_taken(way: Way) -> bool:
    try:
        way.connect().close()
    except OSError:
        return False
    return True


@unix_only
def test_a_taken_socket_gets_one_line_and_code_1(way: Way) -> None:
    command = [sys.executable, "-m", "tusasgi", "serve", "--unix-socket", way.at]
    command += ["--dir", str(way.server.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"tusasgi: cannot listen on {way.at}: another server listens there\n"
    assert way.client.create(1)


ACTIVATE = """
import os, socket, sys
made = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(made.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "tusasgi", *sys.argv[2:]])
"""


def test_workers_serve_the_socket_that_systemd_gives(on: str, tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    words = ["-c", ACTIVATE, str(port), "serve", "--dir", str(tmp_path / "data"), "--server", on]
    words += ["--workers", "2", "--port", str(other)]
    with running("activated", words, port, tmp_path / "data") as server:
        client = Client(port)
        path = client.create(3)
        wait_until(lambda: len(workers_of(server)) == 2)
        first = min(workers_of(server))
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(workers_of(server) - {first}) == 2)
        assert client.patch(path, 0, b"abc").status == 204
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", other)) != 0
        assert f" http://127.0.0.1:{port}/files/ " in server.output()


# HTTP/2.


def test_an_upload_over_http_2_is_cut_and_resumed(tmp_path: Path, pem: tuple[Path, Path]) -> None:
    curl = program("curl")
    (tmp_path / "file").write_bytes(DATA)
    with on_tls("granian", tmp_path / "data", pem, "--http2") as way:
        path = way.client.create(len(DATA))  # over HTTP/1.1, on the same port
        creation = [curl, "--silent", "--cacert", str(pem[0]), "--http2", f"{way.url}/files/"]
        creation += ["-X", "POST", "-D", "-", "-H", "Upload-Length: 1"]
        created = subprocess.run(
            [*creation, "-H", "Tus-Resumable: 1.0.0"], capture_output=True, text=True, timeout=60
        )
        assert created.stdout.startswith("HTTP/2 201")
        assert f"\nlocation: {way.url}/files/" in created.stdout
        common = [curl, "--silent", "--cacert", str(pem[0]), "--http2", f"{way.url}{path}"]
        common += ["-X", "PATCH", "-w", "%{http_version} %{http_code}"]
        common += [word for name in UPLOAD for word in ("-H", f"{name}: {UPLOAD[name]}")]
        slow = ["--limit-rate", "1M", "-H", "Upload-Offset: 0", "-T", str(tmp_path / "file")]
        with subprocess.Popen([*common, *slow], stdout=subprocess.PIPE) as uploading:
            wait_until(lambda: way.client.offset(path) > 200_000)
            uploading.kill()
        way.client.take_over(path)
        offset = way.client.offset(path)
        assert 200_000 < offset < len(DATA)
        (tmp_path / "rest").write_bytes(DATA[offset:])
        rest = ["-H", f"Upload-Offset: {offset}", "--data-binary", f"@{tmp_path / 'rest'}"]
        done = subprocess.run([*common, *rest], capture_output=True, text=True, timeout=60)
        assert done.stdout == "2 204"
        assert sha256(way.client.get(path).body).digest() == sha256(DATA).digest()


# Clients.


def tus_js_client(way: Way, file: Path) -> tuple[list[str], str]:
    need("node", "npm:tus-js-client")
    return ["node", str(HERE / "once.mjs"), f"{way.url}/files/", str(file)], "{}"


def tuspy(way: Way, file: Path) -> tuple[list[str], str]:
    script = "on_socket.py" if way.at else "once.py"
    return [sys.executable, str(HERE / script), f"{way.url}/files/", str(file)], "{}"


def curl(way: Way, file: Path) -> tuple[list[str], str]:
    words = [program("curl"), "--silent", "--fail", *way.curl, "-D", "-", "-X", "POST"]
    words += ["-H", "Tus-Resumable: 1.0.0", "-H", f"Upload-Length: {len(DATA)}"]
    words += ["-H", f"Content-Type: {UPLOAD['Content-Type']}", "--data-binary", f"@{file}"]
    return [*words, f"{way.url}/files/"], "location: {}"


@pytest.mark.parametrize("client", [tus_js_client, tuspy, curl])
def test_clients_upload(
    client: Callable[[Way, Path], tuple[list[str], str]], way: Way, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(DATA)
    command, form = client(way, file)
    environment = {**os.environ, **way.environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    before = form.format(f"{way.url}/files/").lower()
    (line,) = [line for line in done.stdout.splitlines() if line.lower().startswith(before)]
    path = "/files/" + line.rpartition("/")[2]
    assert sha256(way.client.get(path).body).digest() == sha256(DATA).digest()


# Keys.


def test_keys_that_are_taken_away_let_nobody_into_any_worker(on: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-somebody somebody\n")
    options = ["--server", on, "--workers", "2", "--api-key-file", str(keys)]
    with serving(tmp_path / "data", *options) as server:
        client = Client(server.port)

        def statuses(key: str) -> set[int]:
            """Return what is answered, whichever worker it is."""
            asked = {**TUS, "Upload-Length": "1", "Authorization": f"Bearer {key}"}
            return {client.request("POST", "/files/", asked).status for _ in range(8)}

        assert statuses("a-key-of-somebody") == {201}
        assert statuses("a-key-of-anybody") == {401}
        keys.with_name("new").write_text("a-key-of-anybody anybody\n")
        keys.with_name("new").rename(keys)
        wait_until(lambda: statuses("a-key-of-anybody") == {201})
        wait_until(lambda: statuses("a-key-of-somebody") == {401})
