"""Who is measured: tusasgi in its setups, the floor, and servers of others where they are."""

import os
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._server import Server, asgi, running

DEFAULT = "MemoryLocker"
LOCKED = "FileLocker"
SLIDING = "sliding expiry"
UNFLUSHED = "durability none"
"""Setups of the library, as `apps` has them."""
SERVE = "serve --expires-after"
"""The command."""
FLOOR = "floor"

_HERE = Path(__file__).parent
_ROOT = str(_HERE.parent)


@dataclass(frozen=True)
class Contender:
    """A server to start: `{port}` and `{folder}` in its command are replaced."""

    name: str
    command: list[str]
    target: str
    """Where uploads are created."""
    working_folder: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def running(
        self, folder: str, cores: Collection[int] | None = None
    ) -> AbstractContextManager[Server]:
        """Return what runs it until the block ends, with its uploads in a folder."""
        path = os.path.abspath(folder)
        return running(
            [word.replace("{folder}", path) for word in self.command],
            {**self.environment, "FOLDER": path},
            cores=cores,
            folder=self.working_folder,
        )


def of_ours(setup: str, kind: str) -> Contender:
    """Return one of our setups, or the floor, on a server of ASGI apps."""
    if setup == SERVE:
        return Contender(
            on(setup, kind),
            [
                sys.executable, "-m", "tusasgi", "serve", "--server", kind, "--port", "{port}",
                "--dir", "{folder}", "--expires-after", "86400",
            ],
            "/files/",
            working_folder=_ROOT,
        )  # fmt: skip
    command = asgi(kind, "benchmarks.apps:app", "--factory")
    return Contender(
        on(setup, kind), command, "/", working_folder=_ROOT, environment={"SETUP": setup}
    )


def on(setup: str, kind: str) -> str:
    """Return the name of one of ours."""
    return f"{setup} on {kind}"


def _tusd(binary: str) -> Contender:
    return Contender(
        "tusd",
        [
            binary, "-host", "127.0.0.1", "-port", "{port}", "-upload-dir", "{folder}",
            "-base-path", "/files/", "-verbose=false", "-show-greeting=false",
        ],
        "/files/",
    )  # fmt: skip


def _rustus(binary: str) -> Contender:
    return Contender(
        "rustus",
        [
            binary, "--host", "127.0.0.1", "--port", "{port}", "--url", "/files",
            "--data-dir", "{folder}/data", "--info-dir", "{folder}/info", "--log-level", "ERROR",
            "--max-body-size", str(64 * 2**30),
        ],
        "/files",
    )  # fmt: skip


def _tus_node(folder: str) -> Contender:
    # As text: node looks for packages beside a script, and here in the working folder.
    script = (_HERE / "tus_node.mjs").read_text()
    return Contender(
        "@tus/server",
        ["node", "--input-type=module", "-e", script, "--", "{port}", "{folder}"],
        "/files",
        working_folder=folder,
    )


def _tuspyserver(python: str) -> Contender:
    app = "tuspyserver_app:app"
    command = asgi("uvicorn", app, "--app-dir", str(_HERE), python=python)
    return Contender("tuspyserver", command, "/files/")


PEERS: dict[str, tuple[str, Callable[[str], Contender]]] = {
    "tusd": ("path of the program", _tusd),
    "rustus": ("path of the program", _rustus),
    "tus-node": ("folder with @tus/server and @tus/file-store in its node_modules", _tus_node),
    "tuspyserver": ("path of a Python that has it, and uvicorn", _tuspyserver),
}
"""By the option that says where each is: what is said there, and what it becomes."""
