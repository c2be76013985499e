"""The S3 store, cancelled as asyncio does it: `Task.cancel` passes the shields of anyio."""

import asyncio
from typing import Any

import pytest

from tests.stores.s3._scenes import BY_NAME, Operation, Place, Wire, moments

pytestmark = pytest.mark.anyio

FEW = [
    "create",
    "append-whole-small",
    "append-onto-a-tail",
    "append-parts",
    "append-staged",
    "refused-saving",
    "refused-segments",
    "refused-onto-parts",
    "finish-with-a-tail",
    "complete-parts",
    "terminate-parts",
    "concat-short",
    "due",
]
SOME = ["append-staged", "refused-onto-parts"]
CASES = moments(after=FEW, before=SOME)


@pytest.fixture
def anyio_backend() -> str:
    """trio knows no cancellation but that of scopes."""
    return "asyncio"


@pytest.mark.parametrize(("name", "moment"), CASES)
async def test_a_store_that_asyncio_cancels_loses_and_leaves_nothing(
    name: str, moment: str, place: Place
) -> None:
    number, has_more = 0, True
    while has_more:
        number += 1
        has_more = await cancelled(BY_NAME[name], number, moment, place)
    assert number > 1


async def cancelled(operation: Operation, number: int, moment: str, place: Place) -> bool:
    """Cancel the operation at a call and at each that follows, and check what is there.

    So what it does to tidy up is cancelled as well. False if it has fewer calls.
    """
    store = place.store(name="cancelled")
    scene = await operation.prepare(store)
    wire = Wire(store)

    async def cancel(seen: int, name: str, parameters: dict[str, Any]) -> None:
        if seen >= number:
            task.cancel()

    setattr(wire, moment, cancel)
    async with wire.listening():
        task = asyncio.ensure_future(operation.run(store, scene))
        await asyncio.wait([task])
        seen = wire.count
        await asyncio.sleep(0.01)
        assert wire.count == seen, "somebody is still at work"
    if not task.cancelled():
        await task
    try:
        await place.check(scene)
    except Exception as error:
        error.add_note(f"{operation}, cancelled {moment} call {number}: {wire.names}")
        raise
    return wire.count >= number
