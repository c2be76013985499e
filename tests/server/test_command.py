"""The command `tusasgi`, as a person runs it: real processes, real folders, real signals."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import anyio
import psutil
import pytest
import requests
from botocore.exceptions import ClientError, NoCredentialsError

import tusasgi
from tests.force._server import workers_of
from tests.hosts._process import ROOT, Server, free_port, running
from tests.hosts._wire import TUS, UPLOAD, Client, Connection, wait_until
from tests.server.conftest import SERVERS
from tusasgi import Expiry, Hooks, Upload, Uploads
from tusasgi.server.command import main
from tusasgi.server.sweeper import sweep_again_and_again
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore

DATA = os.urandom(1_500_000)
DRAFT = {"Upload-Draft-Interop-Version": "9"}
CERTIFICATE = ["--ssl-certfile", "a.pem", "--ssl-keyfile", "b.pem"]
ONE_MINUTE = Expiry(initial=timedelta(minutes=1))


@contextlib.contextmanager
def serving(folder: Path, *options: str, first: str = "") -> Iterator[Server]:
    """Run the command on the folder, with something done first in each of its processes."""
    port = free_port()
    run = ["-m", "tusasgi"] if not first else [_script(folder, first)]
    command = [*run, "serve", "--dir", str(folder), "--port", str(port), *options]
    with running("tusasgi serve", command, port, folder) as server:
        yield server


def _script(folder: Path, first: str) -> str:
    """Write a program, which a worker reads anew before it begins."""
    script = folder.with_name(f"{folder.name}.py")
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"{first}\n"
        "from tusasgi.server.command import main\n"
        "if __name__ == '__main__':\n"
        "    main(sys.argv[1:])\n"
    )
    return str(script)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=90
    )


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cli")
    origins = ["--cors-origin", "https://one.example", "--cors-origin", "https://two.example:8443"]
    options = ["--server", request.param, "--max-size", "2MB", *origins]
    with serving(folder, *options) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server.port)


# Uploads.


def test_an_upload_is_created_cut_resumed_downloaded_and_deleted(client: Client) -> None:
    path = client.create(len(DATA), **{"Upload-Metadata": "filename bm90ZXMudHh0"})
    with client.patching(path, 0, len(DATA)) as patch:
        patch.send(DATA[:400_000])
        wait_until(lambda: client.offset(path) == 400_000)
        patch.cut()
    assert client.get(path).status == 404  # not before it is complete
    client.resume(path, DATA)
    whole = client.get(path)
    assert (whole.status, sha256(whole.body).digest()) == (200, sha256(DATA).digest())
    assert 'filename="notes.txt"' in whole.headers["Content-Disposition"]
    part = client.get(path, Range="bytes=400000-400009")
    assert (part.status, part.body) == (206, DATA[400_000:400_010])
    assert client.request("DELETE", path).status == 204
    assert client.head(path).status == 404


def test_everything_that_the_store_can_do_is_offered(client: Client) -> None:
    answer = client.request("OPTIONS", "/files/")
    assert answer.headers["Tus-Extension"] == (
        "creation,creation-with-upload,creation-defer-length,checksum,termination,concatenation"
    )
    assert answer.headers["Tus-Max-Size"] == "2000000"


def test_an_upload_over_the_limit_is_refused(client: Client) -> None:
    answer = client.request("POST", "/files/", {**TUS, "Upload-Length": "2000001"})
    assert answer.status == 413


def test_a_refused_client_that_is_still_sending_hears_why(server: Server) -> None:
    headers = {**UPLOAD, "Upload-Length": "2000001"}
    url = f"{server.url}/files/"
    answer = requests.post(url, data=bytes(100_000_000), headers=headers, timeout=60)
    assert answer.status_code == 413


def test_both_forms_of_the_path_create(client: Client) -> None:
    for path in ("/files", "/files/"):
        answer = client.request("POST", path, {**TUS, "Upload-Length": "1"})
        assert answer.status == 201
        assert answer.headers["Location"].startswith(f"http://127.0.0.1:{client.port}/files/")


def test_there_is_nothing_beside_the_path(client: Client) -> None:
    path = client.create(1)
    for other in ("/", "/other/", path.removeprefix("/files"), f"/other{path}"):
        answer = client.request("PATCH", other, {**UPLOAD, "Upload-Offset": "0"}, b"x")
        assert answer.status in (404, 405)
    assert client.offset(path) == 0


def test_the_front_page_says_where_to_upload(server: Server, client: Client) -> None:
    answer = client.get("/")
    assert answer.status == 200
    assert f" http://127.0.0.1:{server.port}/files/\n" in answer.body.decode()


@pytest.mark.parametrize("protocol", ["both", "tus", "ietf"])
def test_one_protocol_or_both_are_spoken(protocol: str, tmp_path: Path) -> None:
    bound = ("--protocol", protocol, "--max-append-size", "4096")
    with serving(tmp_path / "data", *bound) as server:
        client = Client(server.port)
        offered = client.request("OPTIONS", "/files/").headers
        assert ("tus-version" in offered) == (protocol != "ietf")
        limits = offered.get("upload-limit")
        assert limits == (None if protocol == "tus" else "min-size=0, max-append-size=4096")
        tus = client.request("POST", "/files/", {**TUS, "Upload-Length": "5"})
        assert (tus.status == 201) == (protocol != "ietf")
        version = {"Upload-Draft-Interop-Version": "9"}
        draft = client.request("POST", "/files/", {**version, "Upload-Complete": "?0"})
        assert (draft.status == 201) == (protocol != "tus")
        names = {"tus": "TUS 1.0.0", "ietf": "the IETF draft"}
        front = client.get("/").body.decode()
        for name, spoken in names.items():
            assert (spoken in front) == (protocol in ("both", name))


def test_what_the_whole_server_can_do_is_what_its_collection_can(client: Client) -> None:
    of_server = client.request("OPTIONS", "*")
    of_collection = client.request("OPTIONS", "/files/")
    assert of_server.status == of_collection.status == 204
    for name in ("upload-limit", "tus-version", "tus-extension"):
        assert of_server.headers[name] == of_collection.headers[name]


def test_one_line_at_the_start_has_the_url_for_clients(server: Server) -> None:
    (line,) = server.output().splitlines()
    assert f" http://127.0.0.1:{server.port}/files/ " in line
    assert str(server.folder) in line


def test_path_and_public_url_are_what_clients_are_given(tmp_path: Path) -> None:
    url = "https://example.com/up"
    with serving(tmp_path / "data", "--path", "/", "--public-url", url) as server:
        client = Client(server.port, "/")
        created = client.request("POST", "/", {**TUS, "Upload-Length": "3"})
        location = created.headers["Location"]
        assert location.startswith(f"{url}/")
        path = location.removeprefix(url)
        assert client.patch(path, 0, b"abc").status == 204
        assert client.get(path).body == b"abc"
        assert f" {url}/ " in server.output()


# Browsers.


def test_a_preflight_allows_what_clients_in_browsers_send(client: Client) -> None:
    asked = (
        "authorization,content-type,tus-resumable,upload-length,upload-offset,upload-metadata,"
        "upload-defer-length,upload-concat,upload-checksum,x-http-method-override,x-request-id,"
        "x-requested-with,upload-draft-interop-version,upload-complete,upload-incomplete,"
        "content-disposition,content-digest,repr-digest,want-repr-digest"
    )
    for method in ("POST", "PUT", "HEAD", "PATCH", "DELETE"):
        answer = client.request(
            "OPTIONS",
            "/files/",
            {
                "Origin": "https://one.example",
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": asked,
            },
        )
        assert answer.status == 200, answer.body
        assert answer.headers["Access-Control-Allow-Origin"] == "https://one.example"
        assert method in answer.headers["Access-Control-Allow-Methods"]
        allowed = answer.headers["Access-Control-Allow-Headers"].lower()
        assert set(asked.split(",")) <= {name.strip() for name in allowed.split(",")}
        assert int(answer.headers["Access-Control-Max-Age"]) >= 600


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        pytest.param("POST", "/files/", {**TUS, "Upload-Length": "1"}, 201, id="created"),
        pytest.param("HEAD", "/files/nothing", TUS, 404, id="not-found"),
        pytest.param("POST", "/files/", {**TUS, "Upload-Length": "-1"}, 400, id="bad-length"),
        pytest.param("POST", "/files/", {**TUS, "Upload-Length": "9" * 12}, 413, id="too-large"),
        pytest.param("HEAD", "/files/nothing", {"Tus-Resumable": "0.2.2"}, 412, id="old-version"),
        pytest.param("PUT", "/files/", TUS, 405, id="wrong-method"),
        pytest.param("POST", "/files/", {**DRAFT, "Upload-Complete": "?0"}, 201, id="draft"),
        pytest.param("PATCH", "/files/nothing", DRAFT, 404, id="draft-not-found"),
    ],
)
def test_pages_of_the_named_origins_can_read_every_answer(
    client: Client, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    origin = "https://two.example:8443"
    answer = client.request(method, path, {**headers, "Origin": origin})
    assert answer.status == status
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert "Origin" in answer.headers["Vary"]
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {
        "Location", "Upload-Offset", "Upload-Length", "Upload-Expires", "Upload-Metadata",
        "Upload-Defer-Length", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size",
        "Upload-Complete", "Upload-Incomplete", "Upload-Limit", "Upload-Draft-Interop-Version",
        "Repr-Digest",
    } <= set(exposed)  # fmt: skip


def test_pages_of_other_origins_can_read_nothing(client: Client) -> None:
    answer = client.request("HEAD", "/files/nothing", {**TUS, "Origin": "https://three.example"})
    assert answer.headers["Access-Control-Allow-Origin"] is None


def test_a_star_lets_every_page_upload_and_nothing_lets_none(tmp_path: Path) -> None:
    for options, allowed in ((["--cors-origin", "*"], "*"), ([], None)):
        with serving(tmp_path / "data", *options) as server:
            headers = {**TUS, "Upload-Length": "1", "Origin": "https://any.example"}
            answer = Client(server.port).request("POST", "/files/", headers)
            assert answer.status == 201
            assert answer.headers["Access-Control-Allow-Origin"] == allowed


# Time, workers and signals.


def test_an_unfinished_upload_expires_and_is_swept(on: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--server", on, "--expires-after", "1") as server:
        client = Client(server.port)
        complete, unfinished = client.create(3), client.create(3)
        client.patch(complete, 0, b"abc")
        answer = client.patch(unfinished, 0, b"ab")
        assert answer.headers["Upload-Expires"].endswith(" GMT")
        wait_until(lambda: not list(server.folder.rglob(f"{Path(unfinished).name}*")))
        assert client.head(unfinished).status == 404
        assert client.get(complete).body == b"abc"


def _owner(connection: Connection, server: Server) -> int | None:
    """Return the process that has accepted the connection, if one has already."""
    port = connection.socket.getsockname()[1]
    for worker in psutil.Process(server.process.pid).children():
        for seen in worker.net_connections("tcp"):
            if seen.raddr and seen.raddr.port == port:
                return worker.pid
    return None


def test_the_newest_patch_wins_across_workers(on: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        options = ["--server", on, "--workers", "2"]
        server = stack.enter_context(serving(tmp_path / "data", *options))
        client = Client(server.port)
        path = client.create(len(DATA))
        old = stack.enter_context(client.patching(path, 0, len(DATA)))
        old.send(DATA[:300_000])
        wait_until(lambda: client.offset(path) == 300_000)

        # The kernel chooses a worker: connect until it has chosen the other one.
        for _ in range(100):
            new = stack.enter_context(Connection(server.port))
            wait_until(lambda new=new: _owner(new, server) is not None)
            if _owner(new, server) != _owner(old, server):
                break
        assert _owner(new, server) != _owner(old, server)

        rest = len(DATA) - 300_000
        headers = {**UPLOAD, "Upload-Offset": "300000", "Content-Length": str(rest)}
        new.start("PATCH", path, headers)
        new.send(DATA[300_000:])
        assert new.answer().offset == len(DATA)
        assert old.answer().status == 423
        assert client.get(path).body == DATA


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_stopping_does_not_wait_for_a_slow_client_and_keeps_its_bytes(
    on: str, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "data"
    with serving(folder, "--server", on, "--shutdown-timeout", "1") as server:
        client = Client(server.port)
        path = client.create(len(DATA))
        with client.patching(path, 0, len(DATA)) as patch:
            patch.send(DATA[:700_001])
            wait_until(lambda: client.offset(path) == 700_001)
            server.signal(number)
            answer = patch.answer()
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            server.wait()
        lines = server.output().splitlines()[1:]
        assert [line.split()[3:5] for line in lines] == [["append", "503"]]  # and no traceback
    with serving(folder) as server:
        client = Client(server.port)
        assert client.offset(path) == 700_001
        client.resume(path, DATA)
        assert sha256(client.get(path).body).digest() == sha256(DATA).digest()


def _listens(process: int) -> bool:
    seen = psutil.Process(process).net_connections("tcp")
    return any(one.status == psutil.CONN_LISTEN for one in seen)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_stopping_lets_a_quick_client_finish(on: str, tmp_path: Path, workers: str) -> None:
    with serving(tmp_path / "data", "--server", on, "--workers", workers) as server:
        client = Client(server.port)
        path = client.create(len(DATA))
        with client.patching(path, 0, len(DATA)) as patch:
            patch.send(DATA[:700_001])
            wait_until(lambda: client.offset(path) == 700_001)
            worker = _owner(patch, server) or server.process.pid
            assert _listens(worker)
            server.signal(signal.SIGTERM)
            wait_until(lambda: not _listens(worker))  # so it knows
            patch.send(DATA[700_001:])
            assert patch.answer().status == 204
            server.wait()


def test_stopping_is_over_in_time_whatever_a_client_does(on: str, tmp_path: Path) -> None:
    size = 20_000_000  # more than is buffered on the way
    with serving(tmp_path / "data", "--server", on, "--shutdown-timeout", "1") as server:
        client = Client(server.port)
        path = client.create(size)
        client.resume(path, bytes(size))
        with Connection(server.port) as taking_nothing:
            taking_nothing.start("GET", path, {})
            assert taking_nothing.first_line()
            server.signal(signal.SIGTERM)
            server.wait()  # for less than the 60 seconds that the client has


def test_a_killed_server_goes_on_where_it_was(on: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with serving(folder, "--server", on) as server:
        client = Client(server.port)
        path = client.create(len(DATA))
        with client.patching(path, 0, len(DATA)) as patch:
            patch.send(DATA[:600_000])
            wait_until(lambda: client.offset(path) == 600_000)
            patch.send(DATA[600_000:900_000])
            server.signal(signal.SIGKILL)
            server.wait()
    with serving(folder, "--server", on) as server:
        client = Client(server.port)
        assert 600_000 <= client.offset(path) <= 900_000
        client.resume(path, DATA)
        assert sha256(client.get(path).body).digest() == sha256(DATA).digest()


def test_a_worker_that_died_is_replaced(on: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--server", on, "--workers", "2") as server:
        wait_until(lambda: len(workers_of(server)) == 2)
        first = min(workers_of(server))
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(workers_of(server) - {first}) == 2)
        assert Client(server.port).create(1)


def test_workers_end_with_a_killed_parent(on: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--server", on, "--workers", "2") as server:
        wait_until(lambda: len(workers_of(server)) == 2)
        workers = workers_of(server)
        server.signal(signal.SIGKILL)
        wait_until(lambda: not any(map(psutil.pid_exists, workers)), 20)


def test_requests_are_logged_where_it_is_asked_for(on: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--server", on, "--log-requests") as server:
        client = Client(server.port)
        path = client.create(5, **{"Upload-Metadata": "filename c2VjcmV0"})
        client.patch(path, 0, b"hello")
        client.head(path)
        wait_until(lambda: "append" in server.output())
    lines = [line.split(" ", 3)[3] for line in server.output().splitlines()[1:]]
    upload = path.rsplit("/", 1)[1]
    assert [line.partition(" seconds=")[0] for line in lines] == [
        f"create 201 upload={upload} received=0 offset=0",
        f"append 204 upload={upload} received=5 offset=5",
    ]


# What a person gets wrong.


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="no-command"),
        pytest.param(["server"], id="unknown-command"),
        pytest.param(["serve", "--prot", "80"], id="unknown-option"),
        pytest.param(["serve", "--port", "http"], id="port-not-a-number"),
        pytest.param(["serve", "--port", "65536"], id="port-too-high"),
        pytest.param(["serve", "--port", "-1"], id="port-negative"),
        pytest.param(["serve", "--port"], id="no-value"),
        pytest.param(["serve", "--max-size", "10 elephants"], id="size-unknown-unit"),
        pytest.param(["serve", "--max-size", "0"], id="size-zero"),
        pytest.param(["serve", "--max-size", "1_000"], id="size-with-underscore"),
        pytest.param(["serve", "--expires-after", "0"], id="expires-at-once"),
        pytest.param(["serve", "--expires-after", "1.5h"], id="expires-with-unit"),
        pytest.param(["serve", "--workers", "none"], id="workers-not-a-number"),
        pytest.param(["serve", "--path", "files"], id="path-not-absolute"),
        pytest.param(["serve", "--path", "/{id}/"], id="path-with-braces"),
        pytest.param(["serve", "--cors-origin", "example.com"], id="origin-without-scheme"),
        pytest.param(["serve", "--cors-origin", "https://example.com/"], id="origin-with-path"),
        pytest.param(["serve", "--public-url", "/files/"], id="public-url-a-path"),
        pytest.param(["serve", "--public-url", "http:///files/"], id="public-url-without-host"),
        pytest.param(["serve", "--durability", "maybe"], id="durability-unknown"),
        pytest.param(["serve", "--store", "https://b"], id="store-not-a-bucket"),
        pytest.param(["serve", "--store", "s3://"], id="store-without-a-bucket"),
        pytest.param(["serve", "--store", "s3://bucket", "--dir", "x"], id="store-and-folder"),
        pytest.param(["serve", "--server", "daphne"], id="server-unknown"),
        pytest.param(["serve", "--server", "granian", "--interim-responses"], id="no-interim"),
        pytest.param(["sweep"], id="sweep-without-folder"),
        pytest.param(["serve", "--ssl-certfile", "a.pem"], id="certificate-without-key"),
        pytest.param(["serve", "--ssl-keyfile", "a.pem"], id="key-without-certificate"),
        pytest.param(["serve", "--http2", *CERTIFICATE], id="no-http-2-on-uvicorn"),
        pytest.param(["serve", "--http2", "--server", "granian"], id="no-http-2-without-tls"),
        pytest.param(["serve", "--location", "relative"], id="location-unknown"),
        pytest.param(["serve", "--forwarded-allow-ips", "example.com"], id="proxy-by-name"),
        pytest.param(["serve", "--jwt-key", "a", "--jwt-key-file", "b"], id="two-keys"),
        pytest.param(["serve", "--jwt-audience", "us"], id="audience-without-key"),
        pytest.param(["serve", "--cors-credentials"], id="credentials-without-origin"),
        pytest.param(["serve", "--cors-header", "X-A"], id="header-without-origin"),
        pytest.param(
            ["serve", "--cors-credentials", "--cors-origin", "*"], id="credentials-of-everybody"
        ),
    ],
)
def test_a_wrong_option_gets_one_line_and_code_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    output, errors = capsys.readouterr()
    assert (ended.value.code, output) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("tusasgi")
    assert "_" not in line.replace("1_000", "")  # no name out of the code


def test_a_wrong_option_of_the_real_command_gets_one_line_too() -> None:
    result = run("-m", "tusasgi", "serve", "--max-size", "big")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "tusasgi serve: argument --max-size: 'big' is not a size such as 5000000, 500MB or 10GiB\n"
    )


@pytest.mark.parametrize(("on", "other"), [SERVERS, SERVERS[::-1]], ids=SERVERS)
def test_one_server_needs_nothing_of_the_other(on: str, other: str, tmp_path: Path) -> None:
    first = f"sys.modules[{other!r}] = None"
    with serving(tmp_path / "data", "--server", on, first=first) as server:
        assert Client(server.port).create(1)


def test_a_taken_port_gets_one_line_and_code_1(on: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for workers in ("1", "2"):
            words = ["--dir", str(tmp_path), "--port", port, "--workers", workers]
            words += ["--server", on]
            result = run("-m", "tusasgi", "serve", *words)
            assert (result.returncode, result.stdout) == (1, "")
            assert result.stderr == (
                f"tusasgi: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
            )


def test_a_folder_that_cannot_be_written_gets_one_line_and_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "data"
    result = run("-m", "tusasgi", "serve", "--port", "0", "--dir", str(folder))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"tusasgi: cannot write to the folder {folder}: Not a directory\n"


_WITHOUT_EXTRA = """
import sys
sys.modules.update(uvicorn=None, granian=None, starlette=None)
from tusasgi.server.command import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("on", "extra"), [("uvicorn", "server"), ("granian", "granian")], ids=SERVERS
)
def test_serve_without_its_extra_says_what_to_install(on: str, extra: str, tmp_path: Path) -> None:
    result = run("-c", _WITHOUT_EXTRA, "serve", "--server", on, "--dir", str(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"tusasgi: serve on {on} needs the extra `{extra}`: pip install 'tusasgi[{extra}]'\n"
    )


NO_POSIX = """
import errno, os, sys
sys.modules.update(fcntl=None, resource=None)
del errno.EREMOTEIO, os.fork, os.register_at_fork
"""
WITHOUT_POSIX = f"""{NO_POSIX}
from tusasgi.server.command import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("words", "what"),
    [
        pytest.param("serve --dir data", "a folder of uploads", id="serve"),
        pytest.param("sweep --dir data", "a folder of uploads", id="sweep"),
        pytest.param("serve --store s3://bucket --monitor 0", "--monitor", id="monitor"),
        pytest.param("serve --store s3://b-1 --unix-socket s", "--unix-socket", id="unix-socket"),
    ],
)
def test_what_needs_posix_says_so_where_it_is_missing(words: str, what: str) -> None:
    result = run("-c", WITHOUT_POSIX, *words.split())
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"tusasgi: {what}")
    assert line.endswith(" needs a POSIX system (Linux, macOS, WSL)")


# The other commands.


def test_sweep_removes_what_has_expired_without_the_extra(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    long_ago = Uploads(
        FileStore(tmp_path), expiry=Expiry(initial=timedelta(minutes=1)), clock=lambda: past
    )
    now = Uploads(FileStore(tmp_path), expiry=Expiry(initial=timedelta(minutes=1)))

    async def create() -> str:
        await long_ago.create(length=10)
        await long_ago.create(length=10)
        return (await now.create(length=10)).id

    kept = anyio.run(create)
    for output in ("2 expired uploads removed\n", "0 expired uploads removed\n"):
        result = run("-c", _WITHOUT_EXTRA, "sweep", "--dir", str(tmp_path))
        assert (result.returncode, result.stderr, result.stdout) == (0, "", output)
    assert [file.stem for file in tmp_path.rglob("*.info")] == [kept]


def test_sweep_says_in_one_line_what_it_could_not_do(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    expired = Upload(id="expired", length=5, created=past, expires=past)
    store = FileStore(tmp_path)
    anyio.run(store.create, expired)
    in_the_way = Path(store.path("expired"))
    in_the_way.unlink(missing_ok=True)
    in_the_way.mkdir()  # cannot be removed as a file is, not even by root
    result = run("-m", "tusasgi", "sweep", "--dir", str(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("tusasgi: not everything could be done: ")
    in_the_way.rmdir()
    result = run("-m", "tusasgi", "sweep", "--dir", str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")


def test_sweep_removes_a_final_upload_whose_parts_are_gone(tmp_path: Path) -> None:
    joining = Upload(
        id="final", length=5, created=datetime.now(UTC), parts=("gone",), concat_header="final;/x"
    )
    anyio.run(FileStore(tmp_path).create, joining)
    result = run("-m", "tusasgi", "sweep", "--dir", str(tmp_path))
    assert (result.returncode, result.stdout) == (0, "1 expired upload removed\n")


def _unreadable(folder: Path, upload_id: str) -> None:
    """Leave an upload that waits for the sweeper, and whose record cannot be read."""
    past = datetime.now(UTC) - timedelta(days=1)
    store = FileStore(folder)
    anyio.run(store.create, Upload(id=upload_id, length=5, created=past, removal="expired"))
    Path(f"{store.path(upload_id)}.info").write_text("{}")


def test_sweep_says_each_cause_in_one_line_whatever_it_is(tmp_path: Path) -> None:
    for upload_id in ("one", "two"):
        _unreadable(tmp_path, upload_id)
    result = run("-m", "tusasgi", "sweep", "--dir", str(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("tusasgi: not everything could be done: ValueError: this is no record")
    assert line.endswith(" and 1 more)")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError("no disk"), id="disk"),
        pytest.param(ClientError({"Error": {"Code": "ExpiredToken"}}, "ListObjectsV2"), id="s3"),
        pytest.param(NoCredentialsError(), id="credentials"),
        pytest.param(ValueError("no record"), id="record"),
        pytest.param(ExceptionGroup("several", [KeyError("a"), KeyError("b")]), id="several"),
    ],
)
@pytest.mark.parametrize("place", ["due", "terminate"])
async def test_no_failure_ends_the_sweeper_of_a_server(place: str, error: Exception) -> None:
    failures = [error, error]
    removed = anyio.Event()

    class FailingStore(MemoryStore):
        async def due(self, now: datetime) -> AsyncIterator[str]:
            if place == "due" and failures:
                raise failures.pop()
            async for upload_id in super().due(now):
                yield upload_id

        async def terminate(self, upload_id: str) -> None:
            if place == "terminate" and failures:
                raise failures.pop()
            await super().terminate(upload_id)
            removed.set()

    await _sweep_until(removed, Uploads(FailingStore(), expiry=ONE_MINUTE, clock=_Clock()))


class _Clock:
    """An hour goes by with each look at it."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def __call__(self) -> datetime:
        self._now += timedelta(hours=1)
        return self._now


async def _sweep_until(removed: anyio.Event, uploads: Uploads) -> None:
    """Sweep as a server does, until what it is given to remove is gone."""
    await uploads.create(length=10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sweep_again_and_again, uploads, 0.001)
        with anyio.fail_after(20):
            await removed.wait()
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_what_fails_in_the_sweeper_of_a_server_is_logged_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    of_hook = ExceptionGroup("unhandled errors in a TaskGroup", [RuntimeError("no\ndatabase")])
    failures: list[Exception] = [of_hook, OSError("no disk")]
    removed = anyio.Event()

    class FailingHooks(Hooks):
        async def expired(self, upload: Upload) -> None:
            if len(failures) == 2:
                raise failures.pop(0)

    class FailingStore(MemoryStore):
        async def terminate(self, upload_id: str) -> None:
            if failures:
                raise failures.pop(0)
            await super().terminate(upload_id)
            removed.set()

    uploads = Uploads(
        FailingStore(),
        hooks=FailingHooks(),
        expiry=ONE_MINUTE,
        clock=_Clock(),
        new_id=lambda: "the-id",
    )
    await _sweep_until(removed, uploads)
    first, second = [record.getMessage() for record in caplog.records]
    assert first.endswith(
        "seconds, and needs you if this goes on: RuntimeError: no database (upload the-id)"
    )
    assert second.endswith(": OSError: no disk (upload the-id)")


def test_sweep_of_no_folder_is_an_error(tmp_path: Path) -> None:
    result = run("-m", "tusasgi", "sweep", "--dir", str(tmp_path / "nothing"))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"tusasgi: there is no folder {tmp_path / 'nothing'}\n"


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"tusasgi {tusasgi.__version__}\n"
