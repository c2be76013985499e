"""The words that settings are given in, as values; a wrong one is a `ValueError` that says so."""

import ipaddress
import re
from typing import NamedTuple

_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"([0-9]{1,18}) ?([A-Za-z]{0,3})")
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?")
_STORE = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://[^\s?#]*")
_NO_STORES = {"file": "give a folder by --dir", "local": "give a folder by --dir"}
_NO_STORES |= dict.fromkeys(("http", "https"), "files cannot be written there")
_LOCKER = re.compile(r"memory|file|file:/.*|(?:rediss?|unix)://\S+")
_PASSWORD = re.compile(r"(?<=://)(?P<user>[^/@:]*):.*@|(?<=[?&]password=)[^&]+")
_PATH = re.compile(r"/([A-Za-z0-9._~-]+/)*")
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#\s]+")
_PATTERN = re.compile(r"[a-z][a-z0-9+.-]*://\*(\.[A-Za-z0-9-]+){2,}(:[0-9]{1,5})?")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'+.^_`|~-]+")
_RECEIVER = re.compile(r"https?://[^/?#\s@]+([/?][^#\s]*)?")
_URL = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?")
_ADDRESS = re.compile(
    r"(?:(?P<host>[A-Za-z0-9.-]+):|\[(?P<ipv6>[0-9A-Fa-f:.]+)\]:)?(?P<port>[0-9]{1,5})"
)
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_LAST_PORT = 65535


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


def store(text: str) -> str:
    """Return the URL of a bucket, or of whatever else fsspec may reach."""
    shown = without_password(text)
    match = _STORE.fullmatch(text)
    scheme = match["scheme"] if match else ""
    if scheme in _NO_STORES:
        raise ValueError(f"{shown!r} is no place for uploads: {_NO_STORES[scheme]}")
    if not match or (scheme == "s3" and not _BUCKET.fullmatch(text)):
        raise ValueError(f"{shown!r} is not a store such as s3://bucket/prefix or sftp://host/path")
    return text


def locker(text: str) -> str:
    if not _LOCKER.fullmatch(text):
        raise ValueError(
            f"{without_password(text)!r} is not a locker: file, file:/path, memory, or "
            "redis://host:6379/0"
        )
    return text


def without_password(url: str) -> str:
    """Return a URL as everybody may see it."""

    def hidden(found: re.Match[str]) -> str:
        return "***" if found["user"] is None else f"{found['user']}:***@"

    return _PASSWORD.sub(hidden, url)


def positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise ValueError(f"{text!r} is not a positive whole number")
    return int(text)


def port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > _LAST_PORT:
        raise ValueError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def address(text: str) -> Address:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > _LAST_PORT:
        raise ValueError(f"{text!r} is not an address such as 9100 or 0.0.0.0:9100")
    return Address(match["ipv6"] or match["host"] or "127.0.0.1", int(match["port"]))


def written(address: Address) -> str:
    """Write an address as `address` reads it."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def reference(text: str) -> str:
    if not _REFERENCE.fullmatch(text):
        raise ValueError(f"{text!r} is not an object of a module such as package.module:hooks")
    return text


def size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a size such as 5000000, 500MB or 10GiB")
    return int(match[1]) * _UNITS[match[2].lower()]


def path(text: str) -> str:
    """Return the path with a slash at both ends."""
    path = f"/{text.strip('/')}/".replace("//", "/")
    if not text.startswith("/") or not _PATH.fullmatch(path):
        raise ValueError(f"{text!r} is not a path such as /files/")
    return path


def origin(text: str) -> str:
    is_one = _PATTERN.fullmatch(text) if "*" in text[1:] else _ORIGIN.fullmatch(text)
    if not is_one:
        raise ValueError(
            f"{text!r} is not an origin such as https://example.com or https://*.example.com"
        )
    return text


def header(text: str) -> str:
    if not _HEADER.fullmatch(text):
        raise ValueError(f"{text!r} is not a header such as X-Tenant")
    return text


def proxy(text: str) -> str:
    """Return an address or a network of proxies, as it was written, or one of the two words."""
    if text not in ("*", "unix"):
        try:
            ipaddress.ip_network(text)
        except ValueError:
            raise ValueError(
                f"{text!r} is not an address or a network such as 10.0.0.0/8, nor unix, nor *"
            ) from None
    return text


def receiver(text: str) -> str:
    if not _RECEIVER.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a URL such as https://example.com/hooks, without user and password"
        )
    return text


def url(text: str) -> str:
    """Return the URL with a slash at its end."""
    if not _URL.fullmatch(text):
        raise ValueError(f"{text!r} is not a URL such as https://example.com/files")
    return f"{text.rstrip('/')}/"
