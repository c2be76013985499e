"""The command `tusasgi`: a server that needs no code, and the sweeper of its uploads."""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import anyio

from tusasgi import (
    Expiry,
    Limits,
    Observer,
    StoreUnavailable,
    TusApp,
    TusError,
    Uploads,
    __version__,
)
from tusasgi.lockers import Locker
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.server.monitor import Address, Monitor, Target, counting
from tusasgi.stores import Store

if TYPE_CHECKING:
    from types import FrameType

    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import Response

    from tusasgi.stores.file import Durability

logger = logging.getLogger("tusasgi.cli")

# How the settings reach the workers, which are processes of their own.
_ENVIRONMENT = "TUSASGI_SERVE"

_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"([0-9]{1,18}) ?([A-Za-z]{0,3})")
_PATH = re.compile(r"/([A-Za-z0-9._~-]+/)*")
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#\s]+")
_URL = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?")

_HOST_AND_PORT = re.compile(
    r"(?:(?P<host>[A-Za-z0-9.-]+):|\[(?P<ipv6>[0-9A-Fa-f:.]+)\]:)?(?P<port>[0-9]{1,5})"
)

_METHODS = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"]
_ASKED = [
    "Authorization", "Content-Type", "Range", "Tus-Resumable", "Upload-Checksum", "Upload-Concat",
    "Upload-Defer-Length", "Upload-Length", "Upload-Metadata", "Upload-Offset",
    "X-HTTP-Method-Override", "X-Request-ID", "X-Requested-With",
]  # fmt: skip
_ANSWERED = [
    "Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Location",
    "Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version",
    "Upload-Concat", "Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Metadata",
    "Upload-Offset",
]  # fmt: skip
_FOLDER = "a folder of uploads (other than --store s3://bucket/prefix)"
_SAVE_SECONDS = 5  # for what stopped uploads still write; telling their clients takes up to 2
_PREFLIGHT_SECONDS = 7200  # the longest that Chromium remembers


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a wrong option ends it with code 2, what cannot be done with 1."""
    options = _parser().parse_args(arguments)
    options.run(options)


# The commands.


def _serve(options: argparse.Namespace) -> None:
    if not all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn")):
        _fail("serve needs the extra `server`: pip install 'tusasgi[server]'")
    if options.monitor is not None:
        _check_posix("--monitor")
    place = _place(options)
    is_tried = _check_place(place, may_be_away=True)
    with contextlib.ExitStack() as stack:
        monitor = _open_monitor(stack, options.monitor) if options.monitor else None
        address = Address(options.host, _check_address(options.host, options.port))
        url = options.public_url or f"{_origin(address)}{options.path}"
        print(f"Clients upload to {url} and the bytes go to {place}", flush=True)
        if monitor is not None:
            origin = _origin(Address(options.monitor.host, monitor.port))
            directory = None if _is_bucket(place) else place
            monitor.watch(Target(directory=directory, address=address, path=options.path))
            print(f"Monitoring is at {origin}/metrics and {origin}/health", flush=True)
        _run(options, place, address, is_tried=is_tried)


def _open_monitor(stack: contextlib.ExitStack, address: Address) -> Monitor:
    if not importlib.util.find_spec("prometheus_client"):
        _fail("--monitor needs the extra `metrics`: pip install 'tusasgi[server,metrics]'")
    folder = stack.enter_context(counting())
    try:
        return stack.enter_context(contextlib.closing(Monitor(address, folder)))
    except OSError as error:
        _fail(f"cannot listen on {address.host} port {address.port}: {error.strerror}")


def _run(options: argparse.Namespace, place: str, address: Address, *, is_tried: bool) -> None:
    import uvicorn

    from tusasgi.server.connections import Connection, raise_descriptor_limit

    settings = Settings(
        place=place,
        is_tried=is_tried,
        path=options.path,
        max_size=options.max_size,
        expires_after=options.expires_after,
        cors_origins=options.cors_origin,
        public_url=options.public_url,
        durability=options.durability,
        shutdown_timeout=options.shutdown_timeout,
        is_monitored=options.monitor is not None,
        logs_requests=options.log_requests,
    )
    os.environ[_ENVIRONMENT] = json.dumps(asdict(settings))
    raise_descriptor_limit()
    uvicorn.run(
        "tusasgi.server.command:create_app",
        factory=True,
        host=address.host,
        port=address.port,
        workers=options.workers,
        timeout_graceful_shutdown=options.shutdown_timeout + _SAVE_SECONDS,
        timeout_keep_alive=options.keep_alive,
        http=partial(Connection, header_timeout=options.header_timeout),  # type: ignore[arg-type]
        ws="none",
        log_level="warning",
        access_log=False,
    )


def _sweep(options: argparse.Namespace) -> None:
    place = _place(options)
    if _is_bucket(place):
        _check_place(place)
    else:
        _check_posix(_FOLDER)
        if not os.path.isdir(place):
            _fail(f"there is no folder {place}")
    try:
        count = anyio.run(_sweep_once, place)
    except* Exception as failures:  # whatever it was: who runs it wants the causes alone
        told = [f"tusasgi: not everything could be removed: {one}" for one in _causes(failures)]
        sys.exit("\n".join(told))
    print(f"{count} expired {'upload' if count == 1 else 'uploads'} removed")


async def _sweep_once(place: str) -> int:
    uploads = _uploads(place, is_tried=True)
    async with _closing(uploads.store):
        return await uploads.sweep()


def _causes(failures: BaseException) -> list[str]:
    """Say in a line each what went wrong, however many uploads met with the same."""
    notes: dict[str, dict[str, None]] = {}
    for cause, noted in _each(failures):
        notes.setdefault(_told(cause), {}).update(dict.fromkeys(noted))
    return [
        f"{cause} ({_first(list(noted))})" if noted else cause for cause, noted in notes.items()
    ]


def _each(failure: BaseException) -> Iterator[tuple[BaseException, list[str]]]:
    """Yield what is behind failures, with the notes on the way there."""
    noted = getattr(failure, "__notes__", [])
    cause = _cause(failure)
    if not isinstance(cause, BaseExceptionGroup):
        yield cause, noted
        return
    for inner in cause.exceptions:
        for found, more in _each(inner):
            yield found, noted + more


def _cause(failure: BaseException) -> BaseException:
    """Return what is behind a failure that clients are told of in milder words."""
    return (failure.__cause__ if isinstance(failure, TusError) else None) or failure


def _told(cause: BaseException) -> str:
    text = " ".join(str(cause).split())
    if isinstance(cause, TimeoutError) and not text:
        text = "no answer in time; for object storage, AWS_ENDPOINT_URL says who is asked"
    name = type(cause).__name__
    return f"{name}: {text}" if text else name


def _first(notes: list[str]) -> str:
    return notes[0] if len(notes) == 1 else f"{notes[0]} and {len(notes) - 1} more"


def _fail(message: str) -> NoReturn:
    sys.exit(f"tusasgi: {message}")


def _place(options: argparse.Namespace) -> str:
    """Return where the uploads are: a folder, or the URL of a bucket."""
    return str(options.store or os.path.abspath(options.dir or "data"))


def _is_bucket(place: str) -> bool:
    return place.startswith("s3://")


def _check_place(place: str, *, may_be_away: bool = False) -> bool:
    """End the command if the place cannot be used. False: it is a bucket, and away for now."""
    if not _is_bucket(place):
        _check_folder(place)
        return True
    if not importlib.util.find_spec("s3fs"):
        _fail("a bucket needs the extra `s3`: pip install 'tusasgi[s3]'")
    try:
        anyio.run(_connect, place)
    except Exception as error:  # of a long list; whoever typed the URL wants the reason alone
        reason = _told(_cause(error))
        if not (may_be_away and isinstance(error, StoreUnavailable)):
            _fail(f"cannot use the bucket {place}: {reason}")
        logger.warning(
            "The bucket %s cannot be reached for now; the first request tries again: %s",
            place,
            reason,
        )
        return False
    return True


async def _connect(place: str) -> None:
    from tusasgi.stores.s3 import S3Store

    async with S3Store(place):
        pass


def _check_posix(what: str) -> None:
    if not importlib.util.find_spec("fcntl"):
        _fail(f"{what} needs a POSIX system (Linux, macOS, WSL)")


def _check_folder(directory: str) -> None:
    _check_posix(_FOLDER)
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        _fail(f"cannot write to the folder {directory}: {error.strerror}")


def _check_address(host: str, port: int) -> int:
    """Return the port that is free there, a chosen one for 0.

    Asked before the server is: several workers would each tell of the failure in their way.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            free: int = probe.getsockname()[1]
    except OSError as error:
        _fail(f"cannot listen on {host} port {port}: {error.strerror}")
    return free


