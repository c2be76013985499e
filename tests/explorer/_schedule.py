"""Who makes the next step: every call to the outside waits here until it is chosen.

A step is one call (to S3, to the file system, of a hook, for the next chunk of a client). Between
two steps a request only computes, so an order of steps is all that a run depends on. At each
point the schedule offers options, the first of which is to go on as before:

    1        request 1 makes its step          1.2      its third one, of several at once
    t        time passes until the next timer  g0       a call takes effect that nobody waits for
    1x 1s    request 1 is cancelled, by asyncio's `Task.cancel` or by a scope of anyio
    1X 1L    the same after its call took effect, or with the call still on its way
    1k 1l    the process of request 1 dies before its call, or with the call still on its way
    1e 1E    its call fails before or after it took effect (no room, or S3 is away)
    1y2      request 1, which waits for another, is cancelled two turns of the event loop after the
             step of that one: in the moment of its turn, perhaps
"""

import asyncio
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio

from tests.explorer._loop import Loop

MOST_STEPS = 1500
_TURNS = range(1, 5)  # of the event loop, from a step to what it brings about elsewhere
_LONGEST_WAIT = 60.0  # seconds; longer ones pass only when there is nothing else to do
_TOKEN = re.compile(r"([0-9]+)(?:\.([0-9]+))?([a-zA-Z]?)([0-9]*)")

current: ContextVar["Actor | None"] = ContextVar("current", default=None)


class Over(BaseException):
    """The run is over, or the process is dead: nothing of it may do anything any more."""


class Stuck(Exception):
    """Nothing can happen any more, or there is no end of it."""


class Diverged(Exception):
    """The order that was asked for is not possible."""


@dataclass(eq=False)
class Process:
    name: str
    is_dead: bool = False


@dataclass(eq=False)
class Actor:
    """A request, and all that it does in tasks and threads of its own."""

    number: int
    name: str
    process: Process
    task: "asyncio.Task[None] | None" = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    has_begun: bool = False
    is_disturbed: bool = False

    @property
    def is_alive(self) -> bool:
        assert self.task is not None
        return not self.task.done() and not self.process.is_dead


@dataclass(eq=False)
class Step:
    """One call, which takes effect at the moment when it is chosen."""

    actor: Actor
    name: str
    effect: Callable[[], Any]
    resume: Callable[[], None]
    is_private: bool = False
    """True for a call that no other request can notice or disturb."""
    is_sent: bool = False
    """True for a call that another machine carries out, whatever becomes of the caller."""
    failure: Callable[[], Exception] | None = None
    """What the call may fail with."""
    is_taken: bool = False
    is_late: bool = False
    result: Any = None
    error: BaseException | None = None

    def take(self) -> None:
        if not self.is_taken:
            self.is_taken = True
            try:
                self.result = self.effect()
            except Exception as error:
                self.error = error

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


@dataclass(frozen=True)
class Option:
    token: str
    switches: int = 0
    disturbances: int = 0


Decide = Callable[[list[Option]], Option]


