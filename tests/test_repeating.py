"""Work with the date of an upload moved beside it."""

import anyio
import pytest

from tusasgi.repeating import repeating

pytestmark = pytest.mark.anyio


class Renewals:
    """Counts, and does what it is given each time."""

    def __init__(self, error: Exception | None = None) -> None:
        self.count = 0
        self._error = error
        self._wanted = anyio.Event()
        self._number = 0

    async def __call__(self) -> None:
        self.count += 1
        if self.count == self._number:
            self._wanted.set()
        if self._error is not None:
            raise self._error

    async def until(self, number: int) -> str:
        """Work until there were so many."""
        self._number = number
        with anyio.fail_after(10):
            await self._wanted.wait()
        return "done"


@pytest.mark.parametrize("error", [None, OSError("no date")], ids=["kept", "failed"])
async def test_as_long_as_the_work_takes_the_date_is_renewed(error: Exception | None) -> None:
    renewals = Renewals(error)
    assert await repeating(renewals.until(3), renewals, interval=0.001) == "done"
    count = renewals.count
    await anyio.sleep(0.01)
    assert renewals.count == count >= 3


async def test_work_that_is_done_before_the_interval_costs_no_renewal() -> None:
    renewals = Renewals()
    with anyio.fail_after(10):
        await repeating(anyio.lowlevel.checkpoint(), renewals, interval=60)
    assert renewals.count == 0


async def test_what_the_work_raises_is_raised_as_it_is() -> None:
    error = ValueError("wrong")

    async def fail() -> None:
        raise error

    with pytest.raises(ValueError) as raised:
        await repeating(fail(), Renewals(), interval=60)
    assert raised.value is error
    assert error.__context__ is None


async def test_a_renewal_that_is_under_way_at_the_end_is_waited_for() -> None:
    begun, ended = anyio.Event(), anyio.Event()

    async def slowly() -> None:
        begun.set()
        await anyio.wait_all_tasks_blocked()
        ended.set()

    await repeating(begun.wait(), slowly, interval=0.001)
    assert ended.is_set()


async def test_a_cancellation_ends_the_work_and_the_renewals() -> None:
    renewals = Renewals()
    with anyio.move_on_after(0.02):
        await repeating(anyio.sleep_forever(), renewals, interval=0.001)
    count = renewals.count
    await anyio.sleep(0.01)
    assert renewals.count == count > 0
