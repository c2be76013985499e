"""What every store promises, as a suite of tests to be run on a store of your own."""

from tusasgi.testing.stores.appends import AppendTests
from tusasgi.testing.stores.cancellation import CancellationTests
from tusasgi.testing.stores.completion import CompletionTests
from tusasgi.testing.stores.expiry import ExpiryTests
from tusasgi.testing.stores.handing_over import HandOverTests
from tusasgi.testing.stores.joining import JoiningTests
from tusasgi.testing.stores.listing import ListingTests
from tusasgi.testing.stores.reading import ReadingTests
from tusasgi.testing.stores.records import RecordTests
from tusasgi.testing.stores.staging import StagingTests
from tusasgi.testing.stores.termination import TerminationTests
from tusasgi.testing.stores.tools import NOW, Arriving, new_upload

__all__ = ["NOW", "Arriving", "StoreSuite", "new_upload"]


class StoreSuite(
    RecordTests,
    AppendTests,
    StagingTests,
    JoiningTests,
    CancellationTests,
    CompletionTests,
    TerminationTests,
    ExpiryTests,
    ListingTests,
    ReadingTests,
    HandOverTests,
):
    """Subclass it as `TestMyStore`, say how a store is made, and run pytest.

    Every test runs once for each backend of the fixture `anyio_backend`. Override the fixture
    `store` if the store has to be opened and closed. Tests of what the store does not support
    are skipped.
    """