def _origin(address: Address) -> str:
    host, port = address
    if host in ("", "0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


# The app of one worker.


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the app of a worker has to know."""

    place: str
    """The folder of the uploads, or the URL of a bucket."""
    is_tried: bool = False
    """True if a bucket was found to do what it has to, by who starts the workers."""
    path: str = "/files/"
    max_size: int | None = None
    expires_after: int | None = None
    cors_origins: Sequence[str] = ()
    public_url: str | None = None
    durability: "Durability" = "complete"
    shutdown_timeout: int = 5
    is_monitored: bool = False
    logs_requests: bool = False


def create_app() -> "Starlette":
    """Build the app by the settings in the environment, in the process that will run it."""
    return build_app(Settings(**json.loads(os.environ[_ENVIRONMENT])))


def build_app(settings: Settings) -> "Starlette":
    """Build the app that `serve` runs: uploads, downloads, CORS, and the sweeper."""
    from starlette.applications import Starlette
    from starlette.routing import BaseRoute, Route

    from tusasgi.server.connections import watch_descriptors

    uploads = _uploads(
        settings.place,
        settings.durability,
        is_tried=settings.is_tried,
        max_size=settings.max_size,
        expires_after=settings.expires_after,
        observer=_metrics() if settings.is_monitored else None,
    )
    tus = TusApp(uploads, public_url=settings.public_url, prefix=settings.path, downloads=True)
    routes: list[BaseRoute] = [Route(settings.path + "{upload_id:path}", tus)]
    if settings.path != "/":
        routes += [Route(settings.path.rstrip("/"), tus), Route("/", _front_page(settings))]
    if settings.logs_requests:
        _log_requests()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        _stop_by_signal(uploads, settings.shutdown_timeout)
        if settings.is_tried:  # what is away is not waited for
            await _open(uploads.store)
        async with _closing(uploads.store), anyio.create_task_group() as tasks:
            tasks.start_soon(_sweep_on, uploads, _sweep_interval(settings))
            tasks.start_soon(watch_descriptors)
            yield
            tasks.cancel_scope.cancel()

    return Starlette(routes=routes, middleware=_middleware(settings), lifespan=lifespan)


def _uploads(
    place: str,
    durability: "Durability" = "complete",
    *,
    is_tried: bool = False,
    max_size: int | None = None,
    expires_after: int | None = None,
    observer: Observer | None = None,
) -> Uploads:
    window = None if expires_after is None else timedelta(seconds=expires_after)
    store, locker = _store(place, durability, is_tried=is_tried)
    return Uploads(
        store,
        locker=locker,
        limits=Limits(max_size=max_size),
        expiry=Expiry(initial=window, after_append=window),
        observer=observer,
    )


def _store(place: str, durability: "Durability", *, is_tried: bool) -> tuple[Store, Locker]:
    if _is_bucket(place):
        from tusasgi.stores.s3 import S3Store

        store = S3Store(place, check=not is_tried)
        return store, MemoryLocker()  # the store itself keeps processes apart
    from tusasgi.lockers.file import FileLocker
    from tusasgi.stores.file import FileStore

    return FileStore(place, durability=durability), FileLocker(os.path.join(place, "locks"))


async def _open(store: Store) -> None:
    """Connect to where the store is, if that is somewhere else: no request has to wait for it."""
    if hasattr(store, "open"):
        await store.open()


@contextlib.asynccontextmanager
async def _closing(store: Store) -> AsyncIterator[None]:
    """Close the connections of the store at the end, if it has any."""
    try:
        yield
    finally:
        if hasattr(store, "aclose"):
            await store.aclose()


def _metrics() -> Observer:
    from tusasgi.metrics import Metrics

    return Metrics()


def _middleware(settings: Settings) -> "list[Middleware]":
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware

    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=_METHODS,
            allow_headers=_ASKED,
            expose_headers=_ANSWERED,
            max_age=_PREFLIGHT_SECONDS,
        )
    ]


def _front_page(settings: Settings) -> "Callable[[Request], Awaitable[Response]]":
    from starlette.responses import PlainTextResponse

    async def front_page(request: "Request") -> "Response":
        url = settings.public_url or f"{request.base_url}{settings.path[1:]}"
        return PlainTextResponse(f"tusasgi {__version__}: upload by TUS 1.0.0 to {url}\n")

    return front_page


def _stop_by_signal(uploads: Uploads, seconds: float) -> None:
    """Let running uploads go on for so long after a signal that stops the server.

    The server gets the signal as before: it takes no new connections, waits for the requests
    that are running, and would cancel them in the end.
    """
    loop = asyncio.get_running_loop()

    def listen(number: signal.Signals) -> None:
        stop_server = signal.getsignal(number)

        def stop(received: int, frame: "FrameType | None") -> None:
            loop.call_soon_threadsafe(loop.call_later, seconds, uploads.shutdown)
            if callable(stop_server):
                stop_server(received, frame)

        signal.signal(number, stop)

    listen(signal.SIGINT)
    listen(signal.SIGTERM)


def _log_requests() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    requests = logging.getLogger("tusasgi.requests")
    requests.addHandler(handler)
    requests.setLevel(logging.INFO)


def _sweep_interval(settings: Settings) -> float:
    """Often enough that nothing outlives its time by more than a tenth, and not too often."""
    return min(max((settings.expires_after or 36_000) / 10, 1.0), 3600.0)


async def _sweep_on(uploads: Uploads, interval: float) -> None:
    while True:
        try:
            await uploads.sweep()
        except* Exception as failures:  # whatever it was must not end all sweeping
            logger.warning(
                "Not everything that is due could be removed; it is tried again in %g seconds, and "
                "needs you if this goes on: %s",
                interval,
                "; ".join(_causes(failures)),
            )
        await anyio.sleep(interval)


# The options.


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tusasgi", description="Resumable uploads by TUS 1.0.0")
    parser.add_argument("--version", action="version", version=f"tusasgi {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands.add_parser("serve", help="receive uploads into a folder or a bucket"))
    sweep = commands.add_parser("sweep", help="remove what has expired")
    _add_place(sweep, is_required=True)
    sweep.set_defaults(run=_sweep)
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.set_defaults(run=_serve)
    add = serve.add_argument
    _add_place(serve, is_required=False)
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=_port, default=1080, help="0 takes a free one (default: %(default)s)")
    add("--path", type=_path, default="/files/", help="where clients create (default: %(default)s)")
    add("--max-size", type=_size, metavar="SIZE", help="of one upload, as 5000000 or 10GiB")
    add("--expires-after", type=_positive, metavar="SECONDS",
        help="remove an unfinished upload so long after its last byte came")  # fmt: skip
    add("--workers", type=_positive, default=1, help="processes (default: %(default)s)")
    add("--cors-origin", type=_cors_origin, action="append", default=[], metavar="ORIGIN",
        help="web origin whose pages may upload, or *; may be given more than once")  # fmt: skip
    add("--public-url", type=_public_url, metavar="URL",
        help="of --path, as clients see it; without it `Location` is a path")  # fmt: skip
    add("--durability", choices=("complete", "append"), default="complete",
        help="flush complete uploads to disk, or each append (default: %(default)s)")  # fmt: skip
    add(
        "--log-requests",
        action="store_true",
        help="write a line to stderr for each upload request and its outcome",
    )
    add("--shutdown-timeout", type=_positive, default=5, metavar="SECONDS",
        help="how long running uploads may go on when stopping (default: %(default)s)")  # fmt: skip
    add("--header-timeout", type=_positive, default=60, metavar="SECONDS",
        help="how long the head of a request may take (default: %(default)s)")  # fmt: skip
    add("--keep-alive", type=_positive, default=75, metavar="SECONDS",
        help="how long an idle connection is kept open (default: %(default)s)")  # fmt: skip
    add("--monitor", type=_address, metavar="[HOST:]PORT",
        help="answer /metrics and /health there, on 127.0.0.1 if no host is given")  # fmt: skip


def _add_place(command: argparse.ArgumentParser, *, is_required: bool) -> None:
    place = command.add_mutually_exclusive_group(required=is_required)
    place.add_argument(
        "--dir", help="folder of the uploads" + ("" if is_required else " (default: ./data)")
    )
    place.add_argument(
        "--store",
        type=_bucket,
        metavar="URL",
        help="s3://bucket/prefix instead of a folder; the AWS_* variables say who and where",
    )


def _bucket(text: str) -> str:
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a bucket such as s3://bucket/prefix")
    return text


def _positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _address(text: str) -> Address:
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as 9100 or 0.0.0.0:9100")
    return Address(match["ipv6"] or match["host"] or "127.0.0.1", int(match["port"]))


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 5000000, 500MB or 10GiB")
    return int(match[1]) * _UNITS[match[2].lower()]


def _path(text: str) -> str:
    path = f"/{text.strip('/')}/".replace("//", "/")
    if not text.startswith("/") or not _PATH.fullmatch(path):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path such as /files/")
    return path


def _cors_origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an origin such as https://example.com")
    return text


def _public_url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL such as https://example.com/files")
    return f"{text.rstrip('/')}/"
