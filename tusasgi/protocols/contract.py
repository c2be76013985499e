"""What a protocol is to the rest: heads of requests to values, values to responses. Pure."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from tusasgi.errors import TusError
from tusasgi.models import Append, Creation, Upload
from tusasgi.protocols.headers import Headers


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """A response without a connection: status, headers, and a body that is whole or a stream.

    With a `stream` the headers carry its Content-Length. With a `path` as well a file of this
    machine has the same bytes, for a server that sends files by itself.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()
    """The values of `Set-Cookie`, the one header that may come more than once."""
    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = None
    path: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Interim:
    """An interim response (1xx): the final one is still to come."""

    status: int
    headers: Mapping[str, str]


class Codec(Protocol):
    """A protocol as one request speaks it. Nothing in it waits, reads a clock or touches an upload.

    `location` is the URL of the upload as the client is to see it, `now` aware UTC. What a
    request gets wrong is raised as a `TusError`, and answered with what `refused` returns.
    """

    @property
    def name(self) -> str:
        """The name of the protocol, which is kept with the uploads that it creates."""
        ...

    @property
    def offset_ends_append(self) -> bool:
        """True if asking for the offset ends a running append, so that the answer will hold."""
        ...

    @property
    def offset_on_get(self) -> bool:
        """True if GET asks for the offset, too, while there is nothing to download."""
        ...

    @property
    def keeps_unannounced(self) -> bool:
        """True if an upload stays whose client left before it could know where it is."""
        ...

    @property
    def creation_methods(self) -> Collection[str]:
        """The methods that create an upload."""
        ...

    def method_of(self, method: str, headers: Headers) -> str:
        """Return the method that the request is to be taken for."""
        ...

    def check(self, method: str, headers: Headers) -> None:
        """Refuse what the protocol does not allow in any request of this method."""
        ...

    def depends_on_first_byte(self, headers: Headers) -> bool:
        """True if only the first byte, or its absence, tells what a creation asks for."""
        ...

    def parse_creation(
        self, headers: Headers, id_of: Callable[[str], str]
    ) -> tuple[Creation, Append | None]:
        """Read the head of a creation, and of the append in the same request if it brings one.

        `id_of` turns the URL of an upload into its id.
        """
        ...

    def parse_append(self, headers: Headers, upload: Upload) -> Append:
        """Read the head of an append to this upload."""
        ...

    def announced(self, upload: Upload, location: str, now: datetime) -> Interim | None:
        """Tell where a new upload is while its bytes are still to come; None: not by interim."""
        ...

    def progressed(self, offset: int) -> Interim | None:
        """Tell that the bytes before this offset are kept for good; None: not by interim."""
        ...

    def created(self, upload: Upload, location: str, now: datetime) -> Response:
        """Answer a creation: with the last answer if the upload is complete by now."""
        ...

    def appended(self, upload: Upload, location: str, now: datetime) -> Response:
        """Answer an append: with the last answer if the upload is complete by now."""
        ...

    def described(self, upload: Upload, now: datetime) -> Response:
        """Answer the question for the offset."""
        ...

    def terminated(self) -> Response:
        """Answer a removal."""
        ...

    def refused(
        self,
        error: TusError,
        rendered: Response,
        *,
        method: str,
        upload: Upload | None,
        is_plain: bool = False,
    ) -> Response:
        """Add to a rendered refusal what the protocol wants on it.

        `upload` is the upload as it was last seen, if this request may know of it. A request
        that `is_plain` asks for a file, as any browser does.
        """
        ...
