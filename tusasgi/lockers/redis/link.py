"""The connections to Redis, and the messages that come over them."""

import asyncio
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError
from redis.utils import str_if_bytes

from tusasgi.errors import StoreUnavailable
from tusasgi.lockers.redis.scripts import ACQUIRE, RELEASE, RENEW

_log = logging.getLogger("tusasgi")

_RENEWING = 4  # connections on which leases are renewed
_PAUSE = 0.2  # seconds between two tries to listen
_QUIET = 5.0  # seconds without a message, after which Redis is asked if it is there


class Claim:
    """What one request wants of one upload, and what is known of it."""

    def __init__(self, upload_id: str) -> None:
        self.upload_id = upload_id
        self.token = secrets.token_hex(16)
        self.arrival = 0  # drawn by Redis with the first question
        self.fence = 0  # 0 until the lock is held
        self.lease_end = 0.0
        self.may_be_held = False
        """True unless Redis has answered that the lock is not this claim's."""
        self.listen_anew()

    def listen_anew(self) -> None:
        self.freed = anyio.Event()
        self.asked = anyio.Event()


class Link:
    """What there is to Redis while somebody needs it: connections, and a task that listens.

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
            ACQUIRE: client.register_script(ACQUIRE),
            RELEASE: client.register_script(RELEASE),
            RENEW: renewing.register_script(RENEW),
        }
        # One by one, over a connection on which nothing else is asked, so that requests come to
        # Redis as they came here: by that it knows which is the newest.
        turns = anyio.Semaphore(1, fast_acquire=True)
        slots = anyio.Semaphore(_RENEWING, fast_acquire=True)
        self._turns = {ACQUIRE: turns, RELEASE: turns, RENEW: slots}
        self._claims: dict[str, list[Claim]] = {}
        self._is_away = False
        self._has_begun = anyio.Event()
        self._listening = anyio.CancelScope()
        self._task = asyncio.create_task(self._run())

    @contextmanager
    def listening(self, claim: Claim) -> Iterator[None]:
        """Have the claim woken by messages about its upload."""
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

    async def ask(self, script: str, claim: Claim, *arguments: int) -> list[int]:
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
        """Receive messages, and return when the connection breaks or there is none."""
        subscription = self._renewing.pubsub()
        try:
            await subscription.subscribe(self._channel)
            while True:
                self._receive(await self._next_message(subscription))
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

    def _receive(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self._has_begun.set()
            # Makes up for the messages that came while nobody listened.
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


def _away() -> StoreUnavailable:
    return StoreUnavailable("the locks cannot be reached for now; go on in a moment")
