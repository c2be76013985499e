"""What a store is: the core protocol, one small protocol for each capability, and its errors."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from datetime import datetime
from typing import Protocol, runtime_checkable

from tusasgi.models import Upload


class StoreError(Exception):
    """What a store reports to the engine, and to nobody else: never an answer to a client."""


class WriteConflict(StoreError):
    """Somebody else is writing to the upload, or has changed it since it was read."""


class PartLost(StoreError):
    """An upload that was to be joined into another is gone, or is not the same any more."""


class BytesLost(StoreError):
    """Bytes that were stored of the upload were taken away: the upload cannot go on."""


class DestinationTaken(StoreError):
    """Something else is where the bytes of an upload were to be, and it is not overwritten."""


@runtime_checkable
class Store(Protocol):
    """Keeps uploads: a record and bytes for each.

    The engine gives a store one writer per upload at a time. The promises, checked by
    `tusasgi.testing.StoreSuite`:

    1. The offset is derived from the bytes that are stored. After a crash at any instant
       `get` reports an offset at or above the last acknowledged one, and every byte below
       it is there.
    2. Records are replaced whole and atomically; no state needs repair by hand.
    3. Cancellation at any await leaves 1 and 2 true.
    4. Memory per running append is bounded by a constant, whatever the size of the chunks.
    5. Ids are checked (`InvalidUploadId`), and nothing outside the store's own place is
       touched. An unknown id is `UploadNotFound`, a store without space `StoreFull`.
    """

    async def create(self, upload: Upload) -> Upload:
        """Keep a new upload, durably, and return it; raise `UploadExists` if its id is taken."""
        ...

    async def get(self, upload_id: str) -> Upload:
        """Return the upload with its true offset. Disturbs nobody who is appending."""
        ...

    async def append(
        self,
        upload: Upload,
        chunks: AsyncIterable[bytes],
        *,
        staged: bool = False,
    ) -> Upload:
        """Add the chunks at the end and return the upload with its new offset.

        With the first byte that is kept, the record becomes that of `upload`. While bytes come,
        are gathered or are on their way, staged ones too, the upload does not expire, however
        long that takes: see `Upload.alive`. At the end, if bytes were kept, its date is that of
        `Upload.renewed`.

        The *end* of the chunks means: keep what came, also when the client left. An
        *exception* from them means: keep nothing of this call; it is raised again. A failure
        of the store itself, and cancellation, keep a part of what came, from its beginning.
        `WriteConflict`: somebody else is writing to the upload. The iterator of the chunks may
        have a property `is_over`, true once no more of them follow: then nothing is waited for.

        With `staged` only the end shows that the chunks are right: none of them is seen in the
        upload before, and nothing is kept if the call or the process dies before.
        """
        ...

    async def update(self, upload: Upload) -> Upload:
        """Replace the record, durably: everything but the offset is taken from `upload`.

        Returns the upload with what it is from now on.
        """
        ...

    async def finish(self, upload: Upload) -> Upload:
        """Make every byte durable, in its final place, and return the upload.

        May be called again. `BytesLost`: some of them are no longer there.
        """
        ...


@runtime_checkable
class SupportsTerminate(Protocol):
    """A store that can remove uploads."""

    async def terminate(self, upload_id: str) -> None:
        """Remove record and bytes, and what a broken earlier removal left. May be repeated."""
        ...


@runtime_checkable
class SupportsDeferLength(Protocol):
    """A store that takes bytes for an upload whose length is not known yet."""

    async def declare_length(self, upload: Upload, length: int) -> Upload:
        """Record the length, durably, and return the upload with it."""
        ...


@runtime_checkable
class SupportsSweep(Protocol):
    """A store that finds what a sweeper has to look at, without looking at everything."""

    def due(self, now: datetime) -> AsyncIterator[str]:
        """Yield the ids of uploads that are past their time or due, and of remains.

        See `Upload.is_expired` and `Upload.is_due`. The cost grows with what is due, not
        with what is stored. An id may come up for nothing; a call of `update` ends that.
        """
        ...


@runtime_checkable
class SupportsConcat(Protocol):
    """A store that can join uploads."""

    async def concat(self, upload: Upload) -> Upload:
        """Take over the bytes of `upload.parts`, in their order; return the upload with them.

        The parts stay as they are. May be repeated after a failure, a crash or a cancellation,
        and then goes on where it was. `PartLost`: a part is gone, and it cannot go on.
        """
        ...


@runtime_checkable
class SupportsVersions(Protocol):
    """A store that refuses to change an upload that was changed since it was read.

    `Upload.version` names the state that was read. `append`, `update` and what else changes an
    upload raise `WriteConflict` if another server was faster, so that servers need no common
    locker.
    """

    async def latest(self, upload: Upload) -> Upload:
        """Return the newest state of the upload that this process knows of.

        At no cost, but for an upload of which it knows nothing: that may have been removed. What
        others have changed meanwhile is found by the operations that follow.
        """
        ...


@runtime_checkable
class SupportsProgress(Protocol):
    """A store whose `get` shows bytes of a running append that it would not promise yet."""

    async def kept(self, upload_id: str) -> int:
        """Return how many bytes of the upload are as safe as those of an append that ended."""
        ...


@runtime_checkable
class SupportsHandOver(Protocol):
    """A store that can bring finished bytes to where the host wants them.

    That is `Upload.destination`, a path by the grammar of `check_destination`, below the folder
    `files` in the store's own place. Until the upload is complete the bytes are the upload's, and
    from then on (`Upload.is_handed_over`) the host's: `update` to that state lets go of whatever
    else there is of them, `get` reports them all even when the host has taken them away, `read`
    gives those that are there (`UploadNotFound`), and `terminate` leaves them alone.
    """

    async def hand_over(self, upload: Upload) -> None:
        """Have all bytes at the destination, durably, where the record has it already.

        For an upload that `finish` was called for. Copies them only where it has to. May be
        repeated after a failure, a crash or a cancellation. `DestinationTaken`: something else is
        there; it stays as it is.
        """
        ...

    async def take_back(self, upload: Upload) -> None:
        """Have nothing of the upload at its destination any more; it is about to be terminated.

        What else may be there stays. May be repeated.
        """
        ...


@runtime_checkable
class SupportsLocalPath(Protocol):
    """A store whose uploads are files of this machine, which a server may send by itself."""

    def local_path(self, upload: Upload) -> str:
        """Return the absolute path of the file that holds the bytes of a complete upload."""
        ...


@runtime_checkable
class SupportsList(Protocol):
    """A store that can name all its uploads."""

    def ids(self, *, after: str | None = None) -> AsyncGenerator[str, None]:
        """Yield the ids of all uploads that are there, in an order of the store's own.

        With `after` only those behind that id, which need not be there any more. What is created
        or removed meanwhile may be among them or not. Costs the names, not the records. Whoever
        has enough closes it.
        """
        ...


@runtime_checkable
class SupportsRead(Protocol):
    """A store that can give the bytes back."""

    def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to, not including, `stop`.

        Those of an upload that `finish` was called for; others may be out of reach until then
        (`UploadPending`).
        """
        ...
