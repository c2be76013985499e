"""Every statement of the protocol that concerns this server, by its id."""

import pytest

from tests._stage import MakeStage
from tests.conformance import checksum, concatenation  # noqa: F401 (they register theirs)
from tests.conformance.by_hand import BY_HAND
from tests.conformance.generic import is_generic, run_rule
from tests.conformance.rules import NOT_APPLICABLE, RULES, Rule

GROUPS = {
    "core": 54,
    "creation": 27,
    "creation-with-upload": 10,
    "creation-defer-length": 10,
    "expiration": 12,
    "checksum": 17,
    "termination": 7,
    "concatenation": 27,
    "edge": 49,
    "asgi": 19,
}
GENERIC = [rule_id for rule_id, rule in RULES.items() if is_generic(rule)]


def _is_up_to_the_app(rule: Rule) -> bool:
    """Whether all there is to it is OPTIONS or one refusal: no store has a say in those."""
    request, status = rule["request"], rule["expect"].get("status", [200])
    return isinstance(request, dict) and (request["method"] == "OPTIONS" or min(status) >= 400)


STORED = [rule_id for rule_id in GENERIC if not _is_up_to_the_app(RULES[rule_id])]
"""Those to be run again over a store that is not the app's first."""


def test_no_statement_is_missing() -> None:
    counts = dict.fromkeys(GROUPS, 0)
    for rule in RULES.values():
        counts[rule["group"]] += 1
    assert counts == GROUPS


@pytest.mark.parametrize("rule_id", RULES)
def test_a_statement_is_covered_in_exactly_one_way(rule_id: str) -> None:
    ways = (GENERIC, BY_HAND, NOT_APPLICABLE)
    assert [rule_id in way for way in ways].count(True) == 1


def test_nothing_is_covered_that_is_no_statement() -> None:
    assert set(BY_HAND) | set(NOT_APPLICABLE) <= set(RULES)


@pytest.mark.anyio
@pytest.mark.parametrize("rule_id", GENERIC)
async def test_statement(rule_id: str, stage: MakeStage) -> None:
    await run_rule(rule_id, stage)


@pytest.mark.anyio
@pytest.mark.parametrize("rule_id", BY_HAND)
async def test_statement_by_hand(rule_id: str, stage: MakeStage) -> None:
    await BY_HAND[rule_id](stage)
