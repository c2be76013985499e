"""Answers on their way out, also to a client that is still sending."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tusasgi import Body, Headers, Response
from tusasgi._send import send_response

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
    **headers: str,
) -> None:
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await send_response(
        response,
        server.send,
        body=body or Body(server.receive),
        headers=Headers(lines),
        http_version=http_version,
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tusasgi._send._LINGER_SECONDS", 0.02)


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
    assert (server.log, server.body) == (["start", "body", "body", "end"], b"abc")


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


async def test_a_pending_expectation_is_not_met_by_a_read() -> None:
    server = Server()
    await answer(server, content_length="10", expect="100-continue")
    assert server.log == ["start", "end"]
    assert server.headers[b"connection"] == b"close"


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
