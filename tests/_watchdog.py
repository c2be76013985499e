"""Ends a test process that nothing else ends, and tells where each of its threads was.

A test that takes too long is failed by pytest-timeout, with a signal. This is for what a signal
does not end: code that swallows the exception or never comes back from C, a teardown that hangs
after it, a thread that outlives the last test.
"""

import faulthandler
import os
import sys
from collections.abc import Generator

import pytest

GRACE = 60.0  # seconds beyond the time-out of a test, and after the last test

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
