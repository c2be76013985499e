"""Requests as clients sent them, told by the proxies that are believed.

Nobody is unless named: a proxy that passes on what it does not set itself would let any client
choose these headers.
"""

import ipaddress
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

_PROTO, _HOST, _FOR = b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-for"
_TELLING = (_PROTO, _HOST, _FOR)


def has_proxy_headers(scope: Scope) -> bool:
    """True if a proxy says what the client sent; behind `ProxyHeaders`, no believed one."""
    return any(name in _TELLING for name, _ in scope["headers"])


class ProxyHeaders:
    """Puts what believed proxies say into the scope, and takes it out of the headers.

    Of a header with several values the last one counts, which is that of the proxy next to us. The
    client is the last address of `X-Forwarded-For` that is not a believed proxy itself.
    """

    def __init__(self, app: ASGIApp, *, believed: Sequence[str]) -> None:
        self._app = app
        self._believed = Believed(believed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and has_proxy_headers(scope) and self._is_believed(scope):
            scope = self._as_told(scope)
        await self._app(scope, receive, send)

    def _is_believed(self, scope: Scope) -> bool:
        peer = scope.get("client")
        # Through a unix socket uvicorn says None, and granian an empty address.
        return (peer[0] if peer else "") in self._believed

    def _as_told(self, scope: Scope) -> Scope:
        told: dict[bytes, list[str]] = {name: [] for name in _TELLING}
        headers = []
        for name, value in scope["headers"]:
            if name in told:
                told[name] += [word.strip() for word in value.decode("latin-1").split(",")]
            else:
                headers.append((name, value))
        scope = {**scope, "headers": headers}
        if told[_PROTO] and told[_PROTO][-1] in ("http", "https"):
            scope["scheme"] = told[_PROTO][-1]
        if told[_HOST]:
            host = (b"host", told[_HOST][-1].encode("latin-1"))
            scope["headers"] = [host, *(one for one in headers if one[0] != b"host")]
        if client := self._client(told[_FOR]):
            scope["client"] = (client, 0)
        return scope

    def _client(self, addresses: Sequence[str]) -> str | None:
        for address in reversed(addresses):
            if not _is_address(address):
                return None
            if address not in self._believed:
                return address
        return addresses[0] if addresses else None


class Believed:
    """Which addresses belong to proxies that are believed; that of a unix socket is empty."""

    def __init__(self, words: Sequence[str]) -> None:
        self._everybody = "*" in words
        self._socket = "unix" in words
        self._networks = [ipaddress.ip_network(word) for word in words if word not in ("*", "unix")]

    def __contains__(self, address: str) -> bool:
        if self._everybody:
            return True
        if not _is_address(address):
            return self._socket and address == ""
        found = ipaddress.ip_address(address)
        return any(found in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
