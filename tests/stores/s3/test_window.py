"""Several parts of an append on their way at once: how many, and what counts of them."""

from collections.abc import AsyncIterator, Callable
from itertools import cycle, permutations
from typing import Any

import anyio
import pytest

from tests.services.s3 import Moto
from tests.stores.s3._scenes import CONTENT, KIB, MIB, PART, Place, Wire, new_place
from tusasgi import StoreUnavailable, Upload
from tusasgi.stores.s3 import S3Store, writer
from tusasgi.stores.s3.budget import Budget
from tusasgi.stores.s3.window import MOST, Window
from tusasgi.testing.stores import new_upload

pytestmark = pytest.mark.anyio

PARTS = (1, 2, 3)


# How many.


def sizes(window: Window, seconds: Callable[[int], float], parts: int) -> list[int]:
    """Return how many were on their way at once, of parts that take so long among as many."""
    seen = []
    for _ in range(parts):
        seen.append(window.size)
        window.arrived(seconds(window.size), among=window.size)
    return seen


def test_there_are_more_while_each_takes_as_long_as_one_alone() -> None:
    seen = sizes(Window(), lambda among: 0.3, 40)
    assert seen == sorted(seen)
    assert set(seen) == {1, 2, 4, MOST}


def test_seven_parts_are_enough_to_find_out_that_eight_at_once_pay() -> None:
    assert sizes(Window(), lambda among: 0.3, 8) == [1, 2, 2, 4, 4, 4, 4, MOST]


def test_one_goes_at_a_time_to_a_server_that_is_busy_with_it() -> None:
    seen = sizes(Window(), lambda among: 0.1 * among, 200)
    assert seen.count(1) > 0.75 * len(seen)
    assert max(seen) == 2  # tried now and then


def test_there_are_fewer_when_the_server_slows_down_and_more_when_that_is_over() -> None:
    window = Window()
    sizes(window, lambda among: 0.3, 40)
    assert 1 in sizes(window, lambda among: 0.5 * among, 100)
    assert MOST in sizes(window, lambda among: 0.3, 100)


def test_parts_among_fewer_than_may_be_prove_nothing() -> None:
    window = Window(2)
    for _ in range(100):
        window.arrived(0.1, among=1)
    assert window.size == 2


# What counts.


@pytest.fixture
def place(moto: Moto) -> Place:
    return new_place(moto)


class Gate:
    """Holds the answers to parts until they are let through one by one."""

    def __init__(self, store: S3Store) -> None:
        self.sent = [anyio.Event() for _ in PARTS]
        self.let = [anyio.Event() for _ in PARTS]
        self.failing = 0
        self.on_their_way = self.most = 0
        self.wire = Wire(store)
        self.wire.before = self._before
        self.wire.after = self._after

    async def _before(self, _: int, name: str, parameters: dict[str, Any]) -> None:
        if name == "upload_part":
            self.on_their_way += 1
            self.most = max(self.most, self.on_their_way)

    async def _after(self, _: int, name: str, parameters: dict[str, Any]) -> None:
        if name != "upload_part":
            return
        number = parameters["PartNumber"]
        self.sent[number - 1].set()
        await self.let[number - 1].wait()
        self.on_their_way -= 1
        if number == self.failing:
            raise StoreUnavailable("the answer was lost")

    async def all_sent(self) -> None:
        for sent in self.sent:
            await sent.wait()


async def parts(*, pause: anyio.Event | None = None) -> AsyncIterator[bytes]:
    """Yield three parts, and a little more after a pause."""
    for start in range(0, 3 * PART, MIB):
        yield CONTENT[start : start + MIB]
    if pause is not None:
        await pause.wait()
    yield CONTENT[3 * PART :][:1000]


