"""Metrics and log lines, from real requests."""

import base64
import json
import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests._stage import OCTETS, Recorder, Stage, make_stage
from tests.conformance.concatenation import final, partial
from tusasgi import Event, Expiry, Observer, Outcome, Upload
from tusasgi.metrics import Metrics
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import DISCONNECT, STALL

pytestmark = pytest.mark.anyio


class Watched:
    """A stage whose engine counts."""

    def __init__(self, **options: Any) -> None:
        self.registry = CollectorRegistry()
        engine = {"observer": Metrics(self.registry), **options.pop("engine", {})}
        self.stage = make_stage(MemoryStore(), engine=engine, **options)

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"tusasgi_{name}", labels) or 0.0


async def test_requests_are_counted_by_operation_and_status() -> None:
    watched = Watched()
    stage = watched.stage
    upload = await stage.upload()
    await stage.patch(upload.id, 0, b"he")
    await stage.patch(upload.id, 0, b"he")
    await stage.head("unknown")
    await stage.driver.request("DELETE", f"/{upload.id}")
    await stage.driver.request("OPTIONS", "/")
    await stage.driver.request("BREW", "/")
    await stage.driver.request("POST", "/", {"Upload-Length": "5"})
    for operation, status in (
        ("append", "204"),
        ("append", "409"),
        ("get", "404"),
        ("terminate", "204"),
        ("options", "204"),
        ("unknown", "405"),
        ("create", "201"),
    ):
        assert watched.value("requests_total", operation=operation, status=status) == 1
        count = watched.value("request_duration_seconds_count", operation=operation)
        assert count == (2 if operation == "append" else 1)


async def test_received_bytes_and_resumed_appends_are_counted() -> None:
    watched = Watched()
    upload = await watched.stage.upload(length=10)
    await watched.stage.patch(upload.id, 0, [b"hello", DISCONNECT])
    assert (watched.value("received_bytes_total"), watched.value("resumes_total")) == (5, 0)
    await watched.stage.patch(upload.id, 5, b"world")
    assert (watched.value("received_bytes_total"), watched.value("resumes_total")) == (10, 1)
    await watched.stage.patch(upload.id, 3, b"x")
    assert watched.value("resumes_total") == 1


async def test_running_transfers_are_shown_while_they_run() -> None:
    watched = Watched()
    upload = await watched.stage.upload(length=10)
    exchange = watched.stage.exchange(upload.id, 0, [b"hello", STALL])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        await exchange.starved()
        assert watched.value("requests_running", operation="append") == 1
        tasks.cancel_scope.cancel()
    assert watched.value("requests_running", operation="append") == 0
    assert watched.value("requests_total", operation="append", status="none") == 1


async def test_uploads_are_counted_by_what_becomes_of_them() -> None:
    watched = Watched(engine={"expiry": Expiry(initial=timedelta(hours=1))})
    stage = watched.stage
    upload = await stage.upload(content=b"hello")
    await stage.uploads.terminate(upload.id)
    await final(stage, await partial(stage, b"hello"))
    await stage.upload(content=b"he")
    stage.clock.advance(hours=1)
    await stage.uploads.sweep()
    counted = {event.value: watched.value("uploads_total", event=event.value) for event in Event}
    assert counted == {
        "created": 3,
        "announced": 1,
        "appended": 0,  # a request, and counted as such
        "filled": 2,
        "joined": 1,
        "completed": 3,
        "terminated": 1,
        "expired": 2,  # the piece as well
        "removed": 3,
    }
    assert watched.value("swept_uploads_total", result="removed") == 2
    assert watched.value("last_sweep_timestamp_seconds") > 0


async def test_a_sweep_that_fails_is_counted() -> None:
    class Failing(Recorder):
        async def expired(self, upload: Upload) -> None:
            raise RuntimeError("the database is away")

    watched = Watched(hooks=Failing(), engine={"expiry": Expiry(initial=timedelta(hours=1))})
    await watched.stage.upload()
    watched.stage.clock.advance(hours=1)
    with pytest.raises(ExceptionGroup):
        await watched.stage.uploads.sweep()
    assert watched.value("swept_uploads_total", result="failed") == 1


async def test_waits_for_locks_are_timed() -> None:
    watched = Watched()
    upload = await watched.stage.upload()
    await watched.stage.patch(upload.id, 0, b"he")
    assert watched.value("lock_wait_seconds_count") == 1


async def test_no_label_comes_from_a_client() -> None:
    watched = Watched()
    for method in ("BREW", "X" * 50, "PATCH"):
        await watched.stage.driver.request(method, "/secret-id")
    text = generate_latest(watched.registry).decode()
    assert "secret" not in text
    assert "BREW" not in text
    assert "XXX" not in text


