"""Kill a server again and again under load, and hold it to every answer it gave.

Each round starts uvicorn on the same folder, asks for every upload, lets clients work, and ends
the whole process group with SIGKILL at a random instant. What was told must still be true, and
nothing may have to be repaired. At the end all uploads are resumed, their bytes compared, and
the folder swept: what belongs to no complete upload must be gone.
"""

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.force._client import (
    DRAFT,
    PARTIAL,
    TUS,
    UPLOAD,
    Ask,
    Body,
    Reply,
    checksum,
    send,
    send_and_cut,
)
from tests.force._hooks import HookReceiver
from tests.force._ledger import Entry, Violation, check, content_of
from tests.force._server import serving
from tests.force.app import sweep_all
from tests.hosts._process import Server
from tusasgi.lifecycle import TOLD
from tusasgi.stores.file import FileStore
from tusasgi.webhooks import WebHooks

CLIENTS = 6
OPEN_EACH = 4  # uploads that a client has under way at once
SAMPLE = 60  # more uploads that are asked for after a restart; at the end it is all of them
MORE = 6  # rounds at the most, each up to twice as long, for kinds that have not happened yet


@dataclass(kw_only=True)
class Run:
    """All that is remembered over the rounds."""

    store: FileStore
    folder: Path
    seed: int
    entries: list[Entry] = field(default_factory=list)
    touched: list[Entry] = field(default_factory=list)
    """Those that clients worked on in the last round, whatever became of them."""
    extensions: frozenset[str] = frozenset()
    offered: set[str] = field(default_factory=set)
    """The digests of all contents that a client has ever begun to bring."""
    counts: Counter[str] = field(default_factory=Counter)
    receiver: HookReceiver | None = None
    """Who is told what becomes of uploads, and is killed as the servers are."""

    @property
    def environment(self) -> dict[str, str]:
        return {} if self.receiver is None else {"TUSASGI_TEST_HOOK": self.receiver.url}


def run(
    folder: Path,
    *,
    rounds: int,
    seed: int,
    say: Callable[[str], None],
    wanted: Sequence[str] = (),
    has_hooks: bool = False,
) -> Run:
    """Kill `rounds` times and check everything, or raise `Violation`.

    A slow machine gets a few rounds more, and longer ones, until all that is wanted has happened.
    With hooks a receiver is told of all uploads, which is killed in each round too, or down in it.
    """
    memory = Run(store=FileStore(folder), folder=folder, seed=seed)
    if has_hooks:
        memory.receiver = HookReceiver(folder.with_name("heard"))
    dice = random.Random(seed)
    for number in range(rounds + MORE):
        more = max(0, number + 1 - rounds)
        if more and all(memory.counts[kind] for kind in wanted):
            break
        workers = 2 if number % 4 == 3 else 1
        with serving(folder, workers=workers, **memory.environment) as server:
            asyncio.run(_round(memory, server, dice.uniform(0.01, 0.6) * 2**more, number))
        if number % 20 == 19:
            say(f"{number + 1} kills, {summary(memory)}")
    with _receiving(memory.receiver) as hooks:
        with serving(folder, **memory.environment) as server:
            asyncio.run(_finish(memory, server))
        asyncio.run(_sweep_all(folder, hooks))
    _check_folder(memory)
    if memory.receiver is not None:
        memory.receiver.check(memory.entries, memory.counts)
    return memory


async def _sweep_all(folder: Path, hooks: WebHooks | None) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if hooks is not None:
            await stack.enter_async_context(hooks)
        await sweep_all(folder, hooks)


@contextlib.contextmanager
def _receiving(receiver: HookReceiver | None) -> Iterator[WebHooks | None]:
    """Have the receiver listen to everything that is still to be told."""
    if receiver is None:
        yield None
        return
    receiver.start(is_good=True)
    try:
        yield WebHooks(receiver.url, events=TOLD, timeout=30.0)
    finally:
        receiver.kill()


