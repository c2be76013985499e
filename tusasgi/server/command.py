"""The command `tusasgi`: a server that needs no code, and what looks after its uploads."""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module

from tusasgi.server.checks import (
    check_address,
    check_extra,
    check_hooks,
    check_locker,
    check_place,
    check_posix,
    fail,
)
from tusasgi.server.connections import raise_descriptor_limit
from tusasgi.server.monitor import Monitor, Watched, counting
from tusasgi.server.options import read_arguments
from tusasgi.server.settings import FOR_WORKERS, Settings
from tusasgi.server.values import Address

_EXTRAS = {"uvicorn": "server", "granian": "granian"}
"""What to install for a server."""

_MODULES = {
    "list": "listing",
    "show": "showing",
    "remove": "removing",
    "sweep": "sweeping",
    "check": "checking",
    "import": "importing",
}
"""Where the other commands are."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a wrong option ends it with code 2, what cannot be done with 1."""
    command, settings, words = read_arguments(arguments)
    if command == "serve":
        serve(settings)
    else:
        import_module(f"tusasgi.server.commands.{_MODULES[command]}").run(settings, words)


def serve(settings: Settings) -> None:
    """Receive uploads until a signal ends it."""
    extra = _EXTRAS[settings.server]
    check_extra(f"serve on {settings.server}", extra, "starlette", settings.server)
    if settings.monitor is not None:
        check_posix("--monitor")
    check_hooks(settings.hooks)
    settings = check_place(settings, may_be_away=True, may_be_made=True)
    check_locker(settings)
    with _monitor(settings.monitor, install=f"{extra},metrics") as monitor:
        address = check_address(settings.host, settings.port)
        url = settings.public_url or f"{_origin(address)}{settings.path}"
        print(f"Clients upload to {url} and the bytes go to {settings.shown_place}", flush=True)
        if monitor is not None:
            _watch(monitor, address, settings)
        _run_server(settings, address)


@contextlib.contextmanager
def _monitor(address: Address | None, *, install: str) -> Iterator[Monitor | None]:
    """Give a monitor that listens there, and closes with the block."""
    if address is None:
        yield None
        return
    check_extra("--monitor", "metrics", "prometheus_client", install=install)
    with counting() as folder:
        try:
            monitor = Monitor(address, folder)
        except OSError as error:
            fail(f"cannot listen on {address.host} port {address.port}: {error.strerror}")
        with contextlib.closing(monitor):
            yield monitor


def _watch(monitor: Monitor, address: Address, settings: Settings) -> None:
    directory = settings.place if settings.is_in_folder else None
    monitor.watch(Watched(directory=directory, address=address, path=settings.path))
    origin = _origin(monitor.address)
    print(f"Monitoring is at {origin}/metrics and {origin}/health", flush=True)


def _origin(address: Address) -> str:
    host, port = address
    if host in ("", "0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _run_server(settings: Settings, address: Address) -> None:
    os.environ[FOR_WORKERS] = replace(settings, port=address.port).dump()
    raise_descriptor_limit()
    if settings.server == "granian":
        from tusasgi.server.on_granian import run
    else:
        from tusasgi.server.on_uvicorn import run
    run(settings, address)
