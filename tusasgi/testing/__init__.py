"""For those who write stores, lockers and apps: conformance suites and a scripted ASGI driver."""

from tusasgi.testing.asgi import (
    DISCONNECT,
    END,
    STALL,
    ASGIDriver,
    Client,
    RecordedInterim,
    RecordedResponse,
    ScriptedExchange,
    Step,
    request,
)
from tusasgi.testing.lockers import LockerSuite
from tusasgi.testing.stores import Arriving, StoreSuite, new_upload

__all__ = [
    "DISCONNECT",
    "END",
    "STALL",
    "ASGIDriver",
    "Arriving",
    "Client",
    "LockerSuite",
    "RecordedInterim",
    "RecordedResponse",
    "ScriptedExchange",
    "Step",
    "StoreSuite",
    "new_upload",
    "request",
]
