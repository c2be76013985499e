"""One order of one scenario, from an empty place to an empty place, held to every promise."""

import itertools
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import anyio
import pytest

from tests.explorer._ledger import Story, Violation, check
from tests.explorer._place import Place, a_place
from tests.explorer._requests import (
    FINISH,
    LENGTH,
    OCTETS,
    OTHER,
    SETUP,
    TARGET,
    TUS,
    Ask,
    Scenario,
    Setup,
    content,
)
from tests.explorer._schedule import Actor, Decide, Process, Schedule, Stuck, current
from tusasgi import Expiry, Hooks, TusApp, Upload, Uploads
from tusasgi.errors import TusError, UnsupportedMedia, UploadPending

_EXPIRES = timedelta(minutes=10)
_START = datetime.now(UTC).replace(minute=10, second=0, microsecond=0)  # the files are of today
_PASSING = (423, 503)
_LAST = ("terminated", "expired")
_PATIENCE = 8  # times that a client asks again at the end before it gives up


class HookFailed(Exception):
    """What a hook of these runs raises, once."""


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Outcome:
    """What is known of a run when it is over."""

    trace: list[str]
    violation: str | None = None


class Clock:
    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.jumped = timedelta(0)

    def __call__(self) -> datetime:
        return _START + timedelta(seconds=self._schedule.loop.time()) + self.jumped


class Told(Hooks):
    """Hooks that take a step each, fail as they are told to, and remember how they were called."""

    head_size = 0

    def __init__(self, scene: "Scene") -> None:
        self._scene = scene
        if scene.scenario.setup.inspects:
            self.head_size = 4

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Any]:
        await self._called("inspect", upload)
        if self._scene.scenario.setup.refuses:
            raise UnsupportedMedia("not of this kind")
        return {"head": head.hex()}

    async def refused(self, upload: Upload, refusal: TusError) -> None:
        await self._called("refused", upload)

    async def completed(self, upload: Upload) -> None:
        await self._called("completed", upload)

    async def terminated(self, upload: Upload) -> None:
        await self._called("terminated", upload)

    async def expired(self, upload: Upload) -> None:
        await self._called("expired", upload)

    async def _called(self, name: str, upload: Upload) -> None:
        scene = self._scene
        scene.hook_began(name, upload)
        try:
            await scene.schedule.call(f"hook {name} {upload.id}", lambda: None)
            if name in scene.failing:
                scene.failing.remove(name)
                raise HookFailed(name)
            scene.succeeded.add((name, upload.id))
        finally:
            scene.hook_ended(name, upload)


class Server:
    """One process: an engine over the common place, with a locker of its own."""

    def __init__(self, scene: "Scene", name: str) -> None:
        self.process = Process(name)
        self.uploads = Uploads(
            scene.place.new_store(),
            hooks=Told(scene),
            expiry=Expiry(initial=_EXPIRES, after_append=_EXPIRES),
            clock=scene.clock,
            new_id=lambda: scene.next_id(),
        )
        self.app = TusApp(self.uploads, downloads=True, receive_timeout=30.0)