async def test_what_it_does_not_know_makes_no_label_of_its_own() -> None:
    watched = Watched()
    observer = watched.stage.uploads.observer
    observer.request_began("brew")
    assert watched.value("requests_running", operation="unknown") == 1
    observer.request_ended(Outcome(operation="brew", status=999))
    assert watched.value("requests_total", operation="unknown", status="none") == 1
    assert "brew" not in generate_latest(watched.registry).decode()


async def test_what_can_happen_is_shown_before_it_does() -> None:
    text = generate_latest(Watched().registry).decode()
    assert 'tusasgi_uploads_total{event="completed"} 0.0' in text
    assert 'tusasgi_requests_running{operation="append"} 0.0' in text
    assert 'tusasgi_requests_total{operation="append",status="507"} 0.0' in text
    assert 'tusasgi_swept_uploads_total{result="failed"} 0.0' in text


def documented(text: str | None) -> dict[str, str]:
    """Return what a table says of each metric: its kind and labels, without the last column."""
    rows = re.findall(r"^ *\| `(tusasgi_\w+)` \| (\w+ \|[^|]*)\|", text or "", re.MULTILINE)
    return {name: f"{about.strip()} " if about.endswith("| ") else about for name, about in rows}


async def test_every_metric_is_documented_with_its_labels() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    real = {}
    for collector in registry._collector_to_names:
        (family,) = collector.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in collector._labelnames)  # type: ignore[attr-defined]
        real[name] = f"{family.type} | {labels}".rstrip() + " "
    page = Path(__file__).parents[1] / "docs" / "monitoring.md"
    assert documented(Metrics.__doc__) == real
    assert documented(page.read_text()) == real


# Observers.


class Diary(Observer):
    def __init__(self) -> None:
        self.began: list[str] = []
        self.outcomes: list[Outcome] = []

    def request_began(self, operation: str) -> None:
        self.began.append(operation)

    def request_ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


async def test_an_observer_is_told_of_each_request_whatever_becomes_of_it() -> None:
    diary = Diary()

    class Broken(Recorder):
        async def authorize(self, *arguments: Any) -> None:
            raise RuntimeError("a bug")

    stage = make_stage(MemoryStore(), hooks=Broken(), engine={"observer": diary})
    with pytest.raises(RuntimeError):
        await stage.head("u")
    (outcome,) = diary.outcomes
    assert (diary.began, outcome.operation, outcome.status) == (["get"], "get", 423)
    assert outcome.seconds > 0


async def test_an_overridden_method_is_the_one_that_counts() -> None:
    diary = Diary()
    stage = make_stage(MemoryStore(), engine={"observer": diary})
    await stage.driver.request("POST", "/u", {"X-HTTP-Method-Override": "PATCH"})
    assert diary.began == ["append"]


# Log lines.


def lines_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int | None]]:
    return [
        (record.levelname, getattr(record, "operation", ""), getattr(record, "status", None))
        for record in caplog.records
        if record.name == "tusasgi.requests"
    ]


async def test_each_request_is_one_line_with_its_facts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tusasgi")
    stage = make_stage(MemoryStore())
    upload = await stage.upload()
    await stage.patch(upload.id, 0, b"he")
    await stage.head(upload.id)
    assert lines_of(caplog) == [("INFO", "append", 204), ("DEBUG", "get", 200)]
    record = caplog.records[0]
    facts = {name: getattr(record, name) for name in ("upload_id", "received", "offset")}
    assert facts == {"upload_id": upload.id, "received": 2, "offset": 2}
    assert record.getMessage().startswith(f"append 204 upload={upload.id} received=2 offset=2 ")
    assert json.loads(json.dumps(record.seconds)) > 0  # type: ignore[attr-defined]


async def test_trouble_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Recorder):
        async def authorize(self, *arguments: Any) -> None:
            raise RuntimeError("a bug")

    stage: Stage = make_stage(MemoryStore(), hooks=Broken())
    with pytest.raises(RuntimeError):
        await stage.head("u")
    with pytest.raises(RuntimeError):
        await stage.patch("u", 0)
    assert lines_of(caplog) == [("WARNING", "get", 423), ("WARNING", "append", 500)]


async def test_nothing_that_a_client_said_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tusasgi")
    stage = make_stage(MemoryStore())
    secret = base64.b64encode(b"secret name").decode()
    own: Mapping[str, str] = {
        "Upload-Length": "5",
        "Upload-Metadata": f"filename {secret}",
        "Authorization": "Bearer secret-key",
        "Content-Type": OCTETS,
    }
    await stage.driver.request("POST", "/", own, b"hello")
    await stage.driver.request("PATCH", "/not-there", own)
    await stage.driver.request("SECRET", "/not-there", own)
    assert len(caplog.records) == 3
    written = " ".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for text in (secret, "secret", "SECRET", "Bearer", "not-there"):
        assert text not in written
