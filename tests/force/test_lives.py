"""Any life of uploads at two workers and one more server, over a network that breaks.

Every request sends bytes of its own, so that it shows whose are stored. The model keeps what was
acknowledged; after each step what is stored must be that, and behind it a beginning of what one
of the requests of the step has sent.

`TUSASGI_TEST_SECONDS` and `TUSASGI_TEST_SEED` make it longer or another one.
"""

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.force._client import TUS, UPLOAD, Ask, Body, Reply, send
from tests.force._proxy import Fault, Proxy
from tests.force._server import serving, settled_offset, stored, workers_of
from tests.force.app import sweep_all
from tests.hosts._process import Server
from tests.hosts._wire import Client, Connection, wait_until

SEED = int(os.environ.get("TUSASGI_TEST_SEED", "11"))
SECONDS = float(os.environ.get("TUSASGI_TEST_SECONDS", "10"))
SILENCE = 0.3  # seconds after which the quick server gives up on a client
SOON = 4.0  # seconds; it takes milliseconds on a quiet machine, and patience would end after 5
OPEN = 4


@dataclass(kw_only=True, eq=False)
class Kept:
    """What is known of an upload."""

    path: str
    length: int
    content: bytes = b""
    """What is stored, of whatever request."""

    @property
    def room(self) -> int:
        return self.length - len(self.content)


