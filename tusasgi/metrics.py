"""What an engine does, as metrics for Prometheus: the extra `metrics`."""

from typing import Final

from tusasgi.arguments import needs_extra
from tusasgi.lifecycle import Event
from tusasgi.models import Operation, Upload
from tusasgi.observer import Observer, Outcome

with needs_extra("metrics"):
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

# Append is the operation that may take as long as a file takes to come over a bad network.
REQUEST_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0, 900.0, 1800.0, 3600.0,
)  # fmt: skip
LOCK_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

# To concatenate is asked of hooks only: the request is one to create.
_OPERATIONS = frozenset(
    {operation.value for operation in Operation} - {Operation.CONCATENATE.value}
    | {"options", "unknown"}
)
_STATUSES = {status: str(status) for status in range(100, 600)}
_TROUBLE = ("500", "503", "507")  # of which somebody may want an alert the first time
# Each append is an event, and a request too: there it is counted.
_EVENTS = frozenset(Event) - {Event.APPENDED}


class Metrics(Observer):
    """Counts and times in the registry of `prometheus_client`, or in the one that is given.

    One object serves any number of engines. A second one needs a registry of its own, as no
    name can be registered twice.

    | name | kind | labels | what it says |
    | --- | --- | --- | --- |
    | `tusasgi_requests_total` | counter | `operation`, `status` | requests that have ended |
    | `tusasgi_requests_running` | gauge | `operation` | requests now; `append` are transfers |
    | `tusasgi_request_duration_seconds` | histogram | `operation` | from the head to the answer |
    | `tusasgi_received_bytes_total` | counter | | bytes of bodies, when their request ends |
    | `tusasgi_resumes_total` | counter | | appends that went on beyond the first byte |
    | `tusasgi_uploads_total` | counter | `event` | uploads that went through this event |
    | `tusasgi_lock_wait_seconds` | histogram | | how long the lock on an upload was waited for |
    | `tusasgi_swept_uploads_total` | counter | `result` | by sweeps `removed`, or `failed` to be |
    | `tusasgi_last_sweep_timestamp_seconds` | gauge | | when a sweep ended last; 0 for never |

    The values of labels are bounded and none comes from a client: `operation` is the value of
    an `Operation`, `options` or `unknown`; `status` a number from 100 to 599 or `none`, where
    no answer began; `event` the value of an `Event` but `appended`.

    Works in the multiprocess mode of `prometheus_client` too. `requests_running` is the sum over
    the processes that live; the files of one that died unasked need `mark_process_dead`.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._requests = Counter(
            "tusasgi_requests",
            "Requests that have ended, by what they wanted and how they were answered.",
            ["operation", "status"],
            registry=registry,
        )
        self._running = Gauge(
            "tusasgi_requests_running",
            "Requests that are being worked on; those of append are transfers.",
            ["operation"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._durations = Histogram(
            "tusasgi_request_duration_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ["operation"],
            registry=registry,
            buckets=REQUEST_BUCKETS,
        )
        self._received = Counter(
            "tusasgi_received_bytes",
            "Bytes of request bodies, kept or not, counted when the request ends.",
            registry=registry,
        )
        self._resumes = Counter(
            "tusasgi_resumes",
            "Appends that went on beyond the first byte of their upload.",
            registry=registry,
        )
        self._uploads = Counter(
            "tusasgi_uploads",
            "Uploads that went through an event of their lifecycle.",
            ["event"],
            registry=registry,
        )
        self._lock_waits = Histogram(
            "tusasgi_lock_wait_seconds",
            "Seconds that the lock on an upload was waited for, in vain or not.",
            registry=registry,
            buckets=LOCK_BUCKETS,
        )
        self._swept = Counter(
            "tusasgi_swept_uploads",
            "Uploads that sweeps removed, or could not remove.",
            ["result"],
            registry=registry,
        )
        self._last_sweep = Gauge(
            "tusasgi_last_sweep_timestamp_seconds",
            "When a sweep ended last, in seconds since 1970.",
            registry=registry,
            multiprocess_mode="max",
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Show what can happen before it does: a rate needs a value to start from."""
        for operation in _OPERATIONS:
            self._running.labels(operation)
            self._durations.labels(operation)
            for status in _TROUBLE:
                self._requests.labels(operation, status)
        # To a HEAD, what stands in the way for now is 423, whatever it is.
        self._requests.labels(Operation.GET.value, "423")
        for event in _EVENTS:
            self._uploads.labels(event.value)
        for result in ("removed", "failed"):
            self._swept.labels(result)

    def request_began(self, operation: str) -> None:
        self._running.labels(_known(operation)).inc()

    def request_ended(self, outcome: Outcome) -> None:
        operation = _known(outcome.operation)
        self._running.labels(operation).dec()
        self._requests.labels(operation, _STATUSES.get(outcome.status, "none")).inc()
        self._durations.labels(operation).observe(outcome.seconds)
        if outcome.received:
            self._received.inc(outcome.received)
        if outcome.is_resumed:
            self._resumes.inc()

    def changed(self, upload: Upload, event: Event) -> None:
        if event in _EVENTS:
            self._uploads.labels(event.value).inc()

    def lock_waited(self, seconds: float) -> None:
        self._lock_waits.observe(seconds)

    def swept(self, removed: int, failed: int) -> None:
        self._swept.labels("removed").inc(removed)
        self._swept.labels("failed").inc(failed)
        self._last_sweep.set_to_current_time()


def _known(operation: str) -> str:
    return operation if operation in _OPERATIONS else "unknown"
