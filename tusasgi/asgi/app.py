"""The ASGI app: finds the upload, the protocol and the method, asks the engine, answers."""

import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

from tusasgi.arguments import check_absolute, check_choices, check_header, check_seconds
from tusasgi.asgi.body import Receive
from tusasgi.asgi.download import check_is_there, download
from tusasgi.asgi.exchange import Exchange, Scope, log_outcome
from tusasgi.asgi.progress import reporting
from tusasgi.asgi.routes import find_id, find_route, origin_of
from tusasgi.asgi.send import Send
from tusasgi.engine.rules import check_takes_bytes
from tusasgi.engine.uploads import Uploads
from tusasgi.errors import (
    MethodNotAllowed,
    TryAgain,
    TusError,
    UploadExpired,
    UploadNotFound,
    UploadPending,
    will_pass,
)
from tusasgi.models import Append, Ending, Operation, Upload
from tusasgi.protocols.contract import Response
from tusasgi.protocols.offer import PROTOCOLS, Protocols
from tusasgi.protocols.tus import VERSION, Extension, MethodOverride, Tus, plain_text

Handler = Callable[[Exchange], Awaitable[Response]]


class TusApp:
    """Resumable uploads over an engine, to be mounted in any ASGI app or run by any ASGI server.

    `protocols` are those that are spoken, on the same URLs: TUS 1.0.0 (`"tus"`) and the IETF's
    Resumable Uploads for HTTP (`"ietf"`). `public_url` is the URL of the collection as clients
    see it; without it `Location` is an absolute path, or with `location="absolute"` a URL of
    the host that the request names, by the scheme that the server says (a path again if that is
    no host). `prefix` is the path to answer under when no framework mounts the app. `without`
    names extensions of TUS to switch off; the rest is what the store supports. With
    `idempotent_delete` a DELETE of what is not there is 204. `downloads` answers GET on
    complete uploads. `receive_timeout` is how many seconds a client may send nothing within a
    body, and `send_timeout` how many it may take for a piece of an answer (256 KiB at most);
    with None a server that can do so sends files by itself. `render_error` turns a refusal into
    status, headers and body of the host's own kind; the protocol's headers are added to them.
    """

    def __init__(
        self,
        uploads: Uploads,
        *,
        protocols: Collection[str] = PROTOCOLS,
        public_url: str | None = None,
        location: Literal["path", "absolute"] = "path",
        prefix: str = "",
        without: Collection[str] = (),
        idempotent_delete: bool = False,
        downloads: bool = False,
        method_override: MethodOverride = "any",
        receive_timeout: float | None = 60.0,
        send_timeout: float | None = 60.0,
        render_error: Callable[[TusError], Response] = plain_text,
    ) -> None:
        if not isinstance(uploads, Uploads):
            raise TypeError(
                f"TusApp needs an engine: TusApp(Uploads(store)), not {type(uploads).__name__}"
            )
        check_choices("protocols", protocols, PROTOCOLS)
        check_choices("without", without, [extension.value for extension in Extension])
        check_seconds("receive_timeout", receive_timeout)
        check_seconds("send_timeout", send_timeout)
        if public_url is not None:
            check_absolute("public_url", public_url)
        if downloads and not uploads.capabilities.can_read:
            raise ValueError(f"{type(uploads.store).__name__} cannot read uploads back")
        if location not in ("path", "absolute"):
            raise ValueError('location must be "path" or "absolute"')
        if method_override not in ("any", "post", "off"):
            raise ValueError('method_override must be "any", "post" or "off"')
        self.uploads = uploads
        self._offered = _offered(uploads, without)
        self._protocols = Protocols(
            protocols,
            tus=Tus(offered=self._offered, method_override=method_override),
            limits=uploads.limits,
            can_defer_length=uploads.capabilities.can_defer_length,
            can_terminate=uploads.capabilities.can_terminate,
        )
        self._public_url = public_url.rstrip("/") if public_url else None
        self._names_host = location == "absolute"
        self._prefix = f"/{prefix.strip('/')}" if prefix.strip("/") else ""
        self._idempotent_delete = idempotent_delete
        self._downloads = downloads
        self._receive_timeout = receive_timeout
        self._send_timeout = send_timeout
        self._render_error = render_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _answer_lifespan(receive, send)
        elif scope["type"] == "http":
            await self.serve(self.exchange(scope, receive, send))
        else:
            raise ValueError(f"tusasgi serves http, not {scope['type']}")

    def exchange(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        """Return the exchange of a request, to be served."""
        return Exchange(
            scope,
            receive,
            send,
            receive_timeout=self._receive_timeout,
            send_timeout=self._send_timeout,
        )

    async def serve(self, exchange: Exchange) -> None:
        """Answer, and tell the observer and the log how."""
        if codec := self._protocols.of_request(exchange.method, exchange.headers):
            exchange.codec = codec
        observer = self.uploads.observer
        observer.request_began(exchange.operation)
        try:
            await self._answer(exchange)
        finally:
            outcome = exchange.outcome()
            observer.request_ended(outcome)
            log_outcome(outcome)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            response = await self._respond(exchange)
        except TusError as error:
            await exchange.answer(self._refused(error, exchange))
            cause = error.__cause__ if isinstance(error, UploadPending) else None
            if cause is not None and not isinstance(cause, TryAgain):
                raise cause from None  # a bug or an outage: the host hears of it
        except Exception as error:
            if error is not exchange.body.failure:  # or those who raised it answer it
                await exchange.answer(self._refused(TusError("internal error"), exchange))
            raise
        else:
            await exchange.answer(response)

    def _refused(self, error: TusError, exchange: Exchange) -> Response:
        self._make_known(exchange)
        response = exchange.codec.refused(
            error,
            self._render_error(error),
            method=exchange.method,
            upload=exchange.upload,
            is_plain=exchange.is_plain,
        )
        for name, value in response.headers.items():  # the host's, who may repeat a client's words
            check_header(name, value)
        return response

    def _make_known(self, exchange: Exchange) -> None:
        """Decide which protocol a request without a mark speaks, by the upload that it is about."""
        if not exchange.is_marked:
            exchange.codec = self._protocols.of_upload(exchange.upload, exchange.headers)

    async def _respond(self, exchange: Exchange) -> Response:
        route = exchange.route = exchange.route or find_route(exchange.scope, self._prefix)
        on_upload = route.upload_id is not None
        handlers = self._on_upload(exchange) if on_upload else self._on_collection(exchange)
        if exchange.method not in handlers:
            raise _not_possible(exchange, handlers)
        response = await handlers[exchange.method](exchange)
        exchange.body.check()
        return response if exchange.call is None else exchange.call.applied_to(response)

    def _on_collection(self, exchange: Exchange) -> Mapping[str, Handler]:
        self._make_known(exchange)
        handlers: dict[str, Handler] = {"OPTIONS": self._options}
        if Extension.CREATION in self._offered:
            handlers |= dict.fromkeys(exchange.codec.creation_methods, self._create)
        return handlers

    def _on_upload(self, exchange: Exchange) -> Mapping[str, Handler]:
        handlers: dict[str, Handler] = {
            "OPTIONS": self._options,
            "HEAD": self._look,
            "PATCH": self._patch,
        }
        if Extension.TERMINATION in self._offered:
            handlers["DELETE"] = self._delete
        # Without a mark it may turn out to be a question for the offset.
        if self._downloads or not exchange.is_marked or exchange.codec.offset_on_get:
            handlers["GET"] = self._look
        return handlers

    # One method each, in the order of the steps.

    async def _options(self, exchange: Exchange) -> Response:
        return self._protocols.capabilities()

    async def _create(self, exchange: Exchange) -> Response:
        codec, headers, request = exchange.codec, exchange.headers, exchange.request()
        codec.check(exchange.method, headers)
        await self.uploads.admit_creation(request)
        if codec.depends_on_first_byte(headers) and await exchange.body.is_empty():
            headers = headers.bodiless()
        exchange.body.check()
        creation, append = codec.parse_creation(headers, partial(self._id_of, exchange))
        creation = replace(creation, target=exchange.target)
        upload = exchange.upload = await self.uploads.create_from(creation, request)
        location = self._location_of(exchange, upload)
        if append is not None:
            upload = await self._append_first(exchange, upload, append, location)
        return codec.created(upload, location, self.uploads.now())

    async def _look(self, exchange: Exchange) -> Response:
        """Answer HEAD and GET: with the file, or with where the upload is."""
        if self._wants_file(exchange):
            upload = await self._admit(exchange, Operation.READ)
            if exchange.is_plain or (exchange.method == "GET" and upload.is_complete):
                return await self._download(exchange, upload)
        return await self._describe(exchange, await self._admit(exchange, Operation.GET))

    def _wants_file(self, exchange: Exchange) -> bool:
        if not self._downloads:
            return False
        return exchange.method == "GET" or not exchange.is_marked or exchange.is_plain

    async def _describe(self, exchange: Exchange, upload: Upload) -> Response:
        codec = exchange.codec
        if exchange.method == "GET" and not codec.offset_on_get:
            raise _not_possible(exchange, self._on_upload(exchange))
        codec.check(exchange.method, exchange.headers)
        if codec.offset_ends_append and not (upload.is_complete or upload.is_pending):
            upload = await self.uploads.stop(upload.id)
        upload = exchange.upload = await self.uploads.complete(upload)
        return codec.described(upload, self.uploads.now())

    async def _download(self, exchange: Exchange, upload: Upload) -> Response:
        upload = await self.uploads.complete(upload)
        reader = self.uploads.capabilities.reader
        await check_is_there(upload, reader)
        is_head = exchange.method == "HEAD"
        response = download(upload, reader, exchange.headers, is_head=is_head)
        codec = exchange.codec
        if not codec.offset_on_get:
            return replace(response, headers={"Tus-Resumable": VERSION, **response.headers})
        state = dict(codec.described(upload, self.uploads.now()).headers)
        del state["Cache-Control"]  # what is complete stays as it is
        return replace(response, headers={**state, **response.headers})

    async def _patch(self, exchange: Exchange) -> Response:
        codec = exchange.codec
        upload = await self._admit(exchange, Operation.APPEND)
        check_takes_bytes(upload)
        append = codec.parse_append(exchange.headers, upload)
        exchange.start = append.offset
        upload = await self._append(exchange, upload, append)
        return codec.appended(upload, self._location_of(exchange, upload), self.uploads.now())

    async def _delete(self, exchange: Exchange) -> Response:
        try:
            upload = await self._admit(exchange, Operation.TERMINATE)
        except (UploadNotFound, UploadExpired):
            if not self._idempotent_delete:
                raise
            exchange.codec.check(exchange.method, exchange.headers)
        else:
            exchange.codec.check(exchange.method, exchange.headers)
            await self.uploads.terminate(upload.id, missing_ok=self._idempotent_delete)
        return exchange.codec.terminated()

    async def _admit(self, exchange: Exchange, operation: Operation) -> Upload:
        """Return the upload that the request names, if it may do this to it.

        Nothing is read for a request that its protocol refuses; one without a mark is refused
        once it is known which protocol it is one of.
        """
        if exchange.is_marked and operation is not Operation.READ:
            exchange.codec.check(exchange.method, exchange.headers)
        request = exchange.request()
        try:
            upload = await self.uploads.admit(request, operation, exchange.upload_id)
            if (upload.target is None) is not (exchange.call is None):
                raise UploadNotFound  # one stands for a request to an app, the other does not
            exchange.upload = upload
        finally:
            self._make_known(exchange)
        return upload

    async def _append_first(
        self, exchange: Exchange, upload: Upload, append: Append, location: str
    ) -> Upload:
        """Store what came along with a creation; of a refused body no upload is left.

        Neither is one of a body that broke off or could not be kept for now, unless somebody knows
        where it is.
        """
        interim = exchange.codec.announced(upload, location, self.uploads.now())
        is_known = await exchange.send_interim(interim)
        try:
            upload = await self._append(exchange, upload, append)
        except TusError as error:
            is_known |= self._is_taken_over(exchange)
            may_go_on = exchange.body.is_cut or will_pass(error)
            if not (is_known and may_go_on):
                with contextlib.suppress(TusError):  # the client hears what refused the body
                    await self.uploads.discard(upload.id)
            raise
        if not is_known and not upload.is_complete and _is_forgotten(exchange):
            await self.uploads.discard(upload.id)
        return upload

    async def _append(self, exchange: Exchange, upload: Upload, append: Append) -> Upload:
        conclude = None if exchange.call is None else exchange.call.conclude
        appending = self.uploads.append(
            upload.id, append, exchange.body, admitted=upload, conclude=conclude
        )
        upload = exchange.upload = await reporting(
            appending, exchange, upload, append, self.uploads.kept
        )
        if not upload.is_complete:
            exchange.body.check_ending(is_shut_down=self.uploads.is_shut_down)
        return upload

    def _is_taken_over(self, exchange: Exchange) -> bool:
        """True if another request has stopped this one: somebody knows where the upload is."""
        return exchange.body.ending is Ending.INTERRUPTED and not self.uploads.is_shut_down

    def _location_of(self, exchange: Exchange, upload: Upload) -> str:
        assert exchange.route is not None
        if self._public_url is not None:
            return f"{self._public_url}/{upload.id}"
        path = f"{exchange.route.base}/{upload.id}"
        if not self._names_host:
            return path
        return (origin_of(exchange.scope, exchange.headers.get("host")) or "") + path

    def _id_of(self, exchange: Exchange, url: str) -> str:
        """Return the id of an upload that the client names by its URL."""
        assert exchange.route is not None
        folders = {exchange.route.base}
        if self._public_url is not None:
            folders.add(urlsplit(self._public_url).path)
        return find_id(url, folders=folders)


def _not_possible(exchange: Exchange, handlers: Collection[str]) -> MethodNotAllowed:
    allow = ", ".join(handlers)
    return MethodNotAllowed(f"{exchange.method[:16]} is not possible here", allow=allow)


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
        Extension.CREATION_DEFER_LENGTH: uploads.capabilities.can_defer_length,
        Extension.CHECKSUM: True,
        Extension.TERMINATION: uploads.capabilities.can_terminate,
        Extension.CONCATENATION: uploads.can_concatenate,
        Extension.EXPIRATION: uploads.expiry.is_on,
    }
    return frozenset(name for name, has in supported.items() if has and name not in off)


def _is_forgotten(exchange: Exchange) -> bool:
    """True if nobody comes back for the upload of a creation that broke off unannounced."""
    if exchange.body.failure is not None:
        return True
    return exchange.body.ending is Ending.CLIENT_LEFT and not exchange.codec.keeps_unannounced


async def _answer_lifespan(receive: Receive, send: Send) -> None:
    """There is nothing to start or to stop; servers want to hear so."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
