"""Kill replicas and their S3 server again and again under load; hold them to every answer.

Clients send each request to any replica that is up. One replica is killed at a random instant,
or at a call that it makes to S3 (before it is made, or when it took effect), and every fourth
time it is the S3 server. The clients go on at once through the others. After each round what was
told must still be true, byte by byte; at the end all uploads are completed, compared and
deleted, and nothing may be left in the bucket.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tests.force._client import (
    TUS,
    UPLOAD,
    Ask,
    Body,
    Reply,
    checksum,
    passes,
    send,
    send_and_cut,
)
from tests.force._fleet import PREFIX, Fleet, Replica, Trap, running_fleet
from tests.force._s3_ledger import Attempt, Entry, Violation, check, digest
from tests.force.app import FAR_FUTURE, PART_SIZE, s3_engine, sweep_twice
from tests.services.s3 import SeaweedFS
from tests.stores.s3._server import content_of, store_on
from tusasgi import UploadLocked, UploadNotFound, UploadPending
from tusasgi.stores.s3 import S3Store
from tusasgi.stores.s3.failures import Gone

KIB, MIB = 1024, 1024 * 1024
CLIENTS = 5
OPEN_EACH = 3  # uploads that a client has under way at once
SOON = 10.0  # seconds in which another replica has to answer, on a machine that is that busy
PROMPT = 0.5  # seconds in which the S3 server answers, unless it stalls
AGAIN = 30.0  # seconds in which all is well after the S3 server is back
MORE = 6  # rounds at the most for what has not happened yet
SAMPLE = 10  # more uploads that are looked at after a round; at the end it is all of them
TRAP_SECONDS = 8.0
LONG, SHORT = (6 * MIB, 9 * MIB), (300 * KIB, 400 * KIB)  # with parts, and without

# The calls that servers are killed at, and what clients do so that they are made.
STEPS = {
    ("CreateMultipartUpload", ""): "bring_long",
    ("UploadPart", ""): "bring_long",
    ("CompleteMultipartUpload", ""): "bring_long",
    ("UploadPartCopy", ""): "join_long",
    ("PutObject", "/state/"): "bring_pieces",
    ("PutObject", "/pieces/"): "bring_pieces",
    ("GetObject", "/state/"): "bring_pieces",
    ("PutObject", "/objects/"): "bring_short",
    ("AbortMultipartUpload", ""): "begin_and_delete",
    ("DeleteObjects", ""): "begin_and_delete",
    ("DeleteObject", "/state/"): "begin_and_delete",
}


@dataclass(kw_only=True)
class Run:
    """All that is remembered over the rounds."""

    fleet: Fleet
    store: S3Store
    """Looks past the replicas, straight at what is stored."""
    seed: int
    entries: list[Entry] = field(default_factory=list)
    touched: list[Entry] = field(default_factory=list)
    """Those that clients worked on in this round."""
    offered: set[str] = field(default_factory=set)
    """The digests of all that came with a POST whose answer was lost."""
    counts: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    """Seconds until another replica has answered a client whose connection died or hung."""
    clock: "Clock"
    """For how long others may take, which cannot be quicker than the S3 server."""


class Clock:
    """Stands still while the S3 server keeps a small PUT waiting: a disk, or a machine, does that.

    What it is asked by goes past the replicas, to a bucket where it is in nobody's way.
    """

    def __init__(self, storage: SeaweedFS) -> None:
        self._storage = storage
        self._asked_at: float | None = None
        self._stood = 0.0

    def now(self) -> float:
        return time.monotonic() - self._stood - self._stands()

    async def run(self) -> None:
        bucket = await asyncio.to_thread(self._storage.new_bucket)
        client = await asyncio.to_thread(self._storage.new_client)
        while True:
            self._asked_at = time.monotonic()
            with contextlib.suppress(BotoCoreError, ClientError):  # killed: `AGAIN` allows for it
                await asyncio.to_thread(client.put_object, Bucket=bucket, Key="clock", Body=b"")
            self._stood, self._asked_at = self._stood + self._stands(), None
            await asyncio.sleep(PROMPT)

    def _stands(self) -> float:
        """For how long S3 has owed an answer by now."""
        if self._asked_at is None:
            return 0.0
        return max(0.0, time.monotonic() - self._asked_at - PROMPT)


def run(
    folder: Path,
    *,
    rounds: int,
    seed: int,
    say: Callable[[str], None],
    replicas: int = 3,
    wanted: Sequence[str] = (),
) -> Run:
    """Kill `rounds` times and check everything, or raise `Violation`.

    A slow machine gets a few rounds more, until all that is wanted has happened.
    """
    with running_fleet(folder, replicas=replicas) as fleet:
        store = store_on(fleet.storage, PREFIX, part_size=PART_SIZE, check=False)
        memory = Run(fleet=fleet, store=store, seed=seed, clock=Clock(fleet.storage))
        asyncio.run(_run(memory, rounds, say, wanted))
        return memory


def summary(memory: Run) -> str:
    numbers = {"uploads": len(memory.entries), **dict(sorted(memory.counts.items()))}
    told = ", ".join(f"{count} {what}" for what, count in numbers.items())
    waits = sorted(memory.waits) or [0.0]
    middle, last = waits[len(waits) // 2], waits[-1]
    return f"{told}; others took over in {middle:.2f} s (median), {last:.2f} s at the most"


async def _run(memory: Run, rounds: int, say: Callable[[str], None], wanted: Sequence[str]) -> None:
    ticking = asyncio.create_task(memory.clock.run())
    try:
        clients = [Client(memory, random.Random(f"{memory.seed} {n}")) for n in range(CLIENTS)]
        for number, step in enumerate(["_cut", "_race", "_delete", "_patch_checked", "_race"]):
            clients[number].first = step
        for number in range(rounds + MORE):
            if number >= rounds and all(memory.counts[kind] for kind in wanted):
                break
            await _round(memory, clients, number)
            if number % 10 == 9:
                say(f"{number + 1} kills, {summary(memory)}")
        await _finish(memory, clients[0])
        assert not ticking.done(), ticking.exception()  # else nobody has been held to the time
    finally:
        ticking.cancel()
        await memory.store.aclose()


async def _round(memory: Run, clients: "list[Client]", number: int) -> None:
    dice = random.Random(f"{memory.seed} round {number}")
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            client.is_over = False
            tasks.create_task(client.work())
        await asyncio.sleep(dice.uniform(0.02, 0.5))
        if number % 4 == 3:
            await _kill_storage(memory)
        elif dice.random() < 0.6:
            await _kill_at_a_step(memory, clients, dice)
        else:
            await _kill_at_an_instant(memory, dice)
        await asyncio.sleep(dice.uniform(0.0, 0.2))
        for client in clients:
            client.is_over = True
    await _look_again(memory, clients[0], dice)


async def _kill_storage(memory: Run) -> None:
    fleet = memory.fleet
    fleet.is_storage_up = False
    fleet.storage_deaths += 1
    await asyncio.to_thread(fleet.storage.kill)
    await asyncio.to_thread(fleet.storage.start)
    fleet.is_storage_up = True
    memory.counts["deaths of the S3 server"] += 1


async def _kill_at_an_instant(memory: Run, dice: random.Random) -> None:
    victim = dice.choice(memory.fleet.replicas)
    victim.kill()
    memory.counts["kills at an instant"] += 1
    await asyncio.to_thread(_restart, victim)


async def _kill_at_a_step(memory: Run, clients: "list[Client]", dice: random.Random) -> None:
    victim = memory.fleet.replicas[0]
    operation, key = dice.choice(list(STEPS))
    is_after = dice.random() < 0.5
    trap = Trap(
        memory.fleet, operation=operation, key=key, at=dice.choice([1, 1, 1, 2]), is_after=is_after
    )
    memory.fleet.favourite = victim
    for client in clients[:2]:
        client.wish = getattr(client, STEPS[operation, key])
    is_sprung = await asyncio.to_thread(trap.wait, TRAP_SECONDS)
    trap.remove()
    memory.fleet.favourite = None
    for client in clients[:2]:
        client.wish = None
    if victim.is_up:
        victim.kill()
    moment = "after" if is_after else "before"
    where = f"{operation} {key.strip('/')}".strip()
    memory.counts[f"kills {moment} {where}" if is_sprung else "kills at an instant"] += 1
    await asyncio.to_thread(_restart, victim)


def _restart(victim: Replica) -> None:
    victim.stop()
    victim.start()


async def _look_again(memory: Run, client: "Client", dice: random.Random) -> None:
    """Hold every note of this round against what is told and what is stored."""
    for entry in memory.touched:
        await client.look(entry)
        if entry.is_open and entry.offset > entry.compared:
            await client.look_at_bytes(entry)
    for entry in dice.sample(memory.entries, min(SAMPLE, len(memory.entries))):
        await client.look(entry)
        if entry.is_complete and not entry.is_deleted:
            await client.compare(entry)
    memory.counts["looks after a death"] += len(memory.touched) + SAMPLE
    memory.touched = [entry for entry in memory.touched if entry.is_open]


class Client:
    """Works on uploads of its own, each request through any replica."""

    def __init__(self, memory: Run, dice: random.Random) -> None:
        self.is_over = False
        self.wish: Callable[[], Awaitable[None]] | None = None
        """What it does instead of steps by chance, if anything."""
        self.first: str | None = None
        """The step that it begins with, so that each run has some of every kind."""
        self._entries: list[Entry] = []
        self._memory = memory
        self._fleet = memory.fleet
        self._dice = dice

    async def work(self) -> None:
        while not self.is_over:
            await (self.wish or self._step)()

    async def _step(self) -> None:
        self._entries = [one for one in self._entries if not one.is_deleted]
        usable = [entry for entry in self._entries if entry.is_open]
        if len(usable) < OPEN_EACH:
            await self._create()
            return
        if self.first is not None:
            step, self.first = getattr(self, self.first), None
            await step(max(usable, key=lambda entry: entry.room))
            return
        steps: dict[Callable[[Entry], Awaitable[None]], int] = {
            self._patch: 10, self._patch_checked: 3, self._patch_damaged: 1, self._cut: 4,
            self._cut_checked: 1, self._overrun: 1, self.look: 1, self._delete: 1,
            self._race: 4, self._watch: 2, self._come_back: 2, self._bring: 3,
        }  # fmt: skip
        (step,) = self._dice.choices(list(steps), list(steps.values()))
        done = [entry for entry in self._entries if entry.is_complete]
        if self._dice.random() < 0.04:
            await self._concatenate()
        elif done and self._dice.random() < 0.1:
            await self._delete(self._dice.choice(done))
        else:
            await step(self._dice.choice(usable))

    def _count(self, what: str) -> None:
        self._memory.counts[what] += 1

    # Asking.

    async def _send(
        self, method: str, entry: Entry, *, replica: Replica | None = None, **options: object
    ) -> Reply | None:
        """Return the answer; None if the replica died meanwhile, or S3 was away."""
        replica = replica or self._fleet.pick(self._dice)
        ask = Ask(method=method, path=entry.path, **options)  # type: ignore[arg-type]
        entry.history.append(line := [f"{replica.name}: {ask}"])
        began = time.monotonic()
        reply = await self._answer(replica, ask, entry)
        told = "died"
        if reply is not None:
            said = reply.headers.get("upload-offset") if reply.status < 300 else reply.body[:200]
            told = f"{reply.status}, {said!r}"
        line.append(f"{told} after {time.monotonic() - began:.2f} s")
        return reply

    async def _answer(self, replica: Replica, ask: Ask, entry: Entry) -> Reply | None:
        deaths, storage_deaths = replica.deaths, self._fleet.storage_deaths
        may_be_overtaken = entry.is_pending
        was_out = not self._fleet.is_storage_up
        try:
            reply = await send(replica.port, ask)
        except ConnectionError as error:
            # Whoever is refused and goes on sending for long may lose the answer. A download
            # whose bytes S3 does not give any more can be told only by being cut.
            was_out = was_out or self._fleet.storage_deaths > storage_deaths
            is_meant = (
                replica.deaths > deaths or may_be_overtaken or (ask.method == "GET" and was_out)
            )
            check(is_meant, f"{replica.name} broke off: {error}", entry)
            entry.is_pending = entry.is_open
            self._count("requests that died" if replica.deaths > deaths else "cut off")
            return None
        except TimeoutError:
            raise Violation(f"{replica.name} gave no answer; {entry}") from None
        was_out = was_out or self._fleet.storage_deaths > storage_deaths
        if passes(ask.method, reply) and was_out:
            entry.is_pending = True
            self._count("requests while S3 was away")
            return None
        # 410 says to one that was overtaken that the parts have become an object meanwhile.
        is_meant = reply.status != 500 and (reply.status != 410 or may_be_overtaken)
        check(is_meant, f"{ask} says {reply.status} {reply.body!r}", entry)
        if reply.status == 410:
            self._count("410 to one that was overtaken")
        return reply

    async def look(self, entry: Entry, *, but: Replica | None = None) -> None:
        """Ask where an upload is, and again while somebody is busy with it, but not for long."""
        began = self._memory.clock.now()
        storage_deaths = self._fleet.storage_deaths
        while True:
            replica = self._fleet.pick(self._dice)
            if but is not None:
                replica = self._fleet.other(self._dice, but)
            asked = self._memory.clock.now()
            reply = await self._send("HEAD", entry, replica=replica)
            now = self._memory.clock.now()
            is_calm = self._fleet.is_storage_up and self._fleet.storage_deaths == storage_deaths
            if is_calm and but is not None:
                self._memory.waits.append(now - asked)
            if reply is not None and not passes("HEAD", reply):
                break
            check(reply is None or entry.is_pending, "HEAD says 423", entry)
            bound = SOON if is_calm else AGAIN
            check(now - began < bound, f"nobody has said anything in {now - began} s", entry)
            await asyncio.sleep(0.02)
        check(not is_calm or now - began < SOON, f"that took {now - began:.1f} s", entry)
        await self._take(entry, reply)

    async def _take(self, entry: Entry, reply: Reply) -> None:
        """Hold the answer to HEAD against what is known."""
        if reply.status == 404:
            check(entry.is_deleted or entry.may_be_deleted, "HEAD says 404", entry)
            entry.is_deleted = True
            return
        check(reply.status == 200, f"HEAD says {reply.status}", entry)
        check(not entry.is_deleted, "it was deleted and is there again", entry)
        entry.declare(reply.headers.get("upload-length"))
        if entry.sha256 is not None:
            check(
                reply.offset == entry.size, f"it was complete, now it is at {reply.offset}", entry
            )
            return
        check(not entry.is_complete or reply.offset == entry.size, "it was complete", entry)
        if not entry.tell(reply.offset):
            await self.look_at_bytes(entry)
        if entry.is_declared and entry.offset == entry.size:
            await self._complete(entry)

    async def _complete(self, entry: Entry) -> None:
        if not entry.is_complete:
            entry.is_complete = True
            entry.is_pending = False
            self._count("completed")
        await self.compare(entry)

    async def look_at_bytes(self, entry: Entry) -> None:
        """Compare what is stored, which of an unfinished upload no replica can be asked."""
        give_up = self._memory.clock.now() + AGAIN
        while True:
            try:
                upload = await self._memory.store.get(entry.upload_id)
                data = await content_of(self._memory.store, self._fleet.storage, upload)
                break
            except UploadNotFound:
                check(entry.is_deleted or entry.may_be_deleted, "there is no state", entry)
                return
            # Somebody changes it at this moment, or S3 is away.
            except (KeyError, OSError, UploadLocked, UploadPending, Gone) as error:
                check(self._memory.clock.now() < give_up, f"it cannot be read: {error!r}", entry)
                await asyncio.sleep(0.02)
        entry.show(data)
        entry.compared = len(data)

    async def compare(self, entry: Entry) -> None:
        """See that a complete upload has the bytes that were sent."""
        expected = entry.sha256 or digest(entry.content)
        give_up = self._memory.clock.now() + AGAIN
        reply = await self._send("GET", entry)
        while reply is None:
            check(self._memory.clock.now() < give_up, "nobody gives the bytes", entry)
            await asyncio.sleep(0.02)
            reply = await self._send("GET", entry)
        check(reply.status == 200, f"GET of a complete upload says {reply.status}", entry)
        check(digest(reply.body) == expected, "the bytes are others", entry)
        if entry.sha256 is None and not entry.is_partial:
            entry.sha256, entry.content, entry.attempts = expected, b"", []

    # The steps.

    def _body(self, data: bytes, **options: object) -> Body:
        return Body(
            data=data,
            pieces=self._dice.randrange(1, 7),
            is_chunked=self._dice.random() < 0.3,
            pause=self._dice.choice([0.0, 0.0, 0.01, 0.05]),
            **options,  # type: ignore[arg-type]
        )

    def _size(self) -> int:
        low, high = self._dice.choices(
            [(0, 2), (2, 400 * KIB), (MIB, 6 * MIB), (6 * MIB, 13 * MIB), (13 * MIB, 30 * MIB)],
            [1, 8, 5, 2, 0.4],
        )[0]
        return self._dice.randrange(low, high)

    def _some(self, entry: Entry) -> bytes:
        """Return bytes that nobody has sent before."""
        room = entry.room
        sizes = [1, 1000, 70_000, 300_000, MIB, 5 * MIB, room // 2, room, room]
        return self._dice.randbytes(min(room, self._dice.choice(sizes)))

    async def _create(
        self, *, is_partial: bool = False, sizes: tuple[int, int] | None = None
    ) -> Entry | None:
        size = self._dice.randrange(*sizes) if sizes else self._size()
        entry = Entry(size=size, is_partial=is_partial)
        headers = {"Upload-Length": str(entry.size)}
        if not is_partial and self._dice.random() < 0.2:
            headers = {"Upload-Defer-Length": "1"}
            entry.is_declared = entry.may_be_declared = False
        if is_partial:
            headers["Upload-Concat"] = "partial"
        body = Body()
        if self._dice.random() < 0.4:
            body = self._body(self._some(entry))
            headers |= UPLOAD
        attempt = entry.attempt(body.data)
        entry.path = "/files/"
        self._memory.offered.add(digest(body.data))
        reply = await self._send("POST", entry, headers={**TUS, **headers}, body=body)
        if reply is None:
            return None
        check(reply.status == 201, f"POST says {reply.status} {reply.body!r}", entry)
        entry.path = reply.headers["location"]
        check(reply.offset == len(body.data), "not all that came with the POST is there", entry)
        entry.accept(attempt)
        entry.is_pending = False
        self._add(entry)
        if entry.room == 0 and entry.is_declared:
            await self._complete(entry)
        return entry

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._memory.entries.append(entry)
        self._memory.touched.append(entry)
        self._count("created")

    async def _patch(self, entry: Entry) -> None:
        await self._append(entry, self._some(entry))

    async def _bring(self, entry: Entry) -> None:
        """All the rest in one request."""
        await self._append(entry, self._dice.randbytes(entry.room))

    async def _patch_checked(self, entry: Entry) -> None:
        await self._append(entry, self._some(entry), is_checked=True)

    async def _append(
        self, entry: Entry, data: bytes, *, is_checked: bool = False, replica: Replica | None = None
    ) -> bool:
        """Send the bytes and return True if they were acknowledged."""
        attempt = entry.attempt(data, is_whole=is_checked)
        headers = self._headers(entry, data)
        if is_checked:
            headers["Upload-Checksum"] = checksum(data)
        replica = replica or self._fleet.pick(self._dice)
        body = self._body(data)
        reply = await self._send("PATCH", entry, headers=headers, body=body, replica=replica)
        return await self._judge(entry, attempt, reply, headers, replica)

    def _headers(self, entry: Entry, data: bytes) -> dict[str, str]:
        headers = {**UPLOAD, "Upload-Offset": str(entry.offset)}
        is_time = len(data) == entry.room or self._dice.random() < 0.2
        if is_time and not entry.is_declared:
            headers["Upload-Length"] = str(entry.size)
            entry.may_be_declared = True
        return headers

    async def _judge(
        self,
        entry: Entry,
        attempt: Attempt,
        reply: Reply | None,
        headers: dict[str, str],
        replica: Replica,
    ) -> bool:
        """Take the answer to PATCH; where it says nothing, ask another replica."""
        if reply is None:
            await self.look(entry, but=replica)
            return False
        if reply.status in (409, 410, 423, 503):
            check(entry.is_pending, f"PATCH says {reply.status} {reply.body!r}", entry)
            self._count("overtaken")
            if reply.status == 409:
                entry.withdraw(attempt)
            await self.look(entry)
            return False
        check(reply.status == 204, f"PATCH says {reply.status} {reply.body!r}", entry)
        check(reply.offset == len(attempt.content), f"it was taken up to {reply.offset}", entry)
        entry.accept(attempt)
        if "Upload-Length" in headers:
            entry.is_declared = True
        self._count("appended")
        if entry.is_declared and entry.room == 0:
            await self._complete(entry)
        return True

    async def _patch_damaged(self, entry: Entry) -> None:
        """Bytes that were damaged on the way, with the checksum of what they should be."""
        data = self._some(entry)
        if not data or entry.is_pending:
            return
        damaged = data[:-1] + bytes([data[-1] ^ 1])
        headers = {**UPLOAD, "Upload-Offset": str(entry.offset), "Upload-Checksum": checksum(data)}
        reply = await self._send("PATCH", entry, headers=headers, body=self._body(damaged))
        if reply is not None:
            check(reply.status == 460, f"a damaged PATCH says {reply.status}", entry)
            self._count("damaged")
        await self.look(entry)

    async def _cut(self, entry: Entry) -> None:
        data = self._some(entry)
        if len(data) > 1:
            entry.attempt(data[: self._dice.randrange(len(data))])
            sent = len(entry.attempts[-1].content) - entry.offset
            await self._send_and_cut(entry, data, sent, {})
            self._count("cut")

    async def _cut_checked(self, entry: Entry) -> None:
        """Nothing can be kept of what has a checksum and does not come whole."""
        data = self._some(entry)
        if len(data) > 1:
            sent = self._dice.randrange(len(data))
            await self._send_and_cut(entry, data, sent, {"Upload-Checksum": checksum(data)})
            self._count("cut with a checksum")

    async def _send_and_cut(
        self, entry: Entry, data: bytes, sent: int, headers: dict[str, str]
    ) -> None:
        entry.is_pending = True
        headers = {**UPLOAD, "Upload-Offset": str(entry.offset), **headers}
        body = self._body(data, cut_at=sent, is_reset=self._dice.random() < 0.5)
        ask = Ask(method="PATCH", path=entry.path, headers=headers, body=body)
        replica = self._fleet.pick(self._dice)
        deaths = replica.deaths
        entry.history.append([f"{replica.name}: {ask}"])
        try:
            await send_and_cut(replica.port, ask)
        except ConnectionError as error:
            # It may have answered and hung up already, as with 409.
            is_allowed = replica.deaths > deaths or len(entry.attempts) > 1 or sent > 64 * KIB
            check(is_allowed, f"{replica.name} broke off: {error}", entry)
        if self._dice.random() < 0.5:
            await self.look(entry)

    async def _overrun(self, entry: Entry) -> None:
        """More bytes than there is room for: refused, and none of them is kept."""
        if entry.is_pending or not entry.is_declared:
            return
        data = self._dice.randbytes(entry.room)
        attempt = entry.attempt(data)
        body = Body(data=data + b"x" * 1000, pieces=3, is_chunked=True, pause=0.03)
        headers = {**UPLOAD, "Upload-Offset": str(entry.offset)}
        reply = await self._send("PATCH", entry, headers=headers, body=body)
        if reply is not None:
            check(reply.status == 413, f"a PATCH past the end says {reply.status}", entry)
            entry.withdraw(attempt)
            self._count("refused past the end")
        await self.look(entry)

    async def _race(self, entry: Entry) -> None:
        """Two clients with different bytes at the same offset at the same time."""
        size = len(self._some(entry))
        if size == 0:
            return
        both = [self._dice.randbytes(size) for _ in range(2)]
        attempts = [entry.attempt(data) for data in both]
        first = self._fleet.pick(self._dice)
        replicas = [first, self._fleet.other(self._dice, first)]
        headers = self._headers(entry, both[0])
        entry.is_pending = True
        replies = await asyncio.gather(*(
            self._send("PATCH", entry, headers=headers, body=self._body(data), replica=replica)
            for data, replica in zip(both, replicas, strict=True)
        ))  # fmt: skip
        statuses = [None if reply is None else reply.status for reply in replies]
        check(statuses.count(204) <= 1, "both were acknowledged", entry)
        for attempt, reply in zip(attempts, replies, strict=True):
            if reply is not None and reply.status == 204:
                await self._judge(entry, attempt, reply, headers, first)
                self._count("races won")
                return
            check(
                reply is None or reply.status in (409, 410, 423, 503),
                f"a PATCH in a race says {statuses}",
                entry,
            )
        self._count("races that nobody won")
        await self.look(entry)

    async def _watch(self, entry: Entry) -> None:
        """HEAD through other replicas in the middle of a PATCH."""
        data = self._some(entry)
        attempt = entry.attempt(data)
        headers = self._headers(entry, data)
        replica = self._fleet.pick(self._dice)
        body = Body(data=data, pieces=5, pause=0.05)
        patch = asyncio.create_task(
            self._send("PATCH", entry, headers=headers, body=body, replica=replica)
        )
        try:
            while not patch.done():
                asked = self._fleet.other(self._dice, replica)
                reply = await self._send("HEAD", entry, replica=asked)
                if reply is not None and not passes("HEAD", reply):
                    check(reply.status == 200, f"HEAD in a PATCH says {reply.status}", entry)
                    check(reply.offset >= entry.least, "the offset went back", entry)
                    furthest = max(len(one.content) for one in entry.attempts)
                    check(reply.offset <= furthest, "it is ahead of what was sent", entry)
                    entry.least = reply.offset
                await asyncio.sleep(0.02)
        finally:
            reply = await patch
        is_end = entry.is_declared and len(attempt.content) == entry.size
        is_end = is_end or "Upload-Length" in headers
        if reply is not None and reply.status in (423, 503) and is_end:
            # A HEAD elsewhere has completed it before this one could.
            entry.is_pending = True
            self._count("completed by a HEAD before the PATCH")
        if await self._judge(entry, attempt, reply, headers, replica):
            self._count("watched")

    async def _come_back(self, entry: Entry) -> None:
        """A connection hangs half-open, and the client comes back through another replica."""
        if entry.room < 3:
            return
        old = self._fleet.pick(self._dice)
        data = self._dice.randbytes(entry.room)
        entry.attempt(data)
        goes_on = asyncio.Event()
        body = Body(data=data, pieces=2, before_last=goes_on.wait)
        headers = self._headers(entry, data)
        entry.is_pending = True
        hanging = asyncio.create_task(
            self._send("PATCH", entry, headers=headers, body=body, replica=old)
        )
        try:
            await asyncio.sleep(self._dice.choice([0.0, 0.05, 0.3]))
            is_accepted = await self._come_back_soon(entry, old)
        finally:
            goes_on.set()
            reply = await hanging
        if is_accepted and reply is not None:
            check(reply.status != 204, "the old PATCH was acknowledged as well", entry)
            self._count("came back")
        await self.look(entry)

    async def _come_back_soon(self, entry: Entry, old: Replica) -> bool:
        """Take the upload over within two seconds; False if a death came between."""
        began, deaths = self._memory.clock.now(), self._deaths()
        while True:
            await self.look(entry, but=old)
            if not entry.is_open or entry.room == 0:
                return False
            data = self._dice.randbytes(min(entry.room, 60_000))
            replica = self._fleet.other(self._dice, old)
            if await self._append(entry, data, replica=replica):
                break
            is_late = self._memory.clock.now() - began > SOON
            check(self._deaths() > deaths or not is_late, "it did not get its turn", entry)
        is_late = self._memory.clock.now() - began > SOON
        check(self._deaths() > deaths or not is_late, "its turn came late", entry)
        return True

    def _deaths(self) -> int:
        return self._fleet.storage_deaths + sum(one.deaths for one in self._fleet.replicas)

    async def _delete(self, entry: Entry) -> None:
        entry.may_be_deleted = True
        give_up = self._memory.clock.now() + AGAIN
        while True:
            reply = await self._send("DELETE", entry)
            if reply is not None and reply.status in (204, 404):
                break
            check(self._memory.clock.now() < give_up, "it cannot be deleted", entry)
            if reply is not None:
                is_excused = reply.status in (423, 503) and entry.is_pending
                check(is_excused, f"DELETE says {reply.status}", entry)
            entry.is_pending = True
            await asyncio.sleep(0.02)
        entry.is_deleted = True
        entry.content, entry.attempts = b"", []
        for replica in self._fleet.replicas:
            if replica.is_up:
                reply = await self._send("HEAD", entry, replica=replica)
                check(reply is None or reply.status == 404, "it is there after DELETE", entry)
        self._count("deleted")

    async def _concatenate(self, sizes: tuple[int, int] | None = None) -> None:
        parts = []
        for _ in range(2):
            if (part := await self._create(is_partial=True, sizes=sizes)) is None:
                return
            parts.append(part)
            while part.is_open:
                await self._bring(part)
        content = b"".join(part.content for part in parts)
        final = Entry(size=len(content), content=content, path="/files/")
        self._memory.offered.add(digest(content))
        paths = " ".join(part.path for part in parts)
        headers = {**TUS, "Upload-Concat": f"final;{paths}"}
        reply = await self._send("POST", final, headers=headers)
        for part in parts:
            part.sha256, part.content, part.attempts = digest(part.content), b"", []
        if reply is None:
            return
        check(reply.status == 201, f"POST of a final upload says {reply.status}", final)
        final.path = reply.headers["location"]
        self._add(final)
        await self._complete(final)
        self._count("joined")

    # What makes a certain call to S3.

    async def bring_long(self) -> None:
        if entry := await self._create(sizes=LONG):
            await self._bring_if_open(entry)

    async def bring_short(self) -> None:
        if entry := await self._create(sizes=SHORT):
            await self._bring_if_open(entry)

    async def bring_pieces(self) -> None:
        if entry := await self._create(sizes=LONG):
            for _ in range(3):
                if entry.is_open:
                    await self._append(entry, self._dice.randbytes(min(entry.room, MIB)))

    async def begin_and_delete(self) -> None:
        if entry := await self._create(sizes=LONG):
            if entry.is_open:
                await self._append(entry, self._dice.randbytes(entry.room - entry.room // 16))
            await self._delete(entry)

    async def join_long(self) -> None:
        await self._concatenate(LONG)

    async def _bring_if_open(self, entry: Entry) -> None:
        if entry.is_open:
            await self._bring(entry)


# The end.


async def _finish(memory: Run, client: Client) -> None:
    """Bring all uploads to their end, compare them, delete them; nothing may be left."""
    for entry in memory.entries:
        await client.look(entry)
        while entry.is_open:
            await client._bring(entry)
        if entry.is_complete and not entry.is_deleted:
            await client.compare(entry)
            memory.counts["whole at the end"] += 1
            await client._delete(entry)
    engine = s3_engine(memory.store, clock=lambda: FAR_FUTURE)
    try:
        await engine.sweep()
    except* UploadNotFound:
        # A final upload whose server died before it was joined, and whose parts are deleted: it
        # is removed, and that is told as a failure.
        memory.counts["sweeps of a final without its parts"] += 1
    await engine.sweep()
    await _remove_orphans(memory)
    await sweep_twice(engine)
    storage = memory.fleet.storage
    keys = await asyncio.to_thread(storage.keys, storage.bucket)
    check(not keys, f"{len(keys)} objects are left: {keys[:10]}")
    multiparts = await asyncio.to_thread(storage.multiparts, storage.bucket)
    check(not multiparts, f"{len(multiparts)} multipart uploads are left: {multiparts[:10]}")


async def _remove_orphans(memory: Run) -> None:
    """Delete uploads that are whole and whose clients never heard the answer."""
    async for upload_id in _stored_ids(memory):
        upload = await memory.store.get(upload_id)
        check(upload.is_complete, f"{upload_id} outlived its time")
        data = b"".join([data async for data in memory.store.read(upload, 0, upload.offset)])
        check(digest(data) in memory.offered, f"{upload_id} has bytes that nobody sent so")
        await s3_engine(memory.store).terminate(upload_id)
        memory.counts["whole without an answer"] += 1


async def _stored_ids(memory: Run) -> AsyncIterator[str]:
    storage = memory.fleet.storage
    keys: Iterable[str] = await asyncio.to_thread(storage.keys, storage.bucket, f"{PREFIX}/state/")
    for key in keys:
        yield key.rpartition("/")[2]
