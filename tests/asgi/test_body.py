"""The body of a request as chunks: every way in which it can end."""

from collections import deque
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusasgi import Body, Ending

pytestmark = pytest.mark.anyio

LEFT = {"type": "http.disconnect"}


def chunk(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


class Messages:
    """A `receive` that gives what it has, and then waits for ever."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = deque(messages)
        self.asked = 0

    async def __call__(self) -> dict[str, Any]:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        if not self._messages:
            await anyio.sleep_forever()
        return self._messages.popleft()


async def chunks_of(body: Body) -> list[bytes]:
    return [each async for each in body]


@pytest.mark.parametrize(
    ("messages", "chunks"),
    [
        pytest.param([chunk(b"whole", more=False)], [b"whole"], id="one-message"),
        pytest.param([chunk(b"a"), chunk(b"b", more=False)], [b"a", b"b"], id="two"),
        pytest.param([chunk(b"a"), chunk(b"", more=False)], [b"a"], id="an-empty-end"),
        pytest.param([chunk(b""), chunk(b"a"), chunk(b"", more=False)], [b"a"], id="empty-start"),
        pytest.param([{"type": "http.request"}], [], id="optional-keys-left-out"),
        pytest.param([chunk(b"", more=False)], [], id="empty"),
    ],
)
async def test_a_complete_body_ends(messages: list[dict[str, Any]], chunks: list[bytes]) -> None:
    body = Body(Messages(*messages))
    assert await chunks_of(body) == chunks
    assert (body.ending, body.is_flowing) == (Ending.COMPLETE, False)
    assert body.received == sum(map(len, chunks))


async def test_nothing_is_received_before_it_is_asked_for() -> None:
    receive = Messages(chunk(b"x", more=False))
    body = Body(receive)
    assert (receive.asked, body.is_started, body.is_flowing) == (0, False, True)
    assert await anext(body) == b"x"
    assert (receive.asked, body.is_started) == (1, True)


async def test_a_client_that_leaves_ends_the_body_without_an_error() -> None:
    body = Body(Messages(chunk(b"a"), LEFT))
    assert await chunks_of(body) == [b"a"]
    assert (body.ending, body.is_flowing, body.received) == (Ending.CLIENT_LEFT, False, 1)


async def test_a_body_stays_at_its_end() -> None:
    receive = Messages(chunk(b"a", more=False))
    body = Body(receive)
    await chunks_of(body)
    assert await chunks_of(body) == []
    assert receive.asked == 1


async def test_a_client_that_falls_silent_is_given_up() -> None:
    body = Body(Messages(chunk(b"a")), timeout=0.02)
    with anyio.fail_after(2):
        assert await chunks_of(body) == [b"a"]
    assert (body.ending, body.is_flowing) == (Ending.TIMED_OUT, True)


async def test_the_timeout_counts_from_the_last_message() -> None:
    class Slow(Messages):
        async def __call__(self) -> dict[str, Any]:
            await anyio.sleep(0.2)  # the passing of time is what is tested
            return await super().__call__()

    body = Body(Slow(*[chunk(b"a")] * 5, chunk(b"", more=False)), timeout=0.9)
    assert await chunks_of(body) == [b"a"] * 5
    assert body.ending is Ending.COMPLETE


async def test_without_a_timeout_it_waits_for_as_long_as_it_takes() -> None:
    body = Body(Messages(), timeout=None)
    with anyio.move_on_after(0.05) as scope:
        await chunks_of(body)
    assert (scope.cancelled_caught, body.ending) == (True, None)


async def test_an_interruption_ends_a_body_that_waits_for_the_client() -> None:
    body, got = Body(Messages(chunk(b"a"))), []

    async def read() -> None:
        got.extend(await chunks_of(body))

    with anyio.fail_after(2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            body.interrupt()
            body.interrupt()  # twice is once
    assert got == [b"a"]
    assert (body.ending, body.is_flowing) == (Ending.INTERRUPTED, True)


async def test_an_interruption_before_the_first_chunk_asks_for_nothing() -> None:
    receive = Messages(chunk(b"a"))
    body = Body(receive)
    body.interrupt()
    assert await chunks_of(body) == []
    assert (receive.asked, body.ending, body.is_started) == (0, Ending.INTERRUPTED, False)


async def test_an_interruption_between_two_chunks_ends_the_body_at_the_next() -> None:
    receive = Messages(chunk(b"a"), chunk(b"b"))
    body = Body(receive)
    assert await anext(body) == b"a"
    body.interrupt()
    assert await chunks_of(body) == []
    assert (receive.asked, body.ending) == (1, Ending.INTERRUPTED)


async def test_an_interruption_after_the_end_changes_nothing() -> None:
    body = Body(Messages(chunk(b"a", more=False)))
    await chunks_of(body)
    body.interrupt()
    assert body.ending is Ending.COMPLETE


async def test_a_cancelled_reader_is_cancelled_and_not_timed_out() -> None:
    body = Body(Messages(chunk(b"a")), timeout=60)
    with anyio.move_on_after(0.02) as scope:
        await chunks_of(body)
    assert (scope.cancelled_caught, body.ending) == (True, None)


# What `receive` raises


class LimitReached(Exception):
    """As a framework says it."""


class Limited(Messages):
    """A `receive` that lets nothing pass after what it has."""

    async def __call__(self) -> dict[str, Any]:
        if not self._messages:
            raise LimitReached
        return await super().__call__()


async def test_what_receive_raises_ends_the_body_and_waits_for_whoever_asks() -> None:
    body = Body(Limited(chunk(b"a"), chunk(b"b")))
    body.check()
    assert await chunks_of(body) == [b"a", b"b"]
    assert (body.ending, body.is_flowing, body.received) == (Ending.FAILED, False, 2)
    for _ in range(2):
        with pytest.raises(LimitReached):
            body.check()


async def test_what_receive_raises_ends_what_is_dropped() -> None:
    body = Body(Limited(chunk(b"a")))
    await body.discard(limit=100, seconds=1)
    assert (body.is_flowing, body.received) == (False, 1)


# Whether there is a body at all


@pytest.mark.parametrize(
    ("messages", "is_empty", "chunks"),
    [
        pytest.param([chunk(b""), chunk(b"", more=False)], True, [], id="empty"),
        pytest.param(
            [chunk(b""), chunk(b"a"), chunk(b"b", more=False)], False, [b"a", b"b"], id="not"
        ),
        pytest.param([chunk(b""), LEFT], False, [], id="nobody-knows"),
    ],
)
async def test_the_first_chunk_tells_whether_there_is_a_body_and_stays_in_line(
    messages: list[dict[str, Any]], is_empty: bool, chunks: list[bytes]
) -> None:
    body = Body(Messages(*messages))
    for _ in range(2):
        assert await body.is_empty() is is_empty
    assert await chunks_of(body) == chunks
    assert await body.is_empty() is is_empty


# Until the client leaves


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([LEFT], id="at-once"),
        pytest.param([chunk(b"", more=False), LEFT], id="after-an-empty-body"),
        pytest.param([chunk(b"a"), chunk(b"b"), LEFT], id="in-the-middle-of-a-body"),
    ],
)
async def test_a_client_that_leaves_is_noticed(messages: list[dict[str, Any]]) -> None:
    body = Body(Messages(*messages))
    with anyio.fail_after(2):
        await body.left()
        await body.left()
    assert not body.is_flowing


async def test_a_client_that_left_within_the_body_is_known_to_have_left() -> None:
    receive = Messages(chunk(b"a"), LEFT)
    body = Body(receive)
    await chunks_of(body)
    with anyio.fail_after(2):
        await body.left()
    assert receive.asked == 2


@pytest.mark.parametrize(
    "receive",
    [
        pytest.param(lambda: Messages(chunk(b"", more=False)), id="stays"),
        pytest.param(lambda: Limited(chunk(b"", more=False)), id="is-hidden-by-a-failure"),
        pytest.param(
            lambda: Messages(*[chunk(b"", more=False)] * 1000), id="is-hidden-by-endless-ends"
        ),
    ],
)
async def test_a_client_is_waited_for_without_turning_round(receive: Any) -> None:
    messages = receive()
    with anyio.move_on_after(0.02) as scope:
        await Body(messages).left()
    assert scope.cancelled_caught
    assert messages.asked <= 2


# What is received only to be dropped


async def test_a_rest_is_dropped_up_to_the_end() -> None:
    body = Body(Messages(chunk(b"a"), chunk(b"bc"), chunk(b"d", more=False)))
    assert await anext(body) == b"a"
    await body.discard(limit=100, seconds=1)
    assert (body.is_flowing, body.received) == (False, 4)


async def test_no_more_is_dropped_than_the_limit_and_one_message() -> None:
    receive = Messages(*[chunk(b"1234")] * 10)
    body = Body(receive)
    await body.discard(limit=8, seconds=1)
    assert (receive.asked, body.is_flowing) == (2, True)
    await body.discard(limit=9, seconds=1)
    assert receive.asked == 5


async def test_dropping_stops_when_its_time_is_over() -> None:
    body = Body(Messages(chunk(b"a")))
    with anyio.fail_after(2):
        await body.discard(limit=100, seconds=0.02)
    assert (body.is_flowing, body.received) == (True, 1)


async def test_a_rest_is_dropped_after_an_interruption_which_stays_the_ending() -> None:
    body = Body(Messages(chunk(b"a"), LEFT))
    body.interrupt()
    assert await chunks_of(body) == []
    await body.discard(limit=100, seconds=1)
    assert (body.is_flowing, body.ending) == (False, Ending.INTERRUPTED)


async def test_nothing_is_dropped_after_the_end() -> None:
    receive = Messages(chunk(b"a", more=False))
    body = Body(receive)
    await chunks_of(body)
    await body.discard(limit=100, seconds=1)
    assert receive.asked == 1


@given(st.lists(st.binary(max_size=8), max_size=12), st.booleans())
def test_any_split_of_a_body_is_the_same_bytes(pieces: list[bytes], has_left: bool) -> None:
    end = LEFT if has_left else chunk(b"", more=False)
    body = Body(Messages(*map(chunk, pieces), end))
    chunks = anyio.run(chunks_of, body)
    assert b"".join(chunks) == b"".join(pieces)
    assert all(chunks)
    assert body.ending is (Ending.CLIENT_LEFT if has_left else Ending.COMPLETE)
