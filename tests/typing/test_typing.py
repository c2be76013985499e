import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def mypy(file: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    options = ["--strict", "--no-error-summary", "--config-file=", f"--cache-dir={cache}"]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(file)],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_good_store_passes_mypy(cache: Path) -> None:
    run = mypy(HERE / "good_store.py", cache)
    assert (run.stdout, run.stderr, run.returncode) == ("", "", 0)


def test_mypy_refuses_each_wrong_line_and_no_other(cache: Path) -> None:
    file = HERE / "bad_store.py"
    lines = file.read_text().splitlines()
    wrong = [number for number, line in enumerate(lines, 1) if line.endswith("# WRONG")]
    assert len(wrong) == 5
    run = mypy(file, cache)
    refused = [int(line) for line in re.findall(r"bad_store\.py:(\d+): error", run.stdout)]
    assert sorted(set(refused)) == wrong, run.stdout + run.stderr
