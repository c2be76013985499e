"""Having media measured: the program in `program.py` asks for bytes, and we read them for it.

One rule says whose fault it is when it comes to no end. The program says hello once it has all
that it needs. Until then, and when it is told to end, nothing is known of the file: `Interrupted`.
After that it may be the file, and it may be a system without memory: `GaveUp`, which counts as an
attempt.
"""

import json
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

import anyio
from anyio.abc import ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from examples.roughy.settings import MEASURE_SECONDS, SettingsError

Read = Callable[[int, int], AsyncIterator[bytes]]
"""Gives the bytes of a file from the first number up to, not including, the second."""

_PROGRAM = Path(__file__).with_name("program.py")
_HELLO = b'{"hello": true}'
_HELLO_SECONDS = 60.0
_NO_PYAV = "No module named 'av'"
_UNREADABLE = "unreadable_media"
_CODES = {_UNREADABLE, "no_media_stream"}
_TOLD_TO_END = {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
# Our waiting for bytes is not counted as time, so that much may be read and no more: twice the
# file is what it takes, and a request for little is a request, too.
_TIMES_READ = 4
_MORE_READ = 1024**3
_LEAST_READ = 64 * 1024
_MAX_LINE = 8000
_MAX_MESSAGE = 256
_ENDED = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)


class Stream(NamedTuple):
    """Sound or pictures in a file; `is_picture` tells a cover from a film."""

    kind: str
    codec: str
    is_picture: bool


class Outcome(NamedTuple):
    """What the measuring program found: a length, container and streams, or why there is none."""

    milliseconds: int | None = None
    container: str = ""
    """As FFmpeg calls it."""
    streams: tuple[Stream, ...] = ()
    error_code: str | None = None
    error_message: str | None = None


class Interrupted(Exception):
    """Nothing is known of the file, and it had no part in that: measure it again."""


class GaveUp(Exception):
    """The program died, stood still, or talked nonsense: perhaps the file brings this about."""


def unreadable(message: str) -> Outcome:
    return Outcome(error_code=_UNREADABLE, error_message=message)


async def check_measuring() -> None:
    """Raise `SettingsError` if the program cannot start here: then no file could be measured."""
    with anyio.move_on_after(_HELLO_SECONDS):
        done = await anyio.run_process(_command(0), check=False, env={}, start_new_session=True)
        if done.stdout.startswith(_HELLO):
            return
        raise SettingsError(f"media cannot be measured here: {_why(done)}")
    raise SettingsError("media cannot be measured here: the program that does it hangs")


def _why(done: CompletedProcess[bytes]) -> str:
    """Return the last line that the program wrote before it ended."""
    told = done.stderr.decode(errors="replace").split("\n")
    reason = next((line for line in reversed(told) if line), f"exit code {done.returncode}")
    return f"{reason}: pip install av" if reason.endswith(_NO_PYAV) else reason


async def measure(read: Read, length: int, *, seconds: float = MEASURE_SECONDS) -> Outcome:
    """Run the measuring program on a file of `length` bytes.

    It may take so many seconds in all, those not counted in which it waits for bytes. Whatever
    happens to it, happens to it alone. Raises what `read` raises, `Interrupted` and `GaveUp`.
    """
    patience = _Patience(seconds)
    async with _program(length) as process:
        assert process.stdout is not None
        lines = BufferedByteReceiveStream(process.stdout)
        await _hear_hello(lines)
        try:
            return await _serve(process, lines, read, length, patience)
        except _ENDED:
            with patience.lasting():
                await process.wait()
            raise _reason(process.returncode) from None


def _command(length: int) -> list[str]:
    return [sys.executable, "-I", str(_PROGRAM), str(length)]


@asynccontextmanager
async def _program(length: int) -> AsyncIterator[Process]:
    # -I and no environment: nothing of ours. A session of its own: Ctrl-C is meant for us.
    process = await anyio.open_process(
        _command(length), stderr=None, env={}, start_new_session=True
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


async def _hear_hello(lines: BufferedByteReceiveStream) -> None:
    try:
        with anyio.fail_after(_HELLO_SECONDS):
            said = await lines.receive_until(b"\n", _MAX_LINE)
    except (*_ENDED, anyio.DelimiterNotFound, TimeoutError):
        said = b""
    if said != _HELLO:
        raise Interrupted("the measuring program does not start")


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
            raise GaveUp("it took too long")


def _reason(exit_code: int | None) -> Exception:
    if exit_code in _TOLD_TO_END:
        return Interrupted(f"the measuring program was told to end, exit code {exit_code}")
    return GaveUp(f"the program ended with exit code {exit_code}")


async def _serve(
    process: Process,
    lines: BufferedByteReceiveStream,
    read: Read,
    length: int,
    patience: _Patience,
) -> Outcome:
    """Answer what the program asks for, until it says what it found."""
    assert process.stdin is not None
    left = _TIMES_READ * length + _MORE_READ
    while left > 0:
        with patience.lasting():
            said = _parse(await _line(lines), length)
        if isinstance(said, Outcome):
            return said
        start, stop = said
        left -= max(stop - start, _LEAST_READ)
        await _pass_on(read(start, stop), stop - start, process.stdin, patience)
    raise GaveUp("it does not stop reading")


async def _line(lines: BufferedByteReceiveStream) -> bytes:
    try:
        return await lines.receive_until(b"\n", _MAX_LINE)
    except anyio.DelimiterNotFound:
        raise GaveUp("it does not stop talking") from None


def _parse(line: bytes, length: int) -> tuple[int, int] | Outcome:
    """Return which bytes the program asks for, or what it found. It reads hostile files."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    match said:
        case {"read": [int(start), int(stop)]} if 0 <= start < stop <= length:
            return start, stop
        case {
            "milliseconds": int(milliseconds),
            "container": str(container),
            "streams": list(streams),
        } if 0 <= milliseconds < 2**63:
            return Outcome(milliseconds, container, tuple(map(_stream, streams)))
        case {"error_code": str(code), "error_message": str(message)} if code in _CODES:
            return Outcome(error_code=code, error_message=message[:_MAX_MESSAGE])
    raise GaveUp("it said what makes no sense")


def _stream(said: object) -> Stream:
    match said:
        case {"kind": "audio" | "video" as kind, "codec": str(codec), "is_picture": bool(picture)}:
            return Stream(kind, codec, picture)
    raise GaveUp("it said what makes no sense")


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
