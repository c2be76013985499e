"""Ends whatever hangs, by three means that take over from each other, and tells where it was.

1. What an async test awaits is cancelled shortly before its time is over.
2. Then pytest-timeout fails the test, by an exception out of a signal.
3. A minute later the process is ended: what swallowed the exception, never came back from C, hung
   in a teardown after it, or in a thread that outlives the last test, would go on for ever.
"""

import faulthandler
import functools
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Generator

import anyio
import pytest

SHARE = 0.75  # of the time of a test, until it is cancelled
GRACE = 60.0  # seconds beyond that time, and after the last test

_STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    assert sys.__stderr__ is not None
    config.stash[_STDERR] = os.dup(sys.__stderr__.fileno())  # not the one that is captured
    faulthandler.enable(config.stash[_STDERR])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    seconds = _timeout(item)
    if seconds:
        _end_after(item.config, seconds + GRACE)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    seconds = _timeout(pyfuncitem)
    if seconds and inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _cancelled_after(seconds * SHARE, pyfuncitem.obj)


def _cancelled_after(
    seconds: float, test: Callable[..., Awaitable[None]]
) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def limited(**arguments: object) -> None:
        with anyio.fail_after(seconds):
            await test(**arguments)

    return limited


def pytest_unconfigure(config: pytest.Config) -> None:
    _end_after(config, GRACE)


def _end_after(config: pytest.Config, seconds: float) -> None:
    """End the process then, unless this is called again or the process has ended by itself."""
    faulthandler.dump_traceback_later(seconds, file=config.stash[_STDERR], exit=True)


def _timeout(item: pytest.Item) -> float:
    """Return the seconds that pytest-timeout gives to a test; 0 for any number."""
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        return float(marker.args[0])
    option = item.config.getoption("timeout")
    return float(item.config.getini("timeout") if option is None else option)
