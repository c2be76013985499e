"""Replicas on object storage that are killed under load; `scripts/kill --s3` does it for longer."""

import os
from pathlib import Path

import pytest

from tests.force import s3_crash
from tests.services.fixtures import need

# Another seed each time finds more; the one that found something is in the message.
SEED = int(os.environ.get("TUSASGI_TEST_SEED", "4"))
KILLS = 4
KINDS = ["appended", "completed", "cut", "deleted"]  # else it was no load worth the name


@pytest.mark.timeout(300)  # of which a quick machine takes 30
def test_nothing_that_was_acknowledged_is_lost_or_mixed_by_the_death_of_replicas(
    tmp_path: Path,
) -> None:
    need("seaweedfs")
    try:
        memory = s3_crash.run(
            tmp_path / "data", rounds=KILLS, seed=SEED, say=print, replicas=2, wanted=KINDS
        )
    except BaseException:
        print(f"seed {SEED}, {tmp_path}")
        raise
    print(s3_crash.summary(memory))
    done = memory.counts
    assert done["deaths of the S3 server"] >= KILLS // 4
    assert [kind for kind in KINDS if done[kind] == 0] == []
    assert done["races won"] + done["races that nobody won"] > 0
