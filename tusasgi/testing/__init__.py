"""For those who write stores, lockers and apps: conformance suites and a scripted ASGI driver."""

from tusasgi.testing._asgi import (
    DISCONNECT,
    END,
    STALL,
    Answer,
    ASGIDriver,
    Client,
    Exchange,
    InterimAnswer,
    Step,
    request,
)
from tusasgi.testing._lockers import LockerSuite
from tusasgi.testing._stores import Arriving, StoreSuite, new_upload

__all__ = [
    "DISCONNECT",
    "END",
    "STALL",
    "ASGIDriver",
    "Answer",
    "Arriving",
    "Client",
    "Exchange",
    "InterimAnswer",
    "LockerSuite",
    "Step",
    "StoreSuite",
    "new_upload",
    "request",
]
