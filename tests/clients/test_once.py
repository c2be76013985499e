"""Clients that have to wait for an upload to be settled, or for the store: none begins anew."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.roughy.tools.bad_network import BadNetwork
from tests.clients.needs import HERE, java_classes, need
from tests.clients.scripts import starting
from tests.hosts._process import free_port, running
from tests.hosts._wire import wait_until

MIB = 1024 * 1024
CHUNK = MIB
DATA = bytes(range(256)) * (3 * MIB // 256) + b"and a chunk that is not full"
_SECONDS = 90.0

# From the URL of the server and the file.
Command = Callable[[str, Path], list[str]]


def node(url: str, file: Path) -> list[str]:
    need("node", "npm:tus-js-client")
    return ["node", str(HERE / "once.mjs"), f"{url}/files/", str(file)]


def in_browser(client: str) -> Command:
    def command(url: str, file: Path) -> list[str]:
        need("npm:esbuild", "npm:tus-js-client", "npm:@uppy/core", "npm:@uppy/tus")
        return ["node", str(HERE / "once_browser.mjs"), client, url, str(file)]

    return command


def tuspy(url: str, file: Path) -> list[str]:
    return [sys.executable, str(HERE / "once.py"), f"{url}/files/", str(file)]


def java(url: str, file: Path) -> list[str]:
    classes = f"{java_classes()}/*"
    return ["java", "-cp", classes, str(HERE / "java" / "Once.java"), f"{url}/files/", str(file)]


@pytest.fixture(
    params=[
        pytest.param(node, id="tus-js-client-in-node"),
        pytest.param(in_browser("tus-js-client"), id="tus-js-client-in-chromium"),
        pytest.param(in_browser("uppy"), id="uppy"),
        pytest.param(tuspy, id="tuspy"),
        pytest.param(java, id="tus-java-client"),
    ]
)
def client(request: pytest.FixtureRequest) -> Command:
    command: Command = request.param
    if command not in (node, tuspy, java):
        request.getfixturevalue("in_chromium")
    return command


class Upload:
    """One client that sends the file through a network that can be cut."""

    def __init__(
        self, network: BadNetwork, process: subprocess.Popen[str], http: httpx.Client
    ) -> None:
        self.network = network
        self.process = process
        self._http = http
        self.told: dict[str, Any] = {}
        """What the server said when it was asked last."""

    def look(self) -> dict[str, Any]:
        self.told = self._http.get("/told").json()
        return self.told

    def answers(self, operation: str) -> Counter[int]:
        """The answers to requests of one kind by their status."""
        return Counter(status for name, status in self.told["requests"] if name == operation)

    def wait(self, is_so: Callable[[], bool]) -> None:
        def is_over() -> bool:
            self.look()
            return is_so() or self.process.poll() is not None

        wait_until(is_over, _SECONDS)
        assert is_so(), "the client ended too early"

    def wait_for_a_refused_head(self) -> None:
        self.wait(lambda: any(status >= 400 for status in self.answers("get")))

    def calm(self) -> None:
        self._http.get("/calm")

    def end(self) -> None:
        """Fail unless the client ends well, created once, and sent hardly a byte twice."""
        printed, errors = self.process.communicate(timeout=_SECONDS)
        print(printed, errors)
        assert self.process.returncode == 0
        self.look()
        assert self.answers("create") == {201: 1}
        # A chunk that is refused on its way is the only one that may come again.
        assert len(DATA) <= self.told["received"] <= len(DATA) + CHUNK
        assert self._http.get(url_in(printed)).content == DATA  # to a page, it is a path


@contextmanager
def uploading(trouble: str, command: Command, folder: Path) -> Iterator[Upload]:
    """Let the client work on an upload; after the block it has to bring it to its end."""
    file = folder / "film"
    file.write_bytes(DATA)
    port = free_port()
    serve = ["-m", "uvicorn", "--factory", "tests.clients.troubled:create_app"]
    serve += ["--port", str(port), "--log-level", "warning"]
    with (
        running(trouble, serve, port, folder / trouble, TUSASGI_TEST_TROUBLE=trouble) as server,
        BadNetwork(port) as network,
        starting(command(network.url, file), HERE) as process,
        httpx.Client(base_url=server.url) as http,
    ):
        upload = Upload(network, process, http)
        yield upload
        upload.end()


def url_in(printed: str) -> str:
    """The URL of the upload: all that the programs print, but one that tells more as JSON."""
    last = printed.splitlines()[-1]
    return str(json.loads(last)["end"] if last.startswith("{") else last)


def test_a_client_cut_off_while_the_hook_works_waits_for_its_end(
    client: Command, tmp_path: Path
) -> None:
    with uploading("slow-hook", client, tmp_path) as upload:
        upload.wait(lambda: upload.told["completions"] == 1)
        upload.network.cut_all()
        upload.wait_for_a_refused_head()
        upload.calm()
    assert upload.answers("get")[423] > 0
    assert upload.told["completions"] == 1


def test_a_client_waits_while_the_hook_fails(client: Command, tmp_path: Path) -> None:
    with uploading("failing-hook", client, tmp_path) as upload:
        pass
    assert upload.told["completions"] == 3
    assert upload.answers("append")[503] == 1
    assert upload.answers("get")[423] == 1


def test_a_client_waits_for_a_store_that_is_away(client: Command, tmp_path: Path) -> None:
    with uploading("lost-store", client, tmp_path) as upload:
        upload.wait_for_a_refused_head()
        upload.calm()
    assert upload.answers("get")[423] > 0
