"""The S3 store when a call fails: each call of each operation in turn, in every way."""

import threading
from collections.abc import Iterator
from typing import Any, Literal, get_args

import pytest

from tests.services.faults import Call, FaultProxy
from tests.services.s3 import SeaweedFS
from tests.stores.s3._scenes import (
    BY_NAME,
    OPERATIONS,
    THOROUGH,
    Operation,
    Place,
)
from tusasgi import StoreUnavailable

pytestmark = pytest.mark.anyio

Fault = Literal[
    "error_500",
    "error_503",
    "reset",
    "reset_mid_body",
    "lost_answer",
    "cut_answer",
    "stall",
    "down",
]
ONCE = {"retries": {"total_max_attempts": 1}, "connect_timeout": 2, "read_timeout": 20}
IMPATIENT = {**ONCE, "read_timeout": 1}
PATIENT = {"connect_timeout": 2, "read_timeout": 20}
_TWICE = ("reset", "reset_mid_body", "lost_answer", "cut_answer")
"""aiohttp repeats a call once, and tells nobody, if its connection ends without an answer."""

FEW = [
    "create",
    "append-onto-a-tail",
    "append-staged",
    "refused",
    "finish-with-a-tail",
    "complete-small",
    "terminate-parts",
    "concat-short",
    "due",
]
ONCE_MORE = ["create", "append-onto-a-tail", "complete-small"]
SEEN: list[tuple[str, Fault]] = [
    (operation.name, fault)
    for operation in OPERATIONS
    for fault in get_args(Fault)
    if THOROUGH
    or (operation.name in FEW and fault == "lost_answer")
    or (operation.name == "append-onto-a-tail" and fault != "stall")
    or (operation.name == "append-parts" and fault in ("error_503", "reset_mid_body"))
    or (operation.name == "append-short" and fault == "stall")
]
REPEATED: list[tuple[str, Fault]] = [
    (name, fault)
    for name, fault in SEEN
    if fault not in ("stall", "down")
    and (THOROUGH or (name in ONCE_MORE and fault == "lost_answer"))
]
"""One that stalls costs all the patience there is."""


@pytest.fixture
def anyio_backend() -> str:
    """Under trio the same client makes the same calls."""
    return "asyncio"


@pytest.fixture
def proxy(seaweedfs: SeaweedFS) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.mark.parametrize(("name", "fault"), SEEN)
async def test_a_call_that_fails_loses_and_leaves_nothing(
    name: str, fault: Fault, place: Place, proxy: FaultProxy
) -> None:
    number, has_struck = 0, True
    while has_struck:
        number += 1
        has_struck = await disturbed(
            BY_NAME[name], number, fault, place, proxy, IMPATIENT if fault == "stall" else ONCE
        )
    assert number > 1


@pytest.mark.parametrize(("name", "fault"), REPEATED)
async def test_a_call_that_is_repeated_is_as_if_nothing_had_been(
    name: str, fault: Fault, place: Place, proxy: FaultProxy
) -> None:
    number, has_struck = 0, True
    while has_struck:
        number += 1
        has_struck = await disturbed(BY_NAME[name], number, fault, place, proxy, PATIENT)
    assert number > 1


async def disturbed(
    operation: Operation,
    number: int,
    fault: Fault,
    place: Place,
    proxy: FaultProxy,
    config: dict[str, Any],
) -> bool:
    """Break one call of the operation and check what is there. False if it has fewer calls."""
    store = place.store(proxy.endpoint, name=f"faulty-{number}", config_kwargs=config)
    scene = await operation.prepare(store)
    proxy.clear()
    strike = Strike(proxy, fault, number)
    failure: BaseException | None = None
    try:
        await operation.run(store, scene)
    except Exception as error:
        failure = error
    strike.end()
    names = [call.operation for call in proxy.calls]
    try:
        assert failure is None or isinstance(failure, StoreUnavailable), repr(failure)
        assert failure is None or strike.has_struck
        assert failure is None or config is not PATIENT
        await place.check(scene)
    except Exception as error:
        error.add_note(f"{operation}, {fault} at call {number}: {names}, raised {failure!r}")
        raise
    finally:
        await store.aclose()
    return strike.has_struck


class Strike:
    """One fault at one call, counted from now, until the end."""

    def __init__(self, proxy: FaultProxy, fault: Fault, number: int) -> None:
        self._proxy = proxy
        self._number = number
        self._is_down = False
        self._seen = 0
        self._lock = threading.Lock()
        self._rule = None
        if fault == "down":
            proxy.on_call = self._count
        else:
            times = 2 if fault in _TWICE else 1
            self._rule = proxy.fail(fault, at=number, times=times)

    @property
    def has_struck(self) -> bool:
        return self._is_down if self._rule is None else self._rule.strikes > 0

    def end(self) -> None:
        self._proxy.on_call = None
        self._proxy.heal()
        if self._is_down:
            self._proxy.up()

    def _count(self, call: Call) -> None:
        with self._lock:
            self._seen += 1
            if self._seen == self._number:
                self._is_down = True
                self._proxy.down()
