"""A server that is killed under load keeps every promise; `scripts/kill` does it for longer."""

import os
from pathlib import Path

import pytest

from tests.force import crash

# Another seed each time finds more; the one that found something is in the message.
SEED = int(os.environ.get("TUSASGI_TEST_SEED", "4"))
KILLS = 8
# It is to be a load worth the name, and of every kind.
KINDS = ["appended", "completed", "cut", "deleted", "joined", "damaged", "refused past the end"]
KINDS += ["appended by the draft", "ended by the draft", "cut by the draft", "asked by the draft"]


@pytest.mark.timeout(300)  # of which a quick machine takes 10
def test_nothing_that_was_acknowledged_is_lost_by_kills_under_load(tmp_path: Path) -> None:
    try:
        memory = crash.run(tmp_path / "data", rounds=KILLS, seed=SEED, say=print, wanted=KINDS)
    except BaseException:
        print(f"seed {SEED}, {tmp_path}")
        raise
    done = memory.counts
    assert done["kills"] >= KILLS
    assert [kind for kind in KINDS if done[kind] == 0] == []


@pytest.mark.timeout(300)
def test_everything_is_told_at_least_once_and_in_order_by_kills_of_both_sides(
    tmp_path: Path,
) -> None:
    try:
        memory = crash.run(
            tmp_path / "data", rounds=3, seed=SEED, say=print, has_hooks=True, wanted=["completed"]
        )
    except BaseException:
        print(f"seed {SEED}, {tmp_path}")
        raise
    assert memory.counts["told to be complete"] > 0
    assert memory.counts["messages"] >= 2 * memory.counts["told to be complete"]
