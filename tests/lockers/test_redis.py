import asyncio
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
import redis
from anyio.to_thread import run_sync
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from tests.hosts._process import Server, free_port, running
from tests.hosts._wire import Client, wait_until
from tests.lockers.file.test_processes import Child, child
from tests.services import redis as services
from tests.services.redis import RedisServer, need_redis, running_redis
from tusasgi import InvalidUploadId, StoreUnavailable, TusApp, UploadLocked, Uploads
from tusasgi.lockers.redis import RedisLocker, link
from tusasgi.lockers.redis.scripts import ACQUIRE
from tusasgi.stores.file import FileStore
from tusasgi.testing import LockerSuite
from tusasgi.testing.faults import cancelled_at, watched

pytestmark = pytest.mark.anyio

redis_server = services.redis_server

_LONG = 20.0  # seconds, which nothing here takes
_HANDOVER = 4.0  # seconds; it takes some milliseconds, and patience would end after 5
_RESUMED = 2.0  # seconds in which a client that comes back has to get its turn
_SHORT_LEASE = 0.6  # seconds
_NEXT_TO_NOTHING = 0.25  # seconds of one core in a second


@pytest.fixture(
    params=[
        pytest.param("asyncio", id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    if "uvloop" in str(request.param):
        pytest.importorskip("uvloop")
    return request.param


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server for one test, which may stop it."""
    need_redis()
    with running_redis() as server:
        yield server


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return prefix_of(tmp_path)


def prefix_of(place: Path) -> str:
    return f"{hashlib.sha256(bytes(place)).hexdigest()[:16]}:"


@contextmanager
def admin_of(server: RedisServer) -> Iterator["redis.Redis"]:
    """A client for looking and for setting the scene."""
    with redis.Redis(port=server.port, decode_responses=True) as client:
        yield client


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator["redis.Redis"]:
    with admin_of(redis_server) as client:
        yield client


class TestRedisLocker(LockerSuite):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.server = redis_server

    def make_locker(self, place: Path, *, patience: float) -> RedisLocker:
        return RedisLocker(self.server.url, prefix=prefix_of(place), patience=patience)

    async def leftovers(self, locker: RedisLocker, place: Path) -> object:
        return await run_sync(self._keys, prefix_of(place))

    def _keys(self, prefix: str) -> set[str]:
        with admin_of(self.server) as client:
            return set(client.keys(f"{prefix}*")) - {f"{prefix}fence"}


class TestRedisLockerKeptOpen(TestRedisLocker):
    @pytest.fixture
    async def locker(self, place: Path) -> AsyncIterator[RedisLocker]:
        async with self.make_locker(place, patience=30) as locker:
            yield locker

    @pytest.fixture
    async def other(self, place: Path) -> AsyncIterator[RedisLocker]:
        async with self.make_locker(place, patience=30) as locker:
            yield locker


# The token.


async def test_each_lock_has_a_higher_token_than_all_before(
    redis_server: RedisServer, admin: "redis.Redis", prefix: str
) -> None:
    lockers = [RedisLocker(redis_server.url, prefix=prefix) for _ in range(2)]
    tokens = []
    for number in range(12):
        async with lockers[number % 2].lock(f"upload-{number % 3}", interrupt=pytest.fail) as token:
            tokens.append(token)
    assert tokens == sorted(set(tokens))
    assert admin.keys(f"{prefix}*") == [f"{prefix}fence"]  # one counter for all uploads


async def test_whoever_waited_has_a_higher_token_than_all_who_were_served_meanwhile(
    redis_server: RedisServer, prefix: str
) -> None:
    locker, is_asked = RedisLocker(redis_server.url, prefix=prefix), anyio.Event()
    waiting = Held(locker)
    waiting.may_leave.set()
    async with (
        anyio.create_task_group() as tasks,
        locker.lock("a", interrupt=is_asked.set) as first,
    ):
        tasks.start_soon(waiting.hold)
        await is_asked.wait()
        async with locker.lock("b", interrupt=pytest.fail) as meanwhile:
            assert meanwhile > first
    assert waiting.token > meanwhile


async def test_tokens_grow_although_the_counter_is_lost(
    redis_server: RedisServer, admin: "redis.Redis", prefix: str
) -> None:
    locker = RedisLocker(redis_server.url, prefix=prefix)
    async with locker.lock("a", interrupt=pytest.fail) as before:
        pass
    admin.delete(f"{prefix}fence")
    async with locker.lock("a", interrupt=pytest.fail) as after:
        assert after > before


async def test_tokens_grow_although_the_clock_of_redis_is_behind(
    redis_server: RedisServer, admin: "redis.Redis", prefix: str
) -> None:
    ahead = 2**52 + 1
    admin.set(f"{prefix}fence", ahead)
    locker = RedisLocker(redis_server.url, prefix=prefix)
    for step in (1, 2):
        async with locker.lock("a", interrupt=pytest.fail) as token:
            assert token == ahead + step


# The lease.


async def test_a_lease_is_renewed_while_the_lock_is_held(
    redis_server: RedisServer, admin: "redis.Redis", prefix: str
) -> None:
    locker = RedisLocker(redis_server.url, prefix=prefix, lease=_SHORT_LEASE)
    async with locker.lock("a", interrupt=pytest.fail):
        began = anyio.current_time()
        while anyio.current_time() < began + 2 * _SHORT_LEASE:
            left = admin.pttl(f"{prefix}lock:a")
            assert 0 < left <= _SHORT_LEASE * 1000
            await anyio.sleep(0.02)


async def test_a_holder_whose_lease_is_gone_is_interrupted_and_frees_nobody_elses_lock(
    redis_server: RedisServer, admin: "redis.Redis", prefix: str
) -> None:
    locker, lost = RedisLocker(redis_server.url, prefix=prefix, lease=_SHORT_LEASE), anyio.Event()
    other = Held(RedisLocker(redis_server.url, prefix=prefix))
    async with anyio.create_task_group() as tasks:
        async with locker.lock("a", interrupt=lost.set) as old:
            admin.delete(f"{prefix}lock:a")
            assert await tasks.start(other.hold) > old
            with anyio.fail_after(_HANDOVER):
                await lost.wait()
        assert admin.hget(f"{prefix}lock:a", "fence") == str(other.token)
        assert not other.is_interrupted.is_set()
        other.may_leave.set()
    assert not admin.exists(f"{prefix}lock:a")


async def test_a_holder_that_has_not_heard_of_its_loss_frees_nobody_elses_lock(
    redis_server: RedisServer, admin: "redis.Redis", prefix: str
) -> None:
    locker = RedisLocker(redis_server.url, prefix=prefix)
    other = Held(locker)
    async with anyio.create_task_group() as tasks:
        async with locker.lock("a", interrupt=pytest.fail):
            admin.delete(f"{prefix}lock:a")
            await tasks.start(other.hold)
        assert admin.hget(f"{prefix}lock:a", "fence") == str(other.token)
        other.may_leave.set()


class Held:
    """A lock that another task takes, and holds until it may leave."""

    def __init__(self, locker: RedisLocker) -> None:
        self.token = 0
        self.is_interrupted = anyio.Event()
        self.may_leave = anyio.Event()
        self._locker = locker

    async def hold(
        self, *, task_status: anyio.abc.TaskStatus[int] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        async with self._locker.lock("a", interrupt=self.interrupt) as self.token:
            task_status.started(self.token)
            await self.may_leave.wait()

    def interrupt(self) -> None:
        self.is_interrupted.set()


async def test_a_lease_that_nobody_renews_is_waited_for_and_no_longer(
    redis_server: RedisServer, admin: "redis.Redis", prefix: str
) -> None:
    admin.hset(f"{prefix}lock:a", mapping={"token": "of the dead", "fence": 1, "arrival": 1})
    locker = RedisLocker(redis_server.url, prefix=prefix)
    began = time.monotonic()
    admin.pexpire(f"{prefix}lock:a", 300)
    async with locker.lock("a", interrupt=pytest.fail):
        assert 0.25 < time.monotonic() - began < _HANDOVER


def test_by_default_a_newcomer_waits_longer_than_a_dead_holders_lease_lasts() -> None:
    locker = RedisLocker("redis://127.0.0.1")
    assert locker._patience > locker._lease


# Processes.

_HOLDER = """
import sys, anyio
from tusasgi.lockers.redis import RedisLocker

async def main(url, prefix, lease, when_interrupted):
    interrupted = anyio.Event()
    locker = RedisLocker(url, prefix=prefix, lease=float(lease), patience=30)
    async with locker.lock("a", interrupt=interrupted.set):
        print("holding", flush=True)
        await interrupted.wait()
        print("interrupted", flush=True)
        if when_interrupted == "holds-on":
            await anyio.sleep_forever()
    print("left", flush=True)

anyio.run(main, *sys.argv[1:])
"""

_COUNTER = """
import sys, anyio
from pathlib import Path
from tusasgi.lockers.redis import RedisLocker

async def main(url, prefix, path, count):
    counter = Path(path)
    async with RedisLocker(url, prefix=prefix, patience=60) as locker:
        for _ in range(int(count)):
            async with locker.lock("a", interrupt=lambda: None):
                before = int(counter.read_text())
                await anyio.sleep(0)
                counter.write_text(str(before + 1))

anyio.run(main, *sys.argv[1:])
"""


@asynccontextmanager
async def holding(
    server: RedisServer, prefix: str, when_interrupted: str = "lets-go", *, lease: float = 10.0
) -> AsyncIterator[tuple[Child, int]]:
    """Another process that holds the lock, and its token."""
    async with child(_HOLDER, server.url, prefix, lease, when_interrupted) as process:
        await process.says("holding")
        with admin_of(server) as admin:
            token = admin.hget(f"{prefix}lock:a", "fence")
        yield process, int(token)


async def test_a_lock_is_handed_over_between_processes(
    redis_server: RedisServer, prefix: str
) -> None:
    mine = Held(RedisLocker(redis_server.url, prefix=prefix))
    async with AsyncExitStack() as stack:
        first, token = await stack.enter_async_context(holding(redis_server, prefix))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        with anyio.fail_after(_HANDOVER):
            assert await tasks.start(mine.hold) > token
        await first.says("left")
        async with child(_HOLDER, redis_server.url, prefix, 10, "lets-go") as second:
            with anyio.fail_after(_LONG):
                await mine.is_interrupted.wait()
            mine.may_leave.set()
            await second.says("holding")


async def test_a_killed_holder_frees_the_lock_when_its_lease_ends(
    redis_server: RedisServer, prefix: str
) -> None:
    locker, got_it = RedisLocker(redis_server.url, prefix=prefix), anyio.Event()
    async with (
        holding(redis_server, prefix, "holds-on", lease=1) as (holder, _),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_take, locker, got_it)
        await holder.says("interrupted")  # the newcomer waits
        holder.kill_at_once()
        assert not got_it.is_set()
        with anyio.fail_after(1 + _HANDOVER):
            await got_it.wait()


async def _take(locker: RedisLocker, got_it: anyio.Event) -> None:
    async with locker.lock("a", interrupt=pytest.fail):
        got_it.set()


async def test_a_holder_that_stands_still_past_its_lease_is_stopped_when_it_wakes_up(
    redis_server: RedisServer, admin: "redis.Redis", prefix: str
) -> None:
    mine = Held(RedisLocker(redis_server.url, prefix=prefix))
    async with (
        holding(redis_server, prefix, lease=1) as (holder, old),
        anyio.create_task_group() as tasks,
    ):
        await holder.stop()
        with anyio.fail_after(1 + _HANDOVER):
            assert await tasks.start(mine.hold) > old
        holder.process.send_signal(signal.SIGCONT)
        await holder.says("interrupted", "left")
        assert admin.hget(f"{prefix}lock:a", "fence") == str(mine.token)
        assert not mine.is_interrupted.is_set()
        mine.may_leave.set()


async def test_processes_that_compete_never_hold_the_lock_together(
    redis_server: RedisServer, prefix: str, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    arguments = (redis_server.url, prefix, counter, 40)
    async with (
        child(_COUNTER, *arguments) as one,
        child(_COUNTER, *arguments) as two,
        child(_COUNTER, *arguments) as three,
    ):
        with anyio.fail_after(50):
            for each in (one, two, three):
                assert await each.process.wait() == 0
    assert counter.read_text() == "120"


# Redis goes away.


async def test_without_redis_a_lock_is_refused_at_once_and_the_log_says_why(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_server.kill()
    async with RedisLocker(own_server.url) as locker:
        for _ in range(3):
            with anyio.fail_after(1), pytest.raises(StoreUnavailable) as refused:
                async with locker.lock("a", interrupt=pytest.fail):
                    pytest.fail("locked")
    assert refused.value.headers["Retry-After"] == "5"
    assert isinstance(refused.value.__cause__, redis.ConnectionError)
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # once is enough


async def test_a_redis_that_does_not_answer_is_not_waited_for_long(own_server: RedisServer) -> None:
    locker = RedisLocker(own_server.url, lease=1.5)
    with own_server.suspended():
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            async with locker.lock("a", interrupt=pytest.fail):
                pytest.fail("locked")
        assert time.monotonic() - began < 0.9
    async with locker.lock("a", interrupt=pytest.fail):
        pass


async def test_a_redis_that_stops_to_answer_is_not_waited_for_long(own_server: RedisServer) -> None:
    async with RedisLocker(own_server.url, lease=_SHORT_LEASE) as locker:
        async with locker.lock("a", interrupt=pytest.fail):
            pass
        with own_server.suspended():
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                async with locker.lock("a", interrupt=pytest.fail):
                    pytest.fail("locked")
            assert time.monotonic() - began < 0.9
        # What it was asked meanwhile it may do when it goes on: that costs a lease at most.
        with anyio.fail_after(_SHORT_LEASE + _HANDOVER):
            async with locker.lock("a", interrupt=_nothing):
                pass


async def test_a_holder_goes_on_when_redis_is_away_for_less_than_a_lease(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    locker = RedisLocker(own_server.url, lease=9)
    with admin_of(own_server) as admin:
        async with locker.lock("a", interrupt=pytest.fail):
            token = admin.hget("tusasgi:lock:a", "token")
            with own_server.suspended():
                await _until(lambda: bool(caplog.records))  # a renewal has failed
            low = admin.pttl("tusasgi:lock:a")
            await _until(lambda: admin.pttl("tusasgi:lock:a") > low)
            assert admin.hget("tusasgi:lock:a", "token") == token


@pytest.mark.parametrize("fate", ["killed", "stands-still"])
async def test_a_holder_is_stopped_when_redis_is_away_for_longer_than_its_lease(
    fate: str, own_server: RedisServer
) -> None:
    lost = anyio.Event()
    async with RedisLocker(own_server.url, lease=_SHORT_LEASE) as locker:
        async with AsyncExitStack() as stack:
            async with locker.lock("a", interrupt=lost.set):
                if fate == "killed":
                    own_server.kill()
                else:
                    stack.enter_context(own_server.suspended())
                began = time.monotonic()
                with anyio.fail_after(_SHORT_LEASE + 1.5):
                    await lost.wait()
                assert time.monotonic() - began > _SHORT_LEASE / 2
                left = time.monotonic()
            assert time.monotonic() - left < 1  # there is nothing to give back
        if fate == "killed":
            own_server.start()
        with anyio.fail_after(_HANDOVER + _SHORT_LEASE):
            async with locker.lock("a", interrupt=_nothing):
                pass


async def test_a_holder_that_lets_go_while_redis_is_away_leaves_in_peace(
    own_server: RedisServer,
) -> None:
    with anyio.fail_after(1):
        async with RedisLocker(own_server.url).lock("a", interrupt=pytest.fail):
            own_server.kill()


async def test_a_redis_that_was_restarted_without_its_data_stops_holders_and_serves_who_waits(
    own_server: RedisServer,
) -> None:
    locker, got_it = RedisLocker(own_server.url, lease=20, patience=30), anyio.Event()
    lost = Held(locker)
    async with anyio.create_task_group() as tasks:
        await tasks.start(lost.hold)
        tasks.start_soon(_take, locker, got_it)
        await lost.is_interrupted.wait()  # by the newcomer
        lost.is_interrupted = anyio.Event()
        own_server.kill()
        own_server.start()
        with anyio.fail_after(_HANDOVER + 1):
            await got_it.wait()
            await lost.is_interrupted.wait()
        lost.may_leave.set()


async def test_a_newcomer_that_waits_when_redis_goes_away_is_told_to_try_again(
    own_server: RedisServer,
) -> None:
    interrupted = anyio.Event()

    async def wait_in_vain() -> None:
        with pytest.raises(StoreUnavailable):
            async with locker.lock("a", interrupt=pytest.fail):
                pytest.fail("locked")

    locker = RedisLocker(own_server.url, lease=_SHORT_LEASE)
    async with locker.lock("a", interrupt=interrupted.set):
        with anyio.fail_after(4 * _SHORT_LEASE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait_in_vain)
                await interrupted.wait()
                own_server.kill()


async def test_a_channel_that_breaks_is_opened_again_and_what_was_missed_is_made_up_for(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted, got_it = anyio.Event(), anyio.Event()
    async with RedisLocker(own_server.url) as mine, RedisLocker(own_server.url) as theirs:
        with admin_of(own_server) as admin:
            async with anyio.create_task_group() as tasks:
                async with mine.lock("a", interrupt=interrupted.set):
                    admin.client_kill_filter(_type="pubsub")
                    tasks.start_soon(_take, theirs, got_it)
                    with anyio.fail_after(_HANDOVER):
                        await interrupted.wait()
                    interrupted = anyio.Event()
                    admin.client_kill_filter(_type="pubsub")
                with anyio.fail_after(_HANDOVER):
                    await got_it.wait()


async def test_a_channel_on_which_nobody_answers_is_opened_again(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_QUIET", 0.05)
    with admin_of(own_server) as admin:
        async with RedisLocker(own_server.url, lease=3) as locker:
            await _until(lambda: _listeners(admin) != [])
            (first,) = _listeners(admin)
            with own_server.suspended():
                await _until(lambda: "channel" in caplog.text)
            await _until(lambda: _listeners(admin) not in ([], [first]))
            async with locker.lock("a", interrupt=pytest.fail):
                pass


async def test_a_channel_on_which_nothing_is_said_stays_open(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_QUIET", 0.05)
    with admin_of(own_server) as admin:
        async with RedisLocker(own_server.url):
            await _until(lambda: _listeners(admin) != [])
            before = _listeners(admin)
            await _until(lambda: _calls(admin, "ping") > 3)
            assert _listeners(admin) == before


def _listeners(admin: "redis.Redis") -> list[str]:
    return [client["id"] for client in admin.client_list(_type="pubsub")]


def _calls(admin: "redis.Redis", command: str) -> int:
    """How often the server has run the command since its start."""
    return int(admin.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


async def _until(is_true: Callable[[], bool]) -> None:
    with anyio.fail_after(_LONG):
        while not is_true():  # noqa: ASYNC110 (another process makes it true)
            await anyio.sleep(0.01)


# What it costs.


async def test_fifty_newcomers_wait_at_next_to_no_cost_over_a_few_connections(
    own_server: RedisServer,
) -> None:
    locker = RedisLocker(own_server.url, patience=3)
    counted = []

    async def give_up() -> None:
        with pytest.raises(UploadLocked):
            async with locker.lock("a", interrupt=pytest.fail):
                pytest.fail("two holders")

    with admin_of(own_server) as admin:
        async with locker.lock("a", interrupt=_nothing), anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(give_up)
            await _until(lambda: _calls(admin, "publish") == 50)
            counted = admin.client_list()
            before = time.process_time()  # coming costs something, waiting does not
            await anyio.sleep(1)
            assert time.process_time() - before < _NEXT_TO_NOTHING
    assert len(counted) <= 4  # to listen, to ask, to renew, and that of this test


async def test_fifty_holders_renew_over_a_few_connections(own_server: RedisServer) -> None:
    locker, may_leave, held = RedisLocker(own_server.url), anyio.Event(), []

    async def hold(upload_id: str) -> None:
        async with locker.lock(upload_id, interrupt=pytest.fail):
            held.append(upload_id)
            await may_leave.wait()

    with admin_of(own_server) as admin:
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(hold, f"upload-{number}")
            await _until(lambda: len(held) == 50)
            before = _calls(admin, "evalsha")
            admin.client_kill_filter(_type="pubsub")  # so that they all ask at once
            await _until(lambda: _calls(admin, "evalsha") >= before + 50)
            connections = len(admin.client_list())
            may_leave.set()
        assert connections <= 7  # to listen, to ask, to renew, and that of this test


# Connections.


async def test_connections_last_as_long_as_a_lock_or_as_they_are_kept(
    own_server: RedisServer,
) -> None:
    locker = RedisLocker(own_server.url)
    with admin_of(own_server) as admin:

        def are_closed() -> bool:
            return len(admin.client_list()) == 1

        async with locker.lock("a", interrupt=pytest.fail):
            assert not are_closed()
        await _until(are_closed)
        async with locker:
            async with locker.lock("a", interrupt=pytest.fail):
                pass
            kept = {client["id"] for client in admin.client_list()}
            assert len(kept) == 3
            async with locker.lock("a", interrupt=pytest.fail):
                pass
            assert {client["id"] for client in admin.client_list()} == kept
        await _until(are_closed)


@pytest.mark.parametrize("decodes", [False, True], ids=["bytes", "text"])
async def test_a_client_of_the_hosts_is_used_and_not_closed(
    decodes: bool, own_server: RedisServer, prefix: str
) -> None:
    async with Redis(port=own_server.port, decode_responses=decodes) as client:
        locker, interrupted, got_it = (
            RedisLocker(client, prefix=prefix),
            anyio.Event(),
            anyio.Event(),
        )
        async with anyio.create_task_group() as tasks:
            async with locker.lock("a", interrupt=interrupted.set):
                tasks.start_soon(_take, locker, got_it)
                with anyio.fail_after(_HANDOVER):
                    await interrupted.wait()
            with anyio.fail_after(_HANDOVER):
                await got_it.wait()
        with admin_of(own_server) as admin:
            await _until(lambda: _listeners(admin) == [])
            assert len(admin.client_list()) > 1  # with those of the host


def test_one_locker_serves_one_event_loop_after_another(redis_server: RedisServer) -> None:
    locker = RedisLocker(redis_server.url)

    async def take() -> None:
        async with locker.lock("a", interrupt=pytest.fail, take_over=False):
            pass

    for _ in range(2):
        anyio.run(take)


# Cancellation, and answers that are lost.


async def task_cancelled_at(suspension: int, operation: Coroutine[Any, Any, object]) -> bool:
    """Like `cancelled_at`, but as asyncio itself does it, which no shield holds back."""
    seen = -1

    def on_suspension() -> None:
        nonlocal seen
        seen += 1
        if seen == suspension:
            task.cancel()

    async def run() -> None:
        await watched(operation, on_suspension)

    task = asyncio.create_task(run())
    with suppress(asyncio.CancelledError):
        await task
    return seen >= suspension


@pytest.mark.parametrize("cut", [cancelled_at, task_cancelled_at], ids=["scope", "task"])
@pytest.mark.parametrize("is_open", [False, True], ids=["opened-for-it", "kept-open"])
async def test_a_lock_that_is_cancelled_at_any_await_is_free_and_leaves_no_connection(
    cut: Callable[[int, Any], Awaitable[bool]], is_open: bool, own_server: RedisServer
) -> None:
    locker = RedisLocker(own_server.url)

    async def take() -> None:
        async with locker.lock("a", interrupt=pytest.fail):
            await anyio.lowlevel.checkpoint()

    with admin_of(own_server) as admin:
        async with AsyncExitStack() as stack:
            if is_open:
                await stack.enter_async_context(locker)
            at, was_cut = 0, True
            tasks = asyncio.all_tasks()
            while was_cut:
                was_cut = await cut(at, take())
                assert asyncio.all_tasks() <= tasks, "what listened outlives who asked for it"
                assert not admin.exists("tusasgi:lock:a"), at
                at += 1
            assert at > 3
        assert locker._link is None
        await _until(lambda: len(admin.client_list()) == 1)


class _Flaky(Redis):
    """A client that gets some of its answers in other ways."""

    asked = 0

    async def evalsha(self, *arguments: Any) -> Any:
        self.asked += 1
        return await super().evalsha(*arguments)


class _AnswerLost(_Flaky):
    async def evalsha(self, *arguments: Any) -> Any:
        answer = await super().evalsha(*arguments)
        if self.asked == 2:  # of the first the script was not known
            raise redis.ConnectionError("the answer is lost")
        return answer


class _SlowOnItsWay(_Flaky):
    """The first question arrives when it may, whether anybody waits for it or not."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.is_asked, self.may_arrive, self.is_answered = (anyio.Event() for _ in range(3))

    async def evalsha(self, *arguments: Any) -> Any:
        if self.is_asked.is_set():
            return await super().evalsha(*arguments)
        self.is_asked.set()
        return await asyncio.shield(asyncio.create_task(self._arrive(*arguments)))

    async def _arrive(self, *arguments: Any) -> Any:
        await self.may_arrive.wait()
        try:
            return await super().evalsha(*arguments)
        finally:
            self.is_answered.set()


class _AskedTwice(_Flaky):
    async def evalsha(self, *arguments: Any) -> Any:
        await super().evalsha(*arguments)
        return await super().evalsha(*arguments)


async def test_a_lock_whose_answer_is_lost_is_given_back(own_server: RedisServer) -> None:
    async with _AnswerLost(port=own_server.port) as client:
        locker = RedisLocker(client)
        with pytest.raises(StoreUnavailable):
            async with locker.lock("a", interrupt=pytest.fail):
                pytest.fail("locked")
        async with locker.lock("a", interrupt=pytest.fail, take_over=False):
            pass


async def test_a_newcomer_that_goes_away_takes_back_a_question_that_is_still_on_its_way(
    own_server: RedisServer,
) -> None:
    async with Redis(port=own_server.port) as client:
        await client.script_load(ACQUIRE)
    async with _SlowOnItsWay(port=own_server.port) as client:
        locker, scope, has_left = RedisLocker(client), anyio.CancelScope(), anyio.Event()
        held = []

        async def take() -> None:
            with scope:
                async with locker.lock("a", interrupt=pytest.fail) as token:
                    held.append(token)
            has_left.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            await client.is_asked.wait()
            scope.cancel()
            with anyio.move_on_after(0.2):  # it does not leave, however long that is
                await has_left.wait()
            client.may_arrive.set()
            await client.is_answered.wait()
        assert held == []
        async with locker.lock("a", interrupt=pytest.fail, take_over=False):
            pass


async def test_a_question_that_is_asked_again_has_the_same_answer(own_server: RedisServer) -> None:
    async with _AskedTwice(port=own_server.port) as client:
        locker = RedisLocker(client)
        async with locker.lock("a", interrupt=pytest.fail) as token:
            with pytest.raises(UploadLocked):
                async with locker.lock("a", interrupt=pytest.fail, take_over=False):
                    pytest.fail("two holders")
            assert await client.hget("tusasgi:lock:a", "fence") == str(token).encode()
        assert not await client.exists("tusasgi:lock:a")


class _Inattentive(PubSub):
    """Misses the first cancellation, as redis-py sometimes does while it connects."""

    has_missed = False

    async def get_message(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().get_message(*arguments, **options)
        except asyncio.CancelledError:
            if self.has_missed:
                raise
            self.has_missed = True
            return {"type": "nothing"}


class _MissesCancellation(Redis):
    def pubsub(self, **options: Any) -> PubSub:
        return _Inattentive(self.connection_pool, **options)


async def test_what_listens_ends_though_its_cancellation_is_missed(
    own_server: RedisServer,
) -> None:
    async with _MissesCancellation(port=own_server.port) as client:
        locker = RedisLocker(client)

        async def take() -> None:
            async with locker.lock("a", interrupt=pytest.fail):
                pass

        task = asyncio.create_task(take())
        done, _ = await asyncio.wait([task], timeout=_HANDOVER)
        assert done


class _Broken(Redis):
    def pubsub(self, **_: Any) -> Any:
        raise LookupError("a bug")


async def test_a_bug_in_what_listens_is_not_kept_secret(own_server: RedisServer) -> None:
    async with _Broken(port=own_server.port) as client:
        locker = RedisLocker(client, lease=_SHORT_LEASE)
        with pytest.raises(LookupError, match="a bug"):
            async with locker.lock("a", interrupt=pytest.fail):
                pytest.fail("locked")


# What it refuses.


def test_under_trio_it_says_what_to_do() -> None:
    async def take() -> None:
        async with RedisLocker("redis://127.0.0.1").lock("a", interrupt=pytest.fail):
            pytest.fail("locked")

    with pytest.raises(RuntimeError, match="run the app on asyncio"):
        anyio.run(take, backend="trio")


def test_a_url_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="redis://"):
        RedisLocker("http://127.0.0.1")


def test_a_lease_without_a_length_is_refused() -> None:
    with pytest.raises(ValueError, match="lease"):
        RedisLocker("redis://127.0.0.1", lease=0)


async def test_an_id_outside_the_grammar_is_refused_and_redis_not_asked() -> None:
    with pytest.raises(InvalidUploadId):
        async with RedisLocker("redis://127.0.0.1:1").lock("../a b", interrupt=pytest.fail):
            pytest.fail("locked")


def _nothing() -> None:
    pass


# Servers: two processes on one folder.

_DATA = os.urandom(1_500_003)
_SEEN = 400_000


def create_app() -> TusApp:
    """The app of the servers below, by the settings in their environment."""
    locker = RedisLocker(os.environ["TUSASGI_TEST_REDIS"], prefix="servers:", lease=2, patience=3)
    store = FileStore(os.environ["TUSASGI_TEST_FOLDER"])
    return TusApp(Uploads(store, locker=locker), prefix="/files", downloads=True)


@contextmanager
def _serving(folder: Path, redis_url: str) -> Iterator[Server]:
    port = free_port()
    command = [
        "-m", "uvicorn", "--factory", "tests.lockers.test_redis:create_app", "--port", str(port),
        "--log-level", "warning", "--timeout-graceful-shutdown", "1",
    ]  # fmt: skip
    settings = {"TUSASGI_TEST_FOLDER": str(folder), "TUSASGI_TEST_REDIS": redis_url}
    with running("uvicorn", command, port, folder, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def servers(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    folder = tmp_path_factory.mktemp("servers") / "data"
    with _serving(folder, redis_server.url) as first, _serving(folder, redis_server.url) as second:
        yield first, second


def test_a_client_whose_connection_hangs_resumes_through_another_server_within_two_seconds(
    servers: tuple[Server, Server],
) -> None:
    first, second = (Client(server.port) for server in servers)
    path = first.create(len(_DATA))
    with first.patching(path, 0, len(_DATA)) as hanging:
        hanging.send(_DATA[:_SEEN])
        wait_until(lambda: second.offset(path) == _SEEN)
        began = time.monotonic()
        second.resume(path, _DATA)
        assert time.monotonic() - began < _RESUMED
        assert hanging.answer().status == 423
    assert first.get(path).body == _DATA


def test_a_transfer_that_loses_its_lock_with_redis_keeps_what_came(
    own_server: RedisServer, tmp_path: Path
) -> None:
    with _serving(tmp_path / "data", own_server.url) as server:
        client = Client(server.port)
        path = client.create(len(_DATA))
        with client.patching(path, 0, len(_DATA)) as patch:
            patch.send(_DATA[:_SEEN])
            wait_until(lambda: client.offset(path) == _SEEN)
            own_server.kill()
            assert patch.answer().status == 423  # when its lease has run out
        assert client.offset(path) == _SEEN
        refused = client.patch(path, _SEEN, _DATA[_SEEN:])
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        own_server.start()
        client.resume(path, _DATA)
        assert client.get(path).body == _DATA
