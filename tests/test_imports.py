"""Who may import whom: the table of packages, held against the code."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "tusasgi"

# From the ground up: a package imports from packages above it in this table only.
PACKAGES: dict[str, set[str]] = {
    "arguments": set(),
    "errors": set(),
    "threads": set(),
    "repeating": set(),
    "models": {"arguments", "errors"},
    "lifecycle": {"models"},
    "destinations": {"arguments", "models"},
    "fields": {"errors", "models"},
    "checksums": {"errors", "models"},
    "hooks": {"destinations", "errors", "lifecycle", "models"},
    "observer": {"lifecycle", "models"},
    "metrics": {"arguments", "lifecycle", "models", "observer"},
    "media": {"arguments", "errors", "hooks", "models"},
    "webhooks": {"arguments", "errors", "fields", "hooks", "lifecycle", "models"},
    "stores": {"errors", "models", "threads"},
    "stores.memory": {"arguments", "errors", "models", "stores"},
    "stores.file": {"arguments", "destinations", "errors", "models", "stores", "threads"},
    "stores.fsspec": {
        "arguments",
        "destinations",
        "errors",
        "models",
        "repeating",
        "stores",
        "threads",
    },
    "stores.s3": {
        "arguments",
        "destinations",
        "errors",
        "models",
        "repeating",
        "stores",
        "threads",
    },
    "lockers": set(),
    "lockers.memory": {"arguments", "errors", "models", "lockers"},
    "lockers.file": {"arguments", "errors", "models", "threads"},
    "lockers.redis": {"arguments", "errors", "models", "lockers"},
    "protocols": {"errors", "models", "fields", "checksums"},
    "engine": {
        "arguments",
        "errors",
        "repeating",
        "models",
        "lifecycle",
        "fields",
        "checksums",
        "destinations",
        "hooks",
        "observer",
        "stores",
        "lockers",
        "lockers.memory",
    },
    "asgi": {
        "arguments",
        "errors",
        "repeating",
        "models",
        "observer",
        "stores",
        "protocols",
        "engine",
    },
    "": {
        "destinations",
        "errors",
        "models",
        "lifecycle",
        "fields",
        "hooks",
        "observer",
        "protocols",
        "engine",
        "asgi",
    },
    "testing": {"", "stores", "lockers"},
    "server": {
        "",
        "arguments",
        "models",
        "fields",
        "metrics",
        "observer",
        "stores",
        "stores.file",
        "stores.fsspec",
        "stores.s3",
        "lockers",
        "lockers.file",
        "lockers.memory",
        "lockers.redis",
        "webhooks",
    },
    "__main__": {"server"},
}
"""What a package may import of ours; the empty name stands for the public names."""

EXTRAS = {
    "threads": {"trio"},  # where it runs the event loop, and so is there
    "checksums": {"google_crc32c"},
    "metrics": {"prometheus_client"},
    "server.monitor": {"prometheus_client"},
    "media.signatures": {"puremagic"},
    "lockers.redis": {"redis"},
    "webhooks.receiver": {"httpx"},
    "stores.fsspec.filesystem": {"fsspec"},
    "stores.s3.client": {"aiobotocore", "s3fs"},
    "stores.s3.failures": {"botocore"},
    "stores.s3.check": {"botocore"},
    "stores.s3.checksums": {"botocore"},
    "server.app": {"starlette"},
    "server.checks": {"fsspec"},
    "server.commands.checking": {"fsspec"},
    "server.storage": {"fsspec"},
    "server.lockers": {"redis"},
    "server.cors": {"starlette"},
    "server.request_ids": {"starlette"},
    "server.page": {"starlette"},
    "server.proxies": {"starlette"},
    "server.tokens": {"cryptography", "jwt"},
    "server.on_granian": {"granian", "starlette"},
    "server.on_uvicorn": {"uvicorn"},
    "server.interim": {"uvicorn"},
    "testing": {"pytest"},
}
"""What a module, or each one of a package, may import beyond the standard library and anyio."""


PURE = {
    "arguments",
    "errors",
    "models",
    "lifecycle",
    "fields",
    "protocols",
    "engine.rules",
    "asgi.routes",
}
"""What does no input or output, and reads no clock."""


def package_of(module: str) -> str:
    """Return the package in the table that a module, named below `tusasgi`, belongs to."""
    within = (name for name in PACKAGES if name and f"{module}.".startswith(f"{name}."))
    return max(within, key=len, default=module)


@cache
def modules() -> dict[str, Path]:
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(part for part in parts if part != "__init__")] = path
    return names


def imported(path: Path) -> Iterator[str]:
    """Yield the full name of each module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if is_module(full) else node.module


def is_module(name: str) -> bool:
    return name.startswith("tusasgi.") and name.removeprefix("tusasgi.") in modules()


def ours(path: Path) -> set[str]:
    """Return the modules of ours that a file imports, named below `tusasgi`."""
    names = {name for name in imported(path) if name.split(".")[0] == "tusasgi"}
    return {name.removeprefix("tusasgi").removeprefix(".") for name in names}


def is_pure(module: str) -> bool:
    return module in PURE or package_of(module) in PURE


by_module = pytest.mark.parametrize("module", modules())


def test_every_module_belongs_to_a_package() -> None:
    assert {package_of(module) for module in modules()} == set(PACKAGES)


def test_imports_point_downward_only() -> None:
    seen: set[str] = set()
    for package, below in PACKAGES.items():
        assert below <= seen, f"{package or 'tusasgi'} would import upward"
        seen.add(package)


def test_the_design_page_shows_the_same_table() -> None:
    page = (ROOT.parent / "docs" / "design.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| [^|]+ \|([^|]*)\|$", page, re.MULTILINE)
    shown = {
        _named(name): set(map(_named, re.findall(r"`([\w.]+)`", below))) for name, below in rows
    }
    assert shown == PACKAGES


def _named(package: str) -> str:
    return "" if package == "tusasgi" else package


@by_module
def test_a_module_imports_what_its_package_may(module: str) -> None:
    package = package_of(module)
    assert {package_of(name) for name in ours(modules()[module])} - {package} <= PACKAGES[package]


def test_no_modules_import_each_other_in_a_circle() -> None:
    faces = set(modules()) & set(PACKAGES)  # they hand on names of what is in them
    graph = {name: ours(path) - {name} - faces for name, path in modules().items()}
    tuple(TopologicalSorter(graph).static_order())


@by_module
def test_a_module_depends_on_anyio_and_its_own_extra_alone(module: str) -> None:
    tops = {name.split(".")[0] for name in imported(modules()[module])}
    foreign = tops - set(sys.stdlib_module_names) - {"tusasgi"}
    assert foreign <= {"anyio"} | EXTRAS.get(module, EXTRAS.get(package_of(module), set()))


@pytest.mark.parametrize("module", [name for name in modules() if is_pure(name)])
def test_what_is_pure_does_no_input_or_output(module: str) -> None:
    forbidden = {"anyio", "asyncio", "io", "logging", "os", "pathlib", "random", "socket", "time"}
    assert not {name.split(".")[0] for name in imported(modules()[module])} & forbidden


def test_the_public_names_load_nothing_but_the_core() -> None:
    script = "import sys, tusasgi; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    loaded = set(done.stdout.split())
    assert "anyio" in loaded
    assert not loaded & {"starlette", "uvicorn", "puremagic", "pytest", "trio", "fsspec"}
