"""Under every kind of mount and proxy, a client that follows `Location` gets to its upload."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.test.utils import override_settings
from fastapi import FastAPI
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from tests._stage import OCTETS, TUS
from tusasgi import TusApp, Uploads
from tusasgi.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]
Wrap = Callable[[TusApp], App]


def tus(**options: Any) -> TusApp:
    return TusApp(Uploads(MemoryStore()), downloads=True, **options)


# Frameworks


def starlette(app: App) -> App:
    return Starlette(routes=[Mount("/files", app)])


def starlette_nested(app: App) -> App:
    inner = Starlette(routes=[Mount("/files", app)])
    return Starlette(routes=[Mount("/v1", routes=[Mount("/api", inner)])])


def starlette_with_middleware(app: App) -> App:
    async def pass_on(request: Request, call_next: Any) -> Response:
        return await call_next(request)

    middleware = [Middleware(BaseHTTPMiddleware, dispatch=pass_on)]
    return Starlette(routes=[Mount("/files", app)], middleware=middleware)


def starlette_with_escapes(app: App) -> App:
    return Starlette(routes=[Mount("/my files/\u00fc", app)])


def fastapi(app: App) -> App:
    host = FastAPI()
    host.mount("/api/files", app)
    return host


def fastapi_in_fastapi(app: App) -> App:
    host = FastAPI()
    host.mount("/v1", fastapi(app))
    return host


def fastapi_with_root_path(app: App) -> App:
    host = FastAPI(root_path="/ext")
    host.mount("/api/files", app)
    return stripping_proxy(host, "/ext")


def litestar(app: App) -> App:
    @asgi("/api/files", is_mount=True, copy_scope=False)
    async def files(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return Litestar([files], openapi_config=None)


def django(app: App) -> App:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="test")
    host = get_asgi_application()

    async def dispatch(scope: Scope, receive: Any, send: Any) -> None:
        await (app if scope["path"].startswith("/files/") else host)(scope, receive, send)

    return dispatch


urlpatterns: list[Any] = []


def bare(app: App) -> App:
    return app


# Servers and proxies


def stripping_proxy(app: App, prefix: str) -> App:
    """A proxy that takes a prefix of the path away and tells nobody."""

    async def strip(scope: Scope, receive: Any, send: Any) -> None:
        assert scope["path"].startswith(prefix)
        path, raw_path = scope["path"][len(prefix) :], scope["raw_path"][len(prefix) :]
        await app({**scope, "path": path, "raw_path": raw_path}, receive, send)

    return strip


def root_path_in_path(app: App) -> App:
    """Uvicorn with a root path behind a stripping proxy, others with the path as it came."""

    async def serve(scope: Scope, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": "/proxy"}, receive, send)

    return serve


def root_path_not_in_path(app: App) -> App:
    """Hypercorn, granian or daphne with a root path behind a stripping proxy."""
    return stripping_proxy(root_path_in_path(app), "/proxy")


def client_of(app: App) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="https://up.example", headers=TUS)


async def live_through(client: httpx.AsyncClient, collection: str) -> httpx.URL:
    """Create, append, ask, read and delete, by `Location` alone; return its full URL."""
    created = await client.post(collection, headers={"Upload-Length": "10"})
    assert created.status_code == 201, created.text
    url = created.url.join(created.headers["location"])
    for offset, chunk in ((0, b"hello"), (5, b"world")):
        own = {"Upload-Offset": str(offset), "Content-Type": OCTETS}
        patched = await client.patch(url, content=chunk, headers=own)
        assert (patched.status_code, patched.headers["upload-offset"]) == (204, str(offset + 5))
    for same in (url, f"{url}/"):
        assert (await client.head(same)).headers["upload-offset"] == "10"
    assert (await client.get(url)).content == b"helloworld"
    assert (await client.delete(url)).status_code == 204
    assert (await client.head(url)).status_code == 404
    return url


MOUNTS = [
    pytest.param(starlette, "/files", id="starlette"),
    pytest.param(starlette_nested, "/v1/api/files", id="starlette-nested"),
    pytest.param(starlette_with_middleware, "/files", id="starlette-middleware"),
    pytest.param(starlette_with_escapes, "/my%20files/%C3%BC", id="starlette-escapes"),
    pytest.param(fastapi, "/api/files", id="fastapi"),
    pytest.param(fastapi_in_fastapi, "/v1/api/files", id="fastapi-in-fastapi"),
    pytest.param(litestar, "/api/files", id="litestar"),
]


@pytest.mark.parametrize(("mount", "path"), MOUNTS)
async def test_a_mounted_app_serves_uploads_where_location_says(mount: Wrap, path: str) -> None:
    async with client_of(mount(tus())) as client:
        url = await live_through(client, f"{path}/")
    assert url.raw_path.decode().rpartition("/")[0] == path


@pytest.mark.parametrize(("mount", "path"), MOUNTS)
async def test_a_mount_with_a_root_path_in_its_path_serves_uploads_where_location_says(
    mount: Wrap, path: str
) -> None:
    async with client_of(root_path_in_path(mount(tus()))) as client:
        url = await live_through(client, f"/proxy{path}/")
    assert url.raw_path.decode().rpartition("/")[0] == f"/proxy{path}"


@pytest.mark.parametrize(
    ("mount", "path"),
    # (Starlette itself does not route nested mounts when the root path is not in the path.)
    [mount for mount in MOUNTS if mount.id not in ("starlette-nested", "fastapi-in-fastapi")],
)
async def test_a_mount_with_a_root_path_taken_away_serves_uploads_where_location_says(
    mount: Wrap, path: str
) -> None:
    async with client_of(root_path_not_in_path(mount(tus()))) as client:
        url = await live_through(client, f"/proxy{path}/")
    assert url.raw_path.decode().rpartition("/")[0] == f"/proxy{path}"


@pytest.mark.filterwarnings("ignore::fastapi.exceptions.FastAPIDeprecationWarning")
async def test_the_root_path_argument_of_fastapi_is_part_of_location() -> None:
    async with client_of(fastapi_with_root_path(tus())) as client:
        url = await live_through(client, "/ext/api/files/")
    assert url.path.startswith("/ext/api/files/")


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("server", "prefix", "collection"),
    [
        pytest.param(bare, "/files", "/files", id="prefix"),
        pytest.param(bare, "/a/b/files", "/a/b/files", id="long-prefix"),
        pytest.param(root_path_in_path, "", "/proxy", id="root-path"),
        pytest.param(root_path_in_path, "/files", "/proxy/files", id="root-path-and-prefix"),
        pytest.param(root_path_not_in_path, "/files", "/proxy/files", id="root-path-taken-away"),
    ],
)
async def test_an_app_without_a_framework_serves_uploads_where_location_says(
    server: Callable[[App], App], prefix: str, collection: str, slash: str
) -> None:
    async with client_of(server(tus(prefix=prefix))) as client:
        url = await live_through(client, collection + slash)
    assert url.path.rpartition("/")[0] == collection


async def test_an_app_at_the_root_serves_uploads_where_location_says() -> None:
    async with client_of(tus()) as client:
        url = await live_through(client, "/")
    assert url.path.count("/") == 1


async def test_a_public_url_is_what_location_says_under_any_mount() -> None:
    public = "https://up.example/proxy/files"
    for app in (root_path_in_path, root_path_not_in_path):
        async with client_of(app(starlette(tus(public_url=public)))) as client:
            created = await client.post("/proxy/files/", headers={"Upload-Length": "1"})
            assert created.headers["location"].startswith(f"{public}/")
            assert str(await live_through(client, "/proxy/files/")).startswith(f"{public}/")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_beside_django_uploads_do_not_pass_through_it() -> None:
    async with client_of(django(tus(prefix="/files"))) as client:
        await live_through(client, "/files/")
        with override_settings(ROOT_URLCONF=__name__):  # another test may have configured it
            elsewhere = await client.get("/elsewhere")
    assert elsewhere.status_code == 404
    assert "tus-resumable" not in elsewhere.headers


async def test_the_rest_of_the_host_is_not_ours() -> None:
    async def home(request: Request) -> Response:
        return PlainTextResponse("home")

    app = Starlette(routes=[Mount("/files", tus()), Route("/", home)])
    async with client_of(app) as client:
        assert (await client.get("/")).text == "home"


async def test_a_mount_redirects_the_collection_without_its_slash() -> None:
    # Why the creation URL is given to clients with its final slash.
    async with client_of(starlette(tus())) as client:
        answer = await client.post("/files", headers={"Upload-Length": "1"})
    assert (answer.status_code, answer.headers["location"]) == (307, "https://up.example/files/")


async def test_the_host_header_is_not_trusted_for_location() -> None:
    async with client_of(starlette(tus())) as client:
        own = {"Upload-Length": "1", "Host": "evil.example", "X-Forwarded-Host": "evil.example"}
        answer = await client.post("/files/", headers=own)
    assert answer.headers["location"].startswith("/files/")


async def test_the_same_app_may_be_mounted_twice() -> None:
    app = tus()
    host = Starlette(routes=[Mount("/a", app), Mount("/b", app)])
    async with client_of(host) as client:
        for path in ("/a", "/b"):
            assert (await live_through(client, f"{path}/")).path.startswith(f"{path}/")
