"""What every locker promises, as a suite of tests to be run on a locker of your own."""

import abc
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from tusasgi import UploadLocked
from tusasgi.lockers import Locker
from tusasgi.testing.faults import cancelled_at, natively_cancelled_at

_PATIENT, _IMPATIENT = 30.0, 0.1  # seconds
_SOME_TIME = 0.5  # seconds, in which a poller would ask a dozen times
_FEW = 4
_CROWD = 20


class LockerSuite(abc.ABC):
    """Subclass it as `TestMyLocker`, say how a locker is made, and run pytest.

    Every test runs once for each backend of the fixture `anyio_backend`. Lockers made over the
    same place must reach each other if `is_shared`; else one object is used for all holders.
    """

    pytestmark = pytest.mark.anyio

    is_shared: bool = True
    """False if a lock reaches only as far as its locker object."""

    handover_seconds: float = 5.0
    """How long a lock may take from its release to its next holder, on a machine that is busy."""

    is_woken: bool = True
    """False if a newcomer tries again and again instead of being woken."""

    @abc.abstractmethod
    def make_locker(self, place: Path, *, patience: float) -> Locker:
        """Return a locker over this place whose newcomers wait for so many seconds."""

    async def leftovers(self, locker: Locker, place: Path) -> object:
        """Return what is kept although no lock is held; it must be false."""
        return None

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """An empty folder, for a locker that wants one."""
        return tmp_path / "place"

    @pytest.fixture
    def locker(self, place: Path) -> Locker:
        return self.make_locker(place, patience=_PATIENT)

    @pytest.fixture
    def other(self, locker: Locker, place: Path) -> Locker:
        """A locker as another worker has it."""
        return self.make_locker(place, patience=_PATIENT) if self.is_shared else locker

    @pytest.fixture
    def impatient(self, place: Path) -> Locker:
        return self.make_locker(place, patience=_IMPATIENT)

    @pytest.fixture
    def _asyncio(self, anyio_backend_name: str) -> None:
        if anyio_backend_name != "asyncio":
            pytest.skip("asyncio alone cancels tasks past every shield")

    @pytest.fixture
    async def _nothing_is_left(self, locker: Locker, place: Path) -> AsyncIterator[None]:
        yield
        assert not await self.leftovers(locker, place)

    async def test_a_lock_can_be_taken_again_and_again(
        self, locker: Locker, _nothing_is_left: None
    ) -> None:
        for _ in range(20):
            async with locker.lock("a", interrupt=_unexpected):
                pass

    async def test_locks_on_different_uploads_do_not_meet(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        async with (
            locker.lock("a", interrupt=_unexpected),
            other.lock("b", interrupt=_unexpected),
            other.lock("A", interrupt=_unexpected),
        ):
            pass

    async def test_a_newcomer_interrupts_the_holder_and_gets_the_lock_when_it_lets_go(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        first, second = _Holder(locker), _Holder(other)
        async with anyio.create_task_group() as tasks:
            await tasks.start(first.hold_until_interrupted)
            assert not first.is_interrupted.is_set()
            tasks.start_soon(second.hold_until_released)
            await first.is_interrupted.wait()
            with anyio.fail_after(self.handover_seconds):
                await second.has_lock.wait()
            assert not first.is_holding
            second.released.set()

    async def test_one_holds_the_lock_at_a_time_and_everyone_gets_it(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        holding, served = 0, []

        async def take(number: int) -> None:
            nonlocal holding
            async with (locker, other)[number % 2].lock("a", interrupt=_nothing):
                holding += 1
                assert holding == 1
                await anyio.lowlevel.checkpoint()
                served.append(number)
                holding -= 1

        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(take, number)
        assert sorted(served) == list(range(12))

    async def test_of_several_newcomers_the_newest_goes_on(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        holders = [_Holder(one) for one in (locker, other, locker, other)]
        async with anyio.create_task_group() as tasks:
            await tasks.start(holders[0].hold_until_interrupted)
            for holder in holders[1:]:
                tasks.start_soon(holder.hold_until_interrupted)
                await _until_all_wait()
            with anyio.fail_after(len(holders) * self.handover_seconds):
                await holders[-1].has_lock.wait()
            await _until_all_wait()
            assert holders[-1].is_holding
            assert not holders[-1].is_interrupted.is_set()
            for holder in holders:
                holder.released.set()

    async def test_of_a_crowd_the_newest_goes_on_and_then_everybody_else_gets_an_answer(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        holders = [_Holder((locker, other)[number % 2]) for number in range(_CROWD)]
        newest, all_answered = _Holder(other), anyio.Event()

        async def hold_or_be_refused(holder: _Holder) -> None:
            with suppress(UploadLocked):
                await holder.hold_until_interrupted()

        async def answer_all() -> None:
            async with anyio.create_task_group() as tasks:
                for holder in holders:
                    tasks.start_soon(hold_or_be_refused, holder)
            all_answered.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer_all)
            with anyio.fail_after(_CROWD * self.handover_seconds):
                await _until_one_stays(holders, for_seconds=self.handover_seconds / 10)
            tasks.start_soon(newest.hold_until_interrupted)
            with anyio.fail_after(_CROWD * self.handover_seconds):
                await newest.has_lock.wait()
                await _until_all_wait()
                assert not newest.is_interrupted.is_set()
                for holder in (newest, *holders):
                    holder.released.set()
                await all_answered.wait()

    async def test_a_clock_that_is_set_back_keeps_no_newcomer_from_the_lock(
        self,
        locker: Locker,
        other: Locker,
        monkeypatch: pytest.MonkeyPatch,
        _nothing_is_left: None,
    ) -> None:
        first, second = _Holder(locker), _Holder(other)
        async with anyio.create_task_group() as tasks:
            await tasks.start(first.hold_until_interrupted)
            now = time.time()
            monkeypatch.setattr(time, "time", lambda: now - 3600)
            tasks.start_soon(second.hold_until_released)
            with anyio.fail_after(2 * self.handover_seconds):
                await second.has_lock.wait()
            second.released.set()

    async def test_a_holder_that_does_not_let_go_makes_the_newcomer_give_up(
        self, place: Path, impatient: Locker
    ) -> None:
        locker, holder = impatient, _Holder(impatient)
        async with anyio.create_task_group() as tasks:
            await tasks.start(holder.hold_until_released)
            with pytest.raises(UploadLocked):
                async with locker.lock("a", interrupt=_unexpected):
                    pytest.fail("two holders")
            assert holder.is_interrupted.is_set()
            assert holder.is_holding
            holder.released.set()
        await _can_be_taken(locker)
        assert not await self.leftovers(locker, place)

    async def test_a_newcomer_without_any_patience_is_refused_but_interrupts_the_holder(
        self, place: Path
    ) -> None:
        hasty = self.make_locker(place, patience=0)
        holder = _Holder(hasty)
        async with anyio.create_task_group() as tasks:
            await tasks.start(holder.hold_until_interrupted)
            with pytest.raises(UploadLocked):
                async with hasty.lock("a", interrupt=_unexpected):
                    pytest.fail("two holders")
            with anyio.fail_after(self.handover_seconds):
                await holder.is_interrupted.wait()

    async def test_a_newcomer_sleeps_until_it_is_woken(self, place: Path) -> None:
        if not self.is_woken:
            pytest.skip("its newcomers are not woken")
        locker = self.make_locker(place, patience=_SOME_TIME)

        async def give_up() -> None:
            with pytest.raises(UploadLocked):
                async with locker.lock("a", interrupt=_unexpected):
                    pytest.fail("two holders")

        async with locker.lock("a", interrupt=_nothing):
            wakes_too_often = await cancelled_at(_FEW, give_up())
        assert not wakes_too_often
        assert not await self.leftovers(locker, place)

    async def test_without_take_over_a_held_lock_is_refused_and_nobody_disturbed(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        async with locker.lock("a", interrupt=_unexpected):
            with anyio.fail_after(self.handover_seconds), pytest.raises(UploadLocked):
                async with other.lock("a", interrupt=_unexpected, take_over=False):
                    pytest.fail("two holders")
            await _until_all_wait()

    async def test_without_take_over_a_free_lock_is_taken_and_can_be_asked_for(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        sweeper, newcomer = _Holder(locker, take_over=False), _Holder(other)
        async with anyio.create_task_group() as tasks:
            await tasks.start(sweeper.hold_until_interrupted)
            tasks.start_soon(newcomer.hold_until_released)
            await newcomer.has_lock.wait()
            newcomer.released.set()

    async def test_a_newcomer_that_goes_away_leaves_a_lock_that_works(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        holder, newcomer = _Holder(locker), _Holder(other)
        async with anyio.create_task_group() as tasks:
            await tasks.start(holder.hold_until_released)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(newcomer.hold_until_released)
                    await holder.is_interrupted.wait()
                    scope.cancel()
            assert not newcomer.has_lock.is_set()
            holder.released.set()
        await _can_be_taken(locker)

    async def test_newcomers_that_go_away_leave_their_places_to_those_who_stay(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        holder, scope = _Holder(locker), anyio.CancelScope()
        leaving = [_Holder(one) for one in (locker, other, locker)]
        staying = _Holder(other)

        async def wait_and_leave() -> None:
            with scope:
                async with anyio.create_task_group() as tasks:
                    for newcomer in leaving:
                        tasks.start_soon(newcomer.hold_until_released)

        async with anyio.create_task_group() as tasks:
            await tasks.start(holder.hold_until_released)
            tasks.start_soon(wait_and_leave)
            tasks.start_soon(staying.hold_until_interrupted)
            await _until_all_wait()
            scope.cancel()
            await _until_all_wait()
            holder.released.set()
            with anyio.fail_after(self.handover_seconds):
                await staying.has_lock.wait()
            assert not any(newcomer.has_lock.is_set() for newcomer in leaving)
            staying.released.set()

    async def test_a_newcomer_that_goes_away_in_the_moment_of_its_turn_passes_the_lock_on(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        holder, scope = _Holder(locker), anyio.CancelScope()

        async def give_up() -> None:
            with scope:
                async with other.lock("a", interrupt=_nothing):
                    await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            await tasks.start(holder.hold_until_released)
            tasks.start_soon(give_up)
            await holder.is_interrupted.wait()
            holder.on_release = scope.cancel
            holder.released.set()
        await _can_be_taken(locker)

    async def test_a_newcomer_cancelled_at_any_await_leaves_a_lock_that_works(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        async def take() -> None:
            async with other.lock("a", interrupt=_nothing):
                await anyio.lowlevel.checkpoint()

        at, was_cut = 0, True
        while was_cut:
            holder = _Holder(locker)
            async with anyio.create_task_group() as tasks:
                await tasks.start(holder.hold_until_interrupted)
                was_cut = await cancelled_at(at, take())
                holder.released.set()
            await _can_be_taken(locker)
            at += 1
        assert at > 1

    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(ValueError("a bug"), id="exception"),
            pytest.param(UploadLocked("a refusal"), id="refusal"),
            pytest.param(ExceptionGroup("two", [OSError(), ValueError()]), id="group"),
            pytest.param(KeyboardInterrupt("Ctrl-C"), id="keyboard-interrupt"),
            pytest.param(SystemExit(3), id="system-exit"),
            pytest.param(GeneratorExit("closed"), id="generator-exit"),
        ],
    )
    async def test_an_exception_passes_through_as_it_is_and_frees_the_lock(
        self, error: BaseException, locker: Locker, _nothing_is_left: None
    ) -> None:
        with pytest.raises(type(error)) as raised:
            async with locker.lock("a", interrupt=_unexpected):
                raise error
        assert raised.value is error
        await _can_be_taken(locker)

    async def test_a_holder_that_raises_when_interrupted_hands_over_and_its_exception_is_kept(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        error, is_interrupted, newcomer = KeyError("a bug"), anyio.Event(), _Holder(other)
        async with anyio.create_task_group() as tasks:
            with pytest.raises(KeyError) as raised:
                async with locker.lock("a", interrupt=is_interrupted.set):
                    tasks.start_soon(newcomer.hold_until_released)
                    await is_interrupted.wait()
                    raise error
            assert raised.value is error
            with anyio.fail_after(self.handover_seconds):
                await newcomer.has_lock.wait()
            newcomer.released.set()

    async def test_a_holder_out_of_time_frees_the_lock_and_gets_its_timeout(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            async with locker.lock("a", interrupt=_unexpected):
                await anyio.sleep_forever()
        await _can_be_taken(other)

    async def test_a_cancelled_holder_frees_the_lock(
        self, locker: Locker, other: Locker, _nothing_is_left: None
    ) -> None:
        with anyio.CancelScope() as scope:
            async with locker.lock("a", interrupt=_unexpected):
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        await _can_be_taken(other)

    @pytest.mark.parametrize("times", [1, 2, 3])
    async def test_a_holder_that_asyncio_cancels_has_the_lock_until_its_body_ends(
        self, times: int, locker: Locker, other: Locker, _asyncio: None, _nothing_is_left: None
    ) -> None:
        has_lock, may_end = anyio.Event(), anyio.Event()

        async def hold() -> None:
            async with locker.lock("a", interrupt=_nothing):
                has_lock.set()
                while not may_end.is_set():  # as if a thread were still at work
                    with suppress(asyncio.CancelledError):
                        await may_end.wait()
                raise asyncio.CancelledError

        task = asyncio.create_task(hold())
        await has_lock.wait()
        for _ in range(times):
            task.cancel()
            await _until_all_wait()
            with pytest.raises(UploadLocked):
                async with other.lock("a", interrupt=_nothing, take_over=False):
                    pytest.fail("two holders")
        may_end.set()
        await asyncio.wait([task])
        assert task.cancelled()
        await _can_be_taken(other)

    @pytest.mark.parametrize("times", [1, 2, 3])
    async def test_a_newcomer_that_asyncio_cancels_at_any_await_leaves_a_lock_that_works(
        self, times: int, locker: Locker, other: Locker, _asyncio: None, _nothing_is_left: None
    ) -> None:
        async def take() -> None:
            async with other.lock("a", interrupt=_nothing):
                await anyio.lowlevel.checkpoint()

        at, was_cut = 0, True
        while was_cut:
            holder = _Holder(locker)
            async with anyio.create_task_group() as tasks:
                await tasks.start(holder.hold_until_interrupted)
                was_cut = await natively_cancelled_at(at, take(), times=times)
                holder.released.set()
            await _can_be_taken(locker)
            at += 1
        assert at > 1

    @pytest.mark.parametrize("times", [1, 2, 3])
    async def test_a_lock_that_nobody_else_wants_is_free_again_wherever_asyncio_cancels(
        self, times: int, locker: Locker, other: Locker, _asyncio: None, _nothing_is_left: None
    ) -> None:
        async def take() -> None:
            async with locker.lock("a", interrupt=_unexpected):
                await anyio.lowlevel.checkpoint()

        at, was_cut = 0, True
        while was_cut:
            was_cut = await natively_cancelled_at(at, take(), times=times)
            await _can_be_taken(other)
            at += 1
        assert at > 1


class _Holder:
    """Somebody who takes the lock on upload `a` and shows what happens."""

    def __init__(self, locker: Locker, *, take_over: bool = True) -> None:
        self.is_holding = False
        self.has_lock = anyio.Event()
        self.is_interrupted = anyio.Event()
        self.released = anyio.Event()
        self.on_release: Callable[[], None] = _nothing
        self._locker = locker
        self._take_over = take_over

    async def hold_until_interrupted(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        async with self._held():
            task_status.started()
            async with anyio.create_task_group() as tasks:
                for event in (self.is_interrupted, self.released):
                    tasks.start_soon(_cancel_after, event.wait, tasks.cancel_scope)

    async def hold_until_released(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        async with self._held():
            task_status.started()
            await self.released.wait()

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        interrupt, take_over = self.is_interrupted.set, self._take_over
        async with self._locker.lock("a", interrupt=interrupt, take_over=take_over):
            self.is_holding = True
            self.has_lock.set()
            try:
                yield
            finally:
                self.is_holding = False
                self.on_release()


async def _until_one_stays(holders: list[_Holder], *, for_seconds: float) -> None:
    """Wait until all have come to the locker: then one of them keeps the lock."""
    last, since = None, anyio.current_time()
    while last is None or anyio.current_time() - since < for_seconds:
        holding = next((holder for holder in holders if holder.is_holding), None)
        if holding is not last:
            last, since = holding, anyio.current_time()
        await anyio.sleep(for_seconds / 50)


async def _cancel_after(wait: Callable[[], Awaitable[object]], scope: anyio.CancelScope) -> None:
    await wait()
    scope.cancel()


async def _can_be_taken(locker: Locker) -> None:
    with anyio.fail_after(1):
        async with locker.lock("a", interrupt=_unexpected, take_over=False):
            pass


async def _until_all_wait() -> None:
    # A locker that asks the kernel again and again never lets all tasks block.
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


def _nothing() -> None:
    pass


def _unexpected() -> None:
    # An event loop reports an exception of a callback to the test, but not what pytest raises.
    raise AssertionError("nobody has asked for this lock")
