"""`serve`: everything is in place, then we listen, then we say where, then uvicorn takes over."""

import argparse
import asyncio
import socket

import uvicorn

from examples.roughy.app import Roughy
from examples.roughy.settings import Settings

_BACKLOG = 2048
_STARTUP_FAILED = 3  # as uvicorn itself ends then


class CannotListen(Exception):
    """Why not, in one line."""


def serve(settings: Settings, options: argparse.Namespace) -> None:
    """Serve until told to stop. Raises what is wrong with settings, database, store or address."""
    roughy = Roughy(settings)
    config = uvicorn.Config(roughy.app, timeout_graceful_shutdown=10)
    server = uvicorn.Server(config)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        try:
            runner.run(_serve(roughy, server, options))
        except KeyboardInterrupt:
            return
    if not server.started:
        raise SystemExit(_STARTUP_FAILED)


async def _serve(roughy: Roughy, server: uvicorn.Server, options: argparse.Namespace) -> None:
    await roughy.start()
    try:
        listener = listening(options.host, options.port)
    except CannotListen:
        await roughy.close()
        raise
    with listener:
        if not roughy.settings.api_keys:
            # Not the key itself: what we print is kept in the logs of whoever started us.
            print(f"API key: in {roughy.settings.data / 'api-key'}")
        print(f"Roughy:  {url_of(listener)}/", flush=True)
        await server.serve([listener])


def listening(host: str, port: int) -> socket.socket:
    """Listen there; on a free port for 0. Raises `CannotListen`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host} port {port}: {error.strerror or error}"
        ) from None
    # Connections have it from here: asyncio sets it only for sockets that it has made itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket) -> str:
    """Say where clients of this machine reach what listens there."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
