"""The ASGI app over the engine: what it offers, routes and answers."""

import base64
import hashlib
from collections.abc import AsyncIterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from tests._stage import (
    OCTETS,
    TUS,
    UPLOADS_URL,
    Clock,
    MakeStage,
    Recorder,
    Stage,
    location_path,
    make_stage,
)
from tusasgi import (
    Creation,
    Expiry,
    Fact,
    Forbidden,
    Hooks,
    Operation,
    Request,
    Response,
    TusApp,
    TusError,
    Unauthorized,
    UnsupportedMedia,
    Upload,
    Uploads,
)
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import DISCONNECT, STALL, ASGIDriver, RecordedResponse, ScriptedExchange

pytestmark = pytest.mark.anyio


@pytest.fixture
def stage() -> Stage:
    return make_stage(MemoryStore())


class PlainStore:
    """A store with the core and nothing more."""

    def __init__(self) -> None:
        self._inner = MemoryStore()

    async def create(self, upload: Upload) -> Upload:
        return await self._inner.create(upload)

    async def get(self, upload_id: str) -> Upload:
        return await self._inner.get(upload_id)

    async def append(self, upload: Upload, chunks: AsyncIterable[bytes], **options: Any) -> Upload:
        return await self._inner.append(upload, chunks, **options)

    async def update(self, upload: Upload) -> Upload:
        return await self._inner.update(upload)

    async def finish(self, upload: Upload) -> Upload:
        return await self._inner.finish(upload)


async def extensions(app: TusApp) -> list[str]:
    answer = await ScriptedExchange(app, "OPTIONS", "/", body=b"").run()
    return answer.headers.get("tus-extension", "").split(",")


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"without": ["checksum-trailer"]}, "checksum-trailer", id="unknown-extension"),
        pytest.param({"method_override": "all"}, "method_override", id="method-override"),
    ],
)
def test_a_wrong_option_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_stage(MemoryStore(), **options)


async def test_a_store_with_the_core_alone_offers_what_needs_no_more() -> None:
    assert await extensions(TusApp(Uploads(PlainStore()))) == [
        "creation",
        "creation-with-upload",
        "checksum",
    ]


async def test_a_store_offers_what_it_has(stage: Stage) -> None:
    assert await extensions(stage.app) == [
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "checksum",
        "termination",
        "concatenation",
    ]


async def test_what_depends_on_creation_goes_with_it() -> None:
    stage = make_stage(MemoryStore(), without={"creation"})
    assert await extensions(stage.app) == ["checksum", "termination"]


@pytest.mark.parametrize(
    ("path", "options", "allow"),
    [
        pytest.param("/", {}, "OPTIONS, POST", id="collection"),
        pytest.param("/", {"without": ["creation"]}, "OPTIONS", id="collection-without-creation"),
        pytest.param("/x", {}, "OPTIONS, HEAD, PATCH, DELETE", id="upload"),
        pytest.param("/x", {"without": ["termination"]}, "OPTIONS, HEAD, PATCH", id="no-delete"),
        pytest.param(
            "/x", {"downloads": True}, "OPTIONS, HEAD, PATCH, DELETE, GET", id="downloads"
        ),
    ],
)
async def test_allow_lists_what_is_possible(path: str, options: dict[str, Any], allow: str) -> None:
    stage = make_stage(MemoryStore(), **options)
    answer = await stage.driver.request("PUT", path)
    assert (answer.status, answer.headers["allow"]) == (405, allow)


@pytest.mark.parametrize(
    ("setting", "wire", "status"),
    [
        pytest.param("any", "POST", 204, id="any-post"),
        pytest.param("any", "GET", 204, id="any-get"),
        pytest.param("post", "POST", 204, id="post-post"),
        pytest.param("post", "PUT", 405, id="post-put"),
        pytest.param("off", "POST", 405, id="off"),
    ],
)
async def test_the_override_is_a_setting(setting: str, wire: str, status: int) -> None:
    stage = make_stage(MemoryStore(), method_override=setting)
    upload = await stage.upload()
    own = {"X-HTTP-Method-Override": "DELETE"}
    answer = await stage.driver.request(wire, f"/{upload.id}", own)
    assert answer.status == status


# What is told about a new upload


