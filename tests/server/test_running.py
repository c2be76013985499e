"""What the workers tell of uploads that are under way, and who is shown it."""

import json
import os
import urllib.request
from dataclasses import asdict
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync

from tests.hosts._process import free_port
from tests.hosts._wire import Client
from tests.server.test_command import serving
from tests.server.test_monitor import ask
from tusasgi import Event, Observer, Uploads
from tusasgi.models import Upload, utc_now
from tusasgi.observer import Outcome, Several
from tusasgi.server.live import LiveView
from tusasgi.server.running import Running, Seen, read_running
from tusasgi.stores.memory import MemoryStore

NOW = 1_000_000.0


def upload(upload_id: str = "0123456789abcdef", **others: object) -> Upload:
    return Upload(id=upload_id, length=10, created=utc_now(), **others)  # type: ignore[arg-type]


def seen(key: str, state: str, heard: float) -> Seen:
    return Seen(
        key=key, id=key, name="", owner=None, offset=0, length=1, state=state, created=heard,
        heard=heard,
    )  # fmt: skip


def write(folder: Path, process: int, *told: Seen) -> None:
    (folder / f"running_{process}.json").write_text(json.dumps([asdict(one) for one in told]))


async def told(running: Running, folder: Path, now: float = NOW) -> list[Seen]:
    """Return what the process that watches reads of this one."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.keep_written, str(folder))
        with anyio.fail_after(10):
            while not await anyio.Path(folder / f"running_{os.getpid()}.json").exists():  # noqa: ASYNC110
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    return await run_sync(read_running, str(folder), now)


@pytest.mark.anyio
async def test_an_upload_is_told_from_its_creation_to_its_end(tmp_path: Path) -> None:
    running = Running(clock=lambda: NOW)
    uploads = Uploads(MemoryStore(), observer=running)
    made = await uploads.create(length=0, metadata={"filename": "é\N{SNOWMAN}".encode()}, owner="o")
    (one,) = await told(running, tmp_path)
    assert (one.name, one.owner, one.state, one.length) == ("é\N{SNOWMAN}", "o", "complete", 0)
    assert made.id.startswith(one.id)
    assert len(one.id) == 8
    await uploads.terminate(made.id)
    await anyio.Path(tmp_path / f"running_{os.getpid()}.json").unlink()
    (one,) = await told(running, tmp_path)
    assert one.state == "removed"


@pytest.mark.anyio
async def test_names_that_are_long_or_no_text_are_cut_and_mended(tmp_path: Path) -> None:
    running = Running(clock=lambda: NOW)
    running.progressed(upload(metadata={"filename": b"\xff" + b"a" * 300}))
    (one,) = await told(running, tmp_path)
    assert one.name == "\N{REPLACEMENT CHARACTER}" + "a" * 199


@pytest.mark.anyio
async def test_a_worker_remembers_the_newest_only(tmp_path: Path) -> None:
    running = Running(clock=lambda: NOW)
    for number in range(250):
        running.changed(upload(f"id-{number}"), Event.CREATED)
        running.progressed(upload("id-0"))
    shown = {one.id for one in await told(running, tmp_path)}
    assert len(shown) == 200
    assert shown == {"id-0"} | {f"id-{number}" for number in range(51, 250)}


def test_the_newest_that_any_worker_tells_counts(tmp_path: Path) -> None:
    write(tmp_path, 1, seen("a", "receiving", NOW - 2), seen("b", "complete", NOW))
    write(tmp_path, 2, seen("a", "complete", NOW - 1), seen("b", "receiving", NOW - 3))
    (tmp_path / "counter_1.db").touch()
    (tmp_path / "running_3.json.new").write_text("half of it")
    assert {one.key: one.state for one in read_running(str(tmp_path), NOW)} == {
        "a": "complete",
        "b": "complete",
    }


@pytest.mark.parametrize(
    ("state", "ago", "shown"),
    [
        ("receiving", 4, "receiving"),
        ("receiving", 6, "waiting"),
        ("receiving", 3599, "waiting"),
        ("receiving", 3601, None),
        ("complete", 59, "complete"),
        ("complete", 61, None),
        ("removed", 61, None),
        ("completing", 61, "completing"),
    ],
)
def test_what_is_silent_waits_and_what_has_ended_is_forgotten(
    tmp_path: Path, state: str, ago: float, shown: str | None
) -> None:
    write(tmp_path, 1, seen("a", state, NOW - ago))
    assert [one.state for one in read_running(str(tmp_path), NOW)] == ([shown] if shown else [])


def test_several_observers_hear_the_same() -> None:
    class Recording(Observer):
        def __init__(self) -> None:
            self.heard: list[object] = []

        def request_began(self, operation: str) -> None:
            self.heard.append(operation)

        def request_ended(self, outcome: Outcome) -> None:
            self.heard.append(outcome)

        def changed(self, upload: Upload, event: Event) -> None:
            self.heard.append((upload, event))

        def progressed(self, upload: Upload) -> None:
            self.heard.append(upload)

        def lock_waited(self, seconds: float) -> None:
            self.heard.append(seconds)

        def swept(self, removed: int, failed: int) -> None:
            self.heard.append((removed, failed))

    one, other = Recording(), Recording()
    several, outcome, about = Several(one, other), Outcome(operation="get", status=200), upload()
    several.request_began("get")
    several.request_ended(outcome)
    several.changed(about, Event.CREATED)
    several.progressed(about)
    several.lock_waited(0.5)
    several.swept(1, 2)
    heard = ["get", outcome, (about, Event.CREATED), about, 0.5, (1, 2)]
    assert one.heard == other.heard == heard


def test_only_so_many_may_watch_at_once_and_the_next_one_when_one_has_left(tmp_path: Path) -> None:
    view = LiveView(str(tmp_path))
    watching = [view.events() for _ in range(16)]
    assert {next(one) for one in watching} == {b"data: []\n\n"}
    assert list(view.events()) == [b"retry: 10000\n\n"]
    watching.pop().close()
    assert next(view.events()) == b"data: []\n\n"


def test_watching_ends_with_the_server(tmp_path: Path) -> None:
    view = LiveView(str(tmp_path))
    events = view.events()
    next(events)
    view.close()
    assert list(events) == []


def test_pages_are_there_only_where_they_are_asked_for(on: str, tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    common = ["--server", on, "--monitor"]
    with (
        serving(tmp_path / "with", *common, str(ports[0]), "--page", "--workers", "2") as server,
        serving(tmp_path / "without", *common, str(ports[1])) as other,
    ):
        page, live = server.url, f"http://127.0.0.1:{ports[0]}"
        for origin, names in ((page, ["", "page/upload.js"]), (live, ["", "page/live.js"])):
            for name in names:
                with urllib.request.urlopen(f"{origin}/{name}") as answer:
                    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert ask(f"{page}/events")[0] == 404
        assert ask(f"{page}/page/live.js")[0] == 404
        assert ask(f"{page}/page/..%2f__init__.py")[0] == 404
        assert ask(f"{live}/page/../__init__.py")[0] == 404
        bare = f"http://127.0.0.1:{ports[1]}"
        assert [ask(f"{bare}{path}")[0] for path in ("/", "/events", "/page/live.js")] == [404] * 3
        assert ask(f"{other.url}/")[1].startswith("tusasgi ")
        client = Client(server.port)
        path = client.create(10, **{"Upload-Metadata": "filename YQ=="})
        client.patch(path, 0, b"hello")
        (one,) = first_uploads(live)
        assert (one["name"], one["offset"], one["state"]) == ("a", 5, "receiving")


def first_uploads(origin: str) -> list[dict[str, object]]:
    """Watch until there are uploads."""
    with urllib.request.urlopen(f"{origin}/events", timeout=10) as events:
        return next(
            json.loads(line.removeprefix(b"data: "))
            for line in events
            if line not in (b"data: []\n", b"\n")
        )
