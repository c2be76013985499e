"""Hundreds of uploads at once leave nothing behind; `python -m tests.force.load` brings 2,000."""

from pathlib import Path

from tests.force import load


def test_many_uploads_at_once_leave_no_open_file_and_no_task(tmp_path: Path) -> None:
    result = load.run(tmp_path / "data", uploads=200, rounds=2, seed=5)
    for one in result.rounds:
        # All but the tiniest were in the middle at once, with three each.
        assert one.peak_open_files > result.idle.open_files + 3 * 100
        assert one.after == result.idle
