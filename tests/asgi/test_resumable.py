"""Any app made resumable: it sees one request, in however many the bytes came."""

import json
from collections.abc import MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.test.utils import override_settings
from django.urls import path as django_path
from fastapi import FastAPI, Response, UploadFile
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tests._stage import Clock, Recorder
from tusasgi import Expiry, Limits, Resumable, TusApp, UnsupportedMedia, Upload, Uploads
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import DISCONNECT, END, ASGIDriver, RecordedResponse

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
VERSION = {"Upload-Draft-Interop-Version": "9"}
PARTIAL = {"Content-Type": "application/partial-upload"}
CONTENT = bytes(range(256)) * 4096  # a megabyte


class Endpoint:
    """An app that remembers how it was called, and answers as it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[MutableMapping[str, Any], bytes]] = []
        self.answers: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        self.calls.append((scope, await request.body()))
        answer = self.answers.pop(0) if self.answers else PlainTextResponse("stored", 200)
        if isinstance(answer, Exception):
            raise answer
        await answer(scope, receive, send)

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.calls]

    @property
    def headers(self) -> dict[str, str]:
        scope, _ = self.calls[-1]
        return {name.decode().lower(): value.decode() for name, value in scope["headers"]}


class Stage:
    def __init__(self, store: Any, app: Any, **options: Any) -> None:
        self.hooks = Recorder()
        self.clock = store._clock = Clock()
        self.store = store
        self.uploads = Uploads(
            store, hooks=self.hooks, clock=self.clock, expiry=Expiry(initial=HOUR), **options
        )
        self.driver = ASGIDriver(Resumable(app, self.uploads))

    async def begin(self, path: str = "/videos?key=1", **headers: str) -> str:
        """Create an upload without bytes, as a client does that sees no interim response."""
        target, _, query = path.partition("?")
        answer = await self.driver.request(
            "POST",
            target,
            {**VERSION, "Upload-Complete": "?0", "Content-Length": "0", **headers},
            scope={"query_string": query.encode()},
        )
        assert answer.status == 201, answer
        return answer.headers["location"]

    async def append(
        self, url: str, offset: int, body: Any, *, is_last: bool, **headers: str
    ) -> RecordedResponse:
        complete = {"Upload-Complete": "?1" if is_last else "?0", "Upload-Offset": str(offset)}
        return await self.driver.request(
            "PATCH", url, {**VERSION, **PARTIAL, **complete, **headers}, body
        )

    async def head(self, url: str) -> RecordedResponse:
        return await self.driver.request("HEAD", url, VERSION)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStore | FileStore:
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "store")


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def stage(store: MemoryStore | FileStore, endpoint: Endpoint, impatient: None) -> Stage:
    return Stage(store, endpoint)


async def test_the_app_is_called_once_with_all_bytes(stage: Stage, endpoint: Endpoint) -> None:
    url = await stage.begin()
    for start in range(0, len(CONTENT) - 100_000, 300_000):
        answer = await stage.append(url, start, CONTENT[start:][:300_000], is_last=False)
        assert (answer.status, answer.headers["upload-complete"]) == (204, "?0")
    offset = int(answer.headers["upload-offset"])
    assert endpoint.calls == []
    answer = await stage.append(url, offset, CONTENT[offset:], is_last=True)
    assert (answer.status, answer.body) == (200, b"stored")
    assert answer.headers["upload-complete"] == "?1"
    assert "location" not in answer.headers
    assert endpoint.bodies == [CONTENT]


@pytest.mark.parametrize("version", ["5", "6"])
async def test_an_upload_of_nothing_that_its_client_takes_for_ended_is_one_to_the_app(
    stage: Stage, endpoint: Endpoint, version: str
) -> None:
    endpoint.answers = [PlainTextResponse("stored", 201)]
    url = await stage.begin(**{"Upload-Draft-Interop-Version": version, "Upload-Length": "0"})
    assert url.startswith("/uploads/")
    assert endpoint.bodies == [b""]


async def test_the_app_sees_the_request_that_was_begun_and_the_sender_who_ended_it(
    stage: Stage, endpoint: Endpoint
) -> None:
    url = await stage.begin(
        "/videos?key=1",
        **{
            "Content-Type": "video/mp4",
            "Content-Disposition": 'inline; filename="a.mp4"',
            "Authorization": "Bearer of-the-beginning",
        },
    )
    await stage.append(url, 0, b"hello", is_last=True, Authorization="Bearer of-the-end")
    scope, body = endpoint.calls[0]
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/videos", b"key=1")
    assert body == b"hello"
    assert endpoint.headers["content-type"] == "video/mp4"
    assert endpoint.headers["content-disposition"] == 'inline; filename="a.mp4"'
    assert endpoint.headers["content-length"] == "5"
    assert endpoint.headers["authorization"] == "Bearer of-the-end"
    assert not {name for name in endpoint.headers if name.startswith("upload-")} - {
        "upload-draft-interop-version"
    }


async def test_nothing_that_identifies_the_sender_is_stored(stage: Stage) -> None:
    url = await stage.begin(Authorization="Bearer secret", Cookie="session=secret")
    upload = await stage.store.get(url.rpartition("/")[2])
    assert "secret" not in repr(upload)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="plain"),
        pytest.param(VERSION, id="with-a-version-alone"),
        pytest.param({"Upload-Complete": "maybe"}, id="with-a-field-that-says-nothing"),
        pytest.param({"Upload-Complete": "?0", "Tus-Resumable": "1.0.0"}, id="tus"),
    ],
)
async def test_what_does_not_speak_the_draft_reaches_the_app_untouched(
    stage: Stage, endpoint: Endpoint, headers: dict[str, str]
) -> None:
    answer = await stage.driver.request("POST", "/videos", headers, b"hello")
    assert (answer.status, answer.body) == (200, b"stored")
    assert "upload-complete" not in answer.headers
    assert endpoint.bodies == [b"hello"]
    assert {name.lower() for name in headers} <= set(endpoint.headers)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_a_request_without_content_reaches_the_app(
    stage: Stage, endpoint: Endpoint, method: str
) -> None:
    answer = await stage.driver.request(method, "/videos", {**VERSION, "Upload-Complete": "?0"})
    assert answer.status == 200
    assert len(endpoint.calls) == 1


async def test_one_request_that_could_not_be_resumed_reaches_the_app_as_it_comes(
    stage: Stage, endpoint: Endpoint
) -> None:
    headers = {**VERSION, "Upload-Complete": "?1"}
    answer = await stage.driver.request("POST", "/videos", headers, b"hello")
    assert (answer.status, answer.body) == (200, b"stored")
    assert answer.headers["upload-complete"] == "?1"
    assert endpoint.bodies == [b"hello"]


async def test_options_tell_the_limits_to_who_names_a_version(
    store: MemoryStore, endpoint: Endpoint
) -> None:
    stage = Stage(store, endpoint, limits=Limits(max_size=1000))
    answer = await stage.driver.request("OPTIONS", "/videos", VERSION)
    assert answer.headers["upload-limit"] == "max-size=1000, min-size=0"
    answer = await stage.driver.request("OPTIONS", "/videos")
    assert "upload-limit" not in answer.headers
    assert len(endpoint.calls) == 2


async def test_the_uploads_are_not_the_apps(stage: Stage, endpoint: Endpoint) -> None:
    for path in ("/uploads", "/uploads/unknown", "/uploads/a/b"):
        answer = await stage.driver.request("HEAD", path, VERSION)
        assert answer.status in (404, 405)
    assert endpoint.calls == []


async def test_an_answer_that_was_lost_is_given_again(stage: Stage, endpoint: Endpoint) -> None:
    endpoint.answers = [JSONResponse({"id": 7}, 201, {"Location": "/videos/7"})]
    url = await stage.begin()
    first = await stage.append(url, 0, b"hello", is_last=True)
    again = await stage.append(url, 5, b"", is_last=True)
    assert (first.status, first.body) == (again.status, again.body) == (201, b'{"id":7}')
    for name in ("location", "content-type", "upload-complete", "upload-offset"):
        assert first.headers[name] == again.headers[name]
    assert first.headers["location"] == "/videos/7"
    assert len(endpoint.calls) == 1
    assert (await stage.head(url)).headers["upload-complete"] == "?1"


async def test_cookies_of_an_answer_go_out_once_and_all_of_them(
    stage: Stage, endpoint: Endpoint
) -> None:
    response = PlainTextResponse("stored")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    endpoint.answers = [response]
    url = await stage.begin()
    exchange = stage.driver.exchange(
        "PATCH",
        url,
        {**VERSION, **PARTIAL, "Upload-Complete": "?1", "Upload-Offset": "0"},
        b"hello",
    )
    await exchange.run()
    lines = [value for name, value in exchange.sent[0]["headers"] if name == b"set-cookie"]
    assert [line.partition(b";")[0] for line in lines] == [b"a=1", b"b=2"]
    again = await stage.append(url, 5, b"", is_last=True)
    assert "set-cookie" not in again.headers
    assert "a=1" not in repr(await stage.store.get(url.rpartition("/")[2]))


async def test_an_app_that_raises_is_called_again_when_the_client_asks_again(
    stage: Stage, endpoint: Endpoint
) -> None:
    endpoint.answers = [RuntimeError("a bug")]
    url = await stage.begin()
    exchange = stage.driver.exchange(
        "PATCH",
        url,
        {**VERSION, **PARTIAL, "Upload-Complete": "?1", "Upload-Offset": "0"},
        b"hello",
    )
    with pytest.raises(RuntimeError, match="a bug"):
        await exchange.run()
    assert exchange.sent[0]["status"] == 500
    assert (b"upload-complete", b"?0") in exchange.sent[0]["headers"]
    head = await stage.head(url)
    assert (head.headers["upload-offset"], head.headers["upload-complete"]) == ("5", "?0")
    answer = await stage.append(url, 5, b"", is_last=True)
    assert (answer.status, answer.headers["upload-complete"]) == (200, "?1")
    assert endpoint.bodies == [b"hello", b"hello"]


@pytest.mark.parametrize("raises", [True, False], ids=["raises", "ends"])
async def test_an_app_that_breaks_off_its_answer_is_called_again(
    store: MemoryStore | FileStore, impatient: None, raises: bool
) -> None:
    calls: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append("call")
        if len(calls) == 1:
            await send({"type": "http.response.start", "status": 201, "headers": []})
            await send({"type": "http.response.body", "body": b"sto", "more_body": True})
            if raises:
                raise RuntimeError("the app ended without an answer")
            return
        await PlainTextResponse("stored", 201)(scope, receive, send)

    stage = Stage(store, app)
    url = await stage.begin()
    with pytest.raises(RuntimeError, match="without an answer"):
        await stage.append(url, 0, b"hello", is_last=True)
    assert (await stage.head(url)).headers["upload-complete"] == "?0"
    answer = await stage.append(url, 5, b"", is_last=True)
    assert (answer.status, answer.body, len(calls)) == (201, b"stored", 2)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_answer_that_will_pass_does_not_end_the_upload(
    stage: Stage, endpoint: Endpoint, status: int
) -> None:
    endpoint.answers = [PlainTextResponse("not now", status, {"Retry-After": "7"})]
    url = await stage.begin()
    answer = await stage.append(url, 0, b"hello", is_last=True)
    assert (answer.status, answer.body) == (status, b"not now")
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["upload-complete"] == "?0"
    assert answer.headers["upload-offset"] == "5"
    answer = await stage.append(url, 5, b"", is_last=True)
    assert (answer.status, answer.body) == (200, b"stored")
    assert endpoint.bodies == [b"hello", b"hello"]


async def test_a_refusal_of_the_app_is_the_end(stage: Stage, endpoint: Endpoint) -> None:
    endpoint.answers = [PlainTextResponse("no", 422)]
    url = await stage.begin()
    answer = await stage.append(url, 0, b"hello", is_last=True)
    assert (answer.status, answer.headers["upload-complete"]) == (422, "?1")
    again = await stage.append(url, 5, b"", is_last=True)
    assert (again.status, again.body) == (422, b"no")
    assert len(endpoint.calls) == 1


async def test_the_end_is_recorded_before_the_client_is_told(
    stage: Stage, endpoint: Endpoint
) -> None:
    url = await stage.begin()
    exchange = stage.driver.exchange(
        "PATCH",
        url,
        {**VERSION, **PARTIAL, "Upload-Complete": "?1", "Upload-Offset": "0"},
        b"hello",
    )
    recorded: list[bool] = []
    send = exchange._send

    async def looking(message: MutableMapping[str, Any]) -> None:
        recorded.append((await stage.store.get(url.rpartition("/")[2])).is_complete)
        await send(message)

    exchange._send = looking  # type: ignore[method-assign]
    await exchange.run()
    assert recorded and all(recorded)


async def test_an_append_that_breaks_off_calls_nobody(stage: Stage, endpoint: Endpoint) -> None:
    url = await stage.begin()
    await stage.append(url, 0, [b"hello", DISCONNECT], is_last=True, **{"Content-Length": "11"})
    head = await stage.head(url)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("5", "11")
    assert endpoint.calls == []
    answer = await stage.append(url, 5, b" world", is_last=True)
    assert answer.status == 200
    assert endpoint.bodies == [b"hello world"]


async def test_the_sweeper_calls_nobody_and_removes_what_nobody_ended(
    stage: Stage, endpoint: Endpoint
) -> None:
    endpoint.answers = [RuntimeError("a bug")]
    url = await stage.begin()
    with pytest.raises(RuntimeError):
        await stage.append(url, 0, b"hello", is_last=True)
    assert await stage.uploads.sweep() == 0
    assert len(endpoint.calls) == 1
    stage.clock.advance(hours=2)
    assert await stage.uploads.sweep() == 1
    assert stage.hooks.events == ["expired"]
    assert (await stage.head(url)).status == 410 or (await stage.head(url)).status == 404


async def test_a_last_byte_that_was_stored_by_a_server_that_died_ends_nothing_without_the_app(
    stage: Stage, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(_: Upload) -> Upload:
        raise RuntimeError("killed")

    url = await stage.begin()
    with monkeypatch.context() as patch:
        patch.setattr(stage.store, "update", dies)
        patch.setattr(stage.store, "finish", dies)
        with pytest.raises(RuntimeError):
            await stage.append(url, 0, b"hello", is_last=True)
    assert not (await stage.uploads.get(url.rpartition("/")[2])).is_complete
    assert await stage.uploads.sweep() == 0
    assert (endpoint.calls, stage.hooks.events) == ([], [])
    answer = await stage.append(url, 5, b"", is_last=True)
    assert (answer.status, endpoint.bodies) == (200, [b"hello"])


async def test_what_ended_is_removed_when_its_time_has_passed(
    stage: Stage, endpoint: Endpoint
) -> None:
    url = await stage.begin()
    await stage.append(url, 0, b"hello", is_last=True)
    assert await stage.uploads.sweep() == 0
    stage.clock.advance(hours=2)
    assert await stage.uploads.sweep() == 1
    assert (await stage.head(url)).status in (404, 410)


async def test_requests_that_want_to_end_it_at_once_call_the_app_once(
    stage: Stage, endpoint: Endpoint
) -> None:
    url = await stage.begin()
    await stage.append(url, 0, b"hello", is_last=False)
    answers: list[RecordedResponse] = []

    async def end() -> None:
        answers.append(await stage.append(url, 5, b"", is_last=True))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(end)
    assert [answer.status for answer in answers] == [200] * 4
    assert len(endpoint.calls) == 1


async def test_a_long_answer_is_passed_on_as_it_comes_and_not_kept(
    stage: Stage, endpoint: Endpoint
) -> None:
    async def long() -> Any:
        for _ in range(10):
            yield b"x" * 10_000

    endpoint.answers = [StreamingResponse(long(), 200)]
    url = await stage.begin()
    answer = await stage.append(url, 0, b"hello", is_last=True)
    assert (answer.status, answer.body) == (200, b"x" * 100_000)
    again = await stage.append(url, 5, b"", is_last=True)
    assert again.status == 200
    assert b"too long to be kept" in again.body
    assert len(endpoint.calls) == 1


async def test_what_the_app_does_behind_its_answer_is_done(
    stage: Stage, endpoint: Endpoint
) -> None:
    done: list[str] = []

    async def later() -> None:
        await anyio.sleep(0.01)
        done.append("later")

    endpoint.answers = [PlainTextResponse("stored", background=BackgroundTask(later))]
    url = await stage.begin()
    await stage.append(url, 0, b"hello", is_last=True)
    assert done == ["later"]


async def test_an_app_that_reads_nothing_may_answer(stage: Stage) -> None:
    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("unread", 200)(scope, receive, send)

    stage = Stage(stage.store, deaf)
    url = await stage.begin()
    answer = await stage.append(url, 0, CONTENT, is_last=True)
    assert answer.body == b"unread"


async def test_an_app_that_waits_for_the_client_to_leave_hears_of_it(stage: Stage) -> None:
    heard: list[str] = []

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            pass
        heard.append(message["type"])

    stage = Stage(stage.store, waiting)
    url = await stage.begin()
    with anyio.fail_after(5), pytest.raises(RuntimeError, match="without an answer"):
        await stage.append(
            url, 0, [b"hello", END, DISCONNECT], is_last=True, **{"Content-Length": "5"}
        )
    assert heard == ["http.disconnect"]


async def test_a_wrong_digest_of_the_whole_never_reaches_the_app(
    stage: Stage, endpoint: Endpoint
) -> None:
    url = await stage.begin(**{"Repr-Digest": f"sha-256=:{'A' * 43}=:"})
    answer = await stage.append(url, 0, b"hello", is_last=True)
    assert answer.status == 400
    assert endpoint.calls == []
    assert (await stage.head(url)).status == 404


async def test_hooks_judge_the_first_bytes_before_the_app_is_called(
    store: MemoryStore | FileStore, endpoint: Endpoint, impatient: None
) -> None:
    class Judge(Recorder):
        head_size = 4

        async def inspect(self, upload: Any, head: bytes) -> Any:
            raise UnsupportedMedia("no")

    stage = Stage(store, endpoint)
    stage.uploads = Uploads(store, hooks=Judge(), expiry=Expiry(initial=HOUR))
    stage.driver = ASGIDriver(Resumable(endpoint, stage.uploads))
    url = await stage.begin()
    answer = await stage.append(url, 0, b"hello", is_last=True)
    assert (answer.status, answer.headers["upload-complete"]) == (415, "?1")
    assert endpoint.calls == []


async def test_an_upload_for_an_app_is_none_of_the_plain_ones(
    stage: Stage, endpoint: Endpoint
) -> None:
    plain = ASGIDriver(TusApp(stage.uploads), root_path="/files")
    url = await stage.begin()
    upload_id = url.rpartition("/")[2]
    assert (await plain.request("HEAD", f"/{upload_id}", VERSION)).status == 404
    other = await stage.uploads.create(length=5)
    assert (await stage.head(f"/uploads/{other.id}")).status == 404


async def test_lifespan_is_the_apps(stage: Stage) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await Resumable(app, stage.uploads)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    await Resumable(app, stage.uploads)({"type": "websocket"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan", "websocket"]


async def test_uploads_without_an_expiry_are_refused(
    store: MemoryStore, endpoint: Endpoint
) -> None:
    with pytest.raises(ValueError, match="must have an expiry"):
        Resumable(endpoint, Uploads(store))


# Frameworks.


async def test_a_route_of_fastapi_with_a_form_takes_an_upload_in_pieces(
    store: MemoryStore | FileStore, impatient: None
) -> None:
    app = FastAPI()

    @app.post("/photos/{album}")
    async def photo(album: str, file: UploadFile, response: Response) -> dict[str, Any]:
        response.status_code = 201
        return {"album": album, "name": file.filename, "size": len(await file.read())}

    boundary = "7b1"
    form = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
        f"Content-Type: image/jpeg\r\n\r\n"
    ).encode() + CONTENT
    form += f"\r\n--{boundary}--\r\n".encode()
    stage = Stage(store, app)
    url = await stage.begin(
        "/photos/summer", **{"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    await stage.append(url, 0, form[:500_000], is_last=False)
    answer = await stage.append(url, 500_000, form[500_000:], is_last=True)
    assert answer.status == 201
    assert json.loads(answer.body) == {"album": "summer", "name": "a.jpg", "size": len(CONTENT)}


async def test_a_view_of_starlette_takes_an_upload_in_pieces(
    store: MemoryStore | FileStore, impatient: None
) -> None:
    async def view(request: Request) -> Any:
        size = sum([len(chunk) async for chunk in request.stream()])
        return JSONResponse({"size": size, "to": request.path_params["name"]})

    app = Starlette(routes=[Route("/put/{name}", view, methods=["PUT"])])
    stage = Stage(store, app)
    answer = await stage.driver.request(
        "PUT", "/put/it", {**VERSION, "Upload-Complete": "?0"}, CONTENT[:1000]
    )
    url = answer.headers["location"]
    answer = await stage.append(url, 1000, CONTENT[1000:], is_last=True)
    assert json.loads(answer.body) == {"size": len(CONTENT), "to": "it"}


def film(request: HttpRequest, name: str) -> JsonResponse:
    return JsonResponse({"size": len(request.body), "to": name, "type": request.content_type})


urlpatterns = [django_path("films/<name>", film)]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_view_of_django_takes_an_upload_in_pieces(
    store: MemoryStore | FileStore, impatient: None
) -> None:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="test")
    with override_settings(ROOT_URLCONF=__name__):
        stage = Stage(store, get_asgi_application())
        url = await stage.begin("/films/it", **{"Content-Type": "video/mp4"})
        await stage.append(url, 0, CONTENT[:500_000], is_last=False)
        answer = await stage.append(url, 500_000, CONTENT[500_000:], is_last=True)
    assert answer.status == 200
    assert json.loads(answer.body) == {"size": len(CONTENT), "to": "it", "type": "video/mp4"}
