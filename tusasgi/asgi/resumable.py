"""Uploads in as many requests as they need, to an app that sees one: any ASGI app, made resumable.

A request of the IETF draft to any path of the app becomes an upload. Its bytes are stored; when
the last one is there, the app is called with the whole body, and what it answers is the answer
of the upload. When it is called, how often, and what is kept, is written in `docs/resumable.md`.
"""

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import anyio

from tusasgi.arguments import check_type
from tusasgi.asgi.app import TusApp
from tusasgi.asgi.body import Receive
from tusasgi.asgi.endpoint import App, EndpointCall, target_of
from tusasgi.asgi.exchange import Scope
from tusasgi.asgi.routes import collection_route, is_below
from tusasgi.asgi.send import INTERIM, Send, raw_headers
from tusasgi.engine.uploads import Uploads
from tusasgi.errors import TusError
from tusasgi.models import Target
from tusasgi.protocols.contract import Response
from tusasgi.protocols.headers import Headers
from tusasgi.protocols.ietf import Ietf, capabilities
from tusasgi.protocols.tus import plain_text


class Resumable:
    """An ASGI middleware that makes the requests of any app resumable.

    `uploads` must have an expiry: an upload is kept for so long after its end as well, for a
    client that lost the answer. Uploads are at `path`, where the app sees nothing of them. The
    other options are those of `TusApp`. Requests that do not speak the draft reach the app
    untouched, and so do those that could not be resumed anyway: with everything in one request,
    and no way to tell the client where its upload is.
    """

    def __init__(
        self,
        app: App,
        uploads: Uploads,
        *,
        path: str = "/uploads",
        receive_timeout: float | None = 60.0,
        send_timeout: float | None = 60.0,
        render_error: Callable[[TusError], Response] = plain_text,
    ) -> None:
        check_type("uploads", uploads, Uploads)
        store = uploads.capabilities
        if not uploads.expiry.is_on:
            raise ValueError("uploads must have an expiry: nothing else removes those that ended")
        if not store.can_read or not store.can_defer_length:
            name = type(uploads.store).__name__
            raise ValueError(f"{name} must be able to read uploads, and take those of no length")
        self._app = app
        self._uploads = uploads
        self._path = f"/{path.strip('/')}"
        self._uploads_app = TusApp(
            uploads,
            protocols=["ietf"],
            prefix=self._path,
            receive_timeout=receive_timeout,
            send_timeout=send_timeout,
            render_error=render_error,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif is_below(scope, self._path):
            await self._serve(scope, receive, send)
        else:
            await self._serve_or_pass_on(scope, receive, send)

    async def _serve_or_pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make the request of an app an upload, if its client asks for that."""
        headers = Headers(scope["headers"])
        draft = self._draft_of(headers)
        is_last = draft.is_last(headers) if "tus-resumable" not in headers else None
        if scope["method"] == "OPTIONS" and draft.version is not None:
            send = _adding(capabilities(self._uploads.limits).headers, send)
        elif is_last is not None and scope["method"] in draft.creation_methods:
            can_be_told = draft.version is not None and INTERIM in scope.get("extensions", {})
            if not is_last or can_be_told:
                return await self._serve(scope, receive, send, target=target_of(scope))
            send = _adding(draft.final_headers(), send)
        return await self._app(scope, receive, send)

    def _draft_of(self, headers: Headers) -> Ietf:
        return Ietf.of(
            headers, limits=self._uploads.limits, can_defer_length=True, can_terminate=True
        )

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, *, target: Target | None = None
    ) -> None:
        """Serve a request of the draft; with a `target` it begins the upload of that."""
        exchange = self._uploads_app.exchange(scope, receive, send)
        if target is not None:
            exchange.route = collection_route(scope, self._path)
            exchange.target = target
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            call = EndpointCall(
                self._app, scope, exchange.body, self._uploads.capabilities.reader, tasks
            )
            exchange.call = call
            try:
                await self._uploads_app.serve(exchange)
            except Exception as raised:  # raised below: the task group would wrap it
                failure = raised
            finally:
                call.close()
        # What the app raised after its answer, in a task behind it, is for the server.
        if failure := failure or call.failure:
            raise failure


def _adding(headers: Mapping[str, str], send: Send) -> Send:
    """Return a `send` that adds these headers to the response."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            lines = [*message.get("headers", ()), *raw_headers(headers)]
            message = {**message, "headers": lines}
        await send(message)

    return sending