class Scene:
    """Everything of one run."""

    def __init__(self, scenario: Scenario, schedule: Schedule, place: Place, clock: Clock) -> None:
        self.scenario = scenario
        self.schedule = schedule
        self.place = place
        self.clock = clock
        self.failing: list[str] = []
        self.calls: list[tuple[str, str]] = []
        """The hooks that were called, and for which upload."""
        self.succeeded: set[tuple[str, str]] = set()
        self.broken: list[str] = []
        """What was found while requests ran, which would keep an exception to themselves."""
        self._running: list[tuple[str, str]] = []
        self.stories: dict[str, Story] = {}
        self.ids: deque[str] = deque()

    def next_id(self) -> str:
        actor = current.get()
        return f"n{actor.number}" if actor is not None else self.ids.popleft()

    # Hooks.

    def hook_began(self, name: str, upload: Upload) -> None:
        if not self.scenario.is_shared and not any(a.process.is_dead for a in self.schedule.actors):
            if others := [call for call in self._running if call[1] == upload.id]:
                self.broken.append(f"{name} is called while {others} runs")
            if name not in _LAST and self.is_removed(upload.id):
                self.broken.append(f"{name} is called after the end")
        self.calls.append((name, upload.id))
        self._running.append((name, upload.id))

    def hook_ended(self, name: str, upload: Upload) -> None:
        self._running.remove((name, upload.id))

    def was_called(self, name: str, upload_id: str) -> bool:
        return (name, upload_id) in self.calls

    def is_done(self, name: str, upload_id: str) -> bool:
        return (name, upload_id) in self.succeeded

    def is_removed(self, upload_id: str) -> bool:
        """True once the host was told that nobody can use the upload any more."""
        return any(self.was_called(name, upload_id) for name in _LAST)

    # Before.

    async def set_up(self, server: Server) -> None:
        setup = self.scenario.setup
        self.stories[TARGET] = Story(TARGET, exists=True, may_expire=True)
        await self._prepare(server, self.stories[TARGET], setup, content(SETUP, 0, setup.begun))
        if setup.is_partial:
            other = self.stories[OTHER] = Story(OTHER, exists=True, may_expire=True)
            rest = replace(setup, length=LENGTH - setup.begun)
            await self._prepare(server, other, rest, content(SETUP, setup.begun, LENGTH))
        self.failing = [name for name in setup.fails if not self.was_called(name, TARGET)]

    async def _prepare(self, server: Server, story: Story, setup: Setup, data: bytes) -> None:
        self.ids.append(story.id)
        self.failing = list(setup.fails)
        deferred = {"Upload-Defer-Length": "1"}
        headers = {"Upload-Length": str(setup.length)} if setup.length is not None else deferred
        if setup.is_partial:
            headers["Upload-Concat"] = "partial"
        make = Ask(kind="setup", method="POST", upload_id="", headers={**TUS, **headers})
        made = await self._once(server, make)
        check(made.status == 201, f"setup: {made}")
        if data:
            answer = await self._once(server, _append_of(story.id, 0, data))
            check(answer.status in (204, 503), "setup")
        story.known, story.told = data, len(data)
        story.is_complete = setup.length == len(data) and "completed" not in setup.fails
        if setup.is_removed:
            removed = Ask(kind="setup", method="DELETE", upload_id=story.id, headers=TUS)
            check((await self._once(server, removed)).status == 503, "setup")
            story.may_go = story.is_gone = True

    # One request.

    async def _send(self, server: Server, ask: Ask, answer: Answer) -> None:
        chunks = deque(ask.chunks)

        def arrive() -> dict[str, Any]:
            if not chunks and ask.leaves:
                return {"type": "http.disconnect"}
            body = chunks.popleft() if chunks else b""
            return {"type": "http.request", "body": body, "more_body": bool(chunks) or ask.leaves}

        was_asked = 0

        async def receive() -> Any:
            nonlocal was_asked
            if not chunks and was_asked and not ask.leaves:
                await anyio.sleep_forever()
            was_asked += 1
            return await self.schedule.call("a chunk of the client", arrive)

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {key.decode(): value.decode() for key, value in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        path = "/files" if ask.method == "POST" else f"/files/{ask.upload_id}"
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": ask.method,
            "path": path,
            "root_path": "/files",
            "headers": [(k.lower().encode(), v.encode()) for k, v in ask.headers.items()],
            "query_string": b"",
            "scheme": "http",
            "server": ("server", 80),
        }
        await server.app(scope, receive, send)

    async def play(self, server: Server, actor: Actor, ask: Ask) -> None:
        """Send a request of the scenario, and take its answer for what it says."""
        before = {
            story.id: (
                story.told,
                story.is_deleted
                if ask.method == "DELETE"
                else story.is_gone or self.is_removed(story.id),
            )
            for story in self.stories.values()
        }
        if ask.method == "SWEEP":
            await self._sweep(server, ask)
            return
        answer = Answer()
        try:
            await self._send(server, ask, answer)
        except HookFailed:
            is_told = answer.status in _PASSING
            check(is_told, f"{ask.kind} is answered {answer.status} for a failed hook")
        except Violation:
            raise
        except Exception as error:
            is_cut = ask.method == "GET" and answer.status == 200
            check(is_cut, f"{ask.kind} raised {error!r}")
            return
        if not actor.process.is_dead and not self.schedule.is_over:
            self.schedule.note(f"{ask.kind} is answered {answer.status} {_facts(answer)}")
            self._take(ask, answer, actor, *before.get(ask.upload_id, (0, False)))

    async def _sweep(self, server: Server, ask: Ask) -> None:
        self.clock.jumped += timedelta(seconds=ask.jump)
        self.stories[TARGET].may_expire = True
        try:
            removed = await server.uploads.sweep()
        except ExceptionGroup as group:
            is_meant = all(_is_meant(error) for error in group.exceptions)
            check(is_meant or self._has_failed_calls, f"the sweep raised {group.exceptions!r}")
        else:
            self.schedule.note(f"the sweep removed {removed}")

    @property
    def _has_failed_calls(self) -> bool:
        return any("fails" in line for line in self.schedule.trace)

    def _take(self, ask: Ask, answer: Answer, actor: Actor, told: int, was_gone: bool) -> None:
        allowed = ask.statuses | ({503, 507} if self._has_failed_calls else frozenset())
        if ask.method == "POST" and self.clock.jumped >= _EXPIRES:
            allowed |= {410}  # its time may have passed while it ran
        check(answer.status in allowed, f"{ask.kind} is answered {answer.status} {answer.body!r}")
        story = self.stories[ask.upload_id]
        if was_gone:
            check(answer.status >= 400, f"{ask.kind} is answered {answer.status} after the removal")
        is_append = ask.method in ("PATCH", "POST") and bool(ask.chunks)
        if answer.status in (201, 204) and is_append:
            end = int(answer.headers.get("upload-offset", 0))
            story.exists = True
            self._check_end(ask, end)
            story.acknowledge(ask, end)
            self._take_date(story, answer)
            if self._is_end(ask, answer, end):
                self._take_complete(story)
        elif answer.status == 201:
            story.exists = True
        elif answer.status == 204 and ask.method == "HEAD":
            self._take_held(story, answer, told)
        elif answer.status == 204:
            story.is_deleted = story.is_gone = story.may_go = True
            self._check_told(story)
        elif answer.status in (413, 460, 415, 400, 409) and is_append:
            self._take_refusal(story, ask, answer.status)
        elif answer.status == 200:
            self._take_view(story, ask, answer, told)

    def _is_end(self, ask: Ask, answer: Answer, end: int) -> bool:
        if "upload-complete" in answer.headers:
            return answer.headers["upload-complete"] == "?1"
        is_declared = self.scenario.setup.length is not None or "Upload-Length" in ask.headers
        return end == LENGTH and is_declared

    def _take_held(self, story: Story, answer: Answer, told: int) -> None:
        offset = int(answer.headers["upload-offset"])
        check(offset >= told, f"HEAD says {offset}, {told} were told before it was asked")
        story.hold(offset)
        if answer.headers["upload-complete"] == "?1":
            self._take_complete(story)

    def _check_told(self, story: Story) -> None:
        is_told = any(self.is_done(name, story.id) for name in _LAST)
        check(is_told, f"{story.id} is gone, and the hook is not done")

    def _check_end(self, ask: Ask, end: int) -> None:
        if not ask.leaves:
            whole = ask.offset + len(ask.data)
            check(end == whole, f"{ask.kind} sent up to {whole} and is told {end}")

    def _take_date(self, story: Story, answer: Answer) -> None:
        if "upload-expires" in answer.headers:
            story.alive_until = parsedate_to_datetime(answer.headers["upload-expires"])

    def _take_complete(self, story: Story) -> None:
        story.is_complete = True
        is_needed = not (self.scenario.setup.is_partial and story.id in (TARGET, OTHER))
        check(
            not is_needed or self.is_done("completed", story.id),
            "complete for a client, and the hook is not done",
        )

    def _take_refusal(self, story: Story, ask: Ask, status: int) -> None:
        story.withdraw(ask)
        if status == 415:
            check(self.is_done("refused", story.id), "refused, and the hook is not done")
            story.is_gone = story.may_go = True
        elif ask.method == "POST":
            story.is_gone = True

    def _take_view(self, story: Story, ask: Ask, answer: Answer, told: int) -> None:
        if ask.method == "GET":
            if answer.headers.get("content-length") == str(len(answer.body)):
                story.check_content(answer.body)
            return
        offset = int(answer.headers["upload-offset"])
        check(offset >= told, f"HEAD says {offset}, {told} were told before it was asked")
        if answer.headers.get("upload-length") == str(offset):
            self._take_complete(story)
        if not any(one.kind in ("over", "badsum") for one in self.scenario.asks):
            story.tell(offset)  # else what is seen may be taken back

    # What is there when all requests have ended.

    def forgive(self) -> None:
        """What a disturbed request with a checksum leaves may be a beginning of the right bytes."""
        if any(actor.is_disturbed or actor.process.is_dead for actor in self.schedule.actors):
            for story in self.stories.values():
                story.attempts = [
                    replace(ask, keeps="beginning") if ask.keeps == "whole" else ask
                    for ask in story.attempts
                ]

    async def look(self, server: Server) -> None:
        """Ask for every upload as its client would, and see that nothing holds it any more."""
        for story in self.stories.values():
            answer = await self._until_told(server, story, "HEAD")
            check(answer.status in (200, 404, 410), f"HEAD is answered {answer.status} in the end")
            if answer.status != 200:
                self._check_may_be_gone(story, answer.status)
                continue
            check(not story.is_gone, "deleted, and there again")
            offset = int(answer.headers["upload-offset"])
            check(offset >= story.told, f"{story.told} were told, {offset} are there")
            length = answer.headers.get("upload-length")
            is_at_end = length == str(offset)
            check(is_at_end or not story.is_complete, "complete, and not any more")
            if is_at_end:
                self._take_complete(story)
            story.told = offset
            if story.whole is None and not self.scenario.setup.is_partial:
                await self._touch(server, story, offset)

    def check_broken(self) -> None:
        check(not self.broken, "; ".join(self.broken[:2]))

    async def check_settled(self, server: Server) -> None:
        """What requests left half done, a sweep brings to its end."""
        for upload_id in self.place.ids():
            upload = await server.uploads.store.get(upload_id)
            check(not upload.is_pending, f"{upload_id} is pending after a sweep: {upload}")

    async def _touch(self, server: Server, story: Story, offset: int) -> None:
        """An empty append changes nothing, and shows that no lock is left."""
        headers = {
            **TUS,
            "Upload-Offset": str(offset),
            "Content-Type": OCTETS,
            "Content-Length": "0",
        }
        ask = Ask(kind="touch", method="PATCH", upload_id=story.id, headers=headers)
        answer = await self._until_told(server, story, ask)
        check(answer.status == 204, f"an empty PATCH is answered {answer.status} {answer.body!r}")

    async def _until_told(self, server: Server, story: Story, what: str | Ask) -> Answer:
        ask = what
        if isinstance(ask, str):
            ask = Ask(kind=ask, method=ask, upload_id=story.id, headers=TUS)
        answer = Answer()
        for _ in range(_PATIENCE):
            answer = await self._once(server, ask)
            if answer.status not in _PASSING:
                break
            await anyio.sleep(1)
        return answer

    async def _once(self, server: Server, ask: Ask) -> Answer:
        answer = Answer()
        try:
            await self._send(server, ask, answer)
        except HookFailed:
            check(answer.status in _PASSING, f"{ask.kind} is answered {answer.status}")
        except Exception as error:
            raise Violation(f"{ask.kind} raised {error!r} in the end") from error
        return answer

    def _check_may_be_gone(self, story: Story, status: int) -> None:
        if not story.exists:
            return  # nobody was told that it was there
        if story.is_gone or story.may_go:
            story.is_gone = True
            return
        check(
            story.may_expire and not (story.is_complete and not self.scenario.setup.is_partial),
            f"it is gone ({status})",
        )
        now = self.clock()
        until = story.alive_until or _START + _EXPIRES
        check(until <= now, f"it is gone ({status}), and was to live until {until}, now {now}")
        story.is_gone = True

    async def finish(self, server: Server) -> None:
        """Bring every upload to its end, and compare its bytes."""
        for story in self.stories.values():
            if story.is_gone or not (await self._is_there(server, story)):
                continue
            if not story.is_complete:
                await self._fill(server, story)
            is_partial = self.scenario.setup.is_partial and story.id in (TARGET, OTHER)
            if story.is_gone or is_partial:
                continue
            check(self.is_done("completed", story.id), "complete, and the hook is not done")
            answer = await self._until_told(server, story, "GET")
            check(answer.status == 200, f"GET is answered {answer.status}")
            check(len(answer.body) == LENGTH, f"{len(answer.body)} bytes are downloaded")
            story.check_content(answer.body)

    async def _is_there(self, server: Server, story: Story) -> bool:
        return (await self._until_told(server, story, "HEAD")).status == 200

    async def _fill(self, server: Server, story: Story) -> None:
        """Go on as a client does: ask where the upload is after an answer that it may not trust."""
        for _ in range(_PATIENCE):
            data = content(FINISH, story.told, LENGTH)
            ask = _append_of(story.id, story.told, data, **{"Upload-Length": str(LENGTH)})
            story.attempts.append(ask)
            answer = await self._once(server, ask)
            if answer.status not in _PASSING:
                break
            answer = await self._until_told(server, story, "HEAD")
            check(answer.status == 200, f"HEAD is answered {answer.status} in the end")
            story.tell(int(answer.headers["upload-offset"]))
            if story.told == LENGTH:
                self._take_complete(story)
                return
        if self.scenario.setup.refuses:
            check(answer.status == 415, f"the last PATCH is answered {answer.status}")
            story.is_gone = True
            return
        check(answer.status == 204, f"the last PATCH is answered {answer.status} {answer.body!r}")
        story.acknowledge(ask, LENGTH)
        self._take_complete(story)

    async def clear(self, server: Server) -> None:
        """Delete every upload; then sweeps long after have to leave nothing."""
        for upload_id in sorted({*self.place.ids(), *self.stories}):
            answer = await self._until_told(server, Story(upload_id), "DELETE")
            check(answer.status in (204, 404, 410), f"DELETE is answered {answer.status}")
        self.clock.jumped += timedelta(days=3)
        for _ in range(2):
            await _in_order(server.uploads.sweep)
        for story in self.stories.values():
            if story.exists:
                self._check_told(story)
        left = [name for name in self.place.left() if not self._may_stay(name)]
        check(not left, f"left behind: {left}")

    def _may_stay(self, name: str) -> bool:
        """True for what `docs/s3.md` says may be left: of an upload that was deleted meanwhile."""
        has_died = any(a.is_disturbed or a.process.is_dead for a in self.schedule.actors)
        if name.startswith("multipart"):
            return has_died
        has_failed = bool(self.scenario.setup.fails)
        return name.startswith("objects/") and (has_died or has_failed)


