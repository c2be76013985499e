"""A small bound of every store's worst scenarios, and the proof that faults would be seen."""

from itertools import islice

import pytest

from tests.explorer.explore import Bounds, at_random, every, follow, parse_order
from tests.explorer.faults import FAULTS, Fault
from tests.explorer.scenarios import scenarios

ORDERS = 20  # of each scenario; the command tries all
RANDOM = 25  # of each store
ENOUGH = 400  # orders within which a fault has to be seen

_WORST = (
    "begun:patch+patch",
    "begun:patch|patch",
    "begun:patch+delete",
    "grown:patch|patch",
    "begun:piece|sweep",
    "begun:sum|badsum",
    "begun:over|head",
    "failing:patch|head",
    "refused:leave|delete",
    "unrefused:patch+head",
    "deferred:declare|piece",
    "parts:final|delete",
    "removed:delete|tidy",
    "fresh:post+create+tidy",
    "begun:last+stop",
    "deferred:last|delete",
)
# Where the explorer has found faults that are mended.
_FOUND = (
    ("s3", "refused:leave|delete"),
    ("s3", "refused:patch+patch"),
    ("s3", "grown:sweep|sweep"),
    ("s3", "parts:delete|sweep"),
    ("file", "begun:patch|patch"),
    ("file", "begun:piece|sweep"),
    ("file", "full:get|delete"),
)
_CASES = [
    (store, name)
    for store in ("memory", "file", "s3")
    for name in _WORST
    if store != "memory" or "|" not in name
]


@pytest.mark.parametrize(("store", "name"), _CASES)
def test_every_promise_is_kept_in_every_order(store: str, name: str) -> None:
    for followed in islice(every(store, name, Bounds()), ORDERS):
        assert followed.violation is None, followed.line


@pytest.mark.parametrize(("store", "name"), _FOUND)
def test_what_was_found_once_is_tried_in_all_orders(store: str, name: str) -> None:
    for followed in every(store, name, Bounds(disturbances=0)):
        assert followed.violation is None, followed.line


@pytest.mark.parametrize("store", ["memory", "file", "s3"])
def test_every_promise_is_kept_in_random_orders(store: str) -> None:
    names = scenarios(store)
    for seed in range(RANDOM):
        name = names[seed * 97 % len(names)]
        followed = at_random(store, name, kinds=Bounds().kinds, seed=seed)
        assert followed.violation is None, followed.line


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_in_the_code_is_found(fault: Fault) -> None:
    bounds = Bounds(switches=fault.switches, disturbances=fault.disturbances)
    with fault.planted():
        found = islice(every(fault.store, fault.scenario, bounds), ENOUGH)
        assert any(followed.violation for followed in found)


@pytest.mark.parametrize("store", ["memory", "file", "s3"])
def test_an_order_runs_the_same_again(store: str) -> None:
    for seed in range(3):
        first = at_random(store, "begun:patch+delete", kinds=Bounds().kinds, seed=seed)
        line = first.line.rpartition(" ")[2]
        again = follow(store, "begun:patch+delete", parse_order(line))
        assert again.outcome.trace == first.outcome.trace
