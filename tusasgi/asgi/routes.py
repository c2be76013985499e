"""Which upload a request is about, and what its URL is, under any kind of mount. Pure."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tusasgi.errors import InvalidRequest, UploadNotFound

# RFC 3986 section 3.2: a name or an address, and a port. Escapes and user names are left out.
_HOST = re.compile(r"([A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """`upload_id` is None for the collection; `base` is the public path of the collection."""

    upload_id: str | None
    base: str


def find_route(scope: Mapping[str, Any], prefix: str) -> Route:
    """Find the upload that a request names; raise `UploadNotFound` for any other path.

    Frameworks differ in what they leave in `path` (see `docs/mounting.md`): the full path with
    `root_path` in front (Starlette), only the tail (Litestar), or the full path without a
    `root_path` that a proxy took away (`FastAPI(root_path=…)`). `prefix` is the path that the
    app itself answers under, when no framework routes to it.
    """
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "").rstrip("/")
    tail = _without_prefix(_without_root(path, root_path), prefix)
    upload_id = tail.strip("/") or None
    if upload_id is not None and ("/" in upload_id or _ends_escaped(scope)):
        raise UploadNotFound("there is nothing at this URL")
    return Route(upload_id=upload_id, base=_public_base(scope, root_path, path, tail))


def origin_of(scope: Mapping[str, Any], host: str | None) -> str | None:
    """Return scheme and host of a request; None if its `Host` is missing or names no host."""
    if host is None or not _HOST.fullmatch(host):
        return None
    return f"{scope.get('scheme', 'http')}://{host}"


def is_below(scope: Mapping[str, Any], prefix: str) -> bool:
    """True for the path `prefix` itself, and for what is below it."""
    path: str = scope["path"]
    tail = _without_root(path, scope.get("root_path", "").rstrip("/"))
    return tail == prefix or tail.startswith(f"{prefix}/")


def collection_route(scope: Mapping[str, Any], prefix: str) -> Route:
    """Return the route of the collection at `prefix`, for a request to another path."""
    root_path: str = scope.get("root_path", "").rstrip("/")
    return Route(upload_id=None, base=quote(root_path + prefix))


def find_id(url: str, *, folders: Collection[str]) -> str:
    """Return the id of the upload that a client names by its URL, absolute or a path.

    `folders` are the paths of the collection as clients may see it. The host is not looked at:
    clients know the server by names that proxies do not pass on. Raises `InvalidRequest` for a
    URL that is none of ours.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that hold no address
        raise InvalidRequest("this is not a URL") from None
    if parts.scheme not in ("", "http", "https"):
        raise InvalidRequest("this is not the URL of an upload here")
    folder, _, upload_id = parts.path.rstrip("/").rpartition("/")
    # A path without a slash is relative to the collection, as is what begins with "./".
    is_relative = not parts.netloc and folder in ("", ".") and not parts.path.startswith("/")
    if is_relative or folder in folders:
        return upload_id
    raise InvalidRequest("this is not the URL of an upload here")


def _ends_escaped(scope: Mapping[str, Any]) -> bool:
    """True if the last segment of the URL holds an escaped slash: `path` shows it as a real one."""
    raw_path = _raw_path(scope)
    return raw_path is not None and "%2f" in raw_path.rstrip("/").rpartition("/")[2].lower()


def _raw_path(scope: Mapping[str, Any]) -> str | None:
    """Return the path as it came, escapes and all, if the server tells it."""
    raw_path: bytes | None = scope.get("raw_path")
    if raw_path is None:
        return None
    return raw_path.decode("latin-1").partition("?")[0]  # some servers leave the query in it


def _without_root(path: str, root_path: str) -> str:
    """Take away `root_path`, or the longest end of it that `path` begins with."""
    root = root_path
    while root:
        if path == root or path.startswith(f"{root}/"):
            return path[len(root) :]
        _, slash, rest = root[1:].partition("/")
        root = slash + rest
    return path


def _without_prefix(path: str, prefix: str) -> str:
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        return path[len(prefix) :]
    return path


def _public_base(scope: Mapping[str, Any], root_path: str, path: str, tail: str) -> str:
    """Return the path of the collection as it stands in a URL, with what must be escaped."""
    raw_path = _raw_path(scope)
    seen = path if raw_path is None else unquote(raw_path)
    base = seen.rstrip("/").removesuffix(tail.rstrip("/"))
    if base != root_path and not base.startswith(f"{root_path}/"):
        base = root_path if root_path.endswith(base) else root_path + base
    return quote(base)
