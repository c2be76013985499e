"""Chunks gathered to pieces, and stored while the next ones are filled."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync
from hypothesis import given
from hypothesis import strategies as st

from tusasgi import TusApp, Uploads
from tusasgi.stores.file import FileStore
from tusasgi.stores.gathering import Buffer, Gatherer
from tusasgi.testing import Arriving, new_upload, request

pytestmark = pytest.mark.anyio


class Pieces(Gatherer):
    """Keeps what it is to store, after `before` with it."""

    def __init__(
        self, before: Callable[["Pieces"], Any] | None = None, *, size: int = 10, linger: float = 60
    ) -> None:
        super().__init__(size=size, linger=linger)
        self.stored: list[bytes] = []
        self.is_taken_back = False
        self.running = self.most = 0
        self._before = before

    async def store(self) -> None:
        piece = b"".join(self.take(self.size))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self._before is not None:
                await self._before(self)
        finally:
            self.running -= 1
        self.stored.append(piece)

    async def take_back(self) -> None:
        assert self.running == 0
        self.is_taken_back = True

    @property
    def rest(self) -> bytes:
        return b"".join(self.buffer.take())


class Known(AsyncIterator[bytes]):
    """Chunks that say when no more of them follow."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self._chunks = list(chunks)
        self._error = error

    @property
    def is_over(self) -> bool:
        return not self._chunks

    async def __anext__(self) -> bytes:
        if self._chunks:
            return self._chunks.pop(0)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration


