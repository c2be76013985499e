"""Having media measured: the program in `program.py` asks for bytes, and we read them for it."""

import json
import logging
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
from anyio.abc import ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from examples.roughy.settings import MEASURE_SECONDS

logger = logging.getLogger("roughy.measuring")

Read = Callable[[int, int], AsyncIterator[bytes]]
"""Gives the bytes of a file from the first number up to, not including, the second."""

_PROGRAM = Path(__file__).with_name("program.py")
_UNREADABLE = "unreadable_media"
_CODES = {_UNREADABLE, "no_media_stream"}
_TOLD_TO_END = {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
# Our waiting for bytes is not counted as time, so that much may be read and no more: twice the
# file is what it takes, and a request for little is a request, too.
_TIMES_READ = 4
_MORE_READ = 1024**3
_LEAST_READ = 64 * 1024
_MAX_LINE = 1000
_MAX_MESSAGE = 256


class Outcome(NamedTuple):
    """What the measuring program found: a length, or why there is none."""

    milliseconds: int | None = None
    error_code: str | None = None
    error_message: str | None = None


class Interrupted(Exception):
    """Measuring was stopped from outside, so nothing is known of the file: try again."""


class GivenUp(Interrupted):
    """As before, but it may be that the file brings this about: try again, not for ever.

    A system that runs out of memory kills whom it likes. And a program that stands still was
    perhaps stopped, together with us or not, or its file has it wait: work is not what took so
    long, for of that it may do but little (`program.py`).
    """


class _ProgramFailed(Exception):
    """The program died, or says what makes no sense. It reads hostile files."""


async def measure(read: Read, length: int, *, seconds: float = MEASURE_SECONDS) -> Outcome:
    """Run the measuring program on a file of `length` bytes.

    It may take so many seconds in all, those not counted in which it waits for bytes. Whatever
    happens to it, happens to it alone. What `read` raises is raised, and `Interrupted` when the
    end of the program says nothing of the file.
    """
    try:
        return await _run(read, length, _Patience(seconds))
    except _ProgramFailed as failure:
        logger.warning("measuring ended: %s", failure)
        return unreadable("the file cannot be measured")


def unreadable(message: str) -> Outcome:
    return Outcome(error_code=_UNREADABLE, error_message=message)


class _Patience:
    """How long we still wait for the program."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    @contextmanager
    def lasting(self) -> Iterator[None]:
        start = anyio.current_time()
        with anyio.move_on_after(self._left) as waiting:
            yield
        self._left -= anyio.current_time() - start
        if waiting.cancelled_caught:
            raise GivenUp("the program took too long")


async def _run(read: Read, length: int, patience: _Patience) -> Outcome:
    # -I and no environment: nothing of ours. A session of its own: Ctrl-C is meant for us.
    command = [sys.executable, "-I", str(_PROGRAM), str(length)]
    process = await anyio.open_process(command, stderr=None, env={}, start_new_session=True)
    try:
        return await _serve(process, read, length, patience)
    except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
        with patience.lasting():
            await process.wait()
        raise _reason(process.returncode) from None
    except anyio.DelimiterNotFound:
        raise _ProgramFailed("it does not stop talking") from None
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


def _reason(exit_code: int | None) -> Exception:
    if exit_code in _TOLD_TO_END:
        return Interrupted(f"the program was told to end, exit code {exit_code}")
    if exit_code == -signal.SIGKILL:
        return GivenUp("the program was killed")
    return _ProgramFailed(f"exit code {exit_code}")


async def _serve(process: Process, read: Read, length: int, patience: _Patience) -> Outcome:
    """Answer what the program asks for, until it says what it found."""
    assert process.stdin is not None and process.stdout is not None
    lines = BufferedByteReceiveStream(process.stdout)
    left = _TIMES_READ * length + _MORE_READ
    while left > 0:
        with patience.lasting():
            line = await lines.receive_until(b"\n", _MAX_LINE)
        said = _parse(line, length)
        if isinstance(said, Outcome):
            return said
        start, stop = said
        left -= max(stop - start, _LEAST_READ)
        await _pass_on(read(start, stop), stop - start, process.stdin, patience)
    raise _ProgramFailed("it does not stop reading")


def _parse(line: bytes, length: int) -> tuple[int, int] | Outcome:
    """Return which bytes the program asks for, or what it found."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    match said:
        case {"read": [int(start), int(stop)]} if 0 <= start < stop <= length:
            return start, stop
        case {"milliseconds": int(milliseconds)} if 0 <= milliseconds < 2**63:
            return Outcome(milliseconds=milliseconds)
        case {"error_code": str(code), "error_message": str(message)} if code in _CODES:
            return Outcome(error_code=code, error_message=message[:_MAX_MESSAGE])
    raise _ProgramFailed("it said what makes no sense")


async def _pass_on(
    chunks: AsyncIterator[bytes], size: int, stream: ByteSendStream, patience: _Patience
) -> None:
    try:
        async for chunk in chunks:
            with patience.lasting():
                await stream.send(chunk)
            size -= len(chunk)
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    if size:
        raise OSError(f"the store gave {size} bytes too few")
