"""Having media measured: the program in `measure.py` asks for bytes, and we read them for it."""

import json
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import anyio
from anyio.abc import ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from .settings import MEASURE_SECONDS

logger = logging.getLogger("roughy.measuring")

Read = Callable[[int, int], AsyncIterator[bytes]]
"""Gives the bytes of a file from the first number up to, not including, the second."""

_PROGRAM = Path(__file__).with_name("measure.py")
_UNREADABLE = "unreadable_media"
_CODES = {_UNREADABLE, "no_media_stream"}
_MAX_LINE = 1000
_MAX_MESSAGE = 256


class Outcome(NamedTuple):
    """What the measuring program found: a length, or why there is none."""

    milliseconds: int | None = None
    error_code: str | None = None
    error_message: str | None = None


class _ProgramFailed(Exception):
    """The program died, or says what makes no sense. It reads hostile files."""


async def measure(read: Read, length: int, *, seconds: float = MEASURE_SECONDS) -> Outcome:
    """Run the measuring program on a file of `length` bytes.

    Whatever happens to it, happens to it alone. What `read` raises is raised.
    """
    try:
        with anyio.move_on_after(seconds):
            return await _run(read, length)
    except _ProgramFailed as failure:
        logger.warning("measuring ended: %s", failure)
        return unreadable("the file cannot be measured")
    return unreadable("the file takes too long to measure")


def unreadable(message: str) -> Outcome:
    return Outcome(error_code=_UNREADABLE, error_message=message)


async def _run(read: Read, length: int) -> Outcome:
    # -I and no environment: nothing of ours. A session of its own: Ctrl-C is meant for us.
    command = [sys.executable, "-I", str(_PROGRAM), str(length)]
    process = await anyio.open_process(command, stderr=None, env={}, start_new_session=True)
    try:
        return await _serve(process, read, length)
    except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
        raise _ProgramFailed(f"exit code {await process.wait()}") from None
    except anyio.DelimiterNotFound:
        raise _ProgramFailed("it does not stop talking") from None
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


async def _serve(process: Process, read: Read, length: int) -> Outcome:
    """Answer what the program asks for, until it says what it found."""
    assert process.stdin is not None and process.stdout is not None
    lines = BufferedByteReceiveStream(process.stdout)
    while True:
        said = _parse(await lines.receive_until(b"\n", _MAX_LINE), length)
        if isinstance(said, Outcome):
            return said
        start, stop = said
        await _pass_on(read(start, stop), stop - start, process.stdin)


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


async def _pass_on(chunks: AsyncIterator[bytes], size: int, stream: ByteSendStream) -> None:
    try:
        async for chunk in chunks:
            await stream.send(chunk)
            size -= len(chunk)
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    if size:
        raise OSError(f"the store gave {size} bytes too few")