@pytest.mark.parametrize(
    ("order", "anyio_backend"),
    list(zip(permutations(PARTS), cycle(["asyncio", "trio"]), strict=False)),
    ids=str,
)
async def test_parts_may_arrive_in_any_order_and_no_gap_is_shown(
    order: tuple[int, ...], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_FIRST_SAVE", 0.0)
    monkeypatch.setattr(writer, "_SAVE", 0.0)
    store, other = place.store(name="one"), place.store(name="other")
    upload = await store.create(new_upload(length=len(CONTENT)))
    gate, done = Gate(store), anyio.Event()

    async def append() -> None:
        nonlocal upload
        upload = await store.append(upload, parts(pause=done))

    async with gate.wire.listening(), anyio.create_task_group() as tasks:
        tasks.start_soon(append)
        await gate.all_sent()
        arrived: set[int] = set()
        for number in order:
            gate.let[number - 1].set()
            arrived.add(number)
            run = next(count for count in range(4) if count + 1 not in arrived)
            await shown(other, upload.id, run * PART)
        done.set()
    assert upload.offset == 3 * PART + 1000
    assert await place.content(other, upload) == CONTENT[: upload.offset]


async def test_what_is_too_short_for_a_part_is_kept_once_those_before_have_arrived(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_FIRST_SAVE", 0.0)
    monkeypatch.setattr(writer, "_SAVE", 0.0)
    store = place.store()
    upload = await store.create(new_upload(length=len(CONTENT)))
    gate, done = Gate(store), anyio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in parts():
            yield chunk
        yield CONTENT[3 * PART + 1000 :][: 300 * KIB]
        await done.wait()

    async def append() -> None:
        nonlocal upload
        upload = await store.append(upload, chunks(), staged=True)

    def segments() -> int:
        return gate.wire.names.count("put_object")

    async with gate.wire.listening(), anyio.create_task_group() as tasks:
        tasks.start_soon(append)
        await gate.all_sent()
        for let in gate.let:
            await anyio.sleep(0.05)
            assert segments() == 0
            let.set()
        with anyio.fail_after(10):
            while segments() == 0:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        done.set()
    assert upload.offset == 3 * PART + 1000 + 300 * KIB
    assert await place.content(place.store(), upload) == CONTENT[: upload.offset]


async def shown(store: S3Store, upload_id: str, offset: int) -> None:
    """Return when others see so many bytes, and never more."""
    for _ in range(500):
        found = (await store.get(upload_id)).offset
        assert found <= offset
        if found == offset:
            await anyio.sleep(0.05)
            assert (await store.get(upload_id)).offset == offset
            return
        await anyio.sleep(0.01)
    raise AssertionError(f"{offset} bytes are not shown")


@pytest.mark.parametrize("others", ["first", "last"])
@pytest.mark.parametrize("failing", PARTS)
async def test_a_part_that_fails_among_others_leaves_no_gap_and_gives_the_memory_back(
    failing: int, others: str, place: Place
) -> None:
    """Others arrive before it, or after."""
    store = place.store()
    upload = await store.create(new_upload(length=len(CONTENT)))
    gate = Gate(store)
    gate.failing = failing

    async def append() -> None:
        with pytest.raises(StoreUnavailable, match="the answer was lost"):
            await store.append(upload, parts())

    async with gate.wire.listening(), anyio.create_task_group() as tasks:
        tasks.start_soon(append)
        await gate.all_sent()
        others_first = [n for n in PARTS if n != failing] + [failing]
        for number in others_first if others == "first" else others_first[::-1]:
            gate.let[number - 1].set()
            await anyio.wait_all_tasks_blocked()
    assert store._budget._left == store._budget._size
    kept = await place.store().get(upload.id)
    assert kept.offset <= (failing - 1) * PART
    assert await place.content(store, kept) == CONTENT[: kept.offset]
    kept = await filled_up(place.store(), kept)
    assert await place.content(place.store(), kept) == CONTENT


async def filled_up(store: S3Store, upload: Upload) -> Upload:
    async def rest() -> AsyncIterator[bytes]:
        yield CONTENT[upload.offset :]

    return await store.append(upload, rest())


async def test_an_append_that_is_cancelled_with_parts_on_their_way_gives_the_memory_back(
    place: Place,
) -> None:
    store = place.store()
    upload = await store.create(new_upload(length=len(CONTENT)))
    gate = Gate(store)
    async with gate.wire.listening(), anyio.create_task_group() as tasks:
        tasks.start_soon(store.append, upload, parts())
        await gate.all_sent()
        tasks.cancel_scope.cancel()
    assert store._budget._left == store._budget._size
    assert await place.store().get(upload.id) == upload
    upload = await filled_up(place.store(), upload)
    assert await place.content(place.store(), upload) == CONTENT


async def test_one_goes_at_a_time_while_somebody_waits_for_memory(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.store()
    upload = await store.create(new_upload(length=len(CONTENT)))
    monkeypatch.setattr(Budget, "is_short", True)
    gate = Gate(store)
    async with gate.wire.listening(), anyio.create_task_group() as tasks:
        tasks.start_soon(store.append, upload, parts())
        for sent, let in zip(gate.sent, gate.let, strict=True):
            await sent.wait()
            let.set()
    assert gate.most == 1


async def test_memory_is_short_while_somebody_waits_for_it() -> None:
    budget = Budget(10)
    await budget.take(10)
    assert not budget.is_short
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(budget.take, 1)
        await anyio.wait_all_tasks_blocked()
        assert budget.is_short
        budget.give(10)
    assert not budget.is_short
