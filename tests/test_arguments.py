"""A wrong argument is refused at once, in one sentence that says what is right."""

import builtins
import functools
import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

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
from tusasgi.lockers.file import FileLocker
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.lockers.redis import RedisLocker
from tusasgi.stores.file import FileStore
from tusasgi.stores.fsspec import FsspecStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.stores.s3 import S3Store


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


def file_store(**options: Any) -> object:
    return FileStore(**{"directory": "uploads", **options})


def fsspec_store(**options: Any) -> object:
    return FsspecStore(**{"place": "memory://uploads", **options})


def s3_store(**options: Any) -> object:
    return S3Store(**{"url": "s3://bucket", **options})


def file_locker(**options: Any) -> object:
    return FileLocker(**{"directory": "locks", **options})


def redis_locker(**options: Any) -> object:
    return RedisLocker(**{"server": "redis://localhost", **options})


async def async_clock() -> datetime:
    raise NotImplementedError


NO_FOLDER = "directory must be the path of a folder, not"
NO_BUCKET = "url must be s3://bucket or s3://bucket/prefix, not"
NO_PATIENCE = "patience must be a number of seconds"
NO_REDIS = "server must be a URL as redis://host:6379/0"
WRONG += [
    *(
        (make, {"clock": 5}, "clock must be a function, not 5")
        for make in (
            MemoryStore,
            file_store,
            fsspec_store,
            s3_store,
        )
    ),
    *(
        (make, {"clock": async_clock}, "clock must not be async")
        for make in (
            MemoryStore,
            file_store,
            fsspec_store,
            s3_store,
        )
    ),
    *(
        (make, {"directory": wrong}, NO_FOLDER)
        for make in (file_store, file_locker)
        for wrong in (123, None, "", "a\0b", b"uploads", ["uploads"])
    ),
    *(
        (make, {"patience": wrong}, NO_PATIENCE)
        for make in (MemoryLocker, file_locker, redis_locker)
        for wrong in (-1, "5", None, True, float("nan"), timedelta(seconds=5))
    ),
    (file_store, {"durability": "full"}, 'durability must be "complete", "append" or "none", not'),
    (file_store, {"durability": None}, 'durability must be "complete", "append" or "none", not'),
    (fsspec_store, {"place": 123}, "place must be a URL or a filesystem of fsspec, not 123"),
    (fsspec_store, {"place": ""}, "place must be a URL, as sftp://host/folder, not ''"),
    (fsspec_store, {"place": "nope://x"}, "a URL that fsspec knows, which nope:// is not"),
    (fsspec_store, {"place": MemoryFileSystem}, "not a class: give MemoryFileSystem(…)"),
    (fsspec_store, {"root": 5}, "root must be a str, not 5"),
    (fsspec_store, {"root": "folder"}, "the root is a part of the URL"),
    (fsspec_store, {"options": ["a"]}, "options must be a Mapping, not a list"),
    (fsspec_store, {"piece_size": "8MiB"}, "piece_size must be an integer, not '8MiB'"),
    (fsspec_store, {"piece_size": 1}, "piece_size must be from 65536 to 67108864, not 1"),
    *(
        (s3_store, {"url": wrong}, NO_BUCKET)
        for wrong in (
            123,
            None,
            "",
            "bucket",
            "https://bucket",
            "s3://",
            "s3:///prefix",
        )
    ),
    (s3_store, {"describe": "x"}, "describe must be a function, not 'x'"),
    (s3_store, {"describe": async_clock}, "describe must not be async: nobody would wait for it"),
    (s3_store, {"part_size": "8MiB"}, "part_size must be an integer, not '8MiB'"),
    (s3_store, {"part_size": 1}, "part_size must be at least 5 MiB, which is the least S3 takes"),
    (s3_store, {"memory": 1.5}, "memory must be an integer, not 1.5"),
    (s3_store, {"memory": 1}, "memory must hold two parts"),
    (s3_store, {"remembered": -1}, "remembered must not be negative"),
    (s3_store, {"integrity": "sha1"}, 'integrity must be "auto", "md5", "crc32" or "none", not'),
    (s3_store, {"check": "no"}, "check must be a bool, not 'no'"),
    *(
        (redis_locker, {"server": wrong}, NO_REDIS)
        for wrong in (
            123,
            None,
            "",
            "localhost",
            "http://localhost",
            "redis://:secret/x@localhost:port",
        )
    ),
    (redis_locker, {"prefix": 5}, "prefix must be a str, not 5"),
    (redis_locker, {"lease": 0}, "lease must be a positive number of seconds"),
    (redis_locker, {"lease": "10"}, "lease must be a number of seconds, not '10'"),
]
NAMES = [f"{make.__name__}-{message}"[:100] for make, _, message in WRONG]


@pytest.mark.parametrize(("make", "options", "message"), WRONG, ids=NAMES)
def test_a_wrong_argument_is_refused_with_what_is_right(
    make: Callable[..., object], options: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        make(**options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


CONSTRUCTORS = [MemoryStore, FileStore, FsspecStore, S3Store, MemoryLocker, FileLocker, RedisLocker]
NEEDED = {
    FileStore: {"directory": "uploads"},
    FsspecStore: {"place": "memory://uploads"},
    S3Store: {"url": "s3://bucket"},
    FileLocker: {"directory": "locks"},
    RedisLocker: {"server": "redis://localhost"},
}


class Nothing:
    """Of no type that any argument has."""


@pytest.mark.parametrize(
    ("make", "name"),
    [
        pytest.param(make, name, id=f"{make.__name__}-{name}")
        for make in CONSTRUCTORS
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ],
)
def test_each_argument_of_each_store_and_locker_is_looked_at_by_its_constructor(
    make: Callable[..., object], name: str
) -> None:
    make(**NEEDED.get(make, {}))
    with pytest.raises((TypeError, ValueError)) as refused:
        make(**{**NEEDED.get(make, {}), name: Nothing()})
    assert str(refused.value).startswith(f"{name} must be ")


class Forgetful(Hooks):
    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        return None  # type: ignore[return-value]


@pytest.mark.anyio
async def test_a_creating_hook_that_returns_no_creation_is_named() -> None:
    with pytest.raises(TypeError) as refused:
        await engine(hooks=Forgetful()).create(length=5)
    assert str(refused.value) == "what Forgetful.creating returns must be a Creation, not None"


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
