"""What a test needs that Python does not install; where it is missing, the test skips."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE_MODULES = HERE / "node_modules"


def need(*names: str) -> None:
    """Skip the test unless each is there; fail it where they are required."""
    missing = [name for name in names if not _is_there(name)]
    if not missing:
        return
    reason = f"needs {' and '.join(missing)}"
    if os.environ.get("TUSASGI_REQUIRE_CLIENTS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def chromium() -> str | None:
    """The command of Chromium, by whichever name it is installed."""
    return next(filter(None, map(shutil.which, ["chromium", "chromium-browser"])), None)


def java_classes() -> Path:
    """The folder of what the Java client consists of; Maven brings it, once."""
    need("java", "mvn")
    pom, classes = HERE / "java" / "pom.xml", HERE / "java" / "target" / "dependency"
    if not classes.is_dir() or classes.stat().st_mtime < pom.stat().st_mtime:
        bring = ["mvn", "--batch-mode", "--quiet", "--file", str(pom)]
        bring.append("dependency:copy-dependencies")
        done = subprocess.run(bring, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-4000:]
        classes.touch()
    return classes


def _is_there(name: str) -> bool:
    if name == "chromium":
        return chromium() is not None
    if name.startswith("npm:"):
        return (NODE_MODULES / name.removeprefix("npm:")).is_dir()
    return shutil.which(name) is not None