class Lives:
    """Takes one step after the other, each of which ends with a look at what is stored."""

    def __init__(self, server: Server, quick: Server, proxy: Proxy, dice: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self.trace: list[str] = []
        self.kept: list[Kept] = []
        self.complete: list[Kept] = []
        self._server = server
        self._direct = Client(server.port)
        self._quick = Client(quick.port)
        self._proxied = Client(proxy.port)
        self._proxy = proxy
        self._dice = dice

    def step(self) -> None:
        if len(self.kept) < OPEN:
            self._do(self._create)
            return
        steps: dict[Callable[[Kept], None], int] = {
            self._append: 6, self._break: 6, self._race: 4, self._come_back: 3, self._watch: 3,
            self._leave: 3, self._overrun: 2, self._stay_silent: 1, self._delete: 1,
        }  # fmt: skip
        (step,) = self._dice.choices(list(steps), list(steps.values()))
        kept = self._dice.choice(self.kept)
        self._do(step, kept)
        if kept in self.kept and kept.room == 0:
            self.kept.remove(kept)
            self.complete.append(kept)

    def _do(self, step: Callable[..., None], *kept: Kept) -> None:
        name = step.__name__.strip("_")
        self.trace.append(f"{name} {kept}"[:200])
        step(*kept)
        self.done[name] += 1

    def finish(self) -> None:
        """Bring all to the end and compare it all."""
        while self.kept:
            kept = self.kept.pop()
            self._append_rest(kept)
            self.complete.append(kept)
        for kept in self.complete:
            assert self._direct.get(kept.path).body == kept.content, kept.path

    # Looking.

    def _look(self, kept: Kept, *sent: bytes, told: int = 0) -> None:
        """See that what is stored is what was, and more of one of the requests at most."""
        offset = settled_offset(self._direct, kept.path)
        data = stored(self._server, kept.path)
        assert len(data) == offset
        assert offset >= told, f"{told} was told, and now it is {offset}"
        assert data.startswith(kept.content), "what was stored is no more"
        added = data[len(kept.content) :]
        assert any(one.startswith(added) for one in [b"", *sent]), "bytes that nobody sent so"
        kept.content = data

    def _some(self, kept: Kept) -> bytes:
        size = self._dice.choice([1, 5000, kept.room // 3, kept.room])
        return self._dice.randbytes(min(kept.room, max(size, 1)))

    def _ask(self, kept: Kept, data: bytes) -> Ask:
        body = Body(
            data=data,
            pieces=self._dice.randrange(1, 6),
            is_chunked=self._dice.random() < 0.3,
            pause=self._dice.choice([0.0, 0.0, 0.003]),
        )
        headers = {**UPLOAD, "Upload-Offset": str(len(kept.content))}
        return Ask(method="PATCH", path=kept.path, headers=headers, body=body)

    @contextlib.contextmanager
    def _patching(self, kept: Kept, data: bytes, client: Client) -> Iterator[Connection]:
        """Be in the middle of a PATCH for all the room there is, with this much of it stored."""
        offset = len(kept.content)
        with client.patching(kept.path, offset, kept.room) as patch:
            patch.send(data)
            wait_until(lambda: self._direct.offset(kept.path) == offset + len(data))
            yield patch

    def _half(self, kept: Kept) -> bytes:
        return self._dice.randbytes(self._dice.randrange(kept.room))

    # The steps.

    def _create(self) -> None:
        length = self._dice.choice(
            [self._dice.randrange(1, 2000), self._dice.randrange(1, 500_000)]
        )
        begin = self._dice.randbytes(self._dice.choice([0, 0, length // 3]))
        headers = {**TUS, "Upload-Length": str(length)}
        if begin:
            headers |= UPLOAD
        ask = Ask(method="POST", path="/files/", headers=headers, body=Body(data=begin))
        reply = asyncio.run(send(self._proxied.port, ask))
        assert (reply.status, reply.offset) == (201, len(begin))
        kept = Kept(path=reply.headers["location"], length=length)
        self.kept.append(kept)
        self._look(kept, begin, told=len(begin))

    def _append(self, kept: Kept) -> None:
        data = self._some(kept)
        end = len(kept.content) + len(data)
        reply = asyncio.run(send(self._proxied.port, self._ask(kept, data)))
        assert (reply.status, reply.offset) == (204, end)
        self._look(kept, data, told=end)

    def _append_rest(self, kept: Kept) -> None:
        data = self._dice.randbytes(kept.room)
        asyncio.run(send(self._proxied.port, self._ask(kept, data)))
        self._look(kept, data, told=kept.length)

    def _break(self, kept: Kept) -> None:
        """A PATCH over a connection that is cut or reset, either way, or loses its answer."""
        data, dice = self._some(kept), self._dice
        is_reset = dice.random() < 0.5
        fault = dice.choice([
            Fault(cut_up=dice.randrange(1, len(data) + 300), is_reset=is_reset),
            Fault(cut_up=dice.randrange(1, len(data) + 300), is_reset=is_reset, delay=0.003),
            Fault(cut_down=dice.randrange(1, 100), is_reset=is_reset),
            Fault(loses_answer=True, is_reset=is_reset),
        ])  # fmt: skip
        self.trace.append(f"  {fault}")
        self._proxy.plan(fault)
        told = 0
        with contextlib.suppress(ConnectionError):
            reply = asyncio.run(send(self._proxied.port, self._ask(kept, data)))
            assert reply.status == 204
            told = reply.offset
        if fault.loses_answer:  # all of it has arrived, and nobody was in the way
            told = len(kept.content) + len(data)
        self._look(kept, data, told=told)

    def _leave(self, kept: Kept) -> None:
        """A client that asks in the middle of its PATCH, and leaves: what it was told is kept."""
        data = self._half(kept)
        more = self._dice.randbytes(kept.room - len(data))
        more = more[: self._dice.randrange(len(more))]
        with self._patching(kept, data, self._proxied) as patch:
            patch.send(more)
            patch.cut() if self._dice.random() < 0.5 else patch.reset()
        kept.content += data
        self._look(kept, more)

    def _race(self, kept: Kept) -> None:
        """Two clients append at the same offset at the same time."""
        both = [self._dice.randbytes(min(kept.room, 200_000)) for _ in range(2)]
        asks = [self._ask(kept, data) for data in both]

        async def race() -> list[Reply]:
            return await asyncio.gather(*[send(self._proxied.port, ask) for ask in asks])

        replies = asyncio.run(race())
        self.trace.append(f"  {[reply.status for reply in replies]}")
        won = [data for data, reply in zip(both, replies, strict=True) if reply.status == 204]
        assert len(won) <= 1, "both were acknowledged"
        assert all(reply.status in (204, 409, 423, 503) for reply in replies), replies
        told = len(kept.content) + len(won[0]) if won else 0
        self._look(kept, *(won or both), told=told)

    def _come_back(self, kept: Kept) -> None:
        """The network goes silent in a PATCH, and the client comes back through a new one."""
        data = self._half(kept)
        with self._patching(kept, data, self._proxied) as old:
            self._proxy.silence()
            old.send(self._dice.randbytes(kept.room - len(data)))
            kept.content += data
            new = self._some(kept)
            began = time.monotonic()
            answer = self._direct.patch(kept.path, len(kept.content), new)
            assert (answer.status, answer.offset) == (204, len(kept.content) + len(new))
            assert time.monotonic() - began < SOON
            self._look(kept, new, told=answer.offset)

    def _watch(self, kept: Kept) -> None:
        """HEAD and GET in the middle of a PATCH disturb nothing."""
        data = self._half(kept)
        with self._patching(kept, data, self._proxied) as patch:
            for _ in range(3):
                assert self._direct.offset(kept.path) == len(kept.content) + len(data)
                assert self._direct.get(kept.path).status < 500
            rest = self._dice.randbytes(kept.room - len(data))
            patch.send(rest)
            answer = patch.answer()
        assert (answer.status, answer.offset) == (204, kept.length)
        self._look(kept, data + rest, told=kept.length)

    def _overrun(self, kept: Kept) -> None:
        """A body of unknown length that runs past the end: nothing of it is kept."""
        size = kept.room + self._dice.randrange(1, 1000)
        headers = {**UPLOAD, "Upload-Offset": str(len(kept.content))}
        # Slowly, so that some of it is written before it shows.
        body = Body(data=self._dice.randbytes(size), pieces=3, is_chunked=True, pause=0.03)
        ask = Ask(method="PATCH", path=kept.path, headers=headers, body=body)
        assert asyncio.run(send(self._proxied.port, ask)).status == 413
        self._look(kept)

    def _stay_silent(self, kept: Kept) -> None:
        """A client that sends no more is told so, and its upload is free for the next."""
        data = self._half(kept)
        with self._patching(kept, data, self._quick) as patch:
            answer = patch.answer()
        assert answer.status == 408
        kept.content += data
        began = time.monotonic()
        assert self._direct.patch(kept.path, len(kept.content), b"").status == 204
        assert time.monotonic() - began < SOON
        self._look(kept)

    def _delete(self, kept: Kept) -> None:
        """DELETE stops a running PATCH, and nothing is left."""
        with self._patching(kept, self._half(kept), self._proxied) as patch:
            assert self._direct.request("DELETE", kept.path).status == 204
            # 404 if not a byte of it had come, and the DELETE was first.
            assert patch.answer().status in (423, 404)
        assert self._direct.head(kept.path).status == 404
        self.kept.remove(kept)
        upload_id = kept.path.rpartition("/")[2]
        assert not list(self._server.folder.rglob(f"{upload_id}*"))


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two workers that have patience, and one server that has none, on one folder."""
    folder = tmp_path / "data"
    with (
        serving(folder, workers=2) as server,
        serving(folder, TUSASGI_TEST_RECEIVE_TIMEOUT=str(SILENCE)) as quick,
    ):
        wait_until(lambda: len(workers_of(server)) == 2)
        yield server, quick


@pytest.mark.timeout(SECONDS + 110)
def test_every_life_of_uploads_keeps_what_was_acknowledged_and_mixes_nothing(
    servers: tuple[Server, Server],
) -> None:
    server, quick = servers
    with Proxy(server.port) as proxy:
        lives = Lives(server, quick, proxy, random.Random(SEED))
        give_up = time.monotonic() + SECONDS
        try:
            while time.monotonic() < give_up:
                lives.step()
            lives.finish()
        except BaseException:
            print(f"seed {SEED}, the last steps:", *lives.trace[-12:], sep="\n")
            raise
    print(dict(lives.done))
    asyncio.run(sweep_all(server.folder))
    locks = server.folder / "locks"
    files = (path for path in server.folder.rglob("*") if path.is_file())
    left = {path.stem for path in files if locks not in path.parents}
    assert left == {kept.path.rpartition("/")[2] for kept in lives.complete}
