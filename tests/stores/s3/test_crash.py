"""The S3 store, killed at each of its calls: before it is sent, or when it took effect."""

from typing import Any

import pytest

from tests.stores.s3._scenes import (
    BY_NAME,
    Killed,
    Operation,
    Place,
    Wire,
    moments,
)

pytestmark = pytest.mark.anyio


FEW = [
    "create",
    "append-whole-small",
    "append-onto-a-tail",
    "append-parts",
    "append-saving",
    "append-staged",
    "refused-saving",
    "refused-segments",
    "finish-with-a-tail",
    "complete-parts",
    "terminate-parts",
    "concat-short",
]
SOME = ["append-onto-a-tail", "terminate-parts"]
CASES = moments(after=FEW, before=SOME)


@pytest.mark.parametrize(("name", "moment"), CASES)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_server_that_dies_at_any_call_loses_and_leaves_nothing(
    name: str, moment: str, place: Place
) -> None:
    await die_everywhere(BY_NAME[name], moment, place)


@pytest.mark.parametrize(
    ("name", "moment"), [("append-onto-a-tail", "after"), ("refused", "before")]
)
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_server_on_trio_may_die_as_well(name: str, moment: str, place: Place) -> None:
    await die_everywhere(BY_NAME[name], moment, place)


async def die_everywhere(operation: Operation, moment: str, place: Place) -> None:
    number, is_killed = 0, True
    while is_killed:
        number += 1
        is_killed = await killed(operation, number, moment, place)
    assert number > 1


async def killed(operation: Operation, number: int, moment: str, place: Place) -> bool:
    """Kill the operation at a call and check what is there. False if it has fewer calls."""
    store = place.store(name="dying")
    scene = await operation.prepare(store)
    wire = Wire(store)

    async def die(seen: int, name: str, parameters: dict[str, Any]) -> None:
        if seen == number:
            wire.kill()

    setattr(wire, moment, die)
    async with wire.listening():
        try:
            await operation.run(store, scene)
        except BaseException as error:
            if not wire.is_dead:
                raise AssertionError(f"{operation} failed by itself") from error
            assert is_killed_by(error)
    try:
        await place.check(scene)
    except Exception as error:
        error.add_note(f"{operation}, killed {moment} call {number}: {wire.names}")
        raise
    return wire.is_dead


def is_killed_by(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_killed_by, error.exceptions))
    return isinstance(error, Killed)
