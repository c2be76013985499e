"""The protocols that a host offers on the same URLs, and the one that a request speaks."""

from collections.abc import Collection

from tusasgi.models import Limits, Upload
from tusasgi.protocols.choice import ProtocolName, choose, protocol_of
from tusasgi.protocols.contract import Codec, Response
from tusasgi.protocols.headers import Headers
from tusasgi.protocols.ietf import Ietf
from tusasgi.protocols.ietf import capabilities as ietf_capabilities
from tusasgi.protocols.tus import Tus
from tusasgi.protocols.tus import capabilities as tus_capabilities

PROTOCOLS: tuple[ProtocolName, ...] = ("tus", "ietf")


class Protocols:
    """Gives each request its codec."""

    def __init__(
        self,
        names: Collection[str],
        *,
        tus: Tus,
        limits: Limits,
        can_defer_length: bool,
        can_terminate: bool,
    ) -> None:
        if not names:
            raise ValueError('protocols must be "tus", "ietf" or both of them')
        self._names = tuple(name for name in PROTOCOLS if name in names)
        self._tus = tus
        self._limits = limits
        self._can_defer_length = can_defer_length
        self._can_terminate = can_terminate

    def of_request(self, method: str, headers: Headers) -> Codec | None:
        """Return the codec of a request; None if it shows no mark, and its upload decides."""
        name = choose(method, headers, self._names)
        return None if name is None else self._codec(name, headers)

    def of_upload(self, upload: Upload | None, headers: Headers) -> Codec:
        """Return the codec of a request without a mark, by the upload that it is about, if any."""
        return self._codec(protocol_of(upload, self._names), headers)

    def capabilities(self) -> Response:
        """Answer OPTIONS, for all protocols in one."""
        headers: dict[str, str] = {}
        if "tus" in self._names:
            headers |= tus_capabilities(self._tus.offered, self._limits).headers
        if "ietf" in self._names:
            headers |= ietf_capabilities(self._limits).headers
        return Response(status=204, headers=headers)

    def _codec(self, name: str, headers: Headers) -> Codec:
        if name == "tus":
            return self._tus
        return Ietf.of(
            headers,
            limits=self._limits,
            can_defer_length=self._can_defer_length,
            can_terminate=self._can_terminate,
        )
