"""Locks between machines, by leases in Redis."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tusasgi.arguments import check_seconds, check_type
from tusasgi.errors import StoreUnavailable, UploadLocked
from tusasgi.lockers.redis.link import Claim, Link
from tusasgi.lockers.redis.scripts import ACQUIRE, RELEASE, RENEW
from tusasgi.models import check_upload_id

T = TypeVar("T")

_log = logging.getLogger("tusasgi")

_LONGEST_ANSWER = 2.0  # seconds


class RedisLocker:
    """Locks for any number of processes on any number of machines that share a Redis server.

    A lock is a lease of `lease` seconds in Redis, renewed every third of it. A newcomer asks
    the holder over a channel and sleeps until the holder answers there that it has let go; of
    several the one that came to Redis last goes on. `patience` is how long a newcomer waits, in
    seconds. The lease of a holder that died runs out, and a newcomer with more patience than
    that gets the lock then.

    A holder whose lease is lost is interrupted: when it could not be renewed for its length, or
    when Redis does not know of it any more. It may no longer write, but a lease alone cannot
    hold it back: a process that stands still past its lease writes on when it wakes up, until it
    notices the loss, and somebody else may write meanwhile. The store has to fence. `S3Store`
    does by its compare-and-swap and `FileStore` by its kernel lock. For others the lock gives a
    fencing token, as in `async with locker.lock(...) as fence`: a number that is higher with
    each lock that is given. A store that remembers the highest one it saw of an upload, and
    refuses writes that come with a lower one, is safe.

    Raises `StoreUnavailable` while Redis cannot be reached. `server` is a URL (`redis://`,
    `rediss://`, `unix://`), or a client that is yours to close. The connections are opened by
    the first lock and closed by the last; `async with locker:` keeps them open in between, which
    is faster and can be done in the lifespan of the host. For one event loop at a time, which
    must be asyncio's (or uvloop): redis-py knows no other.
    """

    def __init__(
        self,
        server: str | Redis,
        *,
        prefix: str = "tusasgi:",
        lease: float = 10.0,
        patience: float = 12.0,
    ) -> None:
        _check_server(server)
        check_type("prefix", prefix, str)
        check_seconds("lease", lease, may_be_none=False)
        check_seconds("patience", patience, may_be_none=False, may_be_zero=True)
        self._server = server
        self._prefix = prefix
        self._lease = lease
        self._patience = patience
        self._link: Link | None = None

    async def __aenter__(self) -> "RedisLocker":
        self._join()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    @asynccontextmanager
    async def lock(
        self, upload_id: str, *, interrupt: Callable[[], None], take_over: bool = True
    ) -> AsyncIterator[int]:
        claim = Claim(check_upload_id(upload_id))
        link = self._join()
        try:
            with link.listening(claim):
                try:
                    await self._acquire(link, claim, take_over)
                    async with self._kept(link, claim, interrupt):
                        yield claim.fence
                finally:
                    await self._release(link, claim)
        finally:
            await self._leave()

    async def _acquire(self, link: Link, claim: Claim, take_over: bool) -> None:
        await link.wait_until_it_listens()
        left = await self._try(link, claim, take_over)
        if not claim.fence and take_over:
            with anyio.move_on_after(self._patience):
                while not claim.fence:
                    with anyio.move_on_after(left):
                        await claim.freed.wait()
                    left = await self._try(link, claim, take_over)
        if not claim.fence:
            raise UploadLocked("another request holds the upload and does not let go")
        await anyio.lowlevel.checkpoint_if_cancelled()  # the question was not cut

    async def _try(self, link: Link, claim: Claim, take_over: bool) -> float:
        """Take the lock if it is free; return in how many seconds its lease ends if it is not."""
        claim.listen_anew()
        claim.may_be_held = True
        # From before the question, so that it never ends later here than in Redis.
        claim.lease_end = anyio.current_time() + self._lease

        async def ask() -> int:
            claim.fence, claim.arrival, left = await link.ask(
                ACQUIRE, claim, self._lease_ms, claim.arrival, int(take_over)
            )
            claim.may_be_held = claim.fence > 0
            return left

        # Not to be cut: a lock that is taken and not known would stay until its lease ends.
        left = await _to_its_end(ask())
        return (left + 1) / 1000  # in the very millisecond of its end a lease still counts

    @property
    def _lease_ms(self) -> int:
        return max(1, int(self._lease * 1000))

    @asynccontextmanager
    async def _kept(
        self, link: Link, claim: Claim, interrupt: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Renew the lease, and interrupt the holder when it is lost or somebody newer came."""
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        tasks.start_soon(self._keep, link, claim, interrupt)
        try:
            yield
        finally:
            # The group does not see how the body ended: it would wrap an exception in a group.
            tasks.cancel_scope.cancel()
            await tasks.__aexit__(None, None, None)

    async def _keep(self, link: Link, claim: Claim, interrupt: Callable[[], None]) -> None:
        pause = self._lease / 3
        with anyio.CancelScope(deadline=claim.lease_end) as lease:
            while claim.may_be_held:
                with anyio.move_on_after(pause):
                    await claim.asked.wait()
                claim.asked = anyio.Event()
                try:
                    is_wanted = await self._renew(link, claim)
                except StoreUnavailable:
                    pause = self._lease / 30  # there is hope until the lease ends
                    continue
                pause, lease.deadline = self._lease / 3, claim.lease_end
                if is_wanted:
                    interrupt()
        claim.may_be_held = False
        _log.warning("the lease on upload %s is lost; its request is stopped", claim.upload_id)
        interrupt()

    async def _renew(self, link: Link, claim: Claim) -> bool:
        """Renew the lease if it is not lost; return True if somebody newer wants the lock."""
        asked = anyio.current_time()
        is_held, is_wanted = await link.ask(RENEW, claim, self._lease_ms)
        claim.may_be_held = bool(is_held)
        claim.lease_end = asked + self._lease
        return bool(is_wanted)

    async def _release(self, link: Link, claim: Claim) -> None:
        if claim.may_be_held:
            # If Redis is away the lease ends by itself.
            with suppress(StoreUnavailable):
                await _to_its_end(link.ask(RELEASE, claim))

    def _join(self) -> Link:
        """Return the link to Redis, which is there until `_leave` was called as often."""
        if self._link is None:
            _refuse_trio()
            self._link = self._new_link()
        self._link.users += 1
        return self._link

    async def _leave(self) -> None:
        link = self._link
        assert link is not None
        link.users -= 1
        if not link.users:
            self._link = None  # whoever comes while it closes opens another
            await _to_its_end(link.close())

    def _new_link(self) -> Link:
        seconds = min(self._lease / 3, _LONGEST_ANSWER)
        if isinstance(self._server, Redis):
            return Link(self._server, self._server, self._prefix, seconds, is_own=False)
        first, second = _new_client(self._server, seconds), _new_client(self._server, seconds)
        return Link(first, second, self._prefix, seconds, is_own=True)


