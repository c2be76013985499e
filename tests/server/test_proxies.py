"""Requests through proxies, believed and not; pages of other origins; what is switched off."""

from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.hosts._wire import path_of
from tests.server._app import APPEND, DRAFT, app_of, ask, create
from tusasgi.server import values
from tusasgi.server.proxies import ProxyHeaders
from tusasgi.testing import ScriptedExchange

pytestmark = pytest.mark.anyio

PROXY, STRANGER = ("10.1.2.3", 4711), ("192.0.2.7", 4711)
TOLD = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "files.example:8443"}


@pytest.mark.parametrize(
    ("believed", "client", "headers", "location"),
    [
        pytest.param([], PROXY, {}, "http://files.example/files/", id="direct"),
        pytest.param([], PROXY, TOLD, "/files/", id="nobody-is-believed"),
        pytest.param(["10.0.0.0/8"], STRANGER, TOLD, "/files/", id="a-stranger"),
        pytest.param(["10.0.0.0/8"], STRANGER, {"X-Forwarded-For": "::1"}, "/files/", id="for"),
        pytest.param(["10.0.0.0/8"], PROXY, TOLD, "https://files.example:8443/files/", id="proxy"),
        pytest.param(["10.1.2.3"], PROXY, TOLD, "https://files.example:8443/files/", id="address"),
        pytest.param(["*"], STRANGER, TOLD, "https://files.example:8443/files/", id="anybody"),
        pytest.param(["unix"], None, TOLD, "https://files.example:8443/files/", id="socket"),
        pytest.param(["unix"], ("", 0), TOLD, "https://files.example:8443/files/", id="granian"),
        pytest.param(["unix"], PROXY, TOLD, "/files/", id="no-socket"),
        pytest.param(["127.0.0.1"], None, TOLD, "/files/", id="an-address-is-no-socket"),
        pytest.param(["127.0.0.1"], ("testclient", 1), TOLD, "/files/", id="no-address"),
        pytest.param(
            ["10.1.2.3"],
            PROXY,
            {"X-Forwarded-Proto": "http, https"},
            "https://files.example/files/",
            id="the-last-of-several",
        ),
        pytest.param(
            ["10.1.2.3"],
            PROXY,
            {"X-Forwarded-Host": "evil.example, files.example:1"},
            "http://files.example:1/files/",
            id="the-last-host",
        ),
        pytest.param(
            ["10.1.2.3"],
            PROXY,
            {"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a b\\@c"},
            "/files/",
            id="nonsense",
        ),
        pytest.param(
            ["10.1.2.3"],
            PROXY,
            {"X-Forwarded-Proto": "javascript"},
            "http://files.example/files/",
            id="no-scheme",
        ),
    ],
)
async def test_location_says_what_believed_proxies_do(
    believed: list[str], client: Any, headers: dict[str, str], location: str, tmp_path: Path
) -> None:
    app = await app_of(tmp_path, forwarded_allow_ips=believed)
    found = await create(app, headers, client=client)
    assert found.startswith(location)
    assert (await ask(app, "HEAD", path_of(found), headers, client=client)).status == 200


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        pytest.param(["203.0.113.9"], "203.0.113.9", id="one"),
        pytest.param(["1.2.3.4, 203.0.113.9"], "203.0.113.9", id="what-the-client-said-is-not"),
        pytest.param(["203.0.113.9, 10.9.9.9"], "203.0.113.9", id="through-two-proxies"),
        pytest.param(["203.0.113.9", "10.9.9.9"], "203.0.113.9", id="in-two-headers"),
        pytest.param(["10.8.8.8, 10.9.9.9"], "10.8.8.8", id="all-believed"),
        pytest.param(["2001:db8::1"], "2001:db8::1", id="ipv6"),
        pytest.param(["not an address"], "10.1.2.3", id="nonsense"),
        pytest.param([""], "10.1.2.3", id="empty"),
    ],
)
async def test_the_client_is_the_last_who_is_no_proxy(forwarded: list[str], client: str) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    lines = [("Host", "files.example"), *(("X-Forwarded-For", line) for line in forwarded)]
    proxied = ProxyHeaders(app, believed=["10.0.0.0/8"])
    await ScriptedExchange(
        proxied, "GET", "/", headers=lines, body=b"", scope={"client": PROXY}
    ).run()
    assert seen[0]["client"][0] == client
    assert [name for name, _ in seen[0]["headers"] if name.startswith(b"x-forwarded")] == []


async def test_what_is_no_request_passes() -> None:
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["type"])

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None: ...

    await ProxyHeaders(app, believed=["*"])({"type": "lifespan"}, receive, send)
    assert passed == ["lifespan"]


async def test_a_path_is_given_where_it_is_asked_for(tmp_path: Path) -> None:
    app = await app_of(tmp_path, location="path")
    assert (await create(app)).startswith("/files/")


async def test_a_public_url_counts_more_than_any_header(tmp_path: Path) -> None:
    url = "https://cdn.example/up/"
    app = await app_of(tmp_path, public_url=url, forwarded_allow_ips=["*"])
    for headers in ({}, TOLD):
        assert (await create(app, headers, client=PROXY)).startswith(url)


