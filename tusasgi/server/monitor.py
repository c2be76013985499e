"""`/metrics`, `/health` and `/ready` of `tusasgi serve`.

They come from a small server in a thread of the parent process.
The workers count into files of a folder for the time of the run, and the parent adds them up.
It stands outside of the workers, so that it still answers when they do not.
"""

import contextlib
import http.client
import logging
import os
import re
import socket
import socketserver
import ssl
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType
from typing import Any, NamedTuple

from tusasgi.server.listening import ended_by_sigterm
from tusasgi.server.live import MEDIA_TYPE, LiveView
from tusasgi.server.running import FOLDER
from tusasgi.server.values import Address
from tusasgi.server.web import HEADERS

logger = logging.getLogger("tusasgi.cli")

_LIVE_GAUGES = re.compile(r"gauge_live[a-z]+_([0-9]+)\.db")
_ANSWER_SECONDS = 2.0  # that the server may take to answer a request for nothing
_CLIENT_SECONDS = 5.0  # that somebody who asks us may take for it
_POLL_SECONDS = 0.1  # that the end of the server waits for this one


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What is looked at: the folder of the uploads if there is one, and their server.

    `backend_trouble` says in one line what is wrong with store or receiver, which `/ready` asks.
    """

    directory: str | None
    address: Address | None
    path: str
    backend_trouble: Callable[[], str | None]
    unix_socket: str | None = None
    """Where it listens if it has no address."""
    has_tls: bool = False
    shows_uploads: bool = False
    """Whether a page at / shows what is under way."""


class MonitorPage(NamedTuple):
    """What is answered."""

    status: HTTPStatus
    content_type: str
    body: bytes | Iterator[bytes]
    headers: Mapping[str, str] = MappingProxyType({"Cache-Control": "no-store"})


class Monitor:
    """Listens from the start, and answers from `watch` on. Raises `OSError` for a taken port."""

    def __init__(self, address: Address, folder: str) -> None:
        family, _, _, _, resolved = socket.getaddrinfo(
            *address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self._host = address.host
        self._folder = folder
        self._server = _Server(family, resolved, self._page)
        self._target: Watched | None = None
        self._live = LiveView(folder)
        self._checking = threading.Lock()

    @property
    def address(self) -> Address:
        """Where it listens: with the port that was chosen for 0."""
        return Address(self._host, int(self._server.server_address[1]))

    def watch(self, target: Watched) -> None:
        """Answer from now on."""
        self._target = target
        thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": _POLL_SECONDS},
            name="tusasgi monitor",
            daemon=True,
        )
        thread.start()

    def close(self) -> None:
        self._live.close()
        if self._target is not None:
            self._server.shutdown()
        self._server.server_close()

    def _page(self, path: str, accept: str) -> MonitorPage:
        if path == "/metrics":
            return self._metrics(accept)
        if path == "/health":
            return self._checked(find_trouble)
        if path == "/ready":
            return self._checked(lambda target: find_trouble(target) or target.backend_trouble())
        assert self._target is not None  # nobody is answered before
        page = self._live_page(path) if self._target.shows_uploads else None
        return page or _text(HTTPStatus.NOT_FOUND, "there are /metrics, /health and /ready")

    def _live_page(self, path: str) -> MonitorPage | None:
        if path == "/events":
            return MonitorPage(HTTPStatus.OK, MEDIA_TYPE, self._live.events())
        file = self._live.file(path)
        return None if file is None else MonitorPage(HTTPStatus.OK, *file, HEADERS)

    def _metrics(self, accept: str) -> MonitorPage:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry, self._folder)  # type: ignore[no-untyped-call]
        encode, content_type = choose_encoder(accept)
        try:
            forget_dead_workers(self._folder)
            return MonitorPage(HTTPStatus.OK, content_type, encode(registry))
        except (FileNotFoundError, struct.error):  # a worker begins or ends meanwhile
            return _text(HTTPStatus.SERVICE_UNAVAILABLE, "the metrics are changing, ask again")

    def _checked(self, find: Callable[[Watched], str | None]) -> MonitorPage:
        """One check at a time: a disk or server that hangs must not hang a thread per question."""
        if not self._checking.acquire(timeout=2 * _ANSWER_SECONDS):
            return _text(HTTPStatus.SERVICE_UNAVAILABLE, "an earlier check has not ended yet")
        try:
            assert self._target is not None  # nobody is answered before
            trouble = find(self._target)
        finally:
            self._checking.release()
        if trouble is None:
            return _text(HTTPStatus.OK, "ok")
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, trouble)


@contextlib.contextmanager
def counting() -> Iterator[str]:
    """Have this process and its children count into one folder, which goes with the block.

    Enter it before `prometheus_client` is imported. The block may be ended by SIGTERM: then the
    process dies of it, after the folder is gone.
    """
    with (
        ended_by_sigterm(),
        tempfile.TemporaryDirectory(prefix="tusasgi-", ignore_cleanup_errors=True) as folder,
    ):
        os.environ[FOLDER] = folder
        yield folder


def forget_dead_workers(folder: str) -> None:
    """Take what died workers were doing out of the sums. What they had done stays in them.

    uvicorn replaces a worker that died without a word.
    """
    from prometheus_client.multiprocess import mark_process_dead

    for name in os.listdir(folder):
        match = _LIVE_GAUGES.fullmatch(name)
        if match is not None and not _is_alive(int(match[1])):
            mark_process_dead(int(match[1]), folder)  # type: ignore[no-untyped-call]


def find_trouble(target: Watched) -> str | None:
    """Say in one line what keeps clients from uploading, without a path; None for nothing."""
    if target.directory is not None:
        try:
            with tempfile.TemporaryFile(dir=target.directory) as file:
                file.write(b"\0")
                file.flush()
        except OSError as error:
            return f"cannot write to the folder of the uploads: {error.strerror}"
    return _ask(target)


def _ask(target: Watched) -> str | None:
    with contextlib.closing(_ToOurselves(target)) as connection:
        try:
            connection.request("OPTIONS", target.path, headers={"Connection": "close"})
            status = connection.getresponse().status
        except TimeoutError:
            return f"the server has not answered within {_ANSWER_SECONDS:g} seconds"
        except http.client.HTTPException:
            return "the server has broken off its answer"
        except OSError as error:
            return f"the server cannot be reached: {error.strerror}"
    return None if status < 400 else f"the server answers with status {status}"


class _ToOurselves(http.client.HTTPConnection):
    """A connection to the server, however it listens. Its certificate is one for other names."""

    def __init__(self, target: Watched) -> None:
        host, port = target.address or ("localhost", None)
        here = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
        super().__init__(here.get(host, host), port, timeout=_ANSWER_SECONDS)
        self._target = target

    def connect(self) -> None:
        if self._target.unix_socket is None:
            super().connect()
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(_ANSWER_SECONDS)
            self.sock.connect(self._target.unix_socket)
        if self._target.has_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # then it is somebody's
        pass
    return True


def _text(status: HTTPStatus, line: str) -> MonitorPage:
    return MonitorPage(status, "text/plain; charset=utf-8", f"{line}\n".encode())


# The server. That of the standard library, but one that asks no name server for its own name.


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self, family: int, address: tuple[Any, ...], page: Callable[[str, str], MonitorPage]
    ) -> None:
        self.address_family = family
        self.page = page
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        logger.debug("A question to the monitor was not answered", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_SECONDS
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        page = self.server.page(path, self.headers.get("Accept", ""))
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if isinstance(page.body, bytes):
            self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        pieces = [page.body] if isinstance(page.body, bytes) else page.body
        if self.command != "HEAD":
            for piece in pieces:
                self.wfile.write(piece)

    def do_HEAD(self) -> None:
        self.do_GET()

    def version_string(self) -> str:
        return "tusasgi"

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: it is asked every few seconds."""
