"""Which requests come together: every pair that says something, and threes of the worst."""

import itertools
from collections.abc import Iterable

_PAIRS: dict[str, str] = {
    "fresh": "patch piece over sum badsum leave head delete sweep post",
    "begun": "patch piece over sum badsum leave head get delete sweep",
    "grown": "patch piece over sum badsum leave head delete sweep",
    "failing": "patch head get delete sweep tidy",
    "judged": "patch sum badsum leave head delete sweep",
    "refused": "patch sum leave head delete sweep",
    "unrefused": "patch head delete tidy",
    "deferred": "patch piece declare badsum leave head delete sweep",
    "full": "patch head get delete sweep tidy",
    "done": "head get delete sweep tidy",
    "parts": "final head delete sweep",
    "removed": "patch head delete sweep tidy",
}
"""What requests are tried in pairs, by what there is before."""

_THREES = (
    "begun:patch+patch+head",
    "begun:patch+patch+delete",
    "begun:patch+piece+sweep",
    "begun:patch+leave+patch",
    "begun:sum+badsum+head",
    "begun:patch+delete+delete",
    "failing:patch+head+head",
    "failing:patch+tidy+delete",
    "full:head+head+delete",
    "full:head+tidy+sweep",
    "parts:final+delete+sweep",
    "parts:final+final+delete",
    "removed:delete+tidy+patch",
    "fresh:post+create+tidy",
    "fresh:patch+sweep+head",
    "deferred:declare+piece+head",
)


_DRAFT = (
    "begun:part+stop",
    "begun:last+stop",
    "begun:part+patch",
    "begun:last+delete",
    "deferred:last+stop",
    "deferred:last+last",
    "deferred:last+patch+stop",
)
"""The draft among them. Its HEAD stops who appends to the same process, or where stores compare."""

_DRAFT_APART = ("deferred:last|delete", "deferred:last|last", "begun:part|patch")


def scenarios(store: str) -> list[str]:
    """Return the names of all scenarios for a store."""
    return list(itertools.chain(pairs(store), threes(store), draft(store)))


def pairs(store: str) -> Iterable[str]:
    for setup, kinds in _PAIRS.items():
        for one, other in itertools.combinations_with_replacement(kinds.split(), 2):
            yield from _both(store, f"{setup}:{one}+{other}")


def threes(store: str) -> Iterable[str]:
    for name in _THREES:
        yield from _both(store, name)


def draft(store: str) -> Iterable[str]:
    yield from _DRAFT
    if store != "memory":
        yield from _DRAFT_APART
    if store == "s3":
        yield from ("begun:part|stop", "deferred:last|stop")


def _both(store: str, name: str) -> Iterable[str]:
    """In one process, and where the store is shared the last request in another one."""
    yield name
    if store != "memory":
        head, _, last = name.rpartition("+")
        yield f"{head}|{last}"