def summary(memory: Run) -> str:
    numbers = {"uploads": len(memory.entries), **dict(sorted(memory.counts.items()))}
    return ", ".join(f"{count} {what}" for what, count in numbers.items())


async def _round(memory: Run, server: Server, seconds: float, number: int) -> None:
    dice = random.Random(f"{memory.seed} {number}")
    answer = await send(server.port, Ask(method="OPTIONS", path="/files/"))
    memory.extensions = frozenset(answer.headers["tus-extension"].split(","))
    await _look_again(memory, server, _sample(memory, dice))
    clients = [Client(memory, server, random.Random(dice.random())) for _ in range(CLIENTS)]
    open_entries = [entry for entry in memory.entries if entry.is_open]
    for index, entry in enumerate(open_entries):
        clients[index % CLIENTS].entries.append(entry)
    receiver, killed_at = memory.receiver, dice.uniform(0.0, 1.5) * seconds
    if receiver is not None and number % 5 != 4:  # or it is down
        receiver.start()
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.work())
        await asyncio.sleep(min(killed_at, seconds))
        if receiver is not None and killed_at < seconds:
            receiver.kill()
        await asyncio.sleep(max(seconds - killed_at, 0.0))
        for client in clients:
            client.is_over = True
        os.killpg(server.process.pid, signal.SIGKILL)
    server.wait()
    if receiver is not None:
        receiver.kill()
    memory.counts["kills"] += 1
    memory.touched = [entry for client in clients for entry in client.entries]
    for client in clients:
        memory.entries += client.new


def _sample(memory: Run, dice: random.Random) -> list[Entry]:
    """What the last round may have touched, and some of what is long settled."""
    count = min(SAMPLE, len(memory.entries))
    return memory.touched + dice.sample(memory.entries, count)


async def _look_again(memory: Run, server: Server, entries: Iterable[Entry]) -> None:
    """Ask for uploads after a restart, when nothing is under way any more."""
    for entry in dict.fromkeys(entries):
        reply = await send(server.port, Ask(method="HEAD", path=entry.path))
        _check_reply_after_restart(entry, reply)
        if entry.is_deleted:
            continue
        entry.settle()
        if entry.is_complete:
            await _check_whole(server, entry)
        else:
            _check_stored(memory, entry)
        memory.counts["looks after a restart"] += 1


def _check_reply_after_restart(entry: Entry, reply: Reply) -> None:
    if reply.status in (404, 410):
        check(entry.is_deleted or entry.may_be_deleted, f"HEAD says {reply.status}", entry)
        entry.is_deleted = True
        return
    check(reply.status == 200, f"HEAD after a restart says {reply.status}", entry)
    check(not entry.is_deleted, "it was deleted and is there again", entry)
    entry.may_be_deleted = False
    entry.declare(reply.headers.get("upload-length"), reply.offset)
    was_complete = entry.is_complete
    entry.tell(reply.offset)
    check(not was_complete or entry.told == len(entry.content), "it was complete", entry)


async def _check_whole(server: Server, entry: Entry) -> None:
    reply = await send(server.port, Ask(method="GET", path=entry.path))
    check(reply.status == 200, f"GET of a complete upload says {reply.status}", entry)
    check(_digest(reply.body) == _digest(entry.content), "the bytes are others", entry)


def _check_stored(memory: Run, entry: Entry) -> None:
    """Compare what the folder holds below the offset, which nobody can ask the server for."""
    data = _read(memory, entry.upload_id)
    check(len(data) >= entry.told, f"only {len(data)} bytes are there", entry)
    check(data[: entry.told] == entry.content[: entry.told], "the bytes are others", entry)


