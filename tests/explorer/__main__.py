"""Explore orders by command, or run one again: see `--help`."""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from tests.explorer._place import STORES
from tests.explorer.explore import Bounds, Followed, at_random, every, follow, parse_order
from tests.explorer.scenarios import scenarios

MOST_SHOWN = 3  # of orders that break the same promise


def main() -> int:
    options = _parser().parse_args()
    if options.order is not None:
        return _show(follow(options.store, options.scenario, parse_order(options.order)))
    names = [options.scenario] if options.scenario else scenarios(options.store)
    names = names[options.shard :: options.shards]
    broken: Counter[str] = Counter()
    count = 0
    began = time.monotonic()
    for followed in _explored(options, names):
        count += 1
        if followed.violation is not None:
            _report(followed, broken)
        if options.seconds and time.monotonic() - began > options.seconds:
            break
    seconds = time.monotonic() - began
    print(f"{options.store}: {count} orders in {seconds:.0f} s, {broken.total()} broke a promise")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/explore", description=__doc__)
    parser.add_argument("store", choices=STORES)
    parser.add_argument("scenario", nargs="?", help="like 'begun:patch+delete|sweep'; else all")
    parser.add_argument("--order", help="run just this one, with every step")
    parser.add_argument("--switches", type=int, default=1)
    parser.add_argument("--disturbances", type=int, default=1)
    parser.add_argument("--kinds", default=Bounds().kinds, help="of disturbances: sxyXLkleE")
    parser.add_argument("--each", type=int, default=0, help="the most orders of a scenario")
    parser.add_argument("--random", type=int, default=0, help="so many at random instead")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard", type=int, default=0, help="of so many --shards")
    parser.add_argument("--shards", type=int, default=1)
    return parser


def _explored(options: argparse.Namespace, names: list[str]) -> Iterator[Followed]:
    if options.random:
        dice = random.Random(options.seed)
        for _ in range(options.random):
            name, seed = dice.choice(names), dice.randrange(2**32)
            yield at_random(options.store, name, kinds=options.kinds, seed=seed)
        return
    bounds = Bounds(
        switches=options.switches, disturbances=options.disturbances, kinds=options.kinds
    )
    for name in names:
        began, count = time.monotonic(), 0
        for followed in _first(every(options.store, name, bounds, seed=options.seed), options.each):
            count += 1
            yield followed
        print(f"{name}: {count} orders, {time.monotonic() - began:.0f} s", flush=True)


def _first(found: Iterable[Followed], most: int) -> Iterator[Followed]:
    for number, followed in enumerate(found, 1):
        yield followed
        if number == most:
            return


def _report(followed: Followed, broken: Counter[str]) -> None:
    assert followed.violation is not None
    claim = f"{followed.scenario} {followed.violation[:60]}"
    broken[claim] += 1
    if broken[claim] <= MOST_SHOWN:
        print(f"BROKEN: {followed.violation}\n  {followed.line}", flush=True)


def _show(followed: Followed) -> int:
    print(*followed.outcome.trace, sep="\n")
    print(f"BROKEN: {followed.violation}" if followed.violation else "every promise was kept")
    return 1 if followed.violation else 0


if __name__ == "__main__":
    sys.exit(main())
