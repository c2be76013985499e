"""Answers on their way out, also to a client that is still sending."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tusasgi import Body, Headers, Response, send_download
from tusasgi.asgi.send import send_response

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
REFUSAL = Response(status=409, headers={"Upload-Offset": "5"}, body=b"no\n")


class Server:
    """Both sides of an exchange: a log of what was received and sent, in its order."""

    def __init__(
        self,
        *chunks: bytes,
        ends: bool = True,
        stays: bool = True,
        fails_from: int | None = None,
    ) -> None:
        self.log: list[str] = []
        self.sent: list[Any] = []
        self.taken = 0
        self._chunks = list(chunks)
        self._ends = ends
        self._stays = stays
        self._fails_from = fails_from

    async def receive(self) -> dict[str, Any]:
        self.log.append("receive")
        await anyio.lowlevel.checkpoint()
        if self._chunks:
            chunk = self._chunks.pop(0)
            self.taken += len(chunk)
            more = bool(self._chunks) or not self._ends
            return {"type": "http.request", "body": chunk, "more_body": more}
        if self._stays:
            await anyio.sleep_forever()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        if self._fails_from is not None and len(self.sent) >= self._fails_from:
            raise OSError("the client has left")
        self.sent.append(message)
        if message["type"] == "http.response.start":
            self.log.append("start")
        else:
            self.log.append("body" if message.get("more_body") else "end")

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


async def answer(
    server: Server,
    response: Response = REFUSAL,
    *,
    http_version: str = "1.1",
    body: Body | None = None,
    timeout: float | None = 60.0,
    **headers: str,
) -> None:
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await send_response(
        response,
        server.send,
        body=body or Body(server.receive),
        headers=Headers(lines),
        http_version=http_version,
        timeout=timeout,
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tusasgi.asgi.send._LINGER_SECONDS", 0.02)


# To a client that is not sending


async def test_a_response_has_a_length_and_lower_case_names() -> None:
    server = Server()
    await answer(server)
    assert server.sent == [
        {
            "type": "http.response.start",
            "status": 409,
            "headers": [(b"upload-offset", b"5"), (b"content-length", b"3")],
        },
        {"type": "http.response.body", "body": b"no\n"},
    ]
    assert server.log == ["start", "end"]


async def test_a_204_has_no_length() -> None:
    server = Server()
    await answer(server, Response(status=204))
    assert server.sent[0]["headers"] == []


async def test_a_stream_is_sent_piece_by_piece_with_the_length_it_says() -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c"

    server = Server()
    response = Response(status=200, headers={"Content-Length": "3"}, stream=stream())
    await answer(server, response)
    assert server.headers == {b"content-length": b"3"}
    log = [what for what in server.log if what != "receive"]
    assert (log, server.body) == (["start", "body", "body", "end"], b"abc")


async def test_no_piece_of_a_stream_is_larger_than_a_slow_client_can_take() -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield bytes(range(256)) * 4096
        yield b"x"

    server = Server()
    await answer(server, Response(status=200, stream=stream()))
    sizes = [len(message["body"]) for message in server.sent[1:-1]]
    assert sizes == [256 * 1024] * 4 + [1]
    assert server.body == bytes(range(256)) * 4096 + b"x"


async def test_the_answer_to_a_head_may_have_the_length_of_what_get_would_bring() -> None:
    server = Server()
    await answer(server, Response(status=200, headers={"Content-Length": "1000"}))
    assert server.sent[0]["headers"] == [(b"content-length", b"1000")]


async def test_a_304_has_no_length() -> None:
    server = Server()
    await answer(server, Response(status=304, headers={"ETag": '"a"'}))
    assert server.sent[0]["headers"] == [(b"etag", b'"a"')]


async def test_a_store_that_fails_in_the_middle_is_not_mistaken_for_a_client_that_left() -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"ab"
        raise OSError("the disk has gone")

    with pytest.raises(OSError, match="the disk has gone"):
        await answer(Server(), Response(status=200, stream=stream()))


async def test_after_a_body_that_was_read_to_its_end_nothing_is_received() -> None:
    server = Server(b"hello")
    body = Body(server.receive)
    assert [chunk async for chunk in body] == [b"hello"]
    await answer(server, body=body, content_length="5")
    assert server.log == ["receive", "start", "end"]
    assert b"connection" not in server.headers


async def test_without_a_body_nothing_is_received() -> None:
    server = Server()
    await answer(server, content_length="0")
    assert server.log == ["start", "end"]


# To a client that waits for 100 Continue


async def test_a_pending_expectation_is_not_met_by_a_read_before_the_answer() -> None:
    server = Server(b"a")
    await answer(server, content_length="1", expect="100-continue")
    assert server.log[:2] == ["start", "body"]
    assert server.headers[b"connection"] == b"close"


async def test_a_client_that_waits_no_more_is_answered_before_its_body_is_dropped() -> None:
    server = Server(*[bytes(1000)] * 100)
    await answer(server, content_length="100000", expect="100-continue")
    assert server.log == ["start", "body", *["receive"] * 100, "end"]


async def test_over_http_2_a_client_that_waits_has_its_whole_answer_at_once() -> None:
    server = Server(*[bytes(1000)] * 100)
    await answer(server, http_version="2", content_length="100000", expect="100-continue")
    assert server.log == ["start", "end"]


async def test_an_expectation_that_was_met_is_none_any_more(impatient: None) -> None:
    server = Server(b"a", b"b", b"c")
    body = Body(server.receive)
    assert await anext(body) == b"a"
    await answer(server, body=body, content_length="3", expect="100-continue")
    assert server.log == ["receive", "receive", "receive", "start", "end"]


# To a client that is sending


async def test_a_small_rest_is_read_and_the_connection_kept() -> None:
    server = Server(b"a" * 1000, b"b" * 1000)
    await answer(server, content_length="2000")
    assert server.log == ["receive", "receive", "start", "end"]
    assert b"connection" not in server.headers


async def test_a_small_rest_that_does_not_come_ends_the_connection(impatient: None) -> None:
    server = Server(b"a" * 1000, ends=False)
    with anyio.fail_after(2):
        await answer(server, content_length="2000")
    assert server.log[:2] == ["receive", "receive"]
    assert server.headers[b"connection"] == b"close"
    assert ("end" in server.log, server.body) == (True, b"no\n")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"content_length": str(100 * MIB)}, id="announced"),
        pytest.param({"transfer_encoding": "chunked"}, id="chunked"),
        pytest.param({"content_length": "9" * 19}, id="a-length-that-is-no-size"),
    ],
)
async def test_a_long_body_gets_the_whole_answer_at_once_and_is_read_up_to_a_bound(
    headers: dict[str, str],
) -> None:
    server = Server(*[bytes(MIB)] * 100)  # more than will be read
    await answer(server, **headers)
    assert server.log[:2] == ["start", "body"]
    assert server.sent[1]["body"] == REFUSAL.body
    assert server.headers[b"connection"] == b"close"
    assert server.headers[b"content-length"] == b"3"
    assert server.log[2:10] == ["receive"] * 8
    assert server.sent[-1] == {"type": "http.response.body", "body": b""}
    assert 8 * MIB <= server.taken <= 16 * MIB


async def test_the_end_is_sent_while_the_server_needs_reading() -> None:
    class FullServer(Server):
        """Takes the end only when one more message was received, as hypercorn does when full."""

        async def send(self, message: Any) -> None:
            is_end = message["type"] == "http.response.body" and not message.get("more_body")
            received = self.log.count("receive")
            while is_end and self.log.count("receive") == received:
                await anyio.lowlevel.checkpoint()
            await super().send(message)

    server = FullServer(*[bytes(MIB)] * 30)
    with anyio.fail_after(5):
        await answer(server, content_length=str(30 * MIB))
    assert "end" in server.log
    assert server.log.count("receive") > 8


async def test_a_client_that_hangs_is_left_alone_after_a_while(impatient: None) -> None:
    server = Server(bytes(MIB), ends=False)
    with anyio.fail_after(2):
        await answer(server, content_length=str(100 * MIB))
    assert [name for name in server.log if name != "receive"] == ["start", "body", "end"]


async def test_a_client_that_goes_away_ends_the_reading() -> None:
    server = Server(bytes(MIB), ends=False, stays=False)
    await answer(server, content_length=str(100 * MIB))
    assert server.log == ["start", "body", "receive", "receive", "end"]


async def test_over_http_2_there_is_no_connection_header() -> None:
    for version in ("2", "3"):
        server = Server(*[bytes(MIB)] * 20)
        await answer(server, http_version=version, content_length=str(20 * MIB))
        assert b"connection" not in server.headers
        assert server.log[:3] == ["start", "body", "receive"]


async def test_on_a_connection_with_other_requests_more_is_read() -> None:
    server = Server(*[bytes(MIB)] * 40)  # hypercorn ends it for one byte too many
    await answer(server, http_version="2", content_length=str(40 * MIB))
    assert server.taken == 40 * MIB
    server = Server(*[bytes(MIB)] * 200)
    await answer(server, http_version="2", content_length=str(200 * MIB))
    assert 64 * MIB <= server.taken < 200 * MIB


async def test_over_http_1_0_the_connection_is_closed_as_well() -> None:
    server = Server(*[bytes(MIB)] * 20)
    await answer(server, http_version="1.0", content_length=str(20 * MIB))
    assert server.headers[b"connection"] == b"close"


# To a client that has left


@pytest.mark.parametrize("fails_from", [0, 1, 2], ids=["at-start", "at-body", "at-end"])
@pytest.mark.parametrize("size", [0, 20], ids=["not-sending", "sending"])
async def test_a_client_that_left_is_no_error(size: int, fails_from: int) -> None:
    server = Server(*[bytes(MIB)] * size, fails_from=fails_from)
    await answer(server, content_length=str(size * MIB))
    assert len(server.sent) == min(fails_from, 3 if size else 2)


async def test_a_stream_to_a_client_that_left_is_given_up() -> None:
    asked = []

    async def stream() -> AsyncIterator[bytes]:
        for number in range(100):
            asked.append(number)
            yield b"x"

    await answer(Server(fails_from=2), Response(status=200, stream=stream()))
    assert asked == [0, 1]


class Endless:
    """A stream that counts what is read of it, and notices that it is closed."""

    def __init__(self, piece: bytes = b"x") -> None:
        self._piece = piece
        self.read = 0
        self.is_closed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.read += 1
                await anyio.lowlevel.checkpoint()
                yield self._piece
        finally:
            self.is_closed = True

    def response(self) -> Response:
        return Response(status=200, stream=self.chunks())


class Swallowing(Server):
    """Takes everything, also when there is nobody any more: as uvicorn, hypercorn and granian."""

    def __init__(self, *, leaves_after: int) -> None:
        super().__init__()
        self._leaves_after = leaves_after
        self._left = anyio.Event()

    async def receive(self) -> dict[str, Any]:
        if self.log.count("receive") == 1:
            await self._left.wait()
            return {"type": "http.disconnect"}
        self.log.append("receive")
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        await super().send(message)
        if len(self.sent) == self._leaves_after:
            self._left.set()


async def test_a_stream_to_a_client_that_left_is_given_up_though_the_server_takes_it_all() -> None:
    server, stream = Swallowing(leaves_after=5), Endless()
    with anyio.fail_after(5):
        await answer(server, stream.response())
    assert stream.is_closed
    assert 3 <= stream.read < 50
    assert "end" not in server.log


class Stuck(Server):
    """Waits for ever with the message of a number: the client takes no more."""

    def __init__(self, *, at: int) -> None:
        super().__init__()
        self._at = at

    async def send(self, message: Any) -> None:
        if len(self.sent) == self._at:
            await anyio.sleep_forever()
        await super().send(message)


@pytest.mark.parametrize("at", [0, 1, 3])
async def test_a_stream_to_a_client_that_takes_nothing_is_given_up_in_time(at: int) -> None:
    server, stream = Stuck(at=at), Endless()
    with anyio.fail_after(5):
        await answer(server, stream.response(), timeout=0.02)
    assert len(server.sent) == at
    assert stream.is_closed or at == 0  # one that was never begun holds nothing
    assert stream.read <= 3


async def test_a_client_that_leaves_while_it_takes_nothing_is_noticed_at_once() -> None:
    class StuckAndLeaving(Stuck):
        async def receive(self) -> dict[str, Any]:
            await anyio.wait_all_tasks_blocked()
            return {"type": "http.disconnect"}

    stream = Endless()
    with anyio.fail_after(5):
        await answer(StuckAndLeaving(at=3), stream.response(), timeout=None)
    assert stream.is_closed


@pytest.mark.parametrize("size", [0, 20], ids=["not-sending", "sending"])
async def test_a_refusal_that_nobody_takes_is_given_up_in_time(size: int) -> None:
    for at in (0, 1):
        server = Stuck(at=at)
        with anyio.fail_after(5):
            await answer(server, content_length=str(size * MIB), timeout=0.02)
        assert len(server.sent) == at


async def test_the_time_to_take_a_piece_counts_from_the_last_one() -> None:
    class Slow(Server):
        async def send(self, message: Any) -> None:
            await anyio.sleep(0.03)  # the passing of time is what is tested
            await super().send(message)

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x"

    server = Slow()
    await answer(server, Response(status=200, stream=stream()), timeout=0.12)
    assert (server.log[-1], server.body) == ("end", b"xxxxx")


async def test_no_read_brings_about_a_100_continue_before_a_stream_is_sent() -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            yield b"x"

    server = Server(bytes(10))
    response = Response(status=200, stream=stream())
    await answer(server, response, content_length="10", expect="100-continue")
    assert server.log[0] == "start"


async def test_a_failure_of_the_server_while_a_stream_is_sent_is_told_as_it_is() -> None:
    class Broken(Server):
        async def send(self, message: Any) -> None:
            await super().send(message)
            if len(self.sent) == 3:
                raise RuntimeError("a bug")

    stream = Endless()
    with pytest.raises(RuntimeError, match="a bug"):
        await answer(Broken(), stream.response())
    assert stream.is_closed


async def test_a_receive_that_fails_after_the_answer_does_not_end_it() -> None:
    class Limited(Server):
        async def receive(self) -> dict[str, Any]:
            if self.log.count("receive") == 2:
                raise RuntimeError("the body is too large")
            return await super().receive()

    for response in (REFUSAL, Response(status=200, stream=short())):
        server = Limited(*[bytes(MIB)] * 20)
        with anyio.fail_after(5):
            await answer(server, response, content_length=str(20 * MIB))
        assert server.log[-1] == "end"


async def short() -> AsyncIterator[bytes]:
    yield b"x"


async def test_a_host_sends_a_download_as_the_app_does() -> None:
    server, stream = Swallowing(leaves_after=5), Endless()
    scope = {"type": "http", "headers": [(b"host", b"a")]}
    with anyio.fail_after(5):
        await send_download(stream.response(), scope, server.receive, server.send)
    assert stream.is_closed
    server, stream = Stuck(at=3), Endless()
    with anyio.fail_after(5):
        await send_download(stream.response(), scope, server.receive, server.send, timeout=0.02)
    assert stream.is_closed
