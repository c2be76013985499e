"""An HTTP proxy in front of an S3 server: it counts the calls and breaks those it is told to.

It runs in a thread with a loop of its own. A client signs the address of the proxy, and the
proxy passes the Host header on as it came, so signatures stay valid.
"""

import asyncio
import contextlib
import math
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

Kind = Literal[
    "error_403",  # AccessDenied; nothing is forwarded
    "error_429",  # TooManyRequests; nothing is forwarded
    "error_500",  # InternalError; nothing is forwarded
    "error_501",  # NotImplemented; nothing is forwarded
    "error_503",  # SlowDown; nothing is forwarded
    "reset",  # the connection is reset; nothing is forwarded
    "reset_mid_body",  # half of the request's body is forwarded, then both sides are cut
    "stall",  # nothing is forwarded until it is released, or for `seconds`
    "slow",  # forwarded after `seconds`
    "lost_answer",  # forwarded and answered, but the client sees a reset
    "late_answer",  # forwarded and answered; the answer waits as in `stall`
    "cut_answer",  # its head and half of its body, then the end; without a body it is lost
]

_AFTER_THE_ANSWER = ("lost_answer", "late_answer", "cut_answer")
_ERRORS = {
    "error_403": (403, "AccessDenied"),
    "error_429": (429, "TooManyRequests"),
    "error_500": (500, "InternalError"),
    "error_501": (501, "NotImplemented"),
    "error_503": (503, "SlowDown"),
}
_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "expect")
_BUFFER = 1024 * 1024
_SECONDS = 30.0

T = TypeVar("T")


