"""A server that stands still in the middle of a PATCH, as in a frozen or overloaded machine."""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Iterator

import pytest

from tests.force._server import serving, stopped, stored
from tests.force.app import sweep_all
from tests.hosts._process import Server
from tests.hosts._wire import Client, Connection, wait_until

DATA = os.urandom(1_500_003)
SEEN = 400_000
SOON = 4.0  # seconds; it takes milliseconds on a quiet machine
PATIENCE = "0.3"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers, a worker each, on one folder."""
    folder = tmp_path_factory.mktemp("stopped") / "data"
    settings = {"TUSASGI_TEST_PATIENCE": PATIENCE}
    with serving(folder, **settings) as first, serving(folder, **settings) as second:
        yield first, second


@pytest.fixture
def first(servers: tuple[Server, Server]) -> Server:
    return servers[0]


@pytest.fixture
def second(servers: tuple[Server, Server]) -> Client:
    return Client(servers[1].port)


@contextlib.contextmanager
def _patching(server: Server) -> Iterator[tuple[str, Connection]]:
    """Be in the middle of a PATCH, with `SEEN` bytes stored."""
    client = Client(server.port)
    path = client.create(len(DATA))
    with client.patching(path, 0, len(DATA)) as patch:
        patch.send(DATA[:SEEN])
        wait_until(lambda: client.offset(path) == SEEN)
        yield path, patch


def _resume_soon(client: Client, path: str) -> None:
    began = time.monotonic()
    client.resume(path, DATA)
    assert time.monotonic() - began < SOON
    assert client.get(path).body == DATA


def test_other_uploads_go_on_while_one_server_stands_still(first: Server, second: Client) -> None:
    with _patching(first) as (path, _), stopped(first):
        other = second.create(len(DATA))
        second.resume(other, DATA)
        assert second.get(other).body == DATA
        assert second.offset(path) == SEEN  # nor is anybody kept from asking
    _resume_soon(second, path)


@pytest.mark.parametrize(
    ("offset", "refusal"),
    [pytest.param(SEEN, 423, id="where-it-is"), pytest.param(SEEN - 1000, 409, id="elsewhere")],
)
def test_a_patch_is_refused_while_its_upload_is_held_by_a_server_that_stands_still(
    first: Server, second: Client, offset: int, refusal: int
) -> None:
    with _patching(first) as (path, patch):
        with stopped(first):
            patch.send(DATA[SEEN : SEEN + 50_000])  # waits in the kernel
            assert second.patch(path, offset, b"\0" * 100_000).status == refusal
            assert second.request("DELETE", path).status == 423
            assert stored(first, path) == DATA[:SEEN]
        _resume_soon(second, path)
        assert patch.answer().status == 423


def test_what_a_server_finds_in_its_sockets_when_it_wakes_up_is_never_mixed_in(
    first: Server, second: Client
) -> None:
    with _patching(first) as (path, patch):
        with stopped(first):
            patch.send(b"\0" * 100_000)  # other bytes, so that it shows where they end
            assert second.patch(path, SEEN, DATA[SEEN:]).status == 423
        began = time.monotonic()
        # The first was asked to stop: it keeps all or some of what had come, and lets go.
        wait_until(lambda: second.patch(path, second.offset(path), b"").status == 204)
        offset = second.offset(path)
        assert SEEN <= offset <= SEEN + 100_000
        rest = DATA[offset:]
        assert second.patch(path, offset, rest).offset == len(DATA)
        assert time.monotonic() - began < SOON
    whole = second.get(path).body
    assert whole == DATA[:SEEN] + b"\0" * (offset - SEEN) + rest


def test_without_its_locks_a_folder_is_still_written_by_one_server_at_a_time(
    first: Server, second: Client
) -> None:
    with _patching(first) as (path, patch):
        with stopped(first):
            shutil.rmtree(first.folder / "locks")
            # The lock is free to take; but the file itself is held by the kernel.
            assert second.patch(path, SEEN, b"\0" * 100_000).status == 423
            assert stored(first, path) == DATA[:SEEN]
        assert second.patch(path, SEEN, b"\0" * 100_000).status == 423
        patch.cut()
        _resume_soon(second, path)


def test_without_its_locks_an_upload_is_not_removed_under_its_writer(
    first: Server, second: Client
) -> None:
    with _patching(first) as (path, patch):
        with stopped(first):
            shutil.rmtree(first.folder / "locks")
            assert second.request("DELETE", path).status == 423  # the kernel holds the file
        patch.send(DATA[SEEN:])
        assert patch.answer().status == 204
    assert second.get(path).body == DATA
    assert second.request("DELETE", path).status == 204
    assert second.head(path).status == 404
    asyncio.run(sweep_all(first.folder))
    assert not list(first.folder.rglob(f"{path.rpartition('/')[2]}*"))


def test_a_server_that_slept_through_the_removal_of_the_locks_works_on(
    first: Server, second: Client
) -> None:
    with _patching(first) as (path, patch):
        with stopped(first):
            shutil.rmtree(first.folder / "locks")
        patch.send(DATA[SEEN:])
        answer = patch.answer()
        assert (answer.status, answer.offset) == (204, len(DATA))
    assert second.get(path).body == DATA
