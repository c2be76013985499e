"""The command `tusasgi`: a server that needs no code, and what looks after its uploads."""

import contextlib
import logging.config
import os
from collections.abc import Iterator, Sequence
from importlib import import_module

from tusasgi.server.checks import (
    check_address,
    check_certificate,
    check_credentials,
    check_extra,
    check_hooks,
    check_locker,
    check_place,
    check_posix,
    check_web_hooks,
    fail,
)
from tusasgi.server.connections import raise_descriptor_limit
from tusasgi.server.listening import (
    CannotListen,
    Listener,
    inherited_listener,
    origin,
    unix_listener,
)
from tusasgi.server.logs import announce, log_config
from tusasgi.server.monitor import Monitor, Watched, counting
from tusasgi.server.options import read_arguments
from tusasgi.server.readiness import Readiness
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
    logging.config.dictConfig(log_config(settings))
    extra = _EXTRAS[settings.server]
    check_extra(f"serve on {settings.server}", extra, "starlette", settings.server)
    if settings.monitor is not None:
        check_posix("--monitor")
    if settings.unix_socket is not None:
        check_posix("--unix-socket")
    check_hooks(settings.hooks)
    check_web_hooks(settings, install=f"{extra},hooks")
    check_certificate(settings)
    check_credentials(settings, install=f"{extra},jwt")
    settings = check_place(settings, may_be_away=True, may_be_made=True)
    check_locker(settings)
    with (
        _monitor(settings.monitor, install=f"{extra},metrics") as monitor,
        _listener(settings) as listener,
        contextlib.closing(Readiness(settings)) as readiness,
    ):
        settings = listener.written_into(settings)
        url = settings.public_url or listener.url(settings)
        announce(f"Clients upload to {url} and the bytes go to {settings.shown_place}", settings)
        if monitor is not None:
            _watch(monitor, listener, settings, readiness)
        _run_server(settings, listener)


@contextlib.contextmanager
def _listener(settings: Settings) -> Iterator[Listener]:
    """Give what the server is to listen on: a socket that it has inherited counts most."""
    with contextlib.ExitStack() as stack:
        try:
            listener = inherited_listener(os.environ)
            if listener is None and settings.unix_socket is not None:
                listener = stack.enter_context(unix_listener(settings.unix_socket))
        except CannotListen as error:
            fail(str(error))
        yield listener or Listener(address=check_address(settings.host, settings.port))


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


def _watch(monitor: Monitor, listener: Listener, settings: Settings, readiness: Readiness) -> None:
    watched = Watched(
        directory=settings.place if settings.is_in_folder else None,
        address=listener.address,
        path=settings.path,
        backend_trouble=readiness.trouble,
        unix_socket=listener.path,
        has_tls=settings.ssl_certfile is not None,
        shows_uploads=settings.page,
    )
    monitor.watch(watched)
    url = origin(monitor.address)
    announce(f"Monitoring is at {url}/metrics, {url}/health and {url}/ready", settings)
    if settings.page:
        announce(f"What is under way is shown at {url}/", settings)


def _run_server(settings: Settings, listener: Listener) -> None:
    os.environ[FOR_WORKERS] = settings.dump()
    raise_descriptor_limit()
    if settings.server == "granian":
        from tusasgi.server.on_granian import run
    else:
        from tusasgi.server.on_uvicorn import run
    run(settings, listener)
