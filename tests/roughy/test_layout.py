"""How Roughy is laid out: what its README promises to who reads it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import ROOT

ROUGHY = ROOT / "examples" / "roughy"
MODULES = [path for path in ROUGHY.rglob("*.py") if "node_modules" not in path.parts]
README = (ROUGHY / "README.md").read_text()
CORE = re.findall(r"^\| `([\w/]+\.py)` \|", README.partition("| The core |")[2], re.MULTILINE)

MAY_IMPORT = {
    # Only what puts the parts together, and what reads an address, knows of several machines.
    "replicas": {"replicas", "server/options.py", "settings.py"},
    # Nothing needs the programs around it.
    "tools": {"tools"},
}
"""Who may import from a package; tests and other examples may."""


def test_the_core_is_small_and_begins_with_the_file_that_puts_it_together() -> None:
    assert CORE[0] == "app.py"
    assert len(CORE) == 9
    assert sum(len((ROUGHY / name).read_text().splitlines()) for name in CORE) < 1200


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_what_not_everybody_needs_is_in_nobodys_way(package: str) -> None:
    importers = {
        path.relative_to(ROUGHY)
        for path in MODULES
        if any(name.startswith(f"examples.roughy.{package}") for name in imported(path))
    }
    assert importers
    allowed = MAY_IMPORT[package]
    assert {str(path) for path in importers if path.parts[0] not in allowed} <= allowed


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_readme_names_every_package() -> None:
    packages = {f"`{path.parent.name}/`" for path in ROUGHY.glob("*/__init__.py")}
    assert packages <= set(re.findall(r"`\w+/`", README))
