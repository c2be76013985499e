"""Where a host has its say in the lifecycle of an upload."""

from collections.abc import Collection, Mapping
from datetime import datetime

from tusasgi.destinations import DestinationTemplate
from tusasgi.errors import TusError
from tusasgi.lifecycle import Event
from tusasgi.models import Creation, Fact, FinalResponse, Operation, Request, Upload


class Hooks:
    """Override what you need; every method here allows everything and does nothing.

    In `authorize`, `creating`, `inspect` and `terminating` raise a `TusError` to refuse: its status
    and message go to the client. Any other exception is a bug or an outage, rises to the server
    and is answered 500 without its text. The other hooks may not refuse: whatever they raise means
    that they failed, is answered 503 (`UploadPending`), and they are called again. They may take
    as long as the `hook_timeout` of the engine says.

    `progressed` and `tell` are called behind the client's back, which waits for neither.
    """

    head_size: int = 0
    """How many of the first bytes `inspect` wants to see; 0 switches the inspection off."""

    min_head_size: int = 1
    """The fewest bytes `inspect` can judge. A first append that ends earlier is refused
    with `TooSmall` (or, if the client left, simply not kept) unless the upload is shorter."""

    tells: Collection[Event] = ()
    """What `tell` is called for: any of CREATED, COMPLETED, TERMINATED and EXPIRED."""

    async def authorize(
        self, request: Request, operation: Operation, upload: Upload | None
    ) -> None:
        """Decide whether this request may do this; called for every request but OPTIONS.

        `upload` is None when it is to be created or does not exist. Raise `Unauthorized`,
        `Forbidden`, or `UploadNotFound` to hide that somebody else's upload exists.
        """

    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        """Refuse, or return the creation with an owner, an id, limits and the like of its own.

        `request` is None when the host creates the upload itself.
        """
        return creation

    async def created(self, upload: Upload) -> FinalResponse | None:
        """The upload was stored, and no client has heard of it yet.

        What `creating` was asked about may still come to nothing; what this is told has happened.
        So keep notes of uploads here, and have no effects in `creating`. It comes before
        `completed` for one that has all its bytes from the beginning.

        What it returns is added to the answer, and kept with the upload: the last answer is the
        same if `completed` returns none. If it raises, the upload is removed (`terminated` is
        called) and the client is told to try again (503). A process that dies before it calls this
        leaves an upload that nobody has heard of, and that expires.
        """
        return None

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        """Judge the first bytes before any of them is stored; called once per upload.

        Not called for partial uploads, whose bytes are those of the middle of something, but
        for the final upload that they are joined into.

        `head` holds `head_size` bytes or more, fewer only if the first append or the upload
        is shorter. The facts returned are kept with the upload. Raise a `TusError` to refuse:
        `refused` is then called and the upload terminated, unless the connection broke before
        the whole head had come: then nothing is kept and the next append is judged. So it is for
        an error that will pass (`TryAgain`, and any status of 423, 429 or from 500 on), which
        refuses nothing. (After a crash or a full disk before the first byte was stored, it is
        called again.)
        """
        return {}

    async def refused(self, upload: Upload, refusal: TusError) -> None:
        """`inspect` or `completed` refused the upload for good; it is about to be terminated.

        Called at least once. If it raises, the upload stays and is judged again, by the next
        append or by whatever completes it.
        """

    async def destination(self, upload: Upload) -> str | None:
        """Say where the bytes are to be from now on: a relative path below the folder `files`.

        Asked when all bytes are there and durable, before `completed`, which finds them there.
        None leaves them where they are. Nothing is overwritten: if something is there already,
        the client is told to try again (503), the log says why, and this is asked again. What it
        returns is recorded before anything is done. Not called for partial uploads.
        """
        return None

    async def completed(self, upload: Upload) -> FinalResponse | None:
        """All bytes are there and durable. Called at least once, before the client is told.

        What it returns is added to the last answer, and kept with the upload for a client that
        lost it.

        Raise `Rejected` for bytes that are not to be taken: `refused` is called, the upload is
        removed, and the client is told status and message. If it raises anything else, the client
        is told to try again (503), and the next request or sweep calls it again. An upload that it
        terminates is complete all the same, for the client. Not called for partial uploads.
        """
        return None

    async def terminating(self, upload: Upload) -> None:
        """A client or the host wants to remove the upload. Raise a `TusError` to refuse.

        Called with the lock held, so nothing happens to the upload between this and `terminated`.
        """

    async def terminated(self, upload: Upload) -> None:
        """The upload is removed by a client, the host or a refused inspection.

        Called at least once. Nobody can use the upload any more; if this raises, the next
        attempt to terminate it, or the next sweep, calls it again.
        """

    async def expired(self, upload: Upload) -> None:
        """The upload was not finished in time and is removed by the sweeper.

        Called at least once. Nobody can use the upload any more; if this raises, the next sweep
        calls it again.
        """

    async def progressed(self, upload: Upload) -> None:
        """Bytes are arriving; called at most once a second for each upload, and not in its first.

        Only where `Uploads.deliver` runs, and not for all that arrives: what comes while this is
        under way is passed over. `upload.offset` counts what has come, which is not all stored
        yet. Raise `Rejected` to end it: the upload is removed as soon as more bytes come, and its
        client is told status and message. Whatever else it raises is logged.
        """

    async def tell(self, upload: Upload, event: Event, at: datetime) -> None:
        """Tell somebody else what has happened to an upload, and when, for the kinds of `tells`.

        What is to be told is recorded together with what has happened, and told at least once and
        in this order: the next event when this call has returned. `Uploads.deliver` calls it at
        once, and a sweep later; if it raises, it is called again after a while, and not before
        `TryAgain.retry_after` seconds have passed if it raises that. `upload` is as it stands when
        this is called, and nobody holds it. A removed upload takes its space until it is told.
        Its removal has no date on record: `at` is when it is told of.
        """


def is_overridden(hooks: Hooks, name: str) -> bool:
    """True unless a hook is the one that does nothing, which need not be called."""
    return getattr(getattr(hooks, name), "__func__", None) is not getattr(Hooks, name)


class HandOver(Hooks):
    """Hooks that hand each finished upload over: `HandOver("{date}/{owner}/{id}.{extension}")`.

    The fields are those of `DestinationTemplate`. Derive from it to add other hooks.
    """

    def __init__(self, template: str) -> None:
        self._template = DestinationTemplate(template)

    async def destination(self, upload: Upload) -> str | None:
        return self._template(upload)
