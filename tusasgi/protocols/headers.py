"""Headers of HTTP to values, and back: sizes, framing, dates. What every protocol needs."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime

from tusasgi.errors import InvalidRequest, TooLarge

# ASCII only: int() would also take "+5", " 5", "5_0" and Arabic-Indic digits. More digits than
# this are no number that anybody means.
_SIZE = re.compile(r"[0-9]{1,40}")

MAX_LENGTH = 10**18 - 1
"""The longest upload, in bytes: below 2**63, which every file system and database can hold."""


class Headers(Mapping[str, str]):
    """The headers of a request by lower-case name, values without outer blanks."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._lines: dict[str, list[str]] = {}
        for name, value in raw:
            lines = self._lines.setdefault(name.decode("latin-1").lower(), [])
            lines.append(value.decode("latin-1").strip(" \t"))

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._lines[name])

    def __contains__(self, name: object) -> bool:
        return name in self._lines  # `Mapping` would have an exception raised for it

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def lines(self, name: str) -> Sequence[str]:
        """Return the value of each line of a header."""
        return self._lines.get(name.lower(), ())

    def single(self, name: str) -> str | None:
        """Return the one value of a header, None if it is absent.

        Lines that differ could be read in two ways by two servers: `InvalidRequest`.
        """
        lines = self.lines(name)
        if len(set(lines)) > 1:
            raise InvalidRequest(f"{name} is given more than once, with different values")
        return lines[0] if lines else None

    def bodiless(self) -> "Headers":
        """Return the same headers, but those of a request without a body."""
        own = Headers([(b"content-length", b"0")])
        framing = ("transfer-encoding", *own)
        own._lines |= {name: line for name, line in self._lines.items() if name not in framing}
        return own

    def joined(self, name: str) -> str | None:
        """Return all lines of a list header, joined by commas; None if it is absent or empty."""
        return ",".join(self.lines(name)) or None


def parse_size(headers: Headers, name: str) -> int | None:
    """Return a number of bytes, None if the header is absent."""
    value = headers.single(name)
    if value is None:
        return None
    if not _SIZE.fullmatch(value):
        raise InvalidRequest(f"{name} must be a whole number of bytes, in at most 40 digits")
    return int(value)


def parse_length(headers: Headers) -> int | None:
    """Return `Upload-Length`, None if it is absent; `TooLarge` if no store could hold so much."""
    length = parse_size(headers, "Upload-Length")
    return None if length is None else check_storable(length)


def check_storable(length: int) -> int:
    """Return the length; `TooLarge` if no store could hold so much."""
    if length > MAX_LENGTH:
        raise TooLarge(f"{length} bytes are more than the maximum of {MAX_LENGTH}")
    return length


def has_body(headers: Headers) -> bool:
    """True if a body is announced. (HTTP/2 may bring one unannounced.)"""
    return "transfer-encoding" in headers or bool(body_size(headers))


def body_size(headers: Headers) -> int | None:
    """Return the announced size of the body, None if it is not known beforehand."""
    # A message with both is chunked: RFC 9112 section 6.3.
    if "transfer-encoding" in headers:
        return None
    return parse_size(headers, "Content-Length")


def media_type(content_type: str) -> str:
    """Return the media type in a `Content-Type`: in lower case, without parameters."""
    return content_type.partition(";")[0].strip(" \t").lower()


def expects_continue(headers: Headers) -> bool:
    """True if the client waits for `100 Continue` before it sends the body."""
    return "expect" in headers and headers["expect"].lower() == "100-continue"


def added(more: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the protocol with those that it has not itself of the others."""
    names = {name.lower() for name in own}
    return {**{name: value for name, value in more.items() if name.lower() not in names}, **own}


@functools.lru_cache(maxsize=512)  # clients ask for the same date again and again
def http_date(moment: datetime) -> str:
    """Write an HTTP date (IMF-fixdate, RFC 9110 section 5.6.7), whatever the locale."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)
