"""A wrong argument is refused at once, in one sentence that says what is right."""

import builtins
import functools
import importlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from tusasgi import (
    Creation,
    Expiry,
    Fact,
    Hooks,
    Limits,
    Observer,
    Request,
    Resumable,
    TusApp,
    Upload,
    Uploads,
)
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.stores.memory import MemoryStore


class British(Hooks):
    async def authorise(self, request: Request) -> None: ...


class Imperative(Hooks):
    async def complete(self, upload: Upload) -> None: ...


class Plural(Hooks):
    async def inspects(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        return {}


class Sync(Hooks):
    def completed(self, upload: Upload) -> None: ...  # type: ignore[override]


class Derived(Sync):
    pass


class AsyncObserver(Observer):
    async def changed(self, *arguments: Any) -> None: ...  # type: ignore[override]


class Duck:
    async def authorize(self, *arguments: Any) -> None: ...


class SyncStore(MemoryStore):
    def finish(self, upload: Upload) -> Upload:  # type: ignore[override]
        return upload


def engine(**options: Any) -> Uploads:
    return Uploads(MemoryStore(), **options)


def app(**options: Any) -> TusApp:
    return TusApp(Uploads(MemoryStore()), **options)


WRONG: list[tuple[Callable[..., object], dict[str, Any], str]] = [
    (
        engine,
        {"hooks": British()},
        "British.authorise would never be called: did you mean authorize?",
    ),
    (
        engine,
        {"hooks": Imperative()},
        "Imperative.complete would never be called: did you mean completed?",
    ),
    (engine, {"hooks": Plural()}, "Plural.inspects would never be called: did you mean inspect?"),
    (engine, {"hooks": Imperative}, "hooks must be an object, not a class: give Imperative(…)"),
    (engine, {"hooks": Hooks}, "hooks must be an object, not a class: give Hooks(…)"),
    (engine, {"hooks": Duck()}, "hooks must be derived from Hooks, which a Duck is not"),
    (engine, {"hooks": Sync()}, "Sync.completed must be async: async def completed(…)"),
    (engine, {"hooks": Derived()}, "Sync.completed must be async"),
    (engine, {"observer": AsyncObserver()}, "AsyncObserver.changed must not be async"),
    (engine, {"observer": Hooks()}, "observer must be derived from Observer, which a Hooks is not"),
    (engine, {"locker": MemoryStore()}, "locker must be a locker; a MemoryStore has no lock"),
    (engine, {"locker": MemoryLocker}, "locker must be an object, not a class"),
    (engine, {"limits": 10}, "limits must be a Limits, not 10"),
    (engine, {"limits": {"max_size": 10}}, "limits must be a Limits, not a dict"),
    (engine, {"expiry": timedelta(hours=1)}, "expiry must be an Expiry, not a timedelta"),
    (engine, {"hook_timeout": "5"}, "hook_timeout must be a number of seconds, or None, not '5'"),
    (engine, {"hook_timeout": True}, "hook_timeout must be a number of seconds, or None, not True"),
    (engine, {"hook_timeout": 0}, "hook_timeout must be a positive number of seconds, or None"),
    (Uploads, {"store": MemoryStore}, "store must be an object, not a class: give MemoryStore(…)"),
    (
        Uploads,
        {"store": "uploads"},
        "store must be a store; 'uploads' has no create, get, append, update, finish",
    ),
    (Uploads, {"store": MemoryLocker()}, "store must be a store; a MemoryLocker has no create"),
    (Uploads, {"store": SyncStore()}, "SyncStore.finish must be async: async def finish(…)"),
    (Expiry, {"initial": 3600}, "initial must be a timedelta(seconds=3600), not 3600"),
    (Expiry, {"after_append": "1h"}, "after_append must be a timedelta, not '1h'"),
    (Expiry, {"initial": timedelta(0)}, "initial must be a positive timedelta"),
    (Limits, {"max_size": "10"}, "max_size must be an integer, not '10'"),
    (Limits, {"max_size": 1500000000.0}, "max_size must be an integer, not 1500000000.0"),
    (Limits, {"min_size": True}, "min_size must be an integer, not True"),
    (Limits, {"min_append": -1}, "min_append must not be negative"),
    (Limits, {"max_append": 0}, "max_append must be positive"),
    (Limits, {"min_append": 9, "max_append": 8}, "max_append must not be below min_append"),
    (
        TusApp,
        {"uploads": MemoryStore()},
        "TusApp needs an engine: TusApp(Uploads(store)), not MemoryStore",
    ),
    (
        Resumable,
        {"app": MemoryStore(), "uploads": MemoryStore()},
        "uploads must be an Uploads, not a MemoryStore",
    ),
    (app, {"without": "creation"}, "without must be a collection of names: give {'creation'}"),
    (app, {"without": ["creatio"]}, "without: 'creatio' is none of creation,"),
    (app, {"without": ["creatio"]}, "did you mean 'creation'?"),
    (app, {"without": None}, "without must be a collection of names, not None"),
    (app, {"protocols": "tus"}, "protocols must be a collection of names: give {'tus'}"),
    (app, {"protocols": ["tuss"]}, "protocols: 'tuss' is none of tus, ietf: did you mean 'tus'?"),
    (app, {"protocols": []}, 'protocols must be "tus", "ietf" or both of them'),
    (app, {"public_url": "/files"}, "public_url must be a whole URL, as https://example.org/files"),
    (app, {"public_url": "https://example.org/my files"}, "public_url must be a whole URL"),
    (app, {"public_url": "https://example.org/\r\nX: y"}, "public_url must be a whole URL"),
    (app, {"public_url": "https://example.org/\u00fc"}, "public_url must be a whole URL"),
    (app, {"public_url": "example.org/files"}, "public_url must be a whole URL"),
    (app, {"receive_timeout": 0}, "receive_timeout must be a positive number of seconds, or None"),
    (app, {"send_timeout": -1}, "send_timeout must be a positive number of seconds, or None"),
    (
        app,
        {"receive_timeout": "60"},
        "receive_timeout must be a number of seconds, or None, not '60'",
    ),
]


@pytest.mark.parametrize(("make", "options", "message"), WRONG, ids=[row[2] for row in WRONG])
def test_a_wrong_argument_is_refused_with_what_is_right(
    make: Callable[..., object], options: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        make(**options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def _traced(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Awaitable[Any]:
        return function(*arguments, **keywords)

    return call


class Own(Hooks):
    """What looks unusual and is right."""

    head_size = 8

    def __init__(self) -> None:
        self.closed = False

    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        return creation

    @_traced
    async def completed(self, upload: Upload) -> None: ...

    def _complete(self) -> None: ...

    def close(self) -> None: ...

    def describe(self) -> str:
        return "own"


class Grown(Own):
    async def terminated(self, upload: Upload) -> None: ...


@pytest.mark.parametrize("hooks", [Own(), Grown(), Hooks()], ids=["own", "grown", "none"])
def test_hooks_may_have_methods_of_their_own_and_decorated_ones(hooks: Hooks) -> None:
    assert engine(hooks=hooks).hooks is hooks


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("tusasgi.stores.s3", "s3fs", "s3"),
        ("tusasgi.stores.fsspec", "fsspec", "fsspec"),
        ("tusasgi.lockers.redis", "redis", "redis"),
        ("tusasgi.metrics", "prometheus_client", "metrics"),
        ("tusasgi.media", "puremagic", "media"),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    module: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *more)

    for name in [n for n in sys.modules if n == module or n.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError) as refused:
        importlib.import_module(module)
    assert str(refused.value) == f"{missing} is missing: pip install 'tusasgi[{extra}]'"