class Stalling(AsyncIterator[bytes]):
    """Gives its chunks, and then nothing until it is let go."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self._chunks = list(chunks)
        self._error = error
        self.is_stalled, self.may_end = anyio.Event(), anyio.Event()

    async def __anext__(self) -> bytes:
        if self._chunks:
            return self._chunks.pop(0)
        self.is_stalled.set()
        await self.may_end.wait()
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration


# What is stored.


@pytest.mark.parametrize("chunks", [[], [b""], [b"abcdefghi"]], ids=["none", "empty", "one"])
async def test_a_body_that_is_here_is_left_whole_without_a_task(
    chunks: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_needed() -> None:
        raise AssertionError("nothing runs beside this")

    monkeypatch.setattr(anyio, "create_task_group", not_needed)
    monkeypatch.setattr(anyio, "Event", not_needed)
    pieces = Pieces()
    await pieces.gather(Known(*chunks))
    assert (pieces.stored, pieces.rest) == ([], b"".join(chunks))


async def test_a_whole_body_is_one_call_in_a_worker_thread_of_the_file_store(
    fast_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await run_sync(FileStore, fast_place)
    upload = new_upload(length=9)
    await store.create(upload)
    run, calls = store._writing.run, []

    async def counted(function: Any, *arguments: Any) -> Any:
        calls.append(function)
        return await run(function, *arguments)

    monkeypatch.setattr(store._writing, "run", counted)
    for number, is_staged in enumerate((False, True), start=1):
        upload = await store.append(upload, Known(b"abc"), staged=is_staged)
        assert len(calls) == number
    assert await store.get(upload.id) == upload
    assert upload.offset == 6


async def test_a_request_that_came_whole_is_one_call_in_a_worker_thread_and_no_task(
    fast_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await run_sync(FileStore, fast_place)
    uploads = Uploads(store)
    upload = await uploads.create(length=9)
    run, calls = store._writing.run, []

    async def counted(function: Any, *arguments: Any) -> Any:
        calls.append(function)
        return await run(function, *arguments)

    monkeypatch.setattr(store._writing, "run", counted)
    monkeypatch.delattr(Gatherer, "_read_and_store")
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
    }
    answer = await request(TusApp(uploads), "PATCH", f"/{upload.id}", headers, b"abc")
    assert (answer.status, len(calls)) == (204, 1)
    assert (await store.get(upload.id)).offset == 3


async def test_a_body_that_is_here_and_does_not_fit_is_stored_in_pieces() -> None:
    pieces = Pieces()
    await pieces.gather(Known(b"0123456789abcdefghijABCDE"))
    assert (pieces.stored, pieces.rest) == ([b"0123456789", b"abcdefghij"], b"ABCDE")


@given(content=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=20))
async def test_any_chunks_are_stored_in_full_pieces_in_their_order(
    content: bytes, cuts: list[int]
) -> None:
    ends = sorted(min(cut, len(content)) for cut in cuts)
    pieces = Pieces(lambda _: anyio.lowlevel.checkpoint())
    await pieces.gather(
        Arriving(*[content[start:stop] for start, stop in pairwise([0, *ends, len(content)])])
    )
    rest = pieces.rest
    assert b"".join(pieces.stored) + rest == content
    assert all(len(piece) == 10 for piece in pieces.stored)
    assert len(rest) < 10
    assert pieces.most <= 1


async def test_the_next_piece_is_filled_while_one_is_stored_and_no_more() -> None:
    may_go_on = anyio.Event()
    pieces = Pieces(lambda _: may_go_on.wait())
    chunks = Stalling(*[bytes([number]) * 5 for number in range(20)])
    chunks.may_end.set()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pieces.gather, chunks)
        await anyio.wait_all_tasks_blocked()
        assert (pieces.running, pieces.buffer.size) == (1, 10)
        assert len(chunks._chunks) == 16
        may_go_on.set()
    assert len(pieces.stored) == 10 and pieces.most == 1


async def test_what_a_slow_client_sends_is_stored_before_the_piece_is_full() -> None:
    stored = anyio.Semaphore(0)

    async def tell(pieces: Pieces) -> None:
        stored.release()

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"ab", b"c", b"d"):
            yield chunk
            with anyio.fail_after(5):
                await stored.acquire()
        yield b"e"

    pieces = Pieces(tell, linger=0.01)
    await pieces.gather(chunks())
    assert (pieces.stored, pieces.rest) == ([b"ab", b"c", b"d"], b"e")


async def test_what_is_left_over_of_a_piece_waits_as_what_has_just_come() -> None:
    second: list[float] = []

    async def chunks() -> AsyncIterator[bytes]:
        yield b"01234567"
        await anyio.sleep(0.02)
        second.append(anyio.current_time())
        yield b"89ab"
        await anyio.wait_all_tasks_blocked()
        assert pieces.stored == [b"0123456789"]
        assert pieces.due >= second[0] + 30

    pieces = Pieces(linger=30)
    await pieces.gather(chunks())
    assert (pieces.stored, pieces.rest) == ([b"0123456789"], b"ab")


# What goes wrong.


@pytest.mark.parametrize("came", [[], [b"abc"], [b"x" * 25]], ids=["nothing", "some", "pieces"])
@pytest.mark.parametrize("make", [Arriving, Known])
async def test_what_the_chunks_raise_is_raised_when_everything_was_taken_back(
    make: Callable[..., Any], came: list[bytes]
) -> None:
    error = ValueError("these bytes are wrong")
    pieces = Pieces(lambda _: anyio.lowlevel.checkpoint())
    with pytest.raises(ValueError, match="wrong") as raised:
        await pieces.gather(make(*came, error=error))
    assert raised.value is error
    assert pieces.is_taken_back


async def test_bytes_that_turn_out_wrong_while_their_piece_is_stored_are_waited_for() -> None:
    may_go_on = anyio.Event()
    pieces = Pieces(lambda _: may_go_on.wait())
    chunks = Stalling(b"x" * 15, error=ValueError("wrong"))
    chunks.may_end.set()

    async def gather() -> None:
        with pytest.raises(ValueError, match="wrong"):
            await pieces.gather(chunks)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gather)
        await anyio.wait_all_tasks_blocked()
        assert (pieces.running, pieces.is_taken_back) == (1, False)
        may_go_on.set()
    assert pieces.is_taken_back
    assert len(pieces.stored) == 1  # and what was gathered behind it is dropped


async def fail(pieces: Pieces) -> None:
    raise OSError("the disk is gone")


async def test_a_store_that_fails_ends_the_reading_at_once_and_keeps_what_was_stored() -> None:
    async def fail_later(pieces: Pieces) -> None:
        if pieces.stored:
            await fail(pieces)

    pieces = Pieces(fail_later)
    with anyio.fail_after(5), pytest.raises(OSError, match="gone"):
        await pieces.gather(Stalling(b"0123456789", b"0123456789"))
    assert pieces.stored == [b"0123456789"]
    assert not pieces.is_taken_back


async def test_bytes_that_are_wrong_are_taken_back_even_if_the_store_fails_too() -> None:
    async def fail_later(pieces: Pieces) -> None:
        await anyio.wait_all_tasks_blocked()
        await fail(pieces)

    pieces = Pieces(fail_later)
    with pytest.raises(ValueError, match="wrong"):
        await pieces.gather(Known(b"x" * 10, error=ValueError("wrong")))
    assert pieces.is_taken_back


async def test_what_was_started_beside_the_pieces_is_waited_for_and_its_failure_raised() -> None:
    may_fail = anyio.Event()

    async def work() -> None:
        await may_fail.wait()
        raise OSError("the flush failed")

    async def start(pieces: Pieces) -> None:
        if not pieces.stored:
            pieces.start(work)

    pieces, chunks = Pieces(start), Stalling(b"x" * 20)

    async def gather() -> None:
        with pytest.raises(OSError, match="flush"):
            await pieces.gather(chunks)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gather)
        await anyio.wait_all_tasks_blocked()
        assert len(pieces.stored) == 2  # beside it
        may_fail.set()  # and the chunks never end


class Attempting(Pieces):
    """Fails in an attempt beside the storing when a chunk is bad."""

    async def add(self, chunk: bytes) -> None:
        await super().add(chunk)
        if chunk == b"bad":
            await self.attempt(self._fail)

    async def _fail(self) -> None:
        raise OSError("overtaken")


@pytest.mark.parametrize("when", ["here already", "the first one", "a later one"])
async def test_what_was_attempted_ends_the_reading_and_its_failure_is_raised(when: str) -> None:
    pieces = Attempting()
    before = [b"good"] if when == "a later one" else []
    chunks = Known(b"bad") if when == "here already" else Stalling(*before, b"bad")
    with anyio.fail_after(5), pytest.raises(OSError, match="overtaken"):
        await pieces.gather(chunks)
    assert not pieces.is_taken_back


async def test_a_cancellation_waits_for_nothing_of_the_chunks() -> None:
    pieces = Pieces()
    with anyio.move_on_after(0.01):
        await pieces.gather(Stalling(b"x" * 15))
    assert (pieces.stored, pieces.is_taken_back) == ([b"x" * 10], False)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_of_asyncio_ends_both_tasks() -> None:
    pieces = Pieces(lambda _: anyio.sleep_forever())
    task = asyncio.create_task(pieces.gather(Stalling(b"x" * 20)))
    await anyio.wait_all_tasks_blocked()
    assert pieces.running == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pieces.running == 0


# The buffer.


@given(
    chunks=st.lists(st.one_of(st.binary(max_size=50), st.integers(0, 200_000).map(bytes))),
    sizes=st.lists(st.integers(1, 150_000)),
)
def test_any_chunks_come_out_of_a_buffer_in_any_sizes(
    chunks: list[bytes], sizes: list[int]
) -> None:
    buffer, taken, expected = Buffer(), [], b"".join(chunks)
    for chunk in chunks:
        buffer.add(chunk)
    for size in sizes:
        before = buffer.size
        taken.append(b"".join(buffer.take(size)))
        assert len(taken[-1]) == min(size, before) == before - buffer.size
    taken.append(b"".join(buffer.take()))
    assert buffer.size == 0
    assert b"".join(taken) == expected


def test_what_was_taken_does_not_change_when_more_is_added() -> None:
    buffer = Buffer()
    buffer.add(b"abc")
    (first,) = buffer.take(2)
    buffer.add(b"d")
    assert (bytes(first), b"".join(buffer.take())) == (b"ab", b"cd")


def test_tiny_chunks_weigh_what_their_bytes_weigh() -> None:
    buffer = Buffer()
    tracemalloc.start()
    try:
        for number in range(100_000):
            buffer.add(b"%d" % (number % 10))
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_long_chunks_are_not_copied() -> None:
    buffer, chunk = Buffer(), bytes(64 * 1024)
    buffer.add(chunk)
    assert buffer.take()[0] is chunk
