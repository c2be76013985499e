"""Roughy on SQLite and on PostgreSQL.

On asyncio alone: SQLAlchemy's async half knows no other event loop.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import anyio.to_thread
import asyncpg
import pytest
from blockbuster import BlockBuster

from examples.roughy.app import Roughy
from examples.roughy.settings import Settings
from tests.services.fixtures import quickly_checked as quickly_checked  # the fixtures
from tests.services.fixtures import seaweedfs as seaweedfs

from . import media, postgres
from .api import ORIGIN, Api, Clock

ALICE, BOB = "sk_alice_0123456789abcdef", "sk_bob_0123456789abcdef"

_IN_ASYNCPG = {"_parse_connect_dsn_and_args"}


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it where services are required."""
    if os.environ.get("TUSASGI_REQUIRE_SERVICES") == "1":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def detector() -> BlockBuster:
    """What notices that the app or the library blocks the event loop."""
    detector = BlockBuster(["tusasgi", "examples"])
    for name, call in detector.functions.items():
        # It has an event loop of its own, in a thread.
        call.can_block_in("tusasgi/stores/s3/client.py", "_read_files")
        if name.startswith("os."):
            # Calls on lock files are short; asyncpg looks for its settings as it connects.
            call.can_block_in("tusasgi/lockers/file/locker.py", "lock")
            call.can_block_in("asyncpg/connect_utils.py", _IN_ASYNCPG)
    # What the system knows of a file of a local file system is asked in the event loop.
    detector.functions["os.stat"].can_block_in("tusasgi/stores/file/directory.py", "recall")
    return detector


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    binaries = postgres.find_binaries()
    if binaries is None:
        missing("no PostgreSQL here: initdb and postgres are not installed")
    with postgres.running(binaries) as url:
        yield url


async def empty(database_url: str) -> None:
    """Leave nothing of the test before; a database for each would take far longer."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    finally:
        await connection.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """What names the database: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        return {}
    url = request.getfixturevalue("postgres_server")
    await empty(url)
    return {"ROUGHY_DATABASE_URL": url}


ON_SQLITE = pytest.mark.parametrize("environment", ["sqlite"], indirect=True)
"""For what is decided before the database is asked, or without it."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def start(
    tmp_path: Path, environment: dict[str, str], clock: Clock, anyio_backend: str
) -> AsyncIterator[Callable]:
    """Start processes of Roughy, so to say: several may share one folder and database."""
    started = []

    async def start(**more: str) -> Roughy:
        environ = {
            "ROUGHY_API_KEYS": f"{ALICE},{BOB}",
            "ROUGHY_INITIAL_CREDITS": "100",
            "ROUGHY_CORS_ORIGINS": ORIGIN,
            **environment,
            **more,
        }
        settings = Settings.of(tmp_path / "data", environ)
        # In a thread: a process reads its secrets before it serves, and may block for that.
        roughy = await anyio.to_thread.run_sync(partial(Roughy, settings, clock=clock))
        started.append(roughy)
        await roughy.prepare()
        return roughy

    yield start
    for roughy in started:
        await roughy.close()


@pytest.fixture
async def roughy(start: Callable) -> Roughy:
    return await start()


@pytest.fixture
async def api(roughy: Roughy, clock: Clock) -> AsyncIterator[Api]:
    """The client of one account."""
    alice = Api(roughy, clock, ALICE)
    async with alice.http:
        yield alice


@pytest.fixture
async def other(roughy: Roughy, clock: Clock) -> AsyncIterator[Api]:
    """The client of another account."""
    bob = Api(roughy, clock, BOB)
    async with bob.http:
        yield bob


@pytest.fixture(scope="session")
def mp4() -> bytes:
    """Two seconds of video."""
    return media.video(2)


@pytest.fixture(scope="session")
def mp3() -> bytes:
    return media.audio(2.0)


@pytest.fixture(scope="session")
def film() -> bytes:
    """65 seconds of video in 8 MiB."""
    return media.video(65, size=8 * 1024 * 1024)


@pytest.fixture(scope="session")
def long_film() -> bytes:
    """65 seconds of video in 32 MiB: several parts on S3."""
    return media.video(65, size=32 * 1024 * 1024)
