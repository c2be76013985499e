"""Locks between machines, by leases in Redis."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.utils import str_if_bytes

from tusasgi.errors import StoreUnavailable, UploadLocked
from tusasgi.models import check_upload_id

T = TypeVar("T")

_log = logging.getLogger("tusasgi")

_RENEWING = 4  # connections on which leases are renewed
_LONGEST_ANSWER = 2.0  # seconds
_PAUSE = 0.2  # seconds between two tries to listen
_QUIET = 5.0  # seconds without a message, after which Redis is asked if it is there

# A lock is a hash that expires: the token of its holder, its fencing token, the arrival of its
# holder and that of the newest request that wants it. The scripts are the only ones that change
# it, and each may be run twice, because a connection can break between a run and its answer.

# Fencing tokens and arrivals are drawn from one counter. It also follows the clock of Redis, so
# that they grow even if the counter was lost, or a replica takes over that had not heard of the
# last ones. 2^53 microseconds, up to where Lua counts exactly, end in the year 2255.
_ACQUIRE = """
local key, counter = KEYS[1], KEYS[2]
local token, upload_id, channel = ARGV[1], ARGV[2], ARGV[3]
local lease, arrival, takes_over = ARGV[4], tonumber(ARGV[5]), ARGV[6] == '1'

local function text(number)
    return string.format('%.0f', number)
end

local function draw()
    local time = redis.call('TIME')
    local now, last = time[1] * 1000000 + time[2], redis.call('GET', counter) or 0
    local number = math.max(now, last + 1)
    redis.call('SET', counter, text(number))
    return number
end

local lock = redis.call('HMGET', key, 'token', 'fence', 'arrival', 'newest')
if lock[1] == token then
    redis.call('PEXPIRE', key, lease)
    return {tonumber(lock[2]), tonumber(lock[3]), 0}
end
if not lock[1] then
    local fence = draw()
    if arrival == 0 then
        arrival = fence
    end
    redis.call('HSET', key, 'token', token, 'fence', text(fence), 'arrival', text(arrival))
    redis.call('PEXPIRE', key, lease)
    return {fence, arrival, 0}
end
if takes_over then
    if arrival == 0 then
        arrival = draw()
    end
    redis.call('HSET', key, 'newest', text(math.max(arrival, lock[4] or 0)))
    if arrival > tonumber(lock[3]) then
        redis.call('PUBLISH', channel, 'asked ' .. upload_id)
    end
end
return {0, arrival, redis.call('PTTL', key)}
"""

_RENEW = """
local lock = redis.call('HMGET', KEYS[1], 'token', 'arrival', 'newest')
if lock[1] ~= ARGV[1] then
    return {0, 0}
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if lock[3] and tonumber(lock[3]) > tonumber(lock[2]) then
    return {1, 1}
end
return {1, 0}
"""

_RELEASE = """
local lock = redis.call('HMGET', KEYS[1], 'token', 'newest')
if lock[1] == ARGV[1] then
    redis.call('DEL', KEYS[1])
    if lock[2] then
        redis.call('PUBLISH', ARGV[3], 'freed ' .. ARGV[2])
    end
end
return {}
"""


class _Claim:
    """What one request wants of one upload, and what is known of it."""

    def __init__(self, upload_id: str) -> None:
        self.upload_id = upload_id
        self.token = secrets.token_hex(16)
        self.arrival = 0  # drawn by Redis with the first question
        self.fence = 0  # 0 until the lock is held
        self.lease_end = 0.0
        self.may_be_held = False
        """True unless Redis has said that the lock is not this claim's."""
        self.listen_anew()

    def listen_anew(self) -> None:
        self.freed = anyio.Event()
        self.asked = anyio.Event()


