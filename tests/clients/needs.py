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


def program(name: str) -> str:
    """Return where a program is that the test needs."""
    need(name)
    path = _find(name)
    assert path is not None
    return path


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
    return _find(name) is not None


def _find(name: str) -> str | None:
    # Servers are in a folder that not everybody looks into.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")