# Pages of other origins.

PATTERNS = ["https://*.example.com", "http://*.example.org:8080", "https://one.example"]


@pytest.fixture
async def shared(tmp_path: Path) -> ASGIApp:
    return await app_of(
        tmp_path, cors_origin=PATTERNS, cors_credentials=True, cors_header=["X-Tenant"]
    )


@pytest.mark.parametrize(
    ("origin", "is_let_in"),
    [
        ("https://app.example.com", True),
        ("https://a.b.example.com", True),
        ("https://example.com", False),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("https://app.example.com.evil.net", False),
        ("https://evilexample.com", False),
        ("https://evil.net/.example.com", False),
        ("https://user@app.example.com", False),
        ("https://.example.com", False),
        ("https://appXexample.com", False),
        ("http://app.example.org:8080", True),
        ("http://app.example.org", False),
        ("https://one.example", True),
        ("https://two.example", False),
        ("null", False),
    ],
)
async def test_pages_of_a_pattern_are_let_in_and_no_others(
    shared: ASGIApp, origin: str, is_let_in: bool
) -> None:
    answer = await ask(shared, "POST", "/files/", {"Upload-Length": "1", "Origin": origin})
    assert answer.headers.get("access-control-allow-origin") == (origin if is_let_in else None)
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-tenant,tus-resumable,authorization",
    }
    preflight = await ask(shared, "OPTIONS", "/files/", asked)
    assert (preflight.status == 200) == is_let_in
    if is_let_in:
        assert preflight.headers["access-control-allow-credentials"] == "true"
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "X-Tenant" in preflight.headers["access-control-allow-headers"]


async def test_credentials_and_further_headers_are_off_by_themselves(tmp_path: Path) -> None:
    app = await app_of(tmp_path, cors_origin=["https://one.example"])
    asked = {"Origin": "https://one.example", "Access-Control-Request-Method": "POST"}
    preflight = await ask(app, "OPTIONS", "/files/", asked)
    assert "access-control-allow-credentials" not in preflight.headers
    further = {**asked, "Access-Control-Request-Headers": "x-tenant"}
    assert (await ask(app, "OPTIONS", "/files/", further)).status == 400


async def test_a_page_can_read_that_it_is_not_let_in(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a-key-of-somebody somebody")
    app = await app_of(tmp_path, cors_origin=["*"], api_key_file=str(tmp_path / "keys"))
    answer = await ask(app, "POST", "/files/", {"Origin": "https://any.example"})
    assert answer.status == 401
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "word",
    ["https://*.com", "*://a.example", "https://a.*.example.com", "https://*", "*.example.com",
     "https://*.example.com/", "https://*example.com", "https://*.*.example.com", "**"],
)  # fmt: skip
def test_a_pattern_that_says_too_much_or_nothing_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is not an origin such as"):
        values.origin(word)


@pytest.mark.parametrize("word", ["", "10.0.0.0/33", "10.0.0.1/8", "example.com", "10.0.0.1,::1"])
def test_who_is_believed_is_an_address_or_a_network(word: str) -> None:
    with pytest.raises(ValueError, match="is not an address or a network"):
        values.proxy(word)


@pytest.mark.parametrize("word", ["", "X Tenant", "X-Tenant:", "*", "X\nY"])
def test_a_header_is_a_name(word: str) -> None:
    with pytest.raises(ValueError, match="is not a header such as"):
        values.header(word)


# Switches.


async def extensions_of(app: ASGIApp) -> set[str]:
    return set((await ask(app, "OPTIONS", "/files/")).headers["tus-extension"].split(","))


async def test_what_is_switched_off_is_neither_offered_nor_done(tmp_path: Path) -> None:
    on = await app_of(tmp_path)
    path = path_of(await create(on))
    assert {"creation", "termination", "concatenation"} <= await extensions_of(on)

    kept = await app_of(tmp_path, termination=False)
    assert "termination" not in await extensions_of(kept)
    for headers in ({}, DRAFT):
        assert (await ask(kept, "DELETE", path, headers)).status == 405

    apart = await app_of(tmp_path, concatenation=False)
    assert "concatenation" not in await extensions_of(apart)
    partial = {"Upload-Length": "5", "Upload-Concat": "partial"}
    assert (await ask(apart, "POST", "/files/", partial)).status >= 400

    closed = await app_of(tmp_path, creation=False)
    assert not {"creation", "concatenation"} & await extensions_of(closed)
    for headers in ({"Upload-Length": "5"}, {**DRAFT, "Upload-Complete": "?0"}):
        assert (await ask(closed, "POST", "/files/", headers)).status == 405
    assert (await ask(closed, "PATCH", path, APPEND, b"hello")).status == 204

    assert (await ask(on, "GET", path)).body == b"hello"
    silent = await app_of(tmp_path, downloads=False)
    assert (await ask(silent, "GET", path)).status == 405
    assert (await ask(silent, "HEAD", path)).headers["upload-offset"] == "5"