def _append_of(upload_id: str, offset: int, data: bytes, **headers: str) -> Ask:
    """A PATCH that comes alone."""
    return Ask(
        kind="PATCH",
        method="PATCH",
        upload_id=upload_id,
        headers={
            **TUS,
            "Upload-Offset": str(offset),
            "Content-Type": OCTETS,
            "Content-Length": str(len(data)),
            **headers,
        },
        chunks=(data,) if data else (),
        offset=offset,
        keeps="beginning",
    )


def _is_meant(error: Exception) -> bool:
    return isinstance(error, HookFailed | UploadPending)


def _facts(answer: Answer) -> str:
    wanted = ("upload-offset", "upload-length", "upload-expires")
    return " ".join(f"{name}={answer.headers[name]}" for name in wanted if name in answer.headers)


def run(store: str, scenario: Scenario, decide: Decide, *, disturbances: str) -> Outcome:
    """Run a scenario in the order that `decide` chooses, and say what was broken."""
    if store == "memory":
        disturbances = disturbances.replace("k", "")
    schedule = Schedule(decide, disturbances=disturbances)
    outcome = Outcome(schedule.trace)
    clock = Clock(schedule)
    with _same_ids(), a_place(store, schedule, clock) as place:
        try:
            scene = Scene(scenario, schedule, place, clock)
            schedule.loop.run_until_complete(_live(scene))
        except (Violation, Stuck) as violation:
            outcome.violation = str(violation)
        finally:
            schedule.close()
    return outcome


