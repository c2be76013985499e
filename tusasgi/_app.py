"""The ASGI app: finds the upload and the method, asks the engine, answers."""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import replace
from typing import Any

from tusasgi import _protocol as protocol
from tusasgi._body import Body, Receive
from tusasgi._download import download
from tusasgi._errors import (
    BodyTimeout,
    MethodNotAllowed,
    TusError,
    UploadExpired,
    UploadLocked,
    UploadNotFound,
)
from tusasgi._headers import Headers
from tusasgi._models import Append, Ending, Operation, Request, Upload
from tusasgi._protocol import Extension, MethodOverride, Response
from tusasgi._routes import Route, find_route
from tusasgi._send import Send, send_response
from tusasgi._uploads import Uploads
from tusasgi.stores import SupportsDeferLength, SupportsRead, SupportsTerminate

Scope = MutableMapping[str, Any]
Handler = Callable[[Route, Request, Headers, Body], Awaitable[Response]]


class TusApp:
    """TUS 1.0.0 over an engine, to be mounted in any ASGI app or run by any ASGI server.

    `public_url` is the URL of the collection as clients see it; without it `Location` is an
    absolute path. `prefix` is the path to answer under when no framework mounts the app.
    `without` names extensions to switch off; the rest is what the store supports. With
    `idempotent_delete` a DELETE of what is not there is 204. `downloads` answers GET on complete
    uploads. `receive_timeout` is how many seconds a client may send nothing within a body.
    `render_error` turns a refusal into status, headers and body of the host's own kind; the
    protocol's headers are added to them.
    """

    def __init__(
        self,
        uploads: Uploads,
        *,
        public_url: str | None = None,
        prefix: str = "",
        without: Collection[str] = (),
        idempotent_delete: bool = False,
        downloads: bool = False,
        method_override: MethodOverride = "any",
        receive_timeout: float | None = 60.0,
        render_error: Callable[[TusError], Response] = protocol.plain_text,
    ) -> None:
        if downloads and not isinstance(uploads.store, SupportsRead):
            raise ValueError(f"{type(uploads.store).__name__} cannot read uploads back")
        if method_override not in ("any", "post", "off"):
            raise ValueError('method_override must be "any", "post" or "off"')
        self.uploads = uploads
        self._offered = _offered(uploads, without)
        self._public_url = public_url.rstrip("/") if public_url else None
        self._prefix = f"/{prefix.strip('/')}" if prefix.strip("/") else ""
        self._idempotent_delete = idempotent_delete
        self._method_override = method_override
        self._receive_timeout = receive_timeout
        self._render_error = render_error
        self._on_collection: dict[str, Handler] = {"OPTIONS": self._options}
        self._on_upload: dict[str, Handler] = {
            "OPTIONS": self._options,
            "HEAD": self._head,
            "PATCH": self._patch,
        }
        if Extension.CREATION in self._offered:
            self._on_collection["POST"] = self._post
        if Extension.TERMINATION in self._offered:
            self._on_upload["DELETE"] = self._delete
        if downloads:
            self._on_upload["GET"] = self._get

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _answer_lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            raise ValueError(f"tusasgi serves http, not {scope['type']}")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope["headers"])
        body = Body(receive, timeout=self._receive_timeout)

        async def answer(response: Response) -> None:
            await send_response(
                response,
                send,
                body=body,
                headers=headers,
                http_version=scope.get("http_version", "1.1"),
            )

        method = scope["method"]
        try:
            method = protocol.method_of(method, headers, self._method_override)
            response = await self._respond(method, scope, headers, body)
        except TusError as error:
            response = self._refused(error, method)
        except Exception:
            await answer(self._refused(TusError("internal error"), method))
            raise
        await answer(response)

    def _refused(self, error: TusError, method: str) -> Response:
        return protocol.refused(error, self._render_error(error), is_head=method == "HEAD")

    async def _respond(self, method: str, scope: Scope, headers: Headers, body: Body) -> Response:
        route = find_route(scope, self._prefix)
        handlers = self._on_collection if route.upload_id is None else self._on_upload
        if method not in handlers:
            allow = ", ".join(handlers)
            raise MethodNotAllowed(f"{method[:16]} is not possible here", allow=allow)
        if method not in ("OPTIONS", "GET"):
            protocol.check_version(headers)
        request = Request(method=method, path=scope["path"], headers=headers, scope=scope)
        return await handlers[method](route, request, headers, body)

    # One method each, in the order of the steps.

    async def _options(
        self, route: Route, request: Request, headers: Headers, body: Body
    ) -> Response:
        return protocol.capabilities(self._offered, self.uploads.limits)

    async def _head(self, route: Route, request: Request, headers: Headers, body: Body) -> Response:
        upload = await self.uploads.admit(request, Operation.GET, _id_of(route))
        return protocol.described(await self.uploads.settle(upload))

    async def _post(self, route: Route, request: Request, headers: Headers, body: Body) -> Response:
        await self.uploads.admit_creation(request)
        carries_upload = (
            Extension.CREATION_WITH_UPLOAD in self._offered and protocol.carries_upload(headers)
        )
        creation = protocol.parse_creation(headers, self._offered)
        if carries_upload:
            creation = replace(creation, size=protocol.body_size(headers))
        upload = await self.uploads.create_from(creation, request)
        if carries_upload:
            upload = await self._append_first(upload, headers, body)
        base = route.base if self._public_url is None else self._public_url
        return protocol.created(upload, f"{base}/{upload.id}")

    async def _patch(
        self, route: Route, request: Request, headers: Headers, body: Body
    ) -> Response:
        upload = await self.uploads.admit(request, Operation.APPEND, _id_of(route))
        append = protocol.parse_append(headers)
        return protocol.appended(await self._append(upload, append, body))

    async def _delete(
        self, route: Route, request: Request, headers: Headers, body: Body
    ) -> Response:
        try:
            upload = await self.uploads.admit(request, Operation.TERMINATE, _id_of(route))
            await self.uploads.terminate(upload.id)
        except (UploadNotFound, UploadExpired):
            if not self._idempotent_delete:
                raise
        return protocol.terminated()

    async def _get(self, route: Route, request: Request, headers: Headers, body: Body) -> Response:
        upload = await self.uploads.admit(request, Operation.READ, _id_of(route))
        assert isinstance(self.uploads.store, SupportsRead)  # checked by __init__
        response = download(await self.uploads.settle(upload), self.uploads.store, headers)
        return replace(response, headers={"Tus-Resumable": protocol.VERSION, **response.headers})

    async def _append_first(self, upload: Upload, headers: Headers, body: Body) -> Upload:
        """Store what came along with a creation; of a refused body no upload is left."""
        append = Append(offset=0, size=protocol.body_size(headers))
        try:
            return await self._append(upload, append, body)
        except TusError:
            await self.uploads.discard(upload.id)
            raise

    async def _append(self, upload: Upload, append: Append, body: Body) -> Upload:
        upload = await self.uploads.append(upload.id, append, body)
        if upload.is_complete:
            return upload
        if body.ending is Ending.TIMED_OUT:
            raise BodyTimeout(f"nothing arrived for {self._receive_timeout:g} seconds")
        if body.ending is Ending.INTERRUPTED:
            raise UploadLocked("another request has taken over this upload")
        return upload


def _id_of(route: Route) -> str:
    assert route.upload_id is not None  # only methods on an upload come here
    return route.upload_id


def _offered(uploads: Uploads, without: Collection[str]) -> frozenset[Extension]:
    """What the store supports and the engine is set to, less what the host switched off."""
    off = {Extension(name) for name in without}
    if Extension.CREATION in off:
        off |= {Extension.CREATION_WITH_UPLOAD, Extension.CREATION_DEFER_LENGTH}
    supported = {
        Extension.CREATION: True,
        Extension.CREATION_WITH_UPLOAD: True,
        Extension.CREATION_DEFER_LENGTH: isinstance(uploads.store, SupportsDeferLength),
        Extension.TERMINATION: isinstance(uploads.store, SupportsTerminate),
        Extension.EXPIRATION: uploads.expiry.is_on,
    }
    return frozenset(name for name, has in supported.items() if has and name not in off)


async def _answer_lifespan(receive: Receive, send: Send) -> None:
    """There is nothing to start or to stop; servers want to hear so."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
