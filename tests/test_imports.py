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
    "_errors": set(),
    "_threads": set(),
    "_models": {"_errors"},
    "_rules": {"_errors", "_models"},
    "_life": {"_models"},
    "_checksums": {"_errors", "_models"},
    "_headers": {"_errors", "_models"},
    "_protocol": {"_errors", "_models", "_checksums", "_headers"},
    "_routes": {"_errors"},
    "_body": {"_errors", "_models"},
    "_chunks": {"_errors", "_models", "_checksums"},
    "_send": {"_errors", "_models", "_body", "_headers", "_protocol"},
    "stores": {"_models"},
    "stores._record": {"_models"},
    "stores._due": {"_models"},
    "stores._files": {"_errors", "stores", "_threads"},
    "stores._kept": {"_models", "stores._record"},
    "stores._place": {
        "_errors",
        "_models",
        "stores._due",
        "stores._files",
        "stores._kept",
        "stores._record",
    },
    "stores._held": {
        "_errors",
        "_models",
        "stores",
        "stores._due",
        "stores._files",
        "stores._kept",
        "stores._place",
    },
    "stores._appending": {
        "_errors",
        "_models",
        "stores",
        "stores._due",
        "stores._files",
        "stores._held",
        "stores._place",
        "stores._record",
    },
    "stores._writer": {"stores._appending", "stores._files"},
    "stores.memory": {"_errors", "_models", "stores", "stores._record"},
    "stores.file": {
        "_errors",
        "_models",
        "stores",
        "stores._appending",
        "stores._due",
        "stores._files",
        "stores._held",
        "stores._kept",
        "stores._place",
        "stores._record",
        "stores._writer",
    },
    "stores._pieces": set(),
    "stores._gather": set(),
    "stores._fsspec": {"_errors"},
    "stores._fsspec_state": {
        "_errors",
        "_models",
        "stores._fsspec",
        "stores._due",
        "stores._pieces",
        "stores._record",
        "stores",
    },
    "stores._fsspec_append": {
        "_errors",
        "_models",
        "stores._fsspec",
        "stores._fsspec_state",
        "stores._pieces",
        "stores._record",
        "stores",
    },
    "stores.fsspec": {
        "_errors",
        "_models",
        "_threads",
        "stores._fsspec",
        "stores._fsspec_append",
        "stores._fsspec_state",
        "stores._gather",
        "stores._record",
        "stores",
    },
    "stores._rope": set(),
    "stores._s3_state": {"_models", "stores._record", "stores._rope"},
    "stores._s3_client": {"_errors"},
    "stores._s3_bucket": {
        "_errors",
        "_models",
        "stores._rope",
        "stores._s3_client",
        "stores._s3_state",
        "stores",
    },
    "stores._s3_check": {"_errors", "stores._rope", "stores._s3_bucket", "stores._s3_client"},
    "stores._s3_append": {
        "_errors",
        "_models",
        "stores._record",
        "stores._rope",
        "stores._s3_bucket",
        "stores._s3_state",
        "stores",
    },
    "stores._s3_join": {
        "_errors",
        "_models",
        "stores._rope",
        "stores._s3_append",
        "stores._s3_bucket",
        "stores._s3_client",
        "stores._s3_state",
        "stores",
    },
    "stores.s3": {
        "_errors",
        "_models",
        "stores._s3_append",
        "stores._s3_bucket",
        "stores._s3_check",
        "stores._s3_client",
        "stores._s3_join",
        "stores._s3_state",
        "stores",
    },
    "lockers": set(),
    "lockers.memory": {"_errors", "_models", "lockers"},
    "lockers._lock_file": set(),
    "lockers._inbox": {"lockers._lock_file"},
    "lockers.file": {
        "_errors",
        "_models",
        "lockers._inbox",
        "lockers._lock_file",
        "lockers.memory",
    },
    "lockers.redis": {"_errors", "_models"},
    "hooks": {"_errors", "_models"},
    "observer": {"_life", "_models"},
    "_download": {"_errors", "_models", "_headers", "_protocol", "stores"},
    "_settling": {"_errors", "_life", "_models", "hooks", "observer", "stores"},
    "_inspection": {"_errors", "_models", "_chunks", "_settling", "hooks", "stores"},
    "_uploads": {
        "_errors",
        "_models",
        "_rules",
        "_life",
        "_headers",
        "_chunks",
        "_settling",
        "_inspection",
        "hooks",
        "observer",
        "stores",
        "lockers",
        "lockers.memory",
    },
    "_exchange": {"_models", "_headers", "_protocol", "_routes", "_body", "observer"},
    "_app": {
        "_errors",
        "_models",
        "_rules",
        "_protocol",
        "_routes",
        "_body",
        "_send",
        "_download",
        "_exchange",
        "_uploads",
        "stores",
    },
    "": {
        "_errors",
        "_models",
        "_life",
        "_headers",
        "_protocol",
        "_body",
        "_send",
        "_download",
        "_uploads",
        "_app",
        "hooks",
        "observer",
    },
    "media": {"_errors", "_models", "hooks"},
    "metrics": {"", "_life", "_models", "observer"},
    "testing": {"", "stores", "lockers"},
    "_monitor": {"", "metrics"},
    "_connections": set(),
    "_cli": {
        "",
        "stores.file",
        "stores.s3",
        "lockers.file",
        "lockers.memory",
        "stores",
        "lockers",
        "observer",
        "metrics",
        "_monitor",
        "_connections",
    },
    "__main__": {"_cli"},
}
"""What a room may import of ours; the empty name stands for the public names."""

EXTRAS = {
    "lockers._inbox": {"trio"},  # where it runs the event loop, and so is there
    "_checksums": {"google_crc32c"},
    "metrics": {"prometheus_client"},
    "_monitor": {"prometheus_client"},
    "media": {"puremagic"},
    "lockers.redis": {"redis"},
    "stores._fsspec": {"fsspec"},
    "stores._s3_client": {"aiobotocore", "botocore", "s3fs"},
    "stores._s3_check": {"botocore"},
    "_cli": {"starlette", "uvicorn"},
    "_connections": {"uvicorn"},
    "testing": {"pytest"},
}
"""What a room may import beyond the standard library and anyio."""


def room_of(module: str) -> str:
    """Return the room of a module, named below `tusasgi`."""
    return "testing" if module.startswith("testing") else module


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
    "module", ["_errors", "_models", "_rules", "_life", "_headers", "_protocol"]
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
