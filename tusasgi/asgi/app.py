"""The ASGI app: finds the upload and the method, asks the engine, answers."""

import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from tusasgi.asgi.body import Receive
from tusasgi.asgi.download import download
from tusasgi.asgi.exchange import Exchange, Scope, log_outcome
from tusasgi.asgi.routes import find_id, find_route
from tusasgi.asgi.send import Send, send_response
from tusasgi.engine.rules import check_takes_bytes
from tusasgi.engine.uploads import Uploads
from tusasgi.errors import (
    BodyTimeout,
    MethodNotAllowed,
    ShuttingDown,
    TryAgain,
    TusError,
    UploadExpired,
    UploadLocked,
    UploadNotFound,
    UploadPending,
)
from tusasgi.models import Append, Ending, Operation, Upload
from tusasgi.protocols import tus as protocol
from tusasgi.protocols.contract import Response
from tusasgi.protocols.tus import Extension, MethodOverride
from tusasgi.stores import SupportsDeferLength, SupportsRead, SupportsTerminate

Handler = Callable[[Exchange], Awaitable[Response]]
Answer = Callable[[Response], Awaitable[None]]


class TusApp:
    """TUS 1.0.0 over an engine, to be mounted in any ASGI app or run by any ASGI server.

    `public_url` is the URL of the collection as clients see it; without it `Location` is an
    absolute path. `prefix` is the path to answer under when no framework mounts the app.
    `without` names extensions to switch off; the rest is what the store supports. With
    `idempotent_delete` a DELETE of what is not there is 204. `downloads` answers GET on complete
    uploads. `receive_timeout` is how many seconds a client may send nothing within a body, and
    `send_timeout` how many it may take for a piece of an answer (256 KiB at most).
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
        send_timeout: float | None = 60.0,
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
        self._send_timeout = send_timeout
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
            exchange = Exchange(
                scope, receive, timeout=self._receive_timeout, override=self._method_override
            )
            await self._observed(exchange, send)
        else:
            raise ValueError(f"tusasgi serves http, not {scope['type']}")

    async def _observed(self, exchange: Exchange, send: Send) -> None:
        """Answer, and tell the observer and the log how."""
        status = 0

        async def answer(response: Response) -> None:
            nonlocal status
            status = response.status
            await send_response(
                response,
                send,
                body=exchange.body,
                headers=exchange.headers,
                http_version=exchange.scope.get("http_version", "1.1"),
                timeout=self._send_timeout,
            )

        observer = self.uploads.observer
        observer.request_began(exchange.operation)
        try:
            await self._answer(exchange, answer)
        finally:
            outcome = exchange.outcome(status)
            observer.request_ended(outcome)
            log_outcome(outcome)

    async def _answer(self, exchange: Exchange, answer: Answer) -> None:
        try:
            response = await self._respond(exchange)
        except TusError as error:
            await answer(self._refused(error, exchange))
            cause = error.__cause__ if isinstance(error, UploadPending) else None
            if cause is not None and not isinstance(cause, TryAgain):
                raise cause from None  # a bug or an outage: the host hears of it
        except Exception as error:
            if error is not exchange.body.failure:  # or those who raised it answer it
                await answer(self._refused(TusError("internal error"), exchange))
            raise
        else:
            await answer(response)

    def _refused(self, error: TusError, exchange: Exchange) -> Response:
        rendered = self._render_error(error)
        is_head = exchange.method == "HEAD"
        return protocol.refused(error, rendered, is_head=is_head, is_download=exchange.is_download)

    async def _respond(self, exchange: Exchange) -> Response:
        route = exchange.route = find_route(exchange.scope, self._prefix)
        handlers = self._on_collection if route.upload_id is None else self._on_upload
        if exchange.method not in handlers:
            allow = ", ".join(handlers)
            raise MethodNotAllowed(f"{exchange.method[:16]} is not possible here", allow=allow)
        method = "GET" if exchange.is_download and "GET" in handlers else exchange.method
        if method not in ("OPTIONS", "GET"):
            protocol.check_version(exchange.headers)
        response = await handlers[method](exchange)
        exchange.body.check()
        return response

    # One method each, in the order of the steps.

    async def _options(self, exchange: Exchange) -> Response:
        return protocol.capabilities(self._offered, self.uploads.limits)

    async def _head(self, exchange: Exchange) -> Response:
        upload = await self._admit(exchange, Operation.GET)
        upload = exchange.upload = await self.uploads.complete(upload)
        return protocol.described(upload)

    async def _post(self, exchange: Exchange) -> Response:
        headers, request = exchange.headers, exchange.request()
        await self.uploads.admit_creation(request)
        if protocol.depends_on_first_byte(headers) and await exchange.body.is_empty():
            headers = headers.bodiless()
        exchange.body.check()
        carries_upload = (
            Extension.CREATION_WITH_UPLOAD in self._offered and protocol.carries_upload(headers)
        )
        id_of = partial(self._id_of, exchange)
        creation = protocol.parse_creation(headers, self._offered, id_of)
        append = None
        if carries_upload and not creation.parts:
            append = protocol.parse_first_append(headers, self._offered)
            creation = replace(creation, size=append.size)
        upload = exchange.upload = await self.uploads.create_from(creation, request)
        if append is not None:
            upload = await self._append_first(exchange, upload, append)
            if exchange.body.failure is not None and not upload.is_complete:
                await self.uploads.discard(upload.id)  # its client will not hear where it is
        assert exchange.route is not None
        base = exchange.route.base if self._public_url is None else self._public_url
        return protocol.created(upload, f"{base}/{upload.id}")

    def _id_of(self, exchange: Exchange, url: str) -> str:
        """Return the id of an upload that the client names by its URL."""
        assert exchange.route is not None
        folders = {exchange.route.base}
        if self._public_url is not None:
            folders.add(urlsplit(self._public_url).path)
        return find_id(url, folders=folders)

    async def _patch(self, exchange: Exchange) -> Response:
        upload = await self._admit(exchange, Operation.APPEND)
        check_takes_bytes(upload)
        append = protocol.parse_append(exchange.headers, self._offered)
        exchange.start = append.offset
        return protocol.appended(await self._append(exchange, upload, append))

    async def _delete(self, exchange: Exchange) -> Response:
        try:
            upload = await self._admit(exchange, Operation.TERMINATE)
        except (UploadNotFound, UploadExpired):
            if not self._idempotent_delete:
                raise
            return protocol.terminated()
        await self.uploads.terminate(upload.id, missing_ok=self._idempotent_delete)
        return protocol.terminated()

    async def _get(self, exchange: Exchange) -> Response:
        upload = await self._admit(exchange, Operation.READ)
        assert isinstance(self.uploads.store, SupportsRead)  # checked by __init__
        upload = await self.uploads.complete(upload)
        is_head = exchange.method == "HEAD"
        response = download(upload, self.uploads.store, exchange.headers, is_head=is_head)
        return replace(response, headers={"Tus-Resumable": protocol.VERSION, **response.headers})

    async def _admit(self, exchange: Exchange, operation: Operation) -> Upload:
        request = exchange.request()
        upload = await self.uploads.admit(request, operation, exchange.upload_id)
        exchange.upload = upload
        return upload

    async def _append_first(self, exchange: Exchange, upload: Upload, append: Append) -> Upload:
        """Store what came along with a creation; of a refused body no upload is left."""
        try:
            return await self._append(exchange, upload, append)
        except TusError:
            with contextlib.suppress(TusError):  # what refused the body is what the client hears
                await self.uploads.discard(upload.id)
            raise

    async def _append(self, exchange: Exchange, upload: Upload, append: Append) -> Upload:
        body = exchange.body
        upload = exchange.upload = await self.uploads.append(
            upload.id, append, body, admitted=upload
        )
        if upload.is_complete:
            return upload
        if body.ending is Ending.TIMED_OUT:
            raise BodyTimeout(f"nothing arrived for {self._receive_timeout:g} seconds")
        if body.ending is Ending.INTERRUPTED and self.uploads.is_shut_down:
            raise ShuttingDown("this server is about to end: go on, it will be with another one")
        if body.ending is Ending.INTERRUPTED:
            raise UploadLocked("another request has taken over this upload")
        return upload


def _offered(uploads: Uploads, without: Collection[str]) -> frozenset[Extension]:
    """What the store supports and the engine is set to, less what the host switched off."""
    off = {Extension(name) for name in without}
    if Extension.CREATION in off:
        off |= {
            Extension.CREATION_WITH_UPLOAD,
            Extension.CREATION_DEFER_LENGTH,
            Extension.CONCATENATION,
        }
    supported = {
        Extension.CREATION: True,
        Extension.CREATION_WITH_UPLOAD: True,
        Extension.CREATION_DEFER_LENGTH: isinstance(uploads.store, SupportsDeferLength),
        Extension.CHECKSUM: True,
        Extension.TERMINATION: isinstance(uploads.store, SupportsTerminate),
        Extension.CONCATENATION: uploads.can_concatenate,
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