@dataclass(kw_only=True)
class Call:
    """One request, as far as it has come."""

    method: str
    operation: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By names in any case."""
    bytes: int = 0
    """How much of its body the proxy has read."""
    status: int | None = None
    """What the server answered, or the proxy in its place; None if neither has."""
    fault: Kind | None = None


class Rule:
    """A fault for some of the calls that are made after it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        kind: Kind,
        *,
        at: int,
        times: int | None,
        operation: str | None,
        key: str,
        seconds: float | None,
    ) -> None:
        self.kind = kind
        self.strikes = 0
        self._loop = loop
        self._at = at
        self._last = math.inf if times is None else at + times - 1
        self._operation = operation
        self._key = key
        self._seconds = seconds
        self._seen = 0
        self._struck = threading.Event()
        self._released = asyncio.Event()

    def wait(self, seconds: float = _SECONDS) -> None:
        """Block until it has struck; raise TimeoutError if it does not.

        Faults of an answer strike when the server has answered.
        """
        if not self._struck.wait(seconds):
            raise TimeoutError(f"{self.kind} did not strike")

    def release(self) -> None:
        """Let the calls go on that it holds; it will hold no other."""
        self._loop.call_soon_threadsafe(self._released.set)

    def strikes_at(self, call: Call) -> bool:
        """Count the call if it is one of those meant, and say whether to break it."""
        if self._operation not in (None, call.operation) or self._key not in call.key:
            return False
        self._seen += 1
        return self._at <= self._seen <= self._last

    def strike(self) -> None:
        self.strikes += 1
        self._struck.set()

    async def hold(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._released.wait()


class FaultProxy:
    """A proxy for the time of a `with` block, at `endpoint`; harmless until it is told to fail.

    `on_call(call)` is called before a request is forwarded and `on_answer(call)` before an
    answer goes back, each in a thread of its own: they may block, kill the server, or make
    calls through this same proxy (for which they are called again). What they raise resets
    the connection, and is raised again at the end of the block.
    """

    def __init__(self, server: str) -> None:
        self.calls: list[Call] = []
        self.on_call: Callable[[Call], object] | None = None
        self.on_answer: Callable[[Call], object] | None = None
        self.throttle: float | None = None
        """How many bytes per second all bodies together may take; None for no limit."""
        self._server = server
        self._rules: list[Rule] = []
        self._errors: list[Exception] = []
        self._free_at = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")
        self._callers = ThreadPoolExecutor(32, thread_name_prefix="fault-proxy")
        # It holds the port while the proxy is down: bound, but nobody listens.
        self._place = _bound(0)
        self._listener: asyncio.Server | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.heal()
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._callers.shutdown(wait=False, cancel_futures=True)
        self._place.close()
        if self._errors and error is None:
            raise self._errors[0]

    # What was called

    def clear(self) -> None:
        """Forget the calls so far; rules count on."""
        self.calls = []

    def count(self, operation: str | None = None) -> int:
        """How many calls there were since `clear`, of one operation or of all."""
        return sum(operation in (None, call.operation) for call in self.calls)

    def bytes_written(self) -> int:
        """How many bytes were sent to be stored, failed attempts included."""
        written = ("PutObject", "UploadPart")
        return sum(call.bytes for call in self.calls if call.operation in written)

    # What is to go wrong

    def fail(
        self,
        kind: Kind,
        *,
        at: int = 1,
        times: int | None = 1,
        operation: str | None = None,
        key: str = "",
        seconds: float | None = None,
    ) -> Rule:
        """Break the call number `at` from now, counted from 1, and those after it, `times` in all.

        Only calls of the `operation` and with `key` somewhere in their key are counted; `times`
        None means for ever. Where several rules strike, the oldest does.
        """
        assert at >= 1
        assert kind != "slow" or seconds is not None
        rule = Rule(
            self._loop,
            kind,
            at=at,
            times=times,
            operation=operation,
            key=key,
            seconds=seconds,
        )
        self._rules = [*self._rules, rule]
        return rule

    def heal(self) -> None:
        """Forget every rule, and let the calls go on that they hold."""
        rules, self._rules = self._rules, []
        for rule in rules:
            rule.release()

    def down(self) -> None:
        """Cut every connection and refuse new ones, until `up`."""
        self._run(self._unlisten())

    def up(self) -> None:
        """Be reachable again, at the same endpoint."""
        self._run(self._listen())

    # The life of the thread

    @property
    def _port(self) -> int:
        return int(self._place.getsockname()[1])

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    async def _open(self) -> None:
        # A connection for each request, as a kept one may be stale.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=_BUFFER,
        )
        # It would repeat a lost PUT, GET, HEAD or DELETE once and not tell; its own test client
        # turns that off in the same way.
        self._session._retry_connection = False
        self._web = web.Server(
            self._serve, handler_cancellation=True, access_log=None, read_bufsize=_BUFFER
        )
        await self._listen()

    async def _listen(self) -> None:
        place = _bound(self._port)
        self._listener = await self._loop.create_server(self._web, sock=place, backlog=1024)

    async def _unlisten(self) -> None:
        if self._listener is not None:
            # Nobody closes a connection that is accepted while its listener is closed.
            for place in self._listener.sockets:
                self._loop.remove_reader(place)
            for _ in range(3):
                await asyncio.sleep(0)
            self._listener.close()
        self._listener = None
        for connection in self._web.connections:
            _reset(connection.transport)

    async def _close(self) -> None:
        await self._unlisten()
        await self._web.shutdown(0)
        await self._session.close()

    # One request

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        call = _call(request)
        self.calls.append(call)
        rule = self._rule_for(call)
        try:
            await self._tell(self.on_call, call)
            if rule is None:
                return await self._forward(request, call)
            return await self._break(request, call, rule)
        except (aiohttp.ClientError, ConnectionError):
            # The server is not there or went away, or the call is to look like that.
            _reset(request.transport)
            return web.Response()  # which nobody sees

    def _rule_for(self, call: Call) -> Rule | None:
        # Each rule counts each call, also those that another one breaks.
        striking = [rule for rule in self._rules if rule.strikes_at(call)]
        if not striking:
            return None
        call.fault = striking[0].kind
        return striking[0]

    async def _tell(self, listener: Callable[[Call], object] | None, call: Call) -> None:
        if listener is None:
            return
        try:
            await self._loop.run_in_executor(self._callers, listener, call)
        except Exception as error:
            # It belongs to the test, which is in another thread: see `__exit__`.
            self._errors.append(error)
            raise ConnectionResetError("the listener failed") from error

    async def _break(self, request: web.BaseRequest, call: Call, rule: Rule) -> web.StreamResponse:
        if rule.kind not in _AFTER_THE_ANSWER:
            rule.strike()
        if rule.kind in _ERRORS:
            return _error(call, *_ERRORS[rule.kind])
        if rule.kind == "reset" or (rule.kind == "reset_mid_body" and not request.body_exists):
            raise ConnectionResetError
        if rule.kind in ("stall", "slow"):
            await rule.hold()
        return await self._forward(request, call, rule)

    async def _forward(
        self, request: web.BaseRequest, call: Call, rule: Rule | None = None
    ) -> web.StreamResponse:
        async with self._session.request(
            request.method,
            URL(f"{self._server}{request.raw_path}", encoded=True),
            headers=_end_to_end(request.headers),
            data=self._body(request, call) if request.body_exists else None,
            expect100="Expect" in request.headers,
            allow_redirects=False,
        ) as answer:
            call.status = answer.status
            await self._tell(self.on_answer, call)
            if rule is not None and rule.kind in _AFTER_THE_ANSWER:
                return await self._break_answer(request, answer, rule)
            return await self._pass_on(request, answer)

    async def _body(self, request: web.BaseRequest, call: Call) -> AsyncIterator[bytes]:
        if "Expect" in request.headers and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        end = (request.content_length or 2) // 2 if call.fault == "reset_mid_body" else math.inf
        async for chunk in request.content.iter_any():
            begin, call.bytes = call.bytes, call.bytes + len(chunk)
            await self._pace(len(chunk))
            if call.bytes > end:
                yield chunk[: int(end) - begin]
                raise ConnectionResetError
            yield chunk

    async def _pass_on(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        passed = _answer_like(answer)
        await passed.prepare(request)
        async for chunk in answer.content.iter_any():
            await self._pace(len(chunk))
            await passed.write(chunk)
        await passed.write_eof()
        return passed

    async def _break_answer(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, rule: Rule
    ) -> web.StreamResponse:
        body = await answer.read() if rule.kind != "late_answer" else b""
        rule.strike()
        if rule.kind == "late_answer":
            await rule.hold()
            return await self._pass_on(request, answer)
        if rule.kind == "lost_answer" or not body:
            raise ConnectionResetError
        passed = _answer_like(answer)
        await passed.prepare(request)
        await passed.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()  # and not reset, which could lose that half
        return passed

    async def _pace(self, size: int) -> None:
        if self.throttle is not None:
            now = self._loop.time()
            self._free_at = max(self._free_at, now) + size / self.throttle
            await asyncio.sleep(self._free_at - now)


def _answer_like(answer: aiohttp.ClientResponse) -> web.StreamResponse:
    return web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers)
    )


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    kept = ((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)
    return CIMultiDict(kept)


def _error(call: Call, status: int, code: str) -> web.Response:
    call.status = status
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def _reset(transport: asyncio.BaseTransport | None) -> None:
    """End a connection with RST, and not in order."""
    if isinstance(transport, asyncio.Transport):
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def _bound(port: int) -> socket.socket:
    place = socket.socket()
    # So that two of our own sockets can share the port: one holds it, one listens.
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    place.bind(("127.0.0.1", port))
    return place


# The names of operations: method, of an object, what is in the query, what is in the headers

_OPERATIONS = [
    ("GET", True, "uploadId", "", "ListParts"),
    ("GET", True, "", "", "GetObject"),
    ("HEAD", True, "", "", "HeadObject"),
    ("PUT", True, "partNumber", "x-amz-copy-source", "UploadPartCopy"),
    ("PUT", True, "partNumber", "", "UploadPart"),
    ("PUT", True, "tagging", "", "PutObjectTagging"),
    ("PUT", True, "", "x-amz-copy-source", "CopyObject"),
    ("PUT", True, "", "", "PutObject"),
    ("POST", True, "uploads", "", "CreateMultipartUpload"),
    ("POST", True, "uploadId", "", "CompleteMultipartUpload"),
    ("DELETE", True, "uploadId", "", "AbortMultipartUpload"),
    ("DELETE", True, "", "", "DeleteObject"),
    ("GET", False, "uploads", "", "ListMultipartUploads"),
    ("GET", False, "list-type", "", "ListObjectsV2"),
    ("GET", False, "versioning", "", "GetBucketVersioning"),
    ("GET", False, "location", "", "GetBucketLocation"),
    ("GET", False, "", "", "ListObjects"),
    ("HEAD", False, "", "", "HeadBucket"),
    ("PUT", False, "", "", "CreateBucket"),
    ("POST", False, "delete", "", "DeleteObjects"),
    ("DELETE", False, "", "", "DeleteBucket"),
]


def _call(request: web.BaseRequest) -> Call:
    url = urlsplit(request.raw_path)
    bucket, _, key = unquote(url.path).removeprefix("/").partition("/")
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    return Call(
        method=request.method,
        operation=_operation(request.method, bool(key), query, request.headers),
        bucket=bucket,
        key=key,
        query=query,
        headers=request.headers,
    )


def _operation(
    method: str, of_object: bool, query: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    for verb, has_key, parameter, header, name in _OPERATIONS:
        if (
            (verb, has_key) == (method, of_object)
            and (not parameter or parameter in query)
            and (not header or header in headers)
        ):
            return name
    return f"{method} of {'an object' if of_object else 'a bucket'}"