def _new_client(url: str, seconds: float) -> Redis:
    return Redis.from_url(
        url,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        # Once, because a connection that was not used for a while may have been closed.
        retry=Retry(NoBackoff(), 1),
        driver_info=None,  # it is read from the disk for each connection
    )


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Do the work to its end, whoever cancels meanwhile, and be cancelled then.

    asyncio's own cancellation (`Task.cancel`) passes a shield, so it is done in another task.
    """
    task = asyncio.create_task(work)
    cancellation: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancellation = error
    if cancellation is not None:
        task.exception()  # looked at, so that nobody is warned of it
        raise cancellation
    return task.result()


def _refuse_trio() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "RedisLocker needs asyncio, because redis-py does: run the app on asyncio or uvloop, "
            "or use another locker"
        ) from None


def _check_server(server: object) -> None:
    """Check a URL or a client. A URL may have a password in it: no message repeats it."""
    if isinstance(server, str):
        try:
            parse_url(server)
        except ValueError:
            raise ValueError(
                "server must be a URL as redis://host:6379/0 (or rediss://, or unix://)"
            ) from None
    elif not isinstance(server, Redis):
        raise TypeError(
            "server must be a URL as redis://host:6379/0, or a client of redis.asyncio, "
            f"not a {type(server).__name__}"
        )
