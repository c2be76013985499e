"""The rules of the IETF draft as data, and which tests show them.

`ietf.json` has one rule per line: its id and level, the interop versions that it binds (with
`older` where some of them are stricter), one statement, and the tests that show it (`shown_by`)
or the `reason` why none does.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

Rule = dict[str, Any]
Test = TypeVar("Test", bound=Callable[..., object])

RULES: dict[str, Rule] = {
    rule["id"]: rule
    for rule in json.loads(Path(__file__).with_name("ietf.json").read_text("utf-8"))
}

SHOWN: dict[str, list[str]] = {}
"""The tests that show a rule, by its id, as their modules are imported."""


def shows(*rule_ids: str) -> Callable[[Test], Test]:
    """Mark a test as one that shows these rules."""

    def mark(test: Test) -> Test:
        for rule_id in rule_ids:
            assert rule_id in RULES, f"there is no rule {rule_id}"
            path = test.__module__.replace(".", "/")
            SHOWN.setdefault(rule_id, []).append(f"{path}.py::{test.__name__}")
        return test

    return mark


def versions_of(rule_id: str) -> Callable[[Test], Test]:
    """Call a test with each `version` that a rule binds.

    By itself for a test of one part of the rule: then others have to show the whole of it.
    """
    versions = [
        pytest.param(version, id=f"{rule_id}-v{version}") for version in RULES[rule_id]["versions"]
    ]
    return pytest.mark.parametrize("version", versions)


def rule(rule_id: str, *others: str) -> Callable[[Test], Test]:
    """Mark a test as one that shows these rules, with each `version` that the first one binds."""
    over_versions = versions_of(rule_id)
    return lambda test: over_versions(shows(rule_id, *others)(test))
