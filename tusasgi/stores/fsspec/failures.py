"""What the failures of filesystems mean: each has exceptions of its own."""

import contextlib
import errno
from collections.abc import Iterator

from tusasgi.errors import StoreFull, StoreUnavailable


def _numbers(*names: str) -> set[int]:
    """Return the numbers of errors; not every system has a number for each."""
    return {getattr(errno, name) for name in names if hasattr(errno, name)}


_FULL = _numbers("ENOSPC", "EDQUOT", "EFBIG")
_UNREACHABLE = _numbers(
    "EBUSY",  # s3fs: 503
    "EREMOTEIO",  # s3fs: 500
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "ENETDOWN",
    "ENETUNREACH",
    "ENOTCONN",
    "ETIMEDOUT",
)
# By name, because none of these packages has to be there.
_UNREACHABLE_BY_NAME = {
    ("aiohttp", "ClientConnectionError"),
    ("aiohttp", "ClientPayloadError"),
    ("azure", "ServiceRequestError"),
    ("azure", "ServiceResponseError"),
    ("botocore", "ConnectionError"),
    ("botocore", "HTTPClientError"),
    ("paramiko", "NoValidConnectionsError"),
    ("paramiko", "SSHException"),
    ("requests", "ConnectionError"),
    ("requests", "Timeout"),
    ("socket", "gaierror"),
}


@contextlib.contextmanager
def errors_mapped() -> Iterator[None]:
    """Raise a failure as what a client is answered, where it is known what it means."""
    try:
        yield
    except Exception as error:  # raised again
        if isinstance(error, OSError) and error.errno in _FULL:
            raise StoreFull("the store is full") from error
        if _is_unreachable(error):
            raise StoreUnavailable("the store cannot be reached for now") from error
        raise


def _is_unreachable(error: BaseException) -> bool:
    """True for a failure of the network, or of the server of the store."""
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return False
    if isinstance(error, ConnectionError | TimeoutError | EOFError):
        return True
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return True
    if type(error) is OSError and error.args == ("Socket is closed",):  # paramiko
        return True
    status = getattr(error, "status_code", getattr(error, "code", None))
    if isinstance(status, int) and (status == 429 or 500 <= status < 600):
        return True
    kinds = {(kind.__module__.split(".")[0], kind.__name__) for kind in type(error).__mro__}
    return bool(kinds & _UNREACHABLE_BY_NAME)
