"""Three processes on S3 and PostgreSQL behind a real balancer."""

import asyncio
import contextlib
import hashlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import psutil
import pytest

from examples.replicas import services
from examples.replicas.__main__ import Deployment, deployed
from examples.replicas.processes import Program, answers, free_port
from examples.roughy.tools.upload import Api, transfer
from tests.clients.needs import HERE as CLIENTS
from tests.clients.needs import need
from tests.services.fixtures import QUICKLY_CHECKED
from tusasgi.stores.s3 import check

from .conftest import missing
from .server import ROOT, path_of, wait_for

MIB = 1024 * 1024


@pytest.fixture
def blockbuster() -> None:
    """Switched off: the servers are other processes."""


@pytest.fixture(scope="module")
def started() -> Iterator[Deployment]:
    """What stays as it is whichever balancer there is."""
    first = services.first_balancer()
    if reason := services.what_is_missing(first):
        missing(reason)
    with pytest.MonkeyPatch.context() as patch, place() as folder:
        patch.setattr(check, "_RACERS", 1)
        patch.setattr(services, "replica", partial(quickly_checked, services.replica))
        with deployed(folder, port=free_port(), balancer=first) as deployment:
            yield deployment


def quickly_checked(make: Callable[..., Program], *arguments: object) -> Program:
    """Return a replica that tries its bucket without a race, each time that it is started."""
    replica = make(*arguments)
    python, _, *module = replica._command
    replica._command = [python, "-c", QUICKLY_CHECKED, *module]
    return replica


@pytest.fixture(scope="module", params=["haproxy", "nginx"])
def deployment(request: pytest.FixtureRequest, started: Deployment) -> Iterator[Deployment]:
    """The replicas behind a balancer that takes the place of the one before."""
    if reason := services.what_is_missing(request.param):
        missing(reason)
    started.balancer.stop()
    folder = started.balancer.log.parents[1] / f"again-{request.param}"
    port = urlsplit(started.url).port
    ports = [port_of(replica) for replica in started.replicas]
    with services.balancer(request.param, folder, port, ports) as balancer:
        yield replace(started, balancer=balancer)