class Schedule:
    """The steps that wait, and what has happened so far."""

    def __init__(self, decide: Decide, *, disturbances: str) -> None:
        self.loop = Loop(self._when_still)
        self.actors: list[Actor] = []
        self.trace: list[str] = []
        self.is_over = False
        self.on_death: Callable[[Process], None] = lambda process: None
        self._decide = decide
        self._disturbances = disturbances
        self._finished: asyncio.Future[None] | None = None
        self._waiting: list[Step] = []
        self._late: list[Step] = []
        self._last: Actor | None = None
        self._count = 0

    @property
    def is_choosing(self) -> bool:
        return self._finished is not None

    async def run(self, *actors: tuple[Actor, Callable[[], Any]]) -> None:
        """Run requests, one step at a time, until each has ended or its process is dead."""
        self._finished = self.loop.create_future()
        try:
            for actor, request in actors:
                self.actors.append(actor)
                actor.task = self.loop.create_task(self._run_one(actor, request))
            await self._finished
        finally:
            self._finished = None

    async def _run_one(self, actor: Actor, request: Callable[[], Any]) -> None:
        current.set(actor)
        await self.call("begin", lambda: None)
        actor.has_begun = True
        try:
            with actor.scope:
                await request()
        except BaseException:
            if not self.is_over and not actor.process.is_dead:
                raise

    async def call(self, name: str, effect: Callable[[], Any], **more: Any) -> Any:
        """Make a call from a coroutine when it is chosen."""
        actor = current.get()
        self.check_alive(actor)
        if actor is None or not self.is_choosing:
            return effect()
        turn: asyncio.Future[None] = self.loop.create_future()
        step = Step(actor, name, effect, partial(_wake, turn), **more)
        self._waiting.append(step)
        try:
            await turn
        except asyncio.CancelledError:
            if step.is_late and not step.is_taken:
                self._late.append(step)
            raise
        finally:
            if step in self._waiting:
                self._waiting.remove(step)
        self.check_alive(actor)
        return step.outcome()

    def wait(self, step: Step) -> None:
        """Have a step of a thread wait until it is chosen."""
        self._waiting.append(step)

    def check_alive(self, actor: Actor | None) -> None:
        if self.is_over or (actor is not None and actor.process.is_dead):
            raise Over

    # What happens when nothing is ready to run.

    def _when_still(self, timeout: float | None) -> None:
        self._count += 1
        if self._count > MOST_STEPS:
            raise Stuck(f"no end after {MOST_STEPS} steps")
        if not self.is_choosing:
            self._pass_time(timeout)
            return
        assert self._finished is not None
        options = self.options(timeout)
        if options:
            self._apply(self._decide(options).token, timeout)
        elif any(actor.is_alive for actor in self.actors):
            self._pass_time(timeout)
        elif not self._finished.done():
            self._finished.set_result(None)

    def _pass_time(self, timeout: float | None) -> None:
        if timeout is None:
            waiting = [actor.name for actor in self.actors if actor.is_alive]
            raise Stuck(f"waits for ever: {waiting}")
        self.loop.advance(timeout)

    def options(self, timeout: float | None) -> list[Option]:
        """Return what may happen next, first of all that the last request goes on."""
        self._waiting = [step for step in self._waiting if not step.actor.process.is_dead]
        if not self._waiting:
            return [Option(f"g{n}") for n in range(len(self._late))]
        runnable = sorted({step.actor.number for step in self._waiting})
        step = self._next()
        first = step.actor.number
        options = [Option(str(first))]
        if not step.is_private:
            is_switch = int(self._last is not None and self._last.number == first)
            options += [Option(str(n), is_switch) for n in runnable if n != first]
            options += [Option(f"{first}.{n}", 1) for n in range(1, len(self._steps_of(first)))]
            options += [Option(f"g{n}", 1) for n in range(len(self._late))]
            if timeout is not None and timeout <= _LONGEST_WAIT:
                options.append(Option("t", 1))
        return options + self._disturbances_of(step)

    def _next(self) -> Step:
        """Return the step of the request that goes on, or of the first one if it cannot."""
        runnable = {step.actor.number for step in self._waiting}
        number = (
            self._last.number if self._last and self._last.number in runnable else min(runnable)
        )
        return self._steps_of(number)[0]

    def _steps_of(self, number: int) -> list[Step]:
        return [step for step in self._waiting if step.actor.number == number]

    def _disturbances_of(self, step: Step) -> list[Option]:
        kinds = "sxk" + ("XLlE" if step.is_sent else "") + ("e" if step.failure else "")
        options = []
        if step.actor.has_begun:
            allowed = [kind for kind in kinds if kind in self._disturbances]
            options = [Option(f"{step.actor.number}{kind}", 0, 1) for kind in allowed]
        with_steps = {waiting.actor for waiting in self._waiting}
        for actor in self.actors:
            # It waits for a lock or a timer, and may be cancelled there at any time.
            if actor.is_alive and actor not in with_steps and not actor.is_disturbed:
                tokens = ["s", "x", *(f"y{turns}" for turns in _TURNS)]
                options += [
                    Option(f"{actor.number}{token}", 0, 1)
                    for token in tokens
                    if token[0] in self._disturbances
                ]
        return options

    # What was chosen.

    def _apply(self, token: str, timeout: float | None) -> None:
        if token == "t":
            self._note(f"{token:4} time passes")
            assert timeout is not None
            self.loop.advance(timeout)
        elif token[0] == "g":
            step = self._late.pop(int(token[1:]))
            step.take()
            self._note(f"{token:4} late: {step.name}{_told(step)}")
        elif "y" in token:
            self._apply_soon(token)
        else:
            self._apply_to_step(token)

    def _apply_soon(self, token: str) -> None:
        """Make the next step, and cancel another request while the loop is at work on that."""
        number, turns = map(int, token.split("y"))
        actor = self.actors[number]
        actor.is_disturbed = True
        step = self._next()
        self._note(f"{token:4} {step.actor.name}: {step.name}; {actor.name} is cancelled in it")
        self._go_on(step.actor, step, "")
        self._cancel_in(turns, actor)

    def _cancel_in(self, turns: int, actor: Actor) -> None:
        assert actor.task is not None
        if turns == 0:
            actor.task.cancel()
        else:
            self.loop.call_soon(self._cancel_in, turns - 1, actor)

    def _apply_to_step(self, token: str) -> None:
        match = _TOKEN.fullmatch(token)
        assert match is not None
        number, index, kind = int(match[1]), int(match[2] or 0), match[3]
        actor = self.actors[number]
        steps = self._steps_of(number)
        step = steps[index] if steps else None
        actor.is_disturbed |= kind != ""
        {
            "": self._go_on,
            "s": self._cancel_scope,
            "x": self._cancel_task,
            "X": self._cancel_task,
            "L": self._cancel_task,
            "k": self._kill,
            "l": self._kill,
            "e": self._fail,
            "E": self._fail,
        }[kind](actor, step, kind)
        what = "waits" if step is None else f"{step.name}{_told(step)}"
        self._note(f"{token:4} {actor.name}: {what}{_KINDS[kind]}")
        if kind == "":
            self._last = actor

    def _go_on(self, actor: Actor, step: Step | None, kind: str) -> None:
        assert step is not None
        self._waiting.remove(step)
        step.take()
        step.resume()

    def _cancel_scope(self, actor: Actor, step: Step | None, kind: str) -> None:
        actor.scope.cancel()

    def _cancel_task(self, actor: Actor, step: Step | None, kind: str) -> None:
        assert actor.task is not None
        if step is not None and kind == "X":
            step.take()
        elif step is not None and kind == "L":
            step.is_late = True
        actor.task.cancel()

    def _kill(self, actor: Actor, step: Step | None, kind: str) -> None:
        assert step is not None
        if kind == "l":
            self._late.append(step)
        actor.process.is_dead = True
        self.on_death(actor.process)

    def _fail(self, actor: Actor, step: Step | None, kind: str) -> None:
        assert step is not None and step.failure is not None
        if kind == "E":
            step.take()
        step.is_taken, step.result, step.error = True, None, step.failure()
        self._waiting.remove(step)
        step.resume()

    def note(self, text: str) -> None:
        """Add what a request was told to the trace."""
        self.trace.append(f"          {text}")

    def _note(self, text: str) -> None:
        self.trace.append(f"{len(self.trace):4} {text}")

    # The end.

    def close(self) -> None:
        """End whatever still waits, with nothing done by it any more."""
        self.is_over = True
        self._count = 0
        for step in (*self._waiting, *self._late):
            step.error = Over()
            step.resume()
        for _ in range(20):
            tasks = asyncio.all_tasks(self.loop)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1000))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


_KINDS = {
    "": "",
    "s": " (before: cancelled by its scope)",
    "x": " (before: cancelled by asyncio)",
    "X": " (after: cancelled by asyncio)",
    "L": " (on its way: cancelled by asyncio)",
    "k": " (before: the process dies)",
    "l": " (on its way: the process dies)",
    "e": " (fails before it took effect)",
    "E": " (fails after it took effect)",
}


def _told(step: Step) -> str:
    return f" -> {type(step.error).__name__}" if step.error is not None else ""


def _wake(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
