"""All orders up to a bound, then random ones beyond it; each is one line that can be run again.

An order is written as what is different from the plain one, in which each request goes on until
it has to wait: `7:1,20:0k` chooses `1` at the eighth choice and `0k` at the twenty-first.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.explorer._requests import Scenario, parse
from tests.explorer._run import Outcome, run
from tests.explorer._schedule import Diverged, Option

Order = tuple[tuple[int, str], ...]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    switches: int = 1
    """How often a request that could go on may be left for another, or time may pass."""
    disturbances: int = 1
    """How many cancellations, deaths and failed calls there may be."""
    kinds: str = "sxyXLkl"
    """Which of them; `e` and `E` are failed calls."""


@dataclass
class Followed:
    """A run of an order, with what else could have been chosen."""

    store: str
    scenario: str
    order: Order
    outcome: Outcome
    choices: list[tuple[list[Option], Option]] = field(default_factory=list)

    @property
    def violation(self) -> str | None:
        return self.outcome.violation

    @property
    def line(self) -> str:
        order = ",".join(f"{position}:{token}" for position, token in self.order)
        return f"scripts/explore {self.store} '{self.scenario}' --order {order or '-'}"


def follow(store: str, name: str, order: Order, kinds: str = "sxyXLkleE") -> Followed:
    """Run one order. Raises `Diverged` if it is not possible."""
    wanted = dict(order)

    def choose(position: int, options: list[Option]) -> Option:
        token = wanted.pop(position, None)
        if token is None:
            return options[0]
        for option in options:
            if option.token == token:
                return option
        raise Diverged(f"{token} cannot be chosen at {position}")

    followed = _follow(store, parse(name), choose, kinds)
    followed.order = order
    if wanted and followed.violation is None:
        raise Diverged(f"the run was over before {wanted}")
    return followed


def every(store: str, name: str, bounds: Bounds, *, seed: int = 0) -> Iterator[Followed]:
    """Run every order within the bounds, in an order that the seed mixes."""
    dice = random.Random(seed)
    waiting: list[tuple[Order, int, int]] = [((), 0, 0)]
    while waiting:
        place = dice.randrange(len(waiting))
        waiting[place], waiting[-1] = waiting[-1], waiting[place]
        order, switches, disturbances = waiting.pop()
        followed = follow(store, name, order, bounds.kinds)
        yield followed
        start = order[-1][0] + 1 if order else 0
        for position in range(start, len(followed.choices)):
            options, chosen = followed.choices[position]
            for option in options:
                costs = switches + option.switches, disturbances + option.disturbances
                if option != chosen and _is_within(costs, bounds):
                    waiting.append(((*order, (position, option.token)), *costs))


def at_random(store: str, name: str, *, kinds: str, seed: int) -> Followed:
    """Run an order beyond every bound, by dice."""
    dice = random.Random(seed)
    often = dice.choice((0.05, 0.15, 0.4))
    order: list[tuple[int, str]] = []
    disturbances = 0

    def choose(position: int, options: list[Option]) -> Option:
        nonlocal disturbances
        calm = [option for option in options[1:] if not option.disturbances]
        wild = [option for option in options[1:] if option.disturbances]
        chosen = options[0]
        if wild and disturbances < 2 and dice.random() < 0.02:
            chosen = dice.choice(wild)
            disturbances += 1
        elif calm and dice.random() < often:
            chosen = dice.choice(calm)
        if chosen is not options[0]:
            order.append((position, chosen.token))
        return chosen

    followed = _follow(store, parse(name), choose, kinds)
    followed.order = tuple(order)
    return followed


def _follow(
    store: str, scenario: Scenario, choose: Callable[[int, list[Option]], Option], kinds: str
) -> Followed:
    choices: list[tuple[list[Option], Option]] = []

    def decide(options: list[Option]) -> Option:
        chosen = choose(len(choices), options)
        choices.append((options, chosen))
        return chosen

    outcome = run(store, scenario, decide, disturbances=kinds)
    return Followed(store, scenario.name, (), outcome, choices)


def _is_within(costs: tuple[int, int], bounds: Bounds) -> bool:
    return costs[0] <= bounds.switches and costs[1] <= bounds.disturbances


def parse_order(text: str) -> Order:
    """Read what `Followed.line` has written."""
    pairs = [one.split(":") for one in text.split(",") if one not in ("", "-")]
    return tuple((int(position), token) for position, token in pairs)