# What depends on neither of them is asked behind one.
BEHIND_HAPROXY = pytest.mark.parametrize("deployment", ["haproxy"], indirect=True)
BEHIND_NGINX = pytest.mark.parametrize("deployment", ["nginx"], indirect=True)


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A folder that PostgreSQL may enter as another user; pytest's are closed to all but us."""
    with tempfile.TemporaryDirectory(prefix="roughy-replicas-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


class Client:
    """Somebody who knows the address of the balancer and a key."""

    def __init__(self, deployment: Deployment) -> None:
        self.url = deployment.url
        self.key = deployment.key
        self.headers = {"Authorization": f"Bearer {deployment.key}", "Tus-Resumable": "1.0.0"}
        self.http = httpx.Client(base_url=deployment.url, headers=self.headers, timeout=20)

    def new_upload(self, size: int) -> str:
        project = self.http.post("/v1/projects", json={"name": "clips"}).json()
        asset = {"project_id": project["id"], "size_bytes": size}
        return self.http.post("/v1/assets", json=asset).headers["location"]

    def patch(self, url: str, offset: int, content) -> httpx.Response:
        told = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        return self.http.patch(url, content=content, headers=told)

    def offset(self, url: str) -> int:
        return int(self.http.head(url).headers["upload-offset"])

    def resume(self, url: str, content: bytes) -> int:
        """Go on as clients do, and say where.

        They ask again when the request before has moved on meanwhile. Its refusal may not come
        through while they are sending; and when it does, the balancer closes the connection
        without a word, as half of a body is still on the way.
        """
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with contextlib.suppress(httpx.TransportError):
                offset = self.offset(url)
                answer = self.patch(url, offset, content[offset:])
                if answer.status_code == 204:
                    return offset
                assert answer.status_code in (409, 423), answer.text
        raise AssertionError("it did not go on")

    def asset(self, url: str) -> dict:
        answer = self.http.get(f"/v1/assets/{url.rpartition('/')[2]}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def check_ready(self, url: str, content: bytes, price: int) -> None:
        """See that the asset gets ready, has its bytes past Roughy, and was charged once."""
        wait_for(lambda: self.asset(url)["state"] != "processing", "the asset to be prepared")
        asset = self.asset(url)
        assert asset["state"] == "ready", asset
        assert not asset["download_url"].startswith(self.url)
        got = httpx.get(asset["download_url"], timeout=30)
        assert hashlib.sha256(got.content).digest() == hashlib.sha256(content).digest()
        entries = self.http.get("/v1/credits/history", params={"limit": 100}).json()["items"]
        assert [e["delta"] for e in entries if e["asset_id"] == asset["id"]] == [-price]


@pytest.fixture
def client(deployment: Deployment) -> Iterator[Client]:
    client = Client(deployment)
    with client.http:
        yield client


def served(deployment: Deployment, method: str, url: str) -> list[int]:
    """How many requests of a method each replica has answered with success."""
    line = re.compile(rf'"{method} {re.escape(path_of(url))} HTTP/1\.\d" 20\d')
    return [len(line.findall(replica.output())) for replica in deployment.replicas]


def test_the_url_of_an_upload_is_that_of_the_balancer(deployment, client):
    assert client.new_upload(1000).startswith(f"{deployment.url}/v1/uploads/")


def test_pieces_of_an_upload_land_on_different_replicas(deployment, client, film):
    url = client.new_upload(len(film))
    for offset in range(0, len(film), MIB):
        assert client.offset(url) == offset
        assert client.patch(url, offset, film[offset : offset + MIB]).status_code == 204
    served_by = served(deployment, "PATCH", url)
    assert sum(served_by) == 8
    assert min(served_by) >= 1
    client.check_ready(url, film, price=2)


@BEHIND_NGINX
def test_tuspy_uploads_through_all_of_them(deployment, client, tmp_path, film):
    path = tmp_path / "film.mp4"
    path.write_bytes(film)
    api = Api(deployment.url, deployment.key)
    try:
        _, url = api.create(api.project(), len(film))
        with path.open("rb") as file:
            transfer(file, url, api.headers, chunk_size=MIB, report=lambda offset: None)
    finally:
        api.close()
    assert min(served(deployment, "PATCH", url)) >= 1
    client.check_ready(url, film, price=2)


def test_killed_in_the_middle_of_a_patch_the_upload_goes_on_at_once(deployment, client, long_film):
    url = client.new_upload(len(long_film))
    over = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield long_film[: 20 * MIB]
        over.wait(60)  # the rest never comes

    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(client.patch, url, 0, slowly())
        # While the request is on its way: so nobody collects it first.
        wait_for(lambda: client.offset(url) >= 8 * MIB, "the first parts to be stored")
        victim = holder(deployment)
        victim.kill()
        killed_at = time.monotonic()
        stored = client.offset(url)
        assert 8 * MIB <= stored <= 20 * MIB
        answer = client.patch(url, stored, long_film[stored:])
        took = time.monotonic() - killed_at
        over.set()
        assert answer.status_code == 204, answer.text
        with contextlib.suppress(httpx.TransportError):
            assert sending.result().status_code >= 500
    assert took < 5
    for _ in range(12):  # none of them goes to the dead one
        assert client.http.get("/health").status_code == 200
    client.check_ready(url, long_film, price=2)
    victim.start()
    victim.wait_until_up()


@BEHIND_HAPROXY
def test_tus_js_client_goes_on_while_one_replica_after_the_other_is_killed(
    deployment, client, tmp_path, long_film
):
    need("node", "npm:tus-js-client")
    path = tmp_path / "film.mp4"
    path.write_bytes(long_film)
    url = client.new_upload(len(long_film))
    command = ["node", CLIENTS / "piecewise.mjs", url, path, client.key]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as node:
        offsets = map(int, node.stdout)
        for number, victim in enumerate(deployment.replicas):
            assert (number * 8 + 4) * MIB in offsets
            victim.kill()
            assert (number * 8 + 8) * MIB in offsets  # without it
            victim.start()
            victim.wait_until_up()
            node.stdin.write("\n")
        assert list(offsets)[-1] == len(long_film)
        assert node.wait(60) == 0
    client.check_ready(url, long_film, price=2)


def test_a_cut_connection_keeps_what_came_through_the_balancer(deployment, client, long_film):
    url = client.new_upload(len(long_film))
    head = (
        f"PATCH {path_of(url)} HTTP/1.1\r\nHost: roughy\r\nAuthorization: Bearer {client.key}\r\n"
        f"Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Length: {len(long_film)}\r\n"
        "Content-Type: application/offset+octet-stream\r\n\r\n"
    )
    address = urlsplit(deployment.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(head.encode() + long_film[: 12 * MIB + 7])
        wait_for(lambda: client.offset(url) >= 8 * MIB, "the first part to be stored")
    # What the balancer has not passed on by now is lost, as on any other way.
    offset = client.resume(url, long_film)
    assert 8 * MIB <= offset <= 12 * MIB + 7
    client.check_ready(url, long_film, price=2)


def holder(deployment: Deployment) -> Program:
    """The replica that is busy with a request; the checks of the balancer are short."""
    seen: list[set[tuple[int, int]]] = []

    def is_clear() -> bool:
        seen.append({found for replica in deployment.replicas for found in clients(replica)})
        return len(seen) >= 5 and len(set.intersection(*seen[-5:])) == 1

    wait_for(is_clear, "one replica to be busy")
    ((pid, _),) = set.intersection(*seen[-5:])
    return next(replica for replica in deployment.replicas if replica.pid == pid)


def clients(replica: Program) -> Iterator[tuple[int, int]]:
    """The connections to a replica, by the ports of the other side."""
    own = port_of(replica)
    for each in psutil.Process(replica.pid).net_connections("tcp"):
        if each.status == psutil.CONN_ESTABLISHED and each.laddr.port == own:
            yield replica.pid, each.raddr.port


def port_of(replica: Program) -> int:
    connections = psutil.Process(replica.pid).net_connections("tcp")
    (own,) = {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    return own


@BEHIND_HAPROXY
def test_secrets_are_for_their_owner_alone(deployment):
    """And the database is, although everybody on the machine reaches its port."""
    folder = deployment.replicas[0].log.parent
    for name in ("api-key", "s3-secret", "postgres/password", "seaweedfs/s3.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    port = (folder / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[3]
    url = f"postgresql://roughy@127.0.0.1:{port}/postgres"
    for wrong in ("", "wrong"):
        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(asyncpg.connect(url, password=wrong))


# The commands


def test_nginx_starts_as_its_file_says(tmp_path):
    """In a copy of the repository, on another port."""
    if services.find_balancer("nginx") is None:
        missing("nginx is missing")
    port = free_port()
    text = (ROOT / "examples" / "replicas" / "nginx.conf").read_text()
    copy = tmp_path / "examples" / "replicas" / "nginx.conf"
    copy.parent.mkdir(parents=True)
    copy.write_text(text.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
    make, start = re.findall(r"^#   (.+)$", text, re.MULTILINE)
    command = f"{make} && exec {start}"  # so it has the process id of the shell
    place = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    pipes = {"stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        ["/bin/sh", "-c", command], cwd=tmp_path, env={"PATH": place}, **pipes
    ) as nginx:
        try:
            is_over = lambda: answers(port) or nginx.poll() is not None  # noqa: E731
            wait_for(is_over, "nginx to start")
            assert nginx.poll() is None, nginx.stderr.read()
            answer = httpx.get(f"http://127.0.0.1:{port}/")  # from itself, if nobody is behind it
            assert answer.headers["server"].startswith("nginx")
        finally:
            nginx.terminate()


def test_the_command_starts_replicas_again_and_ends_everything():
    if reason := services.what_is_missing(services.first_balancer()):
        missing(reason)
    port = free_port()
    with place() as folder, running(port, folder) as process:
        told = partial(find, folder / "output")
        wait_for(lambda: told("Ctrl-C ends") or process.poll() is not None, "it to start", 90)
        started = psutil.Process(process.pid).children()
        assert len(started) == 6
        url, key = told(r"URL +(\S+)/#key=(\S+)")[0]
        assert url == f"http://127.0.0.1:{port}"
        answer = httpx.get(f"{url}/v1/assets", headers={"Authorization": f"Bearer {key}"})
        assert answer.json()["total"] == 0
        (first,) = told(r"Replica 1 +process (\d+),")
        os.kill(int(first), signal.SIGKILL)
        again = r"Replica 1 +ended with -9\n.* process (\d+)\n"
        wait_for(lambda: told(again), "a new one")
        new = int(told(again)[0])
        now = psutil.Process(process.pid).children()
        assert new in {each.pid for each in now}
        assert new not in {each.pid for each in started}
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert told("Stopped")
        assert psutil.wait_procs([*started, *now], timeout=10)[1] == []


@contextlib.contextmanager
def running(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-W", "error", "-m", "examples.replicas", "--port", str(port)]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen([*command, "--data", folder], cwd=ROOT, stdout=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)  # nothing, if it has ended
        process.wait(60)


def find(path: Path, pattern: str) -> list[str]:
    return re.findall(pattern, path.read_text())
