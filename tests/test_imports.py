"""Who may import whom: the table of rooms, held against the code."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "tusasgi"

# From the ground up: a room imports from rooms above it in this table only.
ROOMS: dict[str, set[str]] = {
    "engine": set(),
    "protocols": set(),
    "asgi": set(),
    "server": set(),
    "errors": set(),
    "threads": set(),
    "models": {"errors"},
    "engine.rules": {"errors", "models"},
    "engine.lifecycle": {"models"},
    "checksums": {"errors", "models"},
    "fields": {"errors", "models"},
    "protocols.headers": {"errors"},
    "protocols.contract": {"errors", "models", "protocols.headers"},
    "protocols.tus": {
        "errors",
        "models",
        "checksums",
        "fields",
        "protocols.contract",
        "protocols.headers",
    },
    "protocols.structured": set(),
    "protocols.dialects": set(),
    "protocols.disposition": set(),
    "protocols.digests": {
        "errors",
        "models",
        "checksums",
        "protocols.headers",
        "protocols.structured",
    },
    "protocols.ietf": {
        "errors",
        "models",
        "fields",
        "protocols.contract",
        "protocols.dialects",
        "protocols.digests",
        "protocols.disposition",
        "protocols.headers",
        "protocols.structured",
    },
    "protocols.choice": {"models", "protocols.headers", "protocols.ietf"},
    "asgi.routes": {"errors"},
    "asgi.body": {"errors", "models"},
    "engine.chunks": {"errors", "models", "checksums"},
    "asgi.send": {"errors", "models", "asgi.body", "protocols.contract", "protocols.headers"},
    "stores": {"models"},
    "stores.records": {"models"},
    "stores.due": {"models"},
    "stores.file.files": {"errors", "stores", "threads"},
    "stores.file.records": {"models", "stores.records"},
    "stores.file.directory": {
        "errors",
        "models",
        "stores.due",
        "stores.file.files",
        "stores.file.records",
        "stores.records",
    },
    "stores.file.locked": {
        "errors",
        "models",
        "stores",
        "stores.due",
        "stores.file.files",
        "stores.file.records",
        "stores.file.directory",
    },
    "stores.file.appending": {
        "errors",
        "models",
        "stores",
        "stores.due",
        "stores.file.files",
        "stores.file.locked",
        "stores.file.directory",
        "stores.records",
    },
    "stores.file.writer": {"stores.file.appending", "stores.file.files"},
    "stores.memory": {"errors", "models", "stores", "stores.records"},
    "stores.file.store": {
        "errors",
        "models",
        "stores",
        "stores.file.appending",
        "stores.due",
        "stores.file.files",
        "stores.file.locked",
        "stores.file.records",
        "stores.file.directory",
        "stores.records",
        "stores.file.writer",
    },
    "stores.fsspec.pieces": set(),
    "stores.gathering": set(),
    "stores.fsspec.filesystem": {"errors"},
    "stores.fsspec.state": {
        "errors",
        "models",
        "stores.fsspec.filesystem",
        "stores.due",
        "stores.fsspec.pieces",
        "stores.records",
        "stores",
    },
    "stores.fsspec.appending": {
        "errors",
        "models",
        "stores.fsspec.filesystem",
        "stores.fsspec.state",
        "stores.fsspec.pieces",
        "stores.records",
        "stores",
    },
    "stores.fsspec.store": {
        "errors",
        "models",
        "threads",
        "stores.fsspec.filesystem",
        "stores.fsspec.appending",
        "stores.fsspec.state",
        "stores.gathering",
        "stores.records",
        "stores",
    },
    "stores.s3.rope": set(),
    "stores.s3.state": {"models", "stores.records", "stores.s3.rope"},
    "stores.s3.client": {"errors"},
    "stores.s3.bucket": {
        "errors",
        "models",
        "stores.s3.rope",
        "stores.s3.client",
        "stores.s3.state",
        "stores",
    },
    "stores.s3.check": {"errors", "stores.s3.rope", "stores.s3.bucket", "stores.s3.client"},
    "stores.s3.appending": {
        "errors",
        "models",
        "stores.records",
        "stores.s3.rope",
        "stores.s3.bucket",
        "stores.s3.state",
        "stores",
    },
    "stores.s3.joining": {
        "errors",
        "models",
        "stores.s3.rope",
        "stores.s3.appending",
        "stores.s3.bucket",
        "stores.s3.client",
        "stores.s3.state",
        "stores",
    },
    "stores.s3.store": {
        "errors",
        "models",
        "stores.s3.appending",
        "stores.s3.bucket",
        "stores.s3.check",
        "stores.s3.client",
        "stores.s3.joining",
        "stores.s3.state",
        "stores",
    },
    "lockers": set(),
    "lockers.memory": {"errors", "models", "lockers"},
    "lockers.file.lock_file": set(),
    "lockers.file.inbox": {"lockers.file.lock_file"},
    "lockers.file.locker": {
        "errors",
        "models",
        "lockers.file.inbox",
        "lockers.file.lock_file",
        "lockers.memory",
    },
    "lockers.redis": {"errors", "models"},
    "hooks": {"errors", "models"},
    "observer": {"engine.lifecycle", "models"},
    "asgi.download": {"errors", "models", "protocols.contract", "protocols.headers", "stores"},
    "engine.completion": {"errors", "engine.lifecycle", "models", "hooks", "observer", "stores"},
    "engine.inspection": {
        "errors",
        "models",
        "engine.chunks",
        "engine.completion",
        "hooks",
        "stores",
    },
    "engine.uploads": {
        "fields",
        "errors",
        "models",
        "engine.rules",
        "engine.lifecycle",
        "protocols.headers",
        "engine.chunks",
        "engine.completion",
        "engine.inspection",
        "hooks",
        "observer",
        "stores",
        "lockers",
        "lockers.memory",
    },
    "asgi.exchange": {
        "models",
        "protocols.headers",
        "protocols.tus",
        "asgi.routes",
        "asgi.body",
        "observer",
    },
    "asgi.app": {
        "protocols.contract",
        "protocols.headers",
        "errors",
        "models",
        "engine.rules",
        "protocols.tus",
        "asgi.routes",
        "asgi.body",
        "asgi.send",
        "asgi.download",
        "asgi.exchange",
        "engine.uploads",
        "stores",
    },
    "": {
        "protocols.contract",
        "fields",
        "errors",
        "models",
        "engine.lifecycle",
        "protocols.headers",
        "protocols.tus",
        "asgi.body",
        "asgi.send",
        "asgi.download",
        "engine.uploads",
        "asgi.app",
        "hooks",
        "observer",
    },
    "media": {"errors", "models", "hooks"},
    "metrics": {"", "engine.lifecycle", "models", "observer"},
    "testing": {"", "stores", "lockers"},
    "server.monitor": {"", "metrics"},
    "server.connections": set(),
    "server.command": {
        "",
        "stores.file.store",
        "stores.s3.store",
        "lockers.file.locker",
        "lockers.memory",
        "stores",
        "lockers",
        "observer",
        "metrics",
        "server.monitor",
        "server.connections",
    },
    "__main__": {"server.command"},
}
"""What a room may import of ours; the empty name stands for the public names."""

EXTRAS = {
    "lockers.file.inbox": {"trio"},  # where it runs the event loop, and so is there
    "checksums": {"google_crc32c"},
    "metrics": {"prometheus_client"},
    "server.monitor": {"prometheus_client"},
    "media": {"puremagic"},
    "lockers.redis": {"redis"},
    "stores.fsspec.filesystem": {"fsspec"},
    "stores.s3.client": {"aiobotocore", "botocore", "s3fs"},
    "stores.s3.check": {"botocore"},
    "server.command": {"starlette", "uvicorn"},
    "server.connections": {"uvicorn"},
    "testing": {"pytest"},
}
"""What a room may import beyond the standard library and anyio."""


PACKAGES = {
    "stores.file": "stores.file.store",
    "stores.s3": "stores.s3.store",
    "stores.fsspec": "stores.fsspec.store",
    "lockers.file": "lockers.file.locker",
}
"""Packages that give out public names of one of their modules, and do nothing else."""


def room_of(module: str) -> str:
    """Return the room of a module, named below `tusasgi`."""
    if module.startswith("testing"):
        return "testing"
    return PACKAGES.get(module, module)


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
    names = {name for name in imported(path) if name.split(".")[0] == "tusasgi"}
    return {room_of(name.removeprefix("tusasgi").removeprefix(".")) for name in names}


by_module = pytest.mark.parametrize("module", modules())


def test_every_module_has_a_room() -> None:
    assert {room_of(module) for module in modules()} == set(ROOMS)


def test_imports_point_downward_only() -> None:
    seen: set[str] = set()
    for room, below in ROOMS.items():
        assert below <= seen, f"{room or 'tusasgi'} would import upward"
        seen.add(room)


@by_module
def test_a_module_imports_what_its_room_may(module: str) -> None:
    room = room_of(module)
    assert ours(modules()[module]) - {room} <= ROOMS[room]


@by_module
def test_a_module_depends_on_anyio_and_its_own_extra_alone(module: str) -> None:
    tops = {name.split(".")[0] for name in imported(modules()[module])}
    foreign = tops - set(sys.stdlib_module_names) - {"tusasgi"}
    assert foreign <= {"anyio"} | EXTRAS.get(room_of(module), set())


@pytest.mark.parametrize(
    "module",
    [
        "errors",
        "models",
        "engine.rules",
        "engine.lifecycle",
        "protocols.headers",
        "protocols.contract",
        "protocols.tus",
        "protocols.structured",
        "protocols.dialects",
        "protocols.disposition",
        "protocols.digests",
        "protocols.ietf",
        "protocols.choice",
    ],
)
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