class RedisLocker:
    """Locks for any number of processes on any number of machines that share a Redis server.

    A lock is a lease of `lease` seconds in Redis, renewed every third of it. A newcomer tells
    the holder over a channel and sleeps until the holder says there that it has let go; of
    several the one that came to Redis last goes on. `patience` is how long a newcomer waits, in
    seconds. The lease of a holder that died runs out, and a newcomer with more patience than
    that gets the lock then.

    A holder whose lease is lost is interrupted: when it could not be renewed for its length, or
    when Redis does not know of it any more. It may no longer write, but a lease alone cannot
    hold it back: a process that stands still past its lease writes on when it wakes up, until it
    hears of the loss, and somebody else may write meanwhile. The store has to fence. `S3Store`
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
        if lease <= 0:
            raise ValueError("lease must be more than 0 seconds")
        if isinstance(server, str):
            parse_url(server)  # raises ValueError
        self._server = server
        self._prefix = prefix
        self._lease = lease
        self._patience = patience
        self._link: _Link | None = None

    async def __aenter__(self) -> "RedisLocker":
        self._join()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    @asynccontextmanager
    async def lock(
        self, upload_id: str, *, interrupt: Callable[[], None], take_over: bool = True
    ) -> AsyncIterator[int]:
        claim = _Claim(check_upload_id(upload_id))
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

    async def _acquire(self, link: "_Link", claim: _Claim, take_over: bool) -> None:
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

    async def _try(self, link: "_Link", claim: _Claim, take_over: bool) -> float:
        """Take the lock if it is free; return in how many seconds its lease ends if it is not."""
        claim.listen_anew()
        claim.may_be_held = True
        # From before the question, so that it never ends later here than in Redis.
        claim.lease_end = anyio.current_time() + self._lease

        async def ask() -> int:
            claim.fence, claim.arrival, left = await link.ask(
                _ACQUIRE, claim, self._lease_ms, claim.arrival, int(take_over)
            )
            claim.may_be_held = claim.fence > 0
            return left

        # Not to be cut: a lock that is taken and not known of would stay until its lease ends.
        left = await _to_its_end(ask())
        return (left + 1) / 1000  # in the very millisecond of its end a lease still counts

    @property
    def _lease_ms(self) -> int:
        return max(1, int(self._lease * 1000))

    @asynccontextmanager
    async def _kept(
        self, link: "_Link", claim: _Claim, interrupt: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Renew the lease, and interrupt the holder when it is lost or somebody newer came."""
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        tasks.start_soon(self._keep, link, claim, interrupt)
        try:
            yield
        finally:
            # The group is not told how the body ended: it would wrap an exception in a group.
            tasks.cancel_scope.cancel()
            await tasks.__aexit__(None, None, None)

    async def _keep(self, link: "_Link", claim: _Claim, interrupt: Callable[[], None]) -> None:
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

    async def _renew(self, link: "_Link", claim: _Claim) -> bool:
        """Renew the lease if it is not lost; return True if somebody newer wants the lock."""
        asked = anyio.current_time()
        is_held, is_wanted = await link.ask(_RENEW, claim, self._lease_ms)
        claim.may_be_held = bool(is_held)
        claim.lease_end = asked + self._lease
        return bool(is_wanted)

    async def _release(self, link: "_Link", claim: _Claim) -> None:
        if claim.may_be_held:
            # If Redis is away the lease ends by itself.
            with suppress(StoreUnavailable):
                await _to_its_end(link.ask(_RELEASE, claim))

    def _join(self) -> "_Link":
        """Return the way to Redis, which is there until `_leave` was called as often."""
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

    def _new_link(self) -> "_Link":
        seconds = min(self._lease / 3, _LONGEST_ANSWER)
        if isinstance(self._server, Redis):
            return _Link(self._server, self._server, self._prefix, seconds, is_own=False)
        first, second = _new_client(self._server, seconds), _new_client(self._server, seconds)
        return _Link(first, second, self._prefix, seconds, is_own=True)


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


def _away() -> StoreUnavailable:
    return StoreUnavailable("the locks cannot be reached for now; go on in a moment")


def _refuse_trio() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "RedisLocker needs asyncio, because redis-py does: run the app on asyncio or uvloop, "
            "or use another locker"
        ) from None


