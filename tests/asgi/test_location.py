"""`Location` as a whole URL of the host that was asked, and what comes of a host that is none."""

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tests._stage import TUS
from tusasgi import TusApp, Uploads
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import RecordedResponse, ScriptedExchange

pytestmark = pytest.mark.anyio

HERE = {"Host": "files.example"}


@pytest.fixture
def absolute() -> TusApp:
    return TusApp(Uploads(MemoryStore()), location="absolute", prefix="/files")


async def create(
    app: TusApp, path: str = "/files/", *headers: tuple[str, str], scheme: str = "http"
) -> RecordedResponse:
    own = [*TUS.items(), ("Upload-Length", "5"), *headers]
    exchange = ScriptedExchange(app, "POST", path, headers=own, body=b"", scope={"scheme": scheme})
    answer = await exchange.run()
    assert answer.status == 201
    return answer


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host", ["files.example", "files.example:8443", "192.0.2.7", "[2001:db8::1]:80", "a_b.local"]
)
async def test_location_is_a_url_of_the_host_that_was_asked(
    absolute: TusApp, host: str, scheme: str
) -> None:
    answer = await create(absolute, "/files/", ("Host", host), scheme=scheme)
    location = answer.headers["location"]
    assert location.startswith(f"{scheme}://{host}/files/")
    path = location.removeprefix(f"{scheme}://{host}")
    assert (
        await ScriptedExchange(absolute, "HEAD", path, headers=TUS, body=b"").run()
    ).status < 300


HOSTILE = [
    pytest.param([], id="missing"),
    pytest.param([("Host", "")], id="empty"),
    pytest.param([("Host", "a.example"), ("Host", "b.example")], id="two"),
    pytest.param([("Host", "a.example, b.example")], id="list"),
    pytest.param([("Host", "a.example/evil")], id="path"),
    pytest.param([("Host", "a.example?x")], id="query"),
    pytest.param([("Host", "a.example#x")], id="fragment"),
    pytest.param([("Host", "user@a.example")], id="user"),
    pytest.param([("Host", "a.example:99x")], id="port-of-letters"),
    pytest.param([("Host", "a.example:")], id="port-empty"),
    pytest.param([("Host", "a.example\r\nX-Evil: 1")], id="line-break"),
    pytest.param([("Host", 'a.example"><script>')], id="markup"),
    pytest.param([("Host", "\xfcmlaut.example")], id="not-ascii"),
    pytest.param([("Host", "a" * 300)], id="too-long"),
    pytest.param([("Host", "[::1")], id="bracket"),
]


@pytest.mark.parametrize("headers", HOSTILE)
async def test_a_host_that_is_none_leaves_a_path(
    absolute: TusApp, headers: list[tuple[str, str]]
) -> None:
    answer = await create(absolute, "/files/", *headers)
    assert answer.headers["location"].startswith("/files/")
    assert "x-evil" not in answer.headers


async def test_what_forwards_is_not_looked_at(absolute: TusApp) -> None:
    forwarded = (("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Proto", "https"))
    answer = await create(absolute, "/files/", *HERE.items(), *forwarded)
    assert answer.headers["location"].startswith("http://files.example/files/")


async def test_a_public_url_counts_more() -> None:
    public = {"public_url": "https://cdn.example/up", "location": "absolute"}
    app = TusApp(Uploads(MemoryStore()), prefix="/files", **public)
    answer = await create(app, "/files/", *HERE.items())
    assert answer.headers["location"].startswith("https://cdn.example/up/")


async def test_it_is_right_below_a_mount() -> None:
    mounted = TusApp(Uploads(MemoryStore()), location="absolute")
    app = Starlette(routes=[Mount("/api/files", mounted)])
    answer = await create(app, "/api/files/", *HERE.items())
    assert answer.headers["location"].startswith("http://files.example/api/files/")


async def test_the_parts_of_a_final_upload_may_be_named_by_it(absolute: TusApp) -> None:
    parts = []
    for _ in range(2):
        answer = await create(absolute, "/files/", *HERE.items(), ("Upload-Concat", "partial"))
        path = answer.headers["location"].removeprefix("http://files.example")
        append = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        await ScriptedExchange(absolute, "PATCH", path, headers=append, body=b"hello").run()
        parts.append(answer.headers["location"])
    final = {**TUS, **HERE, "Upload-Concat": f"final;{' '.join(parts)}"}
    joined = await ScriptedExchange(absolute, "POST", "/files/", headers=final, body=b"").run()
    assert joined.status == 201
    assert joined.headers["location"].startswith("http://files.example/files/")


async def test_interim_responses_and_the_draft_say_it_too(absolute: TusApp) -> None:
    headers = {**HERE, "Upload-Draft-Interop-Version": "8", "Upload-Complete": "?0"}
    exchange = ScriptedExchange(
        absolute, "POST", "/files/", headers=headers, body=[b"some"], takes_interims=True
    )
    answer = await exchange.run()
    assert answer.headers["location"].startswith("http://files.example/files/")
    assert answer.interims[0].headers["location"] == answer.headers["location"]


def test_another_form_than_the_two_is_refused() -> None:
    with pytest.raises(ValueError, match='location must be "path" or "absolute"'):
        TusApp(Uploads(MemoryStore()), location="relative")  # type: ignore[arg-type]