@pytest.mark.parametrize(
    ("public_url", "base"),
    [
        pytest.param(None, "/files/", id="path"),
        pytest.param("https://cdn.example/up", "https://cdn.example/up/", id="url"),
        pytest.param("https://cdn.example/up/", "https://cdn.example/up/", id="url-with-slash"),
    ],
)
async def test_location_is_below_the_public_url(public_url: str | None, base: str) -> None:
    stage = make_stage(MemoryStore(), public_url=public_url)
    answer = await stage.driver.request("POST", "/", {"Upload-Length": "5"})
    upload_id = answer.headers["location"].removeprefix(base)
    assert (await stage.head(upload_id)).status == 200


@pytest.mark.parametrize("prefix", ["/files", "files/", "/files/"])
async def test_a_prefix_is_the_same_with_and_without_slashes(prefix: str) -> None:
    app = TusApp(Uploads(MemoryStore()), prefix=prefix)
    own = {**TUS, "Upload-Length": "5"}
    answer = await ScriptedExchange(app, "POST", "/files", headers=own, body=b"").run()
    assert answer.headers["location"].startswith("/files/")
    location = answer.headers["location"]
    assert (
        await ScriptedExchange(app, "HEAD", location, headers=TUS, body=b"").run()
    ).status == 200


# Creation with upload


async def create(stage: Stage, body: Any, **headers: str) -> RecordedResponse:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return await stage.driver.request("POST", "/", {"Content-Type": OCTETS, **lines}, body)


def upload_id_of(answer: RecordedResponse) -> str:
    return answer.headers["location"].rpartition("/")[2]


async def test_a_chunked_creation_is_stored(stage: Stage) -> None:
    answer = await create(stage, [b"he", b"llo"], Upload_Length="5")
    assert (answer.status, answer.headers["upload-offset"]) == (201, "5")
    assert await stage.content(upload_id_of(answer)) == b"hello"
    assert stage.events == ["completed"]


async def test_a_creation_of_unknown_length_takes_bytes_along(stage: Stage) -> None:
    answer = await create(stage, b"hello", Upload_Defer_Length="1")
    assert (answer.status, answer.headers["upload-offset"]) == (201, "5")


async def test_an_empty_upload_may_come_with_an_empty_body(stage: Stage) -> None:
    for body in (b"", []):
        answer = await create(stage, body, Upload_Length="0")
        assert (answer.status, answer.headers["upload-offset"]) == (201, "0")


async def test_where_creation_takes_no_body_the_body_is_not_stored() -> None:
    stage = make_stage(MemoryStore(), without=["creation-with-upload"])
    answer = await create(stage, b"hello", Upload_Length="5")
    assert (answer.status, answer.headers["upload-offset"]) == (201, "0")
    assert await stage.offset(upload_id_of(answer)) == 0


async def test_of_a_creation_whose_client_left_the_bytes_are_kept(stage: Stage) -> None:
    answer = await create(stage, [b"hel", DISCONNECT], Upload_Length="5")
    assert answer.headers["upload-offset"] == "3"
    assert await stage.offset(upload_id_of(answer)) == 3


async def test_a_creation_whose_client_fell_silent_leaves_nothing(impatient: None) -> None:
    stage = make_stage(MemoryStore(), receive_timeout=0.02)
    answer = await create(stage, [b"hel", STALL], Upload_Length="5")
    assert answer.status == 408
    assert "location" not in answer.headers
    assert stage.snapshot() == {}


async def test_a_creation_that_is_refused_on_the_way_leaves_nothing(stage: Stage) -> None:
    for body in (b"hello!", [b"hel", b"lo!"]):
        answer = await create(stage, body, Upload_Length="5")
        assert answer.status == 413
        assert stage.snapshot() == {}
    # The first was refused before it was created, by its Content-Length.
    assert stage.events == ["terminated"]


async def test_a_creation_whose_head_is_refused_leaves_nothing() -> None:
    class Picky(Recorder):
        head_size = 3

        async def inspect(self, upload: Upload, head: bytes) -> dict[str, Any]:
            raise UnsupportedMedia("not a film")

    stage = make_stage(MemoryStore(), hooks=Picky())
    answer = await create(stage, b"hello", Upload_Length="5")
    assert (answer.status, stage.snapshot()) == (415, {})


async def test_a_creation_that_breaks_keeps_what_may_be_needed_to_find_out(stage: Stage) -> None:
    async def broken(upload: Upload, chunks: AsyncIterable[bytes], **options: Any) -> Upload:
        raise RuntimeError("a bug")

    stage.store.append = broken
    with pytest.raises(RuntimeError, match="a bug"):
        await create(stage, b"hello", Upload_Length="5")
    assert len(stage.snapshot()) == 1


