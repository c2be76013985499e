"""The table of the draft's rules is whole, and names the tests that show each rule."""

import importlib
from pathlib import Path

import pytest

from tests.conformance.ietf import RULES, SHOWN, Rule, rule, shows
from tusasgi.protocols.dialects import DIALECTS

LEVELS = {"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "CHOICE"}

for module in ("choice", "digests", "disposition", "ietf", "structured"):
    importlib.import_module(f"tests.protocols.test_{module}")
for package in ("asgi", "server"):
    importlib.import_module(f"tests.{package}.test_interim")
for path in Path(__file__).with_name("draft").glob("test_*.py"):
    importlib.import_module(f"tests.conformance.draft.{path.stem}")


def test_the_rules_are_142() -> None:
    assert len(RULES) == 142
    assert list(RULES) == sorted(RULES)


@pytest.mark.parametrize("entry", RULES.values(), ids=RULES)
def test_a_rule_is_one_statement_with_a_level_and_versions(entry: Rule) -> None:
    assert entry["level"] in LEVELS
    assert entry["versions"] == sorted(set(entry["versions"]) & set(DIALECTS)) != []
    assert entry["statement"].endswith(".")
    if "older" in entry:
        assert entry["older"]["level"] in LEVELS - {entry["level"]}
        assert set(entry["older"]["versions"]) < set(entry["versions"])


@pytest.mark.parametrize("entry", RULES.values(), ids=RULES)
def test_a_rule_names_the_tests_that_show_it_or_a_reason(entry: Rule) -> None:
    assert entry["shown_by"] == sorted(SHOWN.get(entry["id"], []))
    assert bool(entry["shown_by"]) is not bool(entry.get("reason"))


def test_a_mark_names_a_rule_that_there_is() -> None:
    for mark in (shows, rule):
        with pytest.raises((AssertionError, KeyError)):
            mark("IETF-999")(lambda: None)
