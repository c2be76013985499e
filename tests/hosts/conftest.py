"""Each test of this folder runs on every server; the servers run once for all tests."""

from collections.abc import Iterator

import pytest

from tests.hosts._process import Server, free_port, running
from tests.hosts._wire import Client

_APP = "tests.hosts.app:app"
_UVICORN = ["-m", "uvicorn", _APP, "--port", "{port}", "--log-level", "warning"]
_HYPERCORN = ["-m", "hypercorn", _APP, "--bind", "127.0.0.1:{port}", "--graceful-timeout", "1"]
_GRANIAN = ["-m", "granian", _APP, "--port", "{port}", "--interface", "asgi", "--no-ws"]

COMMANDS = {
    "uvicorn-httptools": [*_UVICORN, "--http", "httptools"],
    "uvicorn-h11": [*_UVICORN, "--http", "h11"],
    "hypercorn-asyncio": [*_HYPERCORN, "-k", "asyncio"],
    "hypercorn-trio": [*_HYPERCORN, "-k", "trio"],
    "granian": [*_GRANIAN, "--workers-kill-timeout", "1"],
}


@pytest.fixture(scope="session", params=COMMANDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    port, folder = free_port(), tmp_path_factory.mktemp(request.param)
    command = [word.format(port=port) for word in COMMANDS[request.param]]
    with running(request.param, command, port, folder, TUSASGI_TEST_FOLDER=str(folder)) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server.port)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show what the server printed beside a test that failed."""
    report: pytest.TestReport = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and server is not None:
        report.sections.append((f"{server.name} printed", server.output()[-8000:]))
    return report
