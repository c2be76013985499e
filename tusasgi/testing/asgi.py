"""A scripted ASGI server for one app: `receive` does what the test says, `send` is recorded."""

import enum
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel

from tusasgi import Headers

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
_INTERIM = "http.response.informational"

HeaderLines = Mapping[str, str | None] | Iterable[tuple[str, str | None]]


class Step(enum.Enum):
    """What a client may do but send bytes."""

    END = "end"
    """The body is complete."""
    STALL = "stall"
    """Nothing more comes, and the connection stays open."""
    DISCONNECT = "disconnect"
    """The client is gone."""


END, STALL, DISCONNECT = Step.END, Step.STALL, Step.DISCONNECT

Script = bytes | Iterable[bytes | Step]
"""A whole body, or the chunks and steps of one; END follows a script that ends with bytes."""


@dataclass(frozen=True, kw_only=True)
class RecordedInterim:
    """An interim response (1xx) that the app sent before its response."""

    status: int
    headers: Headers
    receives: int
    """How often the app had called `receive` when it was sent."""


@dataclass(frozen=True, kw_only=True)
class RecordedResponse:
    """What the app sent, as a client sees it."""

    status: int
    headers: Headers
    body: bytes
    receives: int
    """How often the app called `receive` in all."""
    receives_before_start: int
    """How often it had done so when the response began; 0 means: judged without the body."""
    interims: tuple[RecordedInterim, ...] = ()
    """The interim responses before it."""


class Client:
    """The sending side of one request: a scripted `receive`.

    A `script` of bytes comes in one message; else it is a list of chunks and steps. `feed`,
    `end` and `disconnect` let more arrive later. As servers do, `receive` waits after the end
    of the body until the response is complete, and gives `http.disconnect` then.
    """

    def __init__(self, script: Script | None = None) -> None:
        self.receives = 0
        """How often `receive` was called."""
        self._whole: bytes | None = None
        self._steps: deque[bytes | Step] = deque()
        self._fed = anyio.Event()
        self._starved = anyio.Event()
        self._answered = anyio.Event()
        self._is_at_end = False
        self._is_done = False
        if isinstance(script, bytes):
            self._whole = script
        elif script is not None:
            self._steps.extend(_ended(script))

    def feed(self, *chunks: bytes) -> None:
        """Let chunks arrive."""
        self._arrive(*chunks)

    def end(self, last: bytes = b"") -> None:
        """Let the body be complete, with a last chunk or without."""
        self._arrive(*([last] if last else []), END)

    def disconnect(self) -> None:
        """Let the client be gone once what was fed is received."""
        self._arrive(DISCONNECT)

    async def starved(self) -> None:
        """Wait until somebody waits for more than has been fed, or the app is done."""
        await self._starved.wait()

    async def receive(self) -> Message:
        """Give the next ASGI message."""
        self.receives += 1
        if self._whole is not None:
            whole, self._whole, self._is_at_end = self._whole, None, True
            return {"type": "http.request", "body": whole, "more_body": False}
        if not self._steps or self._steps[0] is STALL:
            await self._wait()
        return self._message(self._steps[0])

    def _arrive(self, *steps: bytes | Step) -> None:
        self._steps.extend(steps)
        self._fed.set()
        if self._starved.is_set() and not self._is_done:
            self._starved = anyio.Event()

    async def _wait(self) -> None:
        self._starved.set()
        if self._is_at_end:
            await self._answered.wait()
            self._steps.append(DISCONNECT)
        while not self._steps or self._steps[0] is STALL:
            self._fed = anyio.Event()
            await self._fed.wait()

    def _message(self, step: bytes | Step) -> Message:
        if step is DISCONNECT:
            return {"type": "http.disconnect"}  # it stays first: again and again
        self._steps.popleft()
        if step is END:
            self._is_at_end = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": step, "more_body": True}


def _ended(script: Iterable[bytes | Step]) -> list[bytes | Step]:
    steps = list(script)
    if not steps or isinstance(steps[-1], bytes):
        steps.append(END)
    return steps


