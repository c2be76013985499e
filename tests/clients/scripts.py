"""Client programs as they are printed, with only host, key, project, asset and file changed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.clients.needs import HERE, NODE_MODULES
from tests.clients.roughy import KEY

DOCS = HERE.parents[1] / "docs"
_SECONDS = 90.0


def printed(
    text: str,
    folder: Path,
    *,
    url: str,
    file: Path,
    project: str = "",
    asset: str = "",
) -> str:
    """Put in what a reader would."""
    for old, new in (
        ("https://api.roughy.ai", url),
        ("http://127.0.0.1:8000", url),
        ("sk_…", KEY),
        ("019de7f5-7e21-7402-92a8-1c0e1fa84411", project),
        ("019de7f7-3a52-74d1-9eeb-323e0bfb7bb9", asset),
        ("<upload_id>", asset),
        ("/path/to/video.mp4", str(file)),
        ("/tmp/roughy-headers.txt", str(folder / "headers.txt")),
    ):
        text = text.replace(old, new)
    return text


def seed(name: str) -> str:
    return (HERE / "seed" / name).read_text()


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page whose fence says exactly `language`."""
    fence = re.compile(rf"^```{re.escape(language)}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found: list[str] = fence.findall((DOCS / page).read_text())
    assert found, f"{page} has no {language} block"
    return found


def run_node(
    text: str, folder: Path, arguments: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    # Packages are looked for beside the script.
    (folder / "node_modules").symlink_to(NODE_MODULES)
    return _run(["node"], text, folder / "script.mjs", arguments)


def run_python(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable], text, folder / "script.py")


def run_bash(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return _run(["bash"], text, folder / "script.sh")


def _run(
    command: list[str], text: str, script: Path, arguments: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    script.write_text(text)
    return run([*command, str(script), *arguments], script.parent)


def run(
    command: Sequence[str], folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    print(done.stdout[-4000:], done.stderr[-4000:])  # shown beside a test that fails
    return done


@contextmanager
def starting(
    command: Sequence[str], folder: Path, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Let the command work while the block lasts, and no longer."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
