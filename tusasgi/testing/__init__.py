"""For those who write stores, lockers and apps: conformance suites and a scripted ASGI driver."""

from tusasgi.testing._asgi import (
    DISCONNECT,
    END,
    STALL,
    Answer,
    ASGIDriver,
    Client,
    Exchange,
    Step,
    request,
)
from tusasgi.testing._stores import StoreSuite

__all__ = [
    "DISCONNECT",
    "END",
    "STALL",
    "ASGIDriver",
    "Answer",
    "Client",
    "Exchange",
    "Step",
    "StoreSuite",
    "request",
]
