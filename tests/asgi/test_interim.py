"""Interim responses of the draft: where a new upload is, and how far an append has come."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from tests._stage import UPLOADS_URL, MakeStage, Stage, make_stage
from tests.conformance.ietf import shows
from tusasgi import Fact, Hooks, StoreUnavailable, TusApp, TusError, UnsupportedMedia, Upload
from tusasgi.protocols.dialects import DIALECTS
from tusasgi.stores.file import FileStore
from tusasgi.testing import DISCONNECT, STALL, ASGIDriver, RecordedResponse, ScriptedExchange

pytestmark = pytest.mark.anyio

VERSION = "upload-draft-interop-version"
VERSIONS = [str(version) for version in DIALECTS]
REPORTING = [str(version) for version in DIALECTS if DIALECTS[version].reports_progress]
DIGEST_OF_HELLO = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
PARTIAL = "application/partial-upload"


class Refusing(Hooks):
    """Hooks that refuse what comes, by its first bytes."""

    head_size = 4

    def __init__(self, refusal: TusError) -> None:
        self.refusal = refusal

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        raise self.refusal


@pytest.fixture
def durable(tmp_path: Path) -> Stage:
    return make_stage(FileStore(tmp_path, durability="append"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have progress reported as soon as there is any."""
    monkeypatch.setattr("tusasgi.asgi.progress._INTERVAL", 0.001)


def driver_of(
    stage: Stage, version: str | None = "8", *, takes_interims: bool = True
) -> ASGIDriver:
    headers = {} if version is None else {VERSION: version}
    return ASGIDriver(
        stage.app, root_path=UPLOADS_URL, headers=headers, takes_interims=takes_interims
    )


def last(version: str | None) -> dict[str, str]:
    """What says in this version that nothing comes after this request."""
    return {"Upload-Incomplete": "?0"} if version == "3" else {"Upload-Complete": "?1"}


def creation(
    driver: ASGIDriver, *script: Any, version: str | None = "8", size: int = 5
) -> ScriptedExchange:
    headers = {**last(version), "Content-Length": str(size)}
    return driver.exchange("POST", "/", headers, script or None)


def path_of(exchange: ScriptedExchange) -> str:
    """Return the path below the collection that is in the first interim response."""
    return exchange.interims[0].headers["location"].removeprefix(UPLOADS_URL)


async def offset_of(driver: ASGIDriver, path: str) -> int:
    return int((await driver.request("HEAD", path)).headers["upload-offset"])