async def _live(scene: Scene) -> None:
    servers = [Server(scene, f"process {n}") for n in range(max(scene.scenario.processes) + 1)]
    await scene.set_up(servers[0])
    runs = []
    for number, ask in enumerate(scene.scenario.asks):
        _tell_story(scene, ask)
        server = servers[scene.scenario.processes[number]]
        actor = Actor(number, ask.kind, server.process)
        runs.append((actor, partial(_noting, scene, partial(scene.play, server, actor, ask))))
    await scene.schedule.run(*runs)
    scene.check_broken()
    scene.forgive()
    alive = [server for server in servers if not server.process.is_dead]
    for server in alive[:1]:
        await scene.look(server)
    after = Server(scene, "after")
    await _in_order(after.uploads.sweep)
    await scene.check_settled(after)
    await scene.look(after)
    await scene.finish(after)
    await scene.clear(after)
    scene.check_broken()
    left = scene.place.open_files()
    check(not left, f"left open: {left}")


def _tell_story(scene: Scene, ask: Ask) -> None:
    if ask.upload_id not in scene.stories:
        story = scene.stories[ask.upload_id] = Story(ask.upload_id, may_expire=True)
        if ask.kind == "final":
            story.whole = content(SETUP, 0, LENGTH)
    story = scene.stories[ask.upload_id]
    if ask.chunks and not scene.scenario.setup.refuses:
        story.attempts.append(ask)
    if ask.kind == "delete" or scene.scenario.setup.refuses:
        story.may_go = True


async def _noting(scene: Scene, request: Callable[[], Any]) -> None:
    try:
        await request()
    except Violation as violation:
        scene.broken.append(str(violation))


async def _in_order(sweep: Callable[[], Any]) -> None:
    """Sweep, twice if a hook that was to fail fails in it."""
    try:
        await sweep()
    except ExceptionGroup as group:
        if not all(_is_meant(error) for error in group.exceptions):
            raise Violation(f"the sweep raised {group.exceptions!r}") from group
        await sweep()  # it fails once


@contextmanager
def _same_ids() -> Iterator[None]:
    """Have random ids be the same in each run of the same order."""
    numbers = itertools.count(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers)))
        yield