def _read(memory: Run, upload_id: str) -> bytes:
    file = Path(memory.store.path(upload_id))
    return file.read_bytes() if file.exists() else b""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Client:
    """Works on uploads of its own, one request after the other, until the server is killed."""

    def __init__(self, memory: Run, server: Server, dice: random.Random) -> None:
        self.entries: list[Entry] = []
        self.new: list[Entry] = []
        self.is_over = False
        self._memory = memory
        self._port = server.port
        self._dice = dice

    async def work(self) -> None:
        while not self.is_over:
            try:
                await self._step()
            except ConnectionError as error:
                if not self.is_over:
                    raise Violation(f"a connection broke while the server lived: {error}") from None
            except TimeoutError:
                raise Violation("the server gave no answer") from None

    async def _step(self) -> None:
        usable = [entry for entry in self.entries if entry.is_open]
        if len(usable) < OPEN_EACH:
            await self._create()
            return
        steps: dict[Callable[[Entry], Awaitable[None]], int] = {
            self._patch: 9, self._cut: 2, self._overrun: 1, self._look: 2, self._delete: 1,
            self._patch_by_draft: 4, self._cut_by_draft: 1, self._look_by_draft: 1,
        }  # fmt: skip
        if "checksum" in self._memory.extensions:
            steps |= {self._patch_checked: 4, self._patch_corrupt: 2, self._cut_checked: 1}
        (step,) = self._dice.choices(list(steps), list(steps.values()))
        if "concatenation" in self._memory.extensions and self._dice.random() < 0.05:
            await self._concatenate()
        else:
            await step(self._dice.choice(usable))

    def _count(self, what: str) -> None:
        self._memory.counts[what] += 1

    def _body(self, data: bytes, **options: object) -> Body:
        return Body(
            data=data,
            pieces=self._dice.randrange(1, 6),
            is_chunked=self._dice.random() < 0.3,
            pause=self._dice.choice([0.0, 0.0, 0.002, 0.01]),
            **options,  # type: ignore[arg-type]
        )

    async def _send(self, method: str, entry: Entry, **options: object) -> Reply:
        ask = Ask(method=method, path=entry.path, **options)  # type: ignore[arg-type]
        entry.history.append(str(ask))
        reply = await send(self._port, ask)
        entry.history[-1] += f": {reply.status}, {reply.headers.get('upload-offset')}"
        return reply

    # The steps.

    async def _create(self, *, is_partial: bool = False) -> Entry:
        entry = Entry(content=content_of(self._dice), is_partial=is_partial)
        headers = {"Upload-Length": str(len(entry.content))}
        if not is_partial and self._dice.random() < 0.2:
            headers = {"Upload-Defer-Length": "1"}
            entry.is_declared = entry.may_be_declared = False
        if is_partial:
            headers["Upload-Concat"] = "partial"
        body = Body()
        if self._dice.random() < 0.5:
            body = self._body(entry.content[: self._dice.randrange(len(entry.content) + 1)])
            headers |= UPLOAD
        entry.sent = len(body.data)
        self._memory.offered.add(_digest(entry.content))
        ask = Ask(method="POST", path="/files/", headers={**TUS, **headers}, body=body)
        reply = await send(self._port, ask)
        check(reply.status == 201, f"POST says {reply.status} {reply.body!r}", entry)
        entry.path = reply.headers["location"]
        entry.tell(reply.offset)
        check(entry.told == entry.sent, "not all that came with the POST is there", entry)
        self.entries.append(entry)
        self.new.append(entry)
        self._count("created")
        return entry

    async def _look(self, entry: Entry) -> None:
        reply = await self._send("HEAD", entry)
        check(reply.status == 200, f"HEAD says {reply.status}", entry)
        entry.declare(reply.headers.get("upload-length"), reply.offset)
        entry.tell(reply.offset)

    async def _patch(self, entry: Entry) -> None:
        await self._append(entry, self._next(entry), {})

    async def _patch_checked(self, entry: Entry) -> None:
        data = self._next(entry)
        await self._append(entry, data, {"Upload-Checksum": checksum(data)})

    async def _patch_by_draft(self, entry: Entry) -> None:
        """Bring some bytes, and call them the last if they are."""
        data = self._next(entry)
        end = entry.told + len(data)
        is_last = end == len(entry.content)
        entry.may_wait |= is_last
        entry.may_be_declared |= is_last
        entry.sent = max(entry.sent, end)
        headers = _of_draft(entry, is_last=is_last)
        reply = await self._send("PATCH", entry, headers=headers, body=self._body(data))
        if await self._was_overtaken(entry, reply):
            return
        status = 201 if is_last else 204
        check(reply.status == status, f"PATCH says {reply.status} {reply.body!r}", entry)
        says_end = reply.headers["upload-complete"] == "?1"
        check(says_end == is_last, "the end is not where it was said", entry)
        if is_last:
            entry.end()
        entry.tell(reply.offset)
        check(entry.told == end, f"a PATCH up to {end} was taken in part", entry)
        if data:
            entry.settle()
        self._count("ended by the draft" if is_last else "appended by the draft")

    async def _cut_by_draft(self, entry: Entry) -> None:
        """Break off what was to be the last append: it must not be the end."""
        data = entry.content[entry.told :]
        if len(data) > 1:
            seen = self._dice.randrange(len(data))
            entry.may_be_declared = True
            entry.sent = max(entry.sent, entry.told + seen)
            await self._send_and_cut(entry, data, seen, _of_draft(entry, is_last=True))
            self._count("cut by the draft")

    async def _look_by_draft(self, entry: Entry) -> None:
        reply = await self._send("HEAD", entry, headers=DRAFT)
        if reply.status == 503 and entry.is_pending:
            return  # what was cut before is just being completed
        check(reply.status == 204, f"HEAD says {reply.status}", entry)
        if "upload-length" in reply.headers:
            entry.declare(reply.headers["upload-length"], reply.offset)
        is_complete = reply.headers["upload-complete"] == "?1"
        if is_complete:
            check(reply.offset == len(entry.content), "it is complete too early", entry)
            entry.end()
        else:
            entry.wait(reply.offset)
        entry.tell(reply.offset)
        self._count("asked by the draft")

    def _next(self, entry: Entry) -> bytes:
        rest = len(entry.content) - entry.told
        size = self._dice.choice([0, 1, 1000, 70_000, rest // 2, rest, rest])
        return entry.content[entry.told : entry.told + min(size, rest)]

    async def _append(self, entry: Entry, data: bytes, headers: dict[str, str]) -> None:
        headers = {**UPLOAD, "Upload-Offset": str(entry.told), **headers}
        end = entry.told + len(data)
        is_time = not data or end == len(entry.content) or self._dice.random() < 0.2
        if is_time and not entry.is_declared:
            headers["Upload-Length"] = str(len(entry.content))
            entry.may_be_declared = True
        entry.sent = max(entry.sent, end)
        reply = await self._send("PATCH", entry, headers=headers, body=self._body(data))
        if await self._was_overtaken(entry, reply):
            return
        check(reply.status == 204, f"PATCH says {reply.status} {reply.body!r}", entry)
        if "Upload-Length" in headers:
            entry.is_declared = True
        if entry.is_declared and end == len(entry.content):
            entry.end()
        entry.tell(reply.offset)
        check(entry.told == end, f"a PATCH up to {end} was taken in part", entry)
        if data:  # whoever comes late now, comes to another offset
            entry.settle()
        self._count("appended")
        if entry.is_complete:
            self._count("completed")

    async def _was_overtaken(self, entry: Entry, reply: Reply) -> bool:
        """True if a request that was cut before got its turn after us: clients try again."""
        held_up = 503 if "upload-complete" in reply.headers else 423
        if reply.status not in (409, held_up) or not entry.is_pending:
            return False
        await self._look(entry)
        return True

    async def _patch_corrupt(self, entry: Entry) -> None:
        """Bytes that were damaged on the way, with the checksum of what they should be."""
        data = entry.content[entry.told :]
        if not data or entry.is_pending:
            return
        place = self._dice.randrange(-(-len(data) // 4))  # early, so that a beginning shows it
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        headers = {
            **UPLOAD, "Upload-Offset": str(entry.told), "Upload-Checksum": checksum(data),
        }  # fmt: skip
        body = Body(data=damaged, pieces=4, pause=0.03)  # slow, so that many are killed in it
        reply = await self._send("PATCH", entry, headers=headers, body=body)
        check(reply.status == 460, f"a damaged PATCH says {reply.status}", entry)
        await self._look(entry)
        self._count("damaged")

    async def _cut(self, entry: Entry) -> None:
        data = self._next(entry)
        if len(data) > 1:
            seen = self._dice.randrange(len(data))
            entry.sent = max(entry.sent, entry.told + seen)
            await self._send_and_cut(entry, data, seen, {})
            self._count("cut")

    async def _cut_checked(self, entry: Entry) -> None:
        """Nothing can be kept of what has a checksum and does not come whole."""
        data = self._next(entry)
        if len(data) > 1 and not entry.is_pending:
            seen = self._dice.randrange(len(data))
            await self._send_and_cut(entry, data, seen, {"Upload-Checksum": checksum(data)})
            self._count("cut with a checksum")

    async def _send_and_cut(
        self, entry: Entry, data: bytes, seen: int, headers: dict[str, str]
    ) -> None:
        entry.is_pending = True
        if headers.keys().isdisjoint(DRAFT):
            headers = {**UPLOAD, "Upload-Offset": str(entry.told), **headers}
        body = self._body(data, cut_at=seen, is_reset=self._dice.random() < 0.5)
        ask = Ask(method="PATCH", path=entry.path, headers=headers, body=body)
        entry.history.append(str(ask))
        await send_and_cut(self._port, ask)

    async def _overrun(self, entry: Entry) -> None:
        """More bytes than there is room for: refused, and none of them is kept."""
        if entry.is_pending or not entry.is_declared:
            return
        data = entry.content[entry.told :] + self._dice.randbytes(1000)
        body = Body(data=data, pieces=3, is_chunked=True, pause=0.03)  # some is written
        headers = {**UPLOAD, "Upload-Offset": str(entry.told)}
        before, entry.sent = entry.told, len(entry.content)
        reply = await self._send("PATCH", entry, headers=headers, body=body)
        check(reply.status == 413, f"a PATCH past the end says {reply.status}", entry)
        entry.sent = before
        await self._look(entry)
        self._count("refused past the end")

    async def _delete(self, entry: Entry) -> None:
        entry.may_be_deleted = True
        reply = await self._send("DELETE", entry)
        check(reply.status == 204, f"DELETE says {reply.status}", entry)
        entry.is_deleted = True
        reply = await self._send("HEAD", entry)
        check(reply.status in (404, 410), f"HEAD after DELETE says {reply.status}", entry)
        self._count("deleted")

    async def _concatenate(self) -> None:
        parts = [await self._create(is_partial=True) for _ in range(2)]
        for part in parts:
            while not part.is_complete:
                await self._patch(part)
        final = Entry(content=b"".join(part.content for part in parts), parts=tuple(parts))
        final.sent = len(final.content)
        self._memory.offered.add(_digest(final.content))
        paths = " ".join(part.path for part in parts)
        headers = {**TUS, "Upload-Concat": f"final;{paths}"}
        reply = await send(self._port, Ask(method="POST", path="/files/", headers=headers))
        check(reply.status == 201, f"POST of a final upload says {reply.status}", final)
        final.path = reply.headers["location"]
        self.entries.append(final)
        self.new.append(final)
        await self._look(final)
        self._count("joined")


def _of_draft(entry: Entry, *, is_last: bool) -> dict[str, str]:
    complete = {"Upload-Complete": f"?{int(is_last)}"}
    return {**PARTIAL, **complete, "Upload-Offset": str(entry.told)}


# The end.


async def _finish(memory: Run, server: Server) -> None:
    """Ask for every upload there ever was, resume what is unfinished, and compare all bytes."""
    await _look_again(memory, server, memory.entries)
    client = Client(memory, server, random.Random(memory.seed))
    for entry in memory.entries:
        while entry.is_open:
            await client._patch(entry)
        if not entry.is_deleted:
            await _check_whole(server, entry)
            memory.counts["whole at the end"] += 1


def _check_folder(memory: Run) -> None:
    """Every file that is left belongs to a complete upload, and nothing is left to be done."""
    records = {path.stem: path for path in memory.folder.rglob("*.info")}
    for upload_id, record in records.items():
        is_complete = json.loads(record.read_text())["is_complete"]
        check(bool(is_complete), f"{upload_id} outlived its time")
    kept = {e.upload_id for e in memory.entries if not (e.is_deleted or e.is_partial)}
    check(kept <= records.keys(), f"without a record: {kept - records.keys()}")
    gone = {e.upload_id for e in memory.entries if e.is_deleted or e.is_partial}
    check(gone.isdisjoint(records), f"with a record still: {gone & records.keys()}")
    for upload_id in records.keys() - kept:  # their clients never heard the answer
        check(_digest(_read(memory, upload_id)) in memory.offered, f"{upload_id} has other bytes")
        memory.counts["whole without an answer"] += 1
    locks = memory.folder / "locks"
    files = [
        path for path in memory.folder.rglob("*") if path.is_file() and locks not in path.parents
    ]
    strays = [path for path in files if path.name.split(".")[0] not in records]
    check(not strays, f"{len(strays)} files belong to nothing: {strays[:10]}")
    undone = [path for path in files if path.relative_to(memory.folder).parts[0] in ("due", "new")]
    check(not undone, f"{len(undone)} files wait for a sweep still: {undone[:10]}")
    memory.counts["files at the end"] = len(files)
    check(_is_soon_free(locks / "locks"), "somebody holds a lock")
    memory.counts["pipes of the locker"] = len(list(locks.glob("*.pipe")))


def _is_soon_free(locks: Path) -> bool:
    """A locker goes on listening for a second or two after its last lock."""
    until = time.monotonic() + 30
    while not (is_free := _is_free(locks)) and time.monotonic() < until:
        time.sleep(0.1)
    return is_free


def _is_free(locks: Path) -> bool:
    """Return whether nobody has a lock on any place of the file."""
    with locks.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--dir", help="where the folder is made (default: shared memory)")
    parser.add_argument("--s3", action="store_true", help="replicas on object storage, not files")
    parser.add_argument("--hooks", action="store_true", help="tell a receiver, and kill that too")
    options = parser.parse_args()
    seed = time.time_ns() % 10**6 if options.seed is None else options.seed
    place = options.dir or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    top = Path(tempfile.mkdtemp(prefix="tusasgi-kill-", dir=place))
    print(f"seed {seed}, folder {top}", flush=True)
    servers = _kill_servers_and_receiver if options.hooks else _kill_servers
    kill = _kill_replicas if options.s3 else servers
    try:
        done = kill(top / "data", options.rounds, seed)
    except* (AssertionError, RuntimeError) as failures:
        print(f"VIOLATION with seed {seed}: {_first(failures)}")
        print(f"Look at {top}: what is stored, and what each server printed.")
        sys.exit(1)
    shutil.rmtree(top)
    print(f"Nothing was lost: {done}")


def _kill_servers(folder: Path, rounds: int, seed: int) -> str:
    return summary(run(folder, rounds=rounds, seed=seed, say=_say))


def _kill_servers_and_receiver(folder: Path, rounds: int, seed: int) -> str:
    return summary(run(folder, rounds=rounds, seed=seed, say=_say, has_hooks=True))


def _kill_replicas(folder: Path, rounds: int, seed: int) -> str:
    from tests.force import s3_crash  # its libraries need not be there for files

    return s3_crash.summary(s3_crash.run(folder, rounds=rounds, seed=seed, say=_say))


def _say(line: str) -> None:
    print(line, flush=True)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


if __name__ == "__main__":
    main()