# PATCH


async def test_a_taken_over_patch_is_told_so_and_its_bytes_are_kept(
    stage: Stage, impatient: None
) -> None:
    upload = await stage.upload(length=10)
    first = stage.exchange(upload.id, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        first.feed(b"hello")
        await first.starved()
        second = await stage.patch(upload.id, 5, b"world")
    assert (second.status, second.headers["upload-offset"]) == (204, "10")
    assert first.answer.status == 423
    assert first.answer.headers["connection"] == "close"
    assert "upload-offset" not in first.answer.headers
    assert await stage.content(upload.id) == b"helloworld"


async def test_a_delete_stops_a_running_patch(stage: Stage, impatient: None) -> None:
    upload = await stage.upload(length=10)
    running = stage.exchange(upload.id, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.run)
        running.feed(b"hello")
        await running.starved()
        answer = await stage.driver.request("DELETE", f"/{upload.id}")
    assert answer.status == 204
    assert running.answer.status == 423
    assert stage.snapshot() == {}


async def test_head_leaves_a_running_patch_alone(stage: Stage) -> None:
    upload = await stage.upload(length=10)
    running = stage.exchange(upload.id, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.run)
        running.feed(b"hello")
        await running.starved()
        assert await stage.offset(upload.id) == 5
        running.end(b"world")
    assert running.answer.headers["upload-offset"] == "10"


async def test_a_silent_client_is_answered_408_and_may_go_on_later(impatient: None) -> None:
    stage = make_stage(MemoryStore(), receive_timeout=0.02)
    upload = await stage.upload(length=10)
    answer = await stage.patch(upload.id, 0, [b"hello", STALL])
    assert (answer.status, answer.body) == (408, b"nothing arrived for 0.02 seconds\n")
    assert (await stage.patch(upload.id, 5, b"world")).status == 204
    assert await stage.content(upload.id) == b"helloworld"


async def test_without_a_timeout_a_silent_client_is_waited_for() -> None:
    stage = make_stage(MemoryStore(), receive_timeout=None)
    upload = await stage.upload(length=10)
    with anyio.move_on_after(0.05) as scope:
        await stage.patch(upload.id, 0, [b"hello", STALL])
    assert scope.cancelled_caught


async def test_a_body_that_is_complete_when_its_client_falls_silent_is_a_success(
    impatient: None,
) -> None:
    stage = make_stage(MemoryStore(), receive_timeout=0.02)
    upload = await stage.upload(length=5)
    answer = await stage.patch(upload.id, 0, [b"hello", STALL])
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")


async def test_a_client_that_leaves_keeps_what_it_sent(stage: Stage) -> None:
    upload = await stage.upload(length=10)
    await stage.patch(upload.id, 0, [b"hello", DISCONNECT])
    assert await stage.offset(upload.id) == 5


async def test_an_empty_metadata_header_is_none(stage: Stage) -> None:
    answer = await stage.driver.request("POST", "/", {"Upload-Length": "5", "Upload-Metadata": ""})
    assert answer.status == 201
    assert "upload-metadata" not in (await stage.head(upload_id_of(answer))).headers


# Completion


class Stumbling(Recorder):
    """Fails at the first completion."""

    async def completed(self, upload: Upload) -> None:
        await super().completed(upload)
        if len(self.events) == 1:
            raise RuntimeError("the database is away")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_failed_completion_is_repeated_by_the_next_request(method: str) -> None:
    stage = make_stage(MemoryStore(), hooks=Stumbling(), downloads=True)
    upload = await stage.upload()
    with pytest.raises(RuntimeError, match="the database is away"):
        await stage.patch(upload.id, 0, b"hello")
    assert not (await stage.store.get(upload.id)).is_complete
    assert (await stage.driver.request(method, f"/{upload.id}")).status == 200
    assert (await stage.store.get(upload.id)).is_complete
    assert stage.events == ["completed", "completed"]


# DELETE


async def test_a_delete_of_nothing_is_204_where_that_is_wanted() -> None:
    stage = make_stage(
        MemoryStore(), idempotent_delete=True, engine={"expiry": Expiry(initial=timedelta(hours=1))}
    )
    upload = await stage.upload()
    stage.clock.advance(hours=2)
    for path in (f"/{upload.id}", "/unknown", "/no.id"):
        assert (await stage.driver.request("DELETE", path)).status == 204


async def test_a_delete_of_nothing_is_404_otherwise(stage: Stage) -> None:
    assert (await stage.driver.request("DELETE", "/unknown")).status == 404


# Hooks and errors


class Doorman(Hooks):
    """Asks for a key, and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Operation, bool]] = []

    async def authorize(
        self, request: Request, operation: Operation, upload: Upload | None
    ) -> None:
        self.asked.append((request.method, operation, upload is not None))
        if request.headers.get("authorization") != "key":
            raise Unauthorized("a key, please")


async def test_every_request_but_options_is_authorized() -> None:
    hooks = Doorman()
    stage = make_stage(MemoryStore(), hooks=hooks, downloads=True)
    upload = await stage.upload()
    for method, path in (
        ("OPTIONS", "/"),
        ("POST", "/"),
        ("HEAD", f"/{upload.id}"),
        ("PATCH", f"/{upload.id}"),
        ("DELETE", f"/{upload.id}"),
        ("GET", f"/{upload.id}"),
        ("HEAD", "/unknown"),
    ):
        answer = await stage.driver.request(method, path)
        assert answer.status == (204 if method == "OPTIONS" else 401)
    assert hooks.asked == [
        ("POST", Operation.CREATE, False),
        ("HEAD", Operation.GET, True),
        ("PATCH", Operation.APPEND, True),
        ("DELETE", Operation.TERMINATE, True),
        ("GET", Operation.READ, True),
        ("HEAD", Operation.GET, False),
    ]


async def test_a_hook_sees_the_request_as_it_came() -> None:
    seen = []

    class Watcher(Hooks):
        async def authorize(
            self, request: Request, operation: Operation, upload: Upload | None
        ) -> None:
            seen.append(request)

    stage = make_stage(MemoryStore(), hooks=Watcher())
    await stage.driver.request("HEAD", "/x", {"X-Own": "1"}, scope={"state": {"user": "me"}})
    (request,) = seen
    assert (request.method, request.path) == ("HEAD", "/files/x")
    assert request.headers["x-own"] == "1"
    assert request.scope["state"] == {"user": "me"}


async def test_a_host_renders_refusals_its_own_way() -> None:
    def as_json(error: TusError) -> Response:
        body = b'{"error": "%s"}' % str(error).encode()
        headers = {"Content-Type": "application/json"}
        return Response(status=error.status, headers=headers, body=body)

    class Closed(Hooks):
        async def authorize(self, *args: object) -> None:
            raise Forbidden("closed")

    stage = make_stage(MemoryStore(), hooks=Closed(), render_error=as_json)
    answer = await stage.driver.request("POST", "/", {"Upload-Length": "5"})
    assert (answer.status, answer.body) == (403, b'{"error": "closed"}')
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["tus-resumable"] == "1.0.0"


async def test_a_bug_is_answered_without_its_text_and_rises_to_the_server(stage: Stage) -> None:
    async def broken(upload_id: str) -> Upload:
        raise RuntimeError("/srv/secret is broken")

    stage.store.get = broken
    for method in ("HEAD", "PATCH", "DELETE"):
        exchange = stage.driver.exchange(method, "/x", body=b"")
        with pytest.raises(RuntimeError, match="secret"):
            await exchange.run()
        answer = exchange.answer
        # A bug may be mended, and no client is to forget its upload for it.
        assert answer.status == (423 if method == "HEAD" else 500)
        assert answer.body == (b"" if method == "HEAD" else b"internal error\n")
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert answer.headers["cache-control"] == "no-store"


async def test_a_bug_while_the_client_is_sending_is_answered_too(stage: Stage) -> None:
    async def broken(upload: Upload, chunks: AsyncIterable[bytes], **options: Any) -> Upload:
        async for _ in chunks:
            raise RuntimeError("a bug")
        return upload

    upload = await stage.upload(length=100_000_000)
    stage.store.append = broken
    exchange = stage.exchange(upload.id, 0, [bytes(1_000_000)] * 100)
    with pytest.raises(RuntimeError, match="a bug"):
        await exchange.run()
    assert exchange.answer.status == 500
    assert exchange.answer.headers["connection"] == "close"


# Scopes


async def test_a_request_without_an_http_version_is_taken_as_1_1(stage: Stage) -> None:
    async def old(scope: Any, receive: Any, send: Any) -> None:
        scope.pop("http_version")
        await stage.app(scope, receive, send)

    own = {**TUS, "Expect": "100-continue"}
    answer = await ScriptedExchange(old, "PATCH", "/x", headers=own, body=b"hello").run()
    assert (answer.status, answer.headers["connection"]) == (404, "close")


def test_a_clock_is_all_an_engine_needs_to_be_made() -> None:
    assert TusApp(Uploads(MemoryStore(), clock=Clock())).uploads.limits.max_size is None


# A creation whose body turns out to be empty


class Inspecting(Recorder):
    head_size = 4

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        self.events.append(f"inspect {head!r}")
        return {}


@pytest.mark.parametrize("hooks", [Recorder, Inspecting])
@pytest.mark.parametrize("content_type", [None, "text/plain", OCTETS])
@pytest.mark.parametrize(
    ("body", "framing"),
    [
        pytest.param([b"", b""], {}, id="chunked"),
        pytest.param(b"", {"Content-Length": None}, id="none-at-all"),
        pytest.param(b"", {"Content-Length": "0"}, id="of-length-zero"),
    ],
)
async def test_a_creation_without_a_byte_is_one_whatever_its_framing_and_type(
    hooks: type[Recorder],
    content_type: str | None,
    body: Any,
    framing: dict[str, str | None],
) -> None:
    stage = make_stage(MemoryStore(), hooks=hooks())
    own = {"Upload-Length": "5", "Content-Type": content_type, **framing}
    answer = await stage.driver.request("POST", "/", own, body)
    assert (answer.status, answer.headers["upload-offset"]) == (201, "0"), answer.body
    assert stage.events == []
    assert (await stage.patch(location_path(answer)[1:], 0, b"hello")).status == 204


async def test_a_final_upload_takes_an_empty_body() -> None:
    stage = make_stage(MemoryStore())
    own = {"Upload-Concat": "partial", "Upload-Length": "0"}
    part = location_path(await stage.driver.request("POST", "/", own))
    final = {"Upload-Concat": f"final;{UPLOADS_URL}{part}", "Content-Type": OCTETS}
    assert (await stage.driver.request("POST", "/", final, [b""])).status == 201
    none = {**final, "Content-Length": None}  # HTTP/2 may leave open whether there is one
    assert (await stage.driver.request("POST", "/", none, b"")).status == 201
    assert (await stage.driver.request("POST", "/", final, [b"x"])).status == 403


async def test_a_chunked_body_of_another_type_is_refused_for_its_first_byte(stage: Stage) -> None:
    own = {"Upload-Length": "5", "Content-Type": "text/plain"}
    before = stage.snapshot()
    answer = await stage.driver.request("POST", "/", own, [b"", b"x", b"y"])
    assert answer.status == 415
    asked = await stage.driver.request("POST", "/", {**own, "Expect": "100-continue"}, [b"x"])
    assert (asked.status, asked.receives_before_start) == (415, 0)
    assert stage.snapshot() == before


# What comes out of `receive`


class BodyLimitReached(Exception):
    """As a framework says it, and answers it."""


class Limited:
    """A framework that lets so many bytes of a body pass, and no more."""

    def __init__(self, app: TusApp, limit: int) -> None:
        self.app = app
        self._limit = limit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        passed = 0

        async def limited() -> Any:
            nonlocal passed
            message = await receive()
            passed += len(message.get("body", b""))
            if passed > self._limit:
                raise BodyLimitReached
            return message

        await self.app(scope, limited, send)


def limited(stage: Stage, limit: int = 6) -> Stage:
    stage.driver = ASGIDriver(Limited(stage.app, limit), root_path=UPLOADS_URL, headers=TUS)
    return stage


async def passing(exchange: ScriptedExchange) -> None:
    """Run a request whose framework raises; nothing is answered, nothing is wrapped."""
    with pytest.raises(BodyLimitReached):
        await exchange.run()
    assert exchange.sent == []


async def test_what_a_framework_raises_passes_as_it_is_and_what_came_is_kept(
    make: MakeStage,
) -> None:
    stage = limited(make())
    upload = await stage.uploads.create(length=10)
    await passing(stage.exchange(upload.id, 0, [b"abc", b"def", b"ghi"]))
    assert await stage.content(upload.id) == b"abcdef"
    assert (await stage.patch(upload.id, 6, b"ghij")).status == 204
    assert stage.events == ["completed"]


async def test_what_a_framework_raises_leaves_nothing_of_bytes_that_cannot_be_verified(
    make: MakeStage,
) -> None:
    stage = limited(make())
    upload = await stage.uploads.create(length=10)
    checksum = f"sha1 {base64.b64encode(hashlib.sha1(b'abcdefghi').digest()).decode()}"
    await passing(
        stage.exchange(upload.id, 0, [b"abc", b"ghi", b"x"], {"Upload-Checksum": checksum})
    )
    assert await stage.offset(upload.id) == 0


async def test_what_a_framework_raises_is_no_end_that_a_first_append_is_judged_by() -> None:
    class Strict(Inspecting):
        min_head_size = 4

    stage = limited(make_stage(MemoryStore(), hooks=Strict()), limit=3)
    upload = await stage.uploads.create(length=10)
    await passing(stage.exchange(upload.id, 0, [b"abc", b"x"]))
    assert (await stage.offset(upload.id), stage.events) == (0, [])


@pytest.mark.parametrize("content_type", [OCTETS, "text/plain"])
async def test_what_a_framework_raises_in_a_creation_leaves_no_upload(
    make: MakeStage, content_type: str
) -> None:
    stage = limited(make())
    before = stage.snapshot()
    own = {"Upload-Length": "10", "Content-Type": content_type}
    for body in ([b"abcdefg"], [b"abc", b"defg"]):
        if content_type != OCTETS and len(body) > 1:
            continue  # that is refused by its type
        await passing(stage.driver.exchange("POST", "/", own, body))
    assert stage.snapshot() == before


async def test_an_upload_that_is_complete_when_a_framework_raises_is_complete() -> None:
    class TooLate(Limited):
        """Complains when all has come."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            received = []

            async def complaining() -> Any:
                if received and scope["method"] == "PATCH":
                    raise BodyLimitReached
                received.append(await receive())
                return received[0]

            await self.app(scope, complaining, send)

    stage = make_stage(MemoryStore())
    stage.driver = ASGIDriver(TooLate(stage.app, 0), root_path=UPLOADS_URL, headers=TUS)
    upload = await stage.uploads.create(length=5)
    await passing(stage.exchange(upload.id, 0, [b"hello", b"x"]))
    assert (await stage.offset(upload.id), stage.events) == (5, ["completed"])


# Numbers that are too large


@pytest.mark.parametrize("size", [10**18, 2**62, 2**64, 10**39])
async def test_numbers_beyond_every_store_are_too_large_and_not_malformed(
    stage: Stage, size: int
) -> None:
    before = stage.snapshot()
    answer = await stage.driver.request("POST", "/", {"Upload-Length": str(size)})
    assert answer.status == 413
    assert stage.snapshot() == before
    upload = await stage.uploads.create(length=None)
    late = await stage.patch(upload.id, 0, b"", {"Upload-Length": str(size)})
    assert late.status == 413
    # No upload is that long, so it is the true offset that the client has to learn.
    beyond = await stage.patch(upload.id, size, b"")
    assert (beyond.status, beyond.headers["upload-offset"]) == (409, "0")


# What hosts and hooks set


async def test_what_a_hook_sets_that_no_header_can_carry_is_an_error_of_the_host() -> None:
    class Careless(Recorder):
        async def creating(self, creation: Creation, request: Request | None) -> Creation:
            return replace(creation, metadata={"a\r\nSet-Cookie: b": b"c"})

    stage = make_stage(MemoryStore(), hooks=Careless())
    exchange = stage.driver.exchange("POST", "/", {"Upload-Length": "5"}, b"")
    with pytest.raises(ValueError, match="printable ASCII"):
        await exchange.run()
    assert exchange.answer.status == 500
    assert stage.snapshot() == {}
    with pytest.raises(ValueError, match="printable ASCII"):
        await make_stage(MemoryStore()).uploads.create(length=1, metadata={"gr\u00f6\u00dfe": b"1"})


# Downloads whose client is not there


async def test_a_download_whose_client_takes_nothing_is_given_up() -> None:
    stage = make_stage(MemoryStore(), downloads=True, send_timeout=0.02)
    upload = await stage.upload(content=b"hello")
    exchange = stage.driver.exchange("GET", f"/{upload.id}", body=b"")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        if sent:
            await anyio.sleep_forever()
        sent.append(message)

    with anyio.fail_after(5):
        await stage.app(exchange._scope, exchange.receive, send)
    assert len(sent) == 1


# What is declared, sent and refused together.


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b"abc", {"Upload-Checksum": "sha1 " + "A" * 27 + "="}, 460, id="damaged"),
        pytest.param([b"abc", DISCONNECT], {"Upload-Checksum": "md5 " + "A" * 22 + "=="}, None,
                     id="cut-with-checksum"),
        pytest.param([DISCONNECT], {}, None, id="cut-at-once"),
        pytest.param([b"abcd"] * 3, {}, 413, id="past-the-end"),
    ],
)  # fmt: skip
async def test_a_length_is_declared_with_bytes_that_are_kept_or_not_at_all(
    make: MakeStage, body: Any, headers: dict[str, str | None], status: int | None
) -> None:
    stage = make()
    upload = await stage.upload(length=None, content=b"hello")
    exchange = stage.exchange(upload.id, 5, body, {"Upload-Length": "10", **headers})
    await exchange.run()
    if status is not None:
        assert exchange.answer.status == status
    head = await stage.head(upload.id)
    assert (head.headers["upload-offset"], head.headers["upload-defer-length"]) == ("5", "1")
    assert (await stage.patch(upload.id, 5, b"you", {"Upload-Length": "8"})).status == 204
    assert await stage.content(upload.id) == b"helloyou"