class _Link:
    """The way to Redis while somebody needs it: connections, and a task that listens.

    Messages are only nudges to ask Redis; that some are lost with a connection does no harm.
    """

    def __init__(
        self, client: Redis, renewing: Redis, prefix: str, seconds: float, *, is_own: bool
    ) -> None:
        self.users = 0
        self._clients = [client, renewing]
        self._renewing = renewing
        self._is_own = is_own
        self._prefix = prefix
        self._channel = f"{prefix}locks"
        self._seconds = seconds
        self._scripts = {
            _ACQUIRE: client.register_script(_ACQUIRE),
            _RELEASE: client.register_script(_RELEASE),
            _RENEW: renewing.register_script(_RENEW),
        }
        # One by one, over a connection on which nothing else is asked, so that requests come to
        # Redis as they came here: by that it tells which is the newest.
        turns = anyio.Semaphore(1, fast_acquire=True)
        slots = anyio.Semaphore(_RENEWING, fast_acquire=True)
        self._turns = {_ACQUIRE: turns, _RELEASE: turns, _RENEW: slots}
        self._claims: dict[str, list[_Claim]] = {}
        self._is_away = False
        self._has_begun = anyio.Event()
        self._listening = anyio.CancelScope()
        self._task = asyncio.create_task(self._run())

    @contextmanager
    def listening(self, claim: _Claim) -> Iterator[None]:
        """Have the claim told what is said of its upload."""
        claims = self._claims.setdefault(claim.upload_id, [])
        claims.append(claim)
        try:
            yield
        finally:
            claims.remove(claim)
            if not claims:
                del self._claims[claim.upload_id]

    async def wait_until_it_listens(self) -> None:
        """Return when it does, or has failed to: then asking fails as fast, or need not fail."""
        if not self._has_begun.is_set():
            with anyio.move_on_after(self._seconds):
                await self._has_begun.wait()
            if not self._has_begun.is_set():
                raise _away()

    async def ask(self, script: str, claim: _Claim, *arguments: int) -> list[int]:
        """Run a script on the lock of the claim; raise `StoreUnavailable` if none answers."""
        keys = [f"{self._prefix}lock:{claim.upload_id}", f"{self._prefix}fence"]
        words: list[str | int | float] = [claim.token, claim.upload_id, self._channel, *arguments]
        try:
            with anyio.fail_after(self._seconds):
                async with self._turns[script]:
                    answer: list[int] = await self._scripts[script](keys, words)
        except (RedisError, OSError) as error:
            self._report(error)
            raise _away() from error
        self._is_away = False
        return answer

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()  # raises what can only be a bug of ours

    async def _run(self) -> None:
        # Closed here and not by `close`: whoever calls that may be cancelled in the middle.
        try:
            # A scope cancels until it is left. Once is not enough: redis-py may miss it.
            with self._listening:
                while True:
                    await self._listen()
                    self._has_begun.set()
                    await anyio.sleep(_PAUSE)
        finally:
            for client in self._clients if self._is_own else ():
                with suppress(RedisError, OSError):
                    await client.aclose()

    async def _listen(self) -> None:
        """Hear what is said, and return when the connection breaks or there is none."""
        subscription = self._renewing.pubsub()
        try:
            await subscription.subscribe(self._channel)
            while True:
                self._hear(await self._next_message(subscription))
        except (RedisError, OSError) as error:
            self._report(error)
        finally:
            with anyio.CancelScope(shield=True), suppress(RedisError, OSError):
                await subscription.aclose()  # type: ignore[no-untyped-call]

    async def _next_message(self, subscription: PubSub) -> dict[str, Any]:
        message = await subscription.get_message(timeout=_QUIET)
        if message is None:
            await subscription.ping()
            message = await subscription.get_message(timeout=self._seconds)
        if message is None:
            raise TimeoutError("Redis does not answer on the channel")
        return dict(message)

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self._has_begun.set()
            # What was said while nobody listened is made up for.
            for claims in self._claims.values():
                for claim in claims:
                    claim.freed.set()
                    claim.asked.set()
        elif message["type"] == "message":
            word, _, upload_id = str_if_bytes(message["data"]).partition(" ")
            for claim in self._claims.get(upload_id, ()):
                (claim.freed if word == "freed" else claim.asked).set()

    def _report(self, error: Exception) -> None:
        """Log that Redis is away, once until it is back."""
        if not self._is_away:
            self._is_away = True
            _log.warning("Redis cannot be reached for locks: %r", error)
