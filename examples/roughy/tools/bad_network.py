"""A network that breaks on purpose: a TCP proxy for the demo and for tests of clients."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType

_CHUNK = 64 * 1024
_END_SECONDS = 5.0


class BadNetwork:
    """A proxy on a free port of 127.0.0.1 in front of `port`, open within a `with` block.

    Each of `cuts` is used once: the next connection over which a client sends that many bytes,
    heads of requests included, is cut there, and what came later is lost. `cuts_made` lists those
    that happened. With `bytes_per_second` a connection sends no faster than that.
    """

    def __init__(
        self, port: int, *, cuts: Iterable[int] = (), bytes_per_second: int | None = None
    ) -> None:
        self._target = port
        self._cuts = list(cuts)
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._is_closing = False
        self.cuts_made: list[int] = []

    def __enter__(self) -> "BadNetwork":
        self._listener = socket.create_server(("127.0.0.1", 0))
        if self._rate is not None:
            # Else most of a file disappears into buffers, and looks sent.
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)
        self.port = int(self._listener.getsockname()[1])
        self._spawn(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closing = True
        _close(self._listener)
        self.cut_all()
        for thread in self._threads:
            thread.join(_END_SECONDS)

    def cut_all(self) -> None:
        """Cut every connection there is, as a proxy does that has waited long enough."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _hang_up(connection)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _spawn(self, work: Callable[..., None], *arguments: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while not self._is_closing:
                client, _ = self._listener.accept()
                self._spawn(self._connect, client)

    def _connect(self, client: socket.socket) -> None:
        """Carry one connection until either side, or a cut, ends it."""
        with client, contextlib.suppress(OSError):
            server = socket.create_connection(("127.0.0.1", self._target))
            with server:
                with self._lock:
                    self._open |= {client, server}
                answers = self._spawn(self._pass_answers, server, client)
                self._pass_requests(client, server)
                answers.join()
                with self._lock:
                    self._open -= {client, server}

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while chunk := client.recv(_CHUNK):
                cut = self._take_cut(passed + len(chunk))
                if cut is not None:
                    server.sendall(chunk[: max(0, cut - passed)])
                    break
                server.sendall(chunk)
                passed += len(chunk)
                if self._rate is not None:
                    time.sleep(len(chunk) / self._rate)
        _hang_up(server)
        _hang_up(client)

    def _take_cut(self, reached: int) -> int | None:
        with self._lock:
            if not self._cuts or reached < self._cuts[0]:
                return None
            self.cuts_made.append(self._cuts.pop(0))
            return self.cuts_made[-1]

    def _pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := server.recv(_CHUNK):
                client.sendall(chunk)
        _hang_up(client)


def _hang_up(connection: socket.socket) -> None:
    """End a connection for both sides, and wake the thread that waits for it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _close(listener: socket.socket) -> None:
    _hang_up(listener)  # wakes `accept`, which closing alone does not
    listener.close()
