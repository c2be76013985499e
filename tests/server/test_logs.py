"""What the command logs, as text and as JSON, and the names of requests in it."""

import json
import logging
import signal
from pathlib import Path

import anyio
import pytest

from tests.hosts._process import free_port, running
from tests.hosts._wire import TUS, Client, wait_until
from tests.server.test_command import serving
from tusasgi.server.logs import JsonLines, NamesRequest, TextLines, log_config, request_id
from tusasgi.server.request_ids import RequestIds
from tusasgi.server.settings import Settings

HOOKS = """
from tusasgi import Forbidden, Hooks

class OurHooks(Hooks):
    async def creating(self, creation, request):
        if creation.length == 3:
            raise RuntimeError("a bug")
        raise Forbidden("not to " + request.state["request_id"])

hooks = OurHooks()
"""


def test_every_line_is_an_object_and_one_name_goes_through_answer_hook_and_log(
    on: str, tmp_path: Path
) -> None:
    (tmp_path / "our_hooks.py").write_text(HOOKS)
    port = free_port()
    command = ["-m", "tusasgi", "serve", "--dir", str(tmp_path / "data"), "--port", str(port)]
    command += ["--hooks", "our_hooks:hooks", "--server", on, "--log-format", "json"]
    with running(
        "tusasgi serve", [*command, "--log-requests"], port, tmp_path / "data", PYTHONPATH=tmp_path
    ) as server:
        client = Client(port)
        headers = {**TUS, "Upload-Length": "5", "X-Request-ID": "from-the-proxy/7"}
        refused = client.request("POST", "/files/", headers)
        broken = client.request("POST", "/files/", {**TUS, "Upload-Length": "3"})
        assert (refused.status, refused.body) == (403, b"not to from-the-proxy/7\n")
        assert refused.headers["X-Request-ID"] == "from-the-proxy/7"
        wait_until(lambda: "a bug" in server.output())
        server.signal(signal.SIGTERM)
        server.wait()
    lines = [json.loads(line) for line in server.output().splitlines()]
    (began,) = [one for one in lines if "Clients upload to" in one["message"]]
    assert (began["level"], began["logger"]) == ("info", "tusasgi.cli")
    asked = [one for one in lines if one["logger"] == "tusasgi.requests"]
    assert [(one["status"], one["request_id"]) for one in asked] == [
        (403, "from-the-proxy/7"),
        (500, broken.headers["X-Request-ID"]),
    ]
    (failed,) = [one for one in lines if "RuntimeError: a bug" in str(one)]
    assert failed["request_id"] == broken.headers["X-Request-ID"]


def test_lines_of_text_say_when_how_bad_and_which_request(on: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--server", on, "--log-requests") as server:
        answer = Client(server.port).request("POST", "/files/", {**TUS, "Upload-Length": "5"})
        wait_until(lambda: "create 201" in server.output())
    (line,) = [one for one in server.output().splitlines() if "create 201" in one]
    assert line.split(" ")[2] == "INFO"
    assert line.endswith(f" request={answer.headers['X-Request-ID']}")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "header",
    [
        pytest.param([], id="none"),
        pytest.param([b""], id="empty"),
        pytest.param([b"a" * 129], id="long"),
        pytest.param([b"a b"], id="two-words"),
        pytest.param([b'"}\x1b[31m'], id="a-terminal-code"),
        pytest.param(["\N{SNOWMAN}".encode()], id="not-ascii"),
        pytest.param([b"a", b"b"], id="twice"),
    ],
)
async def test_a_request_without_a_fit_name_is_given_one(header: list[bytes]) -> None:
    names = [await name_of([(b"x-request-id", value) for value in header]) for _ in range(2)]
    assert all(name.isalnum() and len(name) == 32 for name in names)
    assert names[0] != names[1]


async def name_of(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the name that a request gets; it is one and the same wherever it stands."""
    seen: list[str] = []

    async def app(scope: dict, receive: object, send: object) -> None:
        seen.extend([scope["state"]["request_id"], request_id.get(), scope["state"]["other"]])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})

    async def send(message: dict) -> None:
        assert message["headers"][0] == (b"a", b"b")
        seen.append(dict(message["headers"])[b"x-request-id"].decode())

    scope = {"type": "http", "headers": headers, "state": {"other": "kept"}}
    await RequestIds(app)(scope, anyio.sleep_forever, send)
    assert seen[2] == "kept"
    assert scope["state"] == {"other": "kept"}, "the state of all requests was changed"
    assert seen[0] == seen[1] == seen[3]
    return seen[0]


def test_a_line_of_json_has_the_facts_of_its_record_and_is_one_line() -> None:
    record = logging.makeLogRecord({
        "name": "tusasgi.requests", "levelno": logging.WARNING, "levelname": "WARNING",
        "msg": "two\nlines of %s", "args": ("text",), "created": 0.25,
        "upload_id": "a1", "folder": Path("x"), "message": "another",
    })  # fmt: skip
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.250+00:00", "level": "warning", "logger": "tusasgi.requests",
        "message": "two\nlines of text", "upload_id": "a1", "folder": "x",
    }  # fmt: skip


def test_what_is_no_request_has_no_name() -> None:
    record = logging.makeLogRecord({"msg": "swept"})
    assert NamesRequest().filter(record)
    assert "request_id" not in json.loads(JsonLines().format(record))
    assert "request" not in TextLines().format(record)


def test_requests_are_logged_only_where_it_is_asked_for() -> None:
    for is_asked, level in ((False, "WARNING"), (True, "INFO")):
        config = log_config(Settings(log_requests=is_asked))
        assert config["loggers"]["tusasgi.requests"]["level"] == level
