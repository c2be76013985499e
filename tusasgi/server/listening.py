"""Where the server listens: on an address, or on a socket that is given to it.

A given socket is one of a path, which we make, or one that systemd has made already.
"""

import contextlib
import errno
import os
import signal
import socket
import stat
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, replace
from types import FrameType

from tusasgi.server.settings import Settings
from tusasgi.server.values import Address

_BACKLOG = 2048
_MODE = 0o660  # who may connect: the user of the server, and the group of the folder or the user
_FIRST_DESCRIPTOR = 3  # of those that systemd gives: sd_listen_fds(3)
_ADDRESS_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class CannotListen(Exception):
    """Why not, in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """An address that the server is to take, or a socket that it is to use."""

    address: Address | None = None
    path: str | None = None
    """The path of a unix socket, where there is no address."""
    given: socket.socket | None = None

    def written_into(self, settings: Settings) -> Settings:
        """Return settings that say where we listen, whoever has chosen that."""
        if self.address is None:
            return replace(settings, unix_socket=self.path)
        return replace(settings, port=self.address.port, unix_socket=None)

    def url(self, settings: Settings) -> str:
        """Say where clients of this machine find the uploads."""
        if self.address is None:
            return f"{settings.path} of the socket {self.path}"
        return f"{origin(self.address, settings.scheme)}{settings.path}"


def origin(address: Address, scheme: str = "http") -> str:
    host, port = address
    if host in ("", "0.0.0.0", "::"):
        host = socket.gethostname()
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def inherited_listener(environment: MutableMapping[str, str]) -> Listener | None:
    """Return the socket that systemd has given to this process, if it has given one.

    Raises `CannotListen` for several, and for one that does not listen. The variables that say so
    are removed: what we start is given nothing by systemd.
    """
    process, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        return None
    if int(count) > 1:
        raise CannotListen(f"systemd gives {count} sockets, and one is what can be used")
    return _listener_of(_FIRST_DESCRIPTOR)


def _listener_of(descriptor: int) -> Listener:
    try:
        given = socket.socket(fileno=descriptor)
        is_listener = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CannotListen(f"what systemd gives is no socket: {error.strerror}") from None
    if not is_listener or given.type != socket.SOCK_STREAM:
        given.close()
        raise CannotListen("what systemd gives does not listen: ListenStream=, and not Accept=yes")
    given.set_inheritable(False)
    if given.family not in _ADDRESS_FAMILIES:
        return Listener(path=str(given.getsockname()), given=given)
    # Accepted connections have it from here: a server may not know the family of what it is given.
    given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Listener(address=Address(*given.getsockname()[:2]), given=given)


@contextlib.contextmanager
def unix_listener(path: str) -> Iterator[Listener]:
    """Listen on a unix socket for as long as the block runs, and remove it then.

    One that nobody listens on any more is replaced. Raises `CannotListen`.
    """
    try:
        with _alone_in(os.path.dirname(os.path.abspath(path))):
            _remove_stale(path)
            given = _bound(path)
    except OSError as error:
        raise CannotListen(f"cannot listen on {path}: {error.strerror or error}") from None
    ours = _identity(path)
    with given, ended_by_sigterm():
        try:
            yield Listener(path=path, given=given)
        finally:
            with contextlib.suppress(OSError):
                if _identity(path) == ours:
                    os.unlink(path)


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Keep other servers from looking at a stale socket meanwhile, and from replacing a new one."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: str) -> None:
    """Remove a socket on which nobody listens; `OSError` for anything else that is there."""
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise OSError(errno.EEXIST, "it is there, and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # whoever has too much to do to take us listens, too
        reached = probe.connect_ex(path)
    if reached != errno.ECONNREFUSED:
        raise OSError(errno.EADDRINUSE, "another server listens there")
    os.unlink(path)


def _bound(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(path)
        os.chmod(path, _MODE)  # nobody can connect before it listens
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


class _Terminated(BaseException):
    """SIGTERM, as an exception that nothing in between catches."""


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let the block clean up after SIGTERM, and die of it then.

    uvicorn stops by it, and sends it to itself once more when it has stopped.
    """

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would break the cleaning off
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