@pytest.mark.parametrize("body", [pytest.param(b"", id="sized"), pytest.param([], id="chunked")])
async def test_a_length_without_bytes_is_declared_alone(make: MakeStage, body: Any) -> None:
    stage = make()
    upload = await stage.upload(length=None, content=b"hello")
    answer = await stage.patch(upload.id, 5, body, {"Upload-Length": "10"})
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")
    assert (await stage.head(upload.id)).headers["upload-length"] == "10"


@pytest.mark.parametrize("body", [pytest.param(b"", id="sized"), pytest.param([], id="chunked")])
async def test_an_empty_body_at_the_right_offset_is_no_first_append_to_be_judged(
    make: MakeStage, body: Any
) -> None:
    class Looking(Recorder):
        head_size = 4
        min_head_size = 4

    stage = make(hooks=Looking())
    upload = await stage.upload(length=10)
    answer = await stage.patch(upload.id, 0, body)
    assert (answer.status, answer.headers["upload-offset"]) == (204, "0")


@pytest.mark.parametrize(
    ("offset", "headers", "status"),
    [
        pytest.param(0, {}, 409, id="old-offset"),
        pytest.param(9, {}, 409, id="offset-that-is-not-there"),
        pytest.param(3, {"Upload-Length": "11"}, 400, id="another-length"),
        pytest.param(3, {"Content-Length": "8"}, 413, id="too-much"),
    ],
)
async def test_an_append_that_does_not_fit_stops_nobody(
    make: MakeStage, offset: int, headers: dict[str, str | None], status: int
) -> None:
    stage = make()
    upload = await stage.upload(length=10)
    running = stage.exchange(upload.id, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.run)
        running.feed(b"abc")
        for _ in range(500):  # files are written in pieces, which wait a moment to be filled
            if await stage.offset(upload.id) == 3:
                break
            await anyio.sleep(0.01)
        assert (await stage.patch(upload.id, offset, b"12345678", headers)).status == status
        running.end(b"defghij")
    assert running.answer.status == 204
    assert await stage.content(upload.id) == b"abcdefghij"


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\0b", "\u20ac"])
@pytest.mark.parametrize("where", ["render-error", "error"])
async def test_no_header_of_a_host_can_break_out_of_the_answer(where: str, value: str) -> None:
    class Quota(TusError):
        status = 403
        headers = {"X-Why": value} if where == "error" else {}  # type: ignore[assignment]

    class Refusing(Hooks):
        async def authorize(self, *arguments: Any) -> None:
            raise Quota("no")

    def render(error: TusError) -> Response:
        headers = {"X-Why": value} if where == "render-error" else {}
        return Response(status=error.status, headers=headers, body=b"no\n")

    stage = make_stage(MemoryStore(), hooks=Refusing(), render_error=render)
    exchange = stage.driver.exchange("POST", "/", {"Upload-Length": "5"}, b"")
    with pytest.raises(ValueError, match="'X-Why' is no header that can be sent"):
        await exchange.run()
    assert exchange.sent == []  # the server answers 500