async def run_slowly(exchange: ScriptedExchange) -> None:
    """Send five bytes, with time for many reports after the third."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        exchange.feed(b"hel")
        await exchange.starved()
        await anyio.sleep(0.05)
        exchange.end(b"lo")


async def append(driver: ASGIDriver, path: str, offset: int, body: Any) -> RecordedResponse:
    headers = {"Upload-Offset": str(offset), "Upload-Complete": "?1", "Content-Type": PARTIAL}
    return await driver.request("PATCH", path, headers, body)


# The upload is announced.


@pytest.mark.parametrize("version", VERSIONS)
@shows("IETF-003", "IETF-051", "IETF-052", "IETF-053", "IETF-061")
async def test_a_creation_is_announced_before_its_content_is_asked_for(
    make: MakeStage, version: str
) -> None:
    driver = driver_of(make(), version)
    answer = await creation(driver, b"hel", b"lo", version=version).run()
    (interim,) = answer.interims
    assert (interim.status, interim.receives) == (104, 0)
    assert interim.headers[VERSION] == version
    assert interim.headers["location"] == answer.headers["location"]
    assert interim.headers["upload-limit"] == "min-size=0"


async def test_a_careful_creation_is_answered_and_not_announced(make: MakeStage) -> None:
    answer = await driver_of(make()).request("POST", "/", {"Upload-Complete": "?0"})
    assert (answer.status, answer.interims) == (201, ())


@pytest.mark.parametrize("version", [None, "2", "10", "9, 8", "abc", "", "?1", "8.0"])
@shows("IETF-001", "IETF-002")
async def test_without_a_version_that_is_spoken_nothing_is_announced(
    make: MakeStage, quick: None, version: str | None
) -> None:
    exchange = creation(driver_of(make(), version))
    await run_slowly(exchange)
    assert (exchange.answer.status, exchange.interims) == (201, [])


async def test_a_tus_client_gets_no_interim_response(make: MakeStage, quick: None) -> None:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Upload-Complete": "?1"}
    headers |= {"Content-Type": "application/offset+octet-stream", "Content-Length": "5"}
    exchange = driver_of(make()).exchange("POST", "/", headers)
    await run_slowly(exchange)
    assert (exchange.answer.status, exchange.interims) == (201, [])
    assert exchange.answer.headers["tus-resumable"] == "1.0.0"


# A creation that ends before its content does.


@shows("IETF-062", "IETF-063")
async def test_an_announced_creation_that_is_cut_goes_on_where_it_is(make: MakeStage) -> None:
    stage = make()
    driver = driver_of(stage)
    exchange = creation(driver, b"hel", DISCONNECT)
    await exchange.run()
    path = path_of(exchange)
    assert await offset_of(driver, path) == 3
    answer = await append(driver, path, 3, b"lo")
    assert (answer.status, answer.headers["upload-complete"]) == (201, "?1")
    assert await stage.content(path[1:]) == b"hello"


@pytest.mark.parametrize(
    ("version", "takes_interims"),
    [
        pytest.param("8", False, id="the-server-cannot"),
        pytest.param(None, True, id="the-client-names-no-version"),
    ],
)
async def test_an_unannounced_creation_that_is_cut_leaves_nothing(
    make: MakeStage, version: str | None, takes_interims: bool
) -> None:
    stage = make()
    driver = driver_of(stage, version, takes_interims=takes_interims)
    await creation(driver, b"hel", DISCONNECT).run()
    assert stage.snapshot() == {}


async def test_an_unannounced_creation_without_length_that_is_cut_leaves_nothing(
    make: MakeStage,
) -> None:
    stage = make()
    driver = driver_of(stage, takes_interims=False)
    await driver.exchange("POST", "/", {"Upload-Complete": "?1"}, [b"hel", DISCONNECT]).run()
    assert stage.snapshot() == {}


async def test_a_part_that_came_whole_is_kept_though_unannounced(make: MakeStage) -> None:
    driver = driver_of(make(), takes_interims=False)
    answer = await driver.request("POST", "/", {"Upload-Complete": "?0"}, b"hel")
    assert await offset_of(driver, answer.headers["location"].removeprefix(UPLOADS_URL)) == 3


async def test_a_client_that_left_before_the_announcement_leaves_nothing(make: MakeStage) -> None:
    stage = make()
    headers = {"Upload-Complete": "?1", "Content-Length": "5"}
    driver = driver_of(stage)
    exchange = driver.exchange("POST", "/", headers, [b"hel", DISCONNECT], send_fails_from=0)
    with pytest.raises(RuntimeError):  # no answer either
        await exchange.run()
    assert stage.snapshot() == {}


async def test_a_client_that_takes_no_interim_response_is_waited_for_within_bounds(
    make: MakeStage,
) -> None:
    stage = make(send_timeout=0.02)
    sent: list[str] = []
    exchange = creation(driver_of(stage), b"hello")

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])
        if message["type"] == "http.response.informational":
            await anyio.sleep_forever()

    with anyio.fail_after(20):
        await stage.app(exchange._scope, exchange.receive, send)
    assert sent == [
        "http.response.informational",
        "http.response.start",
        "http.response.body",
    ]


async def test_an_announced_creation_whose_client_fell_silent_stays(make: MakeStage) -> None:
    driver = driver_of(make(receive_timeout=0.05))
    exchange = creation(driver, b"hel", STALL)
    assert (await exchange.run()).status == 408
    assert await offset_of(driver, path_of(exchange)) == 3


@shows("IETF-155")
async def test_a_running_creation_is_displaced_by_the_question_for_its_offset(
    make: MakeStage,
) -> None:
    driver = driver_of(make())
    exchange = creation(driver)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        exchange.feed(b"hel")
        await exchange.starved()
        assert await offset_of(driver, path_of(exchange)) == 3
    assert exchange.answer.status == 503
    assert (await append(driver, path_of(exchange), 3, b"lo")).headers["upload-complete"] == "?1"


async def test_an_announced_creation_that_is_refused_leaves_nothing(make: MakeStage) -> None:
    stage = make(hooks=Refusing(UnsupportedMedia("not this")))
    answer = await creation(driver_of(stage), b"hello").run()
    assert (answer.status, len(answer.interims)) == (415, 1)
    assert stage.snapshot() == {}


async def test_an_announced_creation_whose_content_was_damaged_leaves_nothing(
    make: MakeStage,
) -> None:
    stage = make()
    headers = {"Upload-Complete": "?1", "Content-Digest": DIGEST_OF_HELLO}
    answer = await driver_of(stage).request("POST", "/", headers, b"jello")
    assert (answer.status, len(answer.interims)) == (400, 1)
    assert stage.snapshot() == {}


async def test_an_announced_creation_that_cannot_be_kept_for_now_goes_on_later(
    make: MakeStage,
) -> None:
    hooks = Refusing(StoreUnavailable("not now"))
    driver = driver_of(make(hooks=hooks))
    exchange = creation(driver, b"hello")
    assert (await exchange.run()).status == 503
    assert await offset_of(driver, path_of(exchange)) == 0


# Progress is reported.


@pytest.mark.parametrize("version", REPORTING)
@shows("IETF-003", "IETF-116", "IETF-117")
async def test_the_progress_of_an_append_is_reported_while_it_runs(
    make: MakeStage, quick: None, version: str
) -> None:
    stage = make()
    driver = driver_of(stage, version)
    upload = await stage.upload(length=7, content=b"a")
    headers = {"Upload-Offset": "1", "Content-Type": PARTIAL, "Content-Length": "6"}
    exchange = driver.exchange("PATCH", f"/{upload.id}", {**headers, **last(version)})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        for number, offset in enumerate(("4", "6")):
            exchange.feed(bytes(int(offset) - await offset_in(stage, upload.id)))
            interim = await exchange.interim(number)
            assert (interim.status, interim.headers["upload-offset"]) == (104, offset)
            assert interim.headers[VERSION] == version
            assert "location" not in interim.headers
        exchange.end(b"x")
    assert exchange.answer.headers["upload-offset"] == "7"
    offsets = [int(interim.headers["upload-offset"]) for interim in exchange.interims]
    assert offsets in ([4, 6], [4, 6, 7])  # each once


async def offset_in(stage: Stage, upload_id: str) -> int:
    return (await stage.store.get(upload_id)).offset


@shows("IETF-060", "IETF-061")
async def test_the_progress_of_a_creation_is_reported_after_its_location(
    make: MakeStage, quick: None
) -> None:
    exchange = creation(driver_of(make()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        exchange.feed(b"hel")
        assert (await exchange.interim(1)).headers["upload-offset"] == "3"
        exchange.end(b"lo")
    assert exchange.answer.status == 201
    assert "location" in exchange.interims[0].headers
    assert "location" not in exchange.interims[1].headers


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"Transfer-Encoding": "chunked"}, id="it-may-run-past-the-length"),
        pytest.param(
            {
                "Content-Length": "5",
                "Content-Digest": DIGEST_OF_HELLO,
            },
            id="its-digest-may-not-match",
        ),
    ],
)
async def test_of_bytes_that_may_not_stay_no_progress_is_reported(
    make: MakeStage, quick: None, more: dict[str, str]
) -> None:
    driver = driver_of(make())
    exchange = driver.exchange("POST", "/", {"Upload-Complete": "?1", **more})
    await run_slowly(exchange)
    assert exchange.answer.status == 201
    assert len(exchange.interims) == 1  # where it is


async def test_where_appends_are_to_outlive_a_power_cut_progress_is_what_was_flushed(
    durable: Stage, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tusasgi.stores.file.appending._FLUSH_EVERY", 4)
    exchange = creation(driver_of(durable))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        exchange.feed(b"hel")
        await exchange.starved()
        await anyio.sleep(0.1)  # they are written by then, and could be reported
        assert len(exchange.interims) == 1
        exchange.feed(b"l")
        assert (await exchange.interim(1)).headers["upload-offset"] == "4"
        exchange.end(b"o")
    assert exchange.answer.status == 201


@pytest.mark.parametrize("version", sorted(set(VERSIONS) - set(REPORTING)))
async def test_early_versions_get_no_reports_of_progress(
    make: MakeStage, quick: None, version: str
) -> None:
    exchange = creation(driver_of(make(), version), version=version)
    await run_slowly(exchange)
    assert exchange.answer.status == 201
    assert len(exchange.interims) == 1  # where it is


# Middleware, as `docs/deploying.md` says.


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


async def created_behind(middleware: Middleware, app: TusApp) -> RecordedResponse:
    site = Starlette(routes=[Mount("/files", app)], middleware=[middleware])
    headers = {VERSION: "8", "Upload-Complete": "?1", "Accept-Encoding": "gzip", "Origin": "null"}
    driver = ASGIDriver(site, takes_interims=True)
    return await driver.request("POST", "/files/", headers, b"hello")


@pytest.mark.parametrize(
    ("middleware", "count"),
    [
        pytest.param(Middleware(CORSMiddleware, allow_origins=["*"]), 1, id="passes-it-on"),
        pytest.param(Middleware(GZipMiddleware), 0, id="drops-it"),
    ],
)
async def test_middleware_of_asgi_alone_does_no_harm(
    make: MakeStage, middleware: Middleware, count: int
) -> None:
    answer = await created_behind(middleware, make().app)
    assert (answer.status, len(answer.interims)) == (201, count)


async def test_middleware_that_is_called_with_the_response_fails(make: MakeStage) -> None:
    with pytest.raises(AssertionError):
        await created_behind(Middleware(Passing), make().app)