class ScriptedExchange(Client):
    """One request and its response, run step by step.

    Run it in a task group, `feed` it, wait for `starved`, and look at `answer` at the end:

        exchange = ScriptedExchange(app, "PATCH", "/files/x", headers={…})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run)
            exchange.feed(b"some bytes")
            await exchange.starved()
            exchange.disconnect()

    A `body` that is bytes comes in one message and has a Content-Length; a script, or nothing
    (then `feed` brings the body), is sent chunked. Give `Content-Length` or `Transfer-Encoding`
    yourself to say something else, or as None to say nothing. Over HTTP/2 no
    `Transfer-Encoding` is added. `scope` replaces keys of the scope. With `takes_interims` the app
    is offered the extension `http.response.informational`, and `interims` holds what it sent.

    `send_fails_from` is the number of the message, from 0, from
    which on `send` raises `OSError`. Messages out of order, and headers that are not lower-case
    bytes, are a `RuntimeError` for the app.
    """

    def __init__(
        self,
        app: App,
        method: str,
        path: str,
        *,
        headers: HeaderLines = (),
        body: Script | None = None,
        scope: Mapping[str, Any] | None = None,
        takes_interims: bool = False,
        send_fails_from: int | None = None,
    ) -> None:
        super().__init__(body)
        self.sent: list[Message] = []
        self.interims: list[RecordedInterim] = []
        self._interim_came = anyio.Event()
        self._app = app
        self._receives_before_start = 0
        self._send_fails_from = send_fails_from
        self._scope = _scope(method, path, headers, body, scope or {})
        self._takes_interims = takes_interims
        if takes_interims:
            self._scope["extensions"] = {**self._scope.get("extensions", {}), _INTERIM: {}}

    async def run(self) -> RecordedResponse:
        """Call the app once and return its answer; what the app raises rises."""
        try:
            await self._app(self._scope, self.receive, self._send)
        finally:
            self._is_done = True
            self._starved.set()
            self._interim_came.set()
        return self.answer

    @property
    def answer(self) -> RecordedResponse:
        """The complete answer, also when the app raised afterwards."""
        if not self._answered.is_set():
            raise RuntimeError(f"the app has not sent a complete response: {self.sent}")
        start, *bodies = self.sent
        return RecordedResponse(
            status=start["status"],
            headers=Headers(start["headers"]),
            body=b"".join(message.get("body", b"") for message in bodies),
            receives=self.receives,
            receives_before_start=self._receives_before_start,
            interims=tuple(self.interims),
        )

    @property
    def is_answered(self) -> bool:
        """True once the whole response was sent."""
        return self._answered.is_set()

    async def interim(self, number: int) -> RecordedInterim:
        """Wait for the interim response of this number, from 0, and return it."""
        while len(self.interims) <= number:
            if self._is_done:
                raise RuntimeError(f"the app has sent {len(self.interims)} interim responses")
            await self._interim_came.wait()
        return self.interims[number]

    async def _send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        count = len(self.sent) + len(self.interims)
        if self._send_fails_from is not None and count >= self._send_fails_from:
            raise OSError("the client has left")
        self._check(message)
        if message["type"] == _INTERIM:
            self._take_interim(message)
            return
        if not self.sent:
            self._receives_before_start = self.receives
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._answered.set()

    def _take_interim(self, message: Message) -> None:
        headers = Headers(message["headers"])
        self.interims.append(
            RecordedInterim(status=message["status"], headers=headers, receives=self.receives)
        )
        self._interim_came.set()
        self._interim_came = anyio.Event()

    def _check(self, message: Message) -> None:
        expected = "http.response.body" if self.sent else "http.response.start"
        is_interim = message["type"] == _INTERIM and self._takes_interims and not self.sent
        if not is_interim and (message["type"] != expected or self._answered.is_set()):
            raise RuntimeError(f"{message['type']} out of order")
        for name, value in message.get("headers", ()):
            if not (isinstance(name, bytes) and isinstance(value, bytes) and name == name.lower()):
                raise RuntimeError(f"header {name!r} is not lower-case bytes")


class ASGIDriver:
    """Sends requests to one app that share a mount, default headers and scope keys.

    `headers` go along with every request unless the request gives its own value, or None.
    `root_path` is put in front of every path, as frameworks do that mount an app.
    `takes_interims` is that of each `Exchange`.
    """

    def __init__(
        self,
        app: App,
        *,
        root_path: str = "",
        headers: Mapping[str, str] | None = None,
        scope: Mapping[str, Any] | None = None,
        takes_interims: bool = False,
    ) -> None:
        self._app = app
        self._root_path = root_path
        self._headers = dict(headers or {})
        self._takes_interims = takes_interims
        self._scope = {"root_path": root_path, **(scope or {})}

    def exchange(
        self,
        method: str,
        path: str = "/",
        headers: HeaderLines = (),
        body: Script | None = None,
        *,
        scope: Mapping[str, Any] | None = None,
        send_fails_from: int | None = None,
    ) -> ScriptedExchange:
        """Prepare an exchange that the test runs itself."""
        own = _lines(headers)
        names = {name.lower() for name, _ in own}
        defaults = [line for line in self._headers.items() if line[0].lower() not in names]
        return ScriptedExchange(
            self._app,
            method,
            self._root_path + path,
            headers=[*defaults, *own],
            body=body,
            scope={**self._scope, **(scope or {})},
            takes_interims=self._takes_interims,
            send_fails_from=send_fails_from,
        )

    async def request(
        self,
        method: str,
        path: str = "/",
        headers: HeaderLines = (),
        body: Script = b"",
        *,
        scope: Mapping[str, Any] | None = None,
    ) -> RecordedResponse:
        """Send a request and return the answer."""
        return await self.exchange(method, path, headers, body, scope=scope).run()


async def request(
    app: App,
    method: str,
    path: str,
    headers: HeaderLines = (),
    body: Script = b"",
    *,
    scope: Mapping[str, Any] | None = None,
) -> RecordedResponse:
    """Send one request to an app and return its answer."""
    return await ScriptedExchange(app, method, path, headers=headers, body=body, scope=scope).run()


def _scope(
    method: str,
    path: str,
    headers: HeaderLines,
    body: Script | None,
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8"),
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        **overrides,
    }
    lines = _framed(_lines(headers), method, body, scope["http_version"])
    scope["headers"] = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in lines
        if value is not None
    ]
    return scope


def _lines(headers: HeaderLines) -> list[tuple[str, str | None]]:
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def _framed(
    lines: list[tuple[str, str | None]], method: str, body: Script | None, http_version: str
) -> list[tuple[str, str | None]]:
    """Add how the body is framed, unless the test says it."""
    if any(name.lower() in ("content-length", "transfer-encoding") for name, _ in lines):
        return lines
    if isinstance(body, bytes):
        if body or method in ("POST", "PUT", "PATCH"):
            return [*lines, ("content-length", str(len(body)))]
    elif http_version.startswith("1"):
        return [*lines, ("transfer-encoding", "chunked")]
    return lines
