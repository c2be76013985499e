"""Runs the statements that are precise enough to be run as they stand.

`SCENES` says what a precondition means, `STATES` how a condition is checked that no answer
shows. A statement with other words is in `by_hand`.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests._stage import MakeStage, Stage
from tests.conformance.rules import NOT_APPLICABLE, RULES, Rule
from tusasgi import Expiry, Limits, Upload
from tusasgi.testing import DISCONNECT, STALL, RecordedResponse

CONTENT = b"hello world" * 10
EVERY_EXTENSION = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "checksum",
    "termination",
    "concatenation",
    "expiration",
)


@dataclass(frozen=True)
class Scene:
    """What stands before the first request."""

    length: int | None = 5
    offset: int = 0
    max_size: int | None = None
    expiry: Expiry | None = None
    options: dict[str, Any] = field(default_factory=dict)
    is_fresh_for_each: bool = False


_SLIDING = Expiry(initial=timedelta(hours=48), after_append=timedelta(hours=48))
_EXPIRING = Scene(expiry=_SLIDING)
_DEFERRED = Scene(length=None)

SCENES = {
    "": Scene(),
    "any existing upload": Scene(),
    "existing upload": Scene(),
    "existing upload, offset 0": Scene(),
    "existing upload, offset 3": Scene(offset=3),
    "upload with known length": Scene(),
    "length known": Scene(),
    "unfinished upload": Scene(offset=3),
    "finished upload": Scene(offset=5),
    "upload created without metadata": Scene(),
    "a fresh upload of length 5 for each": Scene(is_fresh_for_each=True),
    "created with Upload-Length: 10": Scene(length=10),
    "length already 11, offset 5": Scene(length=11, offset=5),
    "length 10, offset 5, bytes 'hello'": Scene(length=10, offset=5),
    "server supports only 1.0.0": Scene(),
    "no maximum configured": Scene(),
    "no expiry": Scene(),
    "maximum size configured as 1073741824": Scene(max_size=1073741824),
    "maximum size 1000": Scene(max_size=1000),
    "maximum size 1000; uvicorn or granian": Scene(max_size=1000),
    "maximum size 1000; deferred upload": Scene(length=None, max_size=1000),
    "deferred; maximum size 1000": Scene(length=None, max_size=1000),
    "extensions and maximum size configured": Scene(max_size=1000),
    "all extensions disabled": Scene(options={"without": EVERY_EXTENSION}),
    "all extensions disabled; {upload} pre-allocated out of band with length 5, offset 0": Scene(
        options={"without": EVERY_EXTENSION}
    ),
    "creation enabled": Scene(),
    "extension enabled": Scene(),
    "extension enabled; length 5": Scene(length=5),
    "extension enabled; length 11": Scene(length=11),
    "both extensions on": Scene(),
    "any ASGI server": Scene(),
    "not implemented": Scene(),
    "termination enabled; existing upload": Scene(),
    "creation off": Scene(options={"without": ["creation"]}),
    "deferred upload, some bytes received": Scene(length=None, offset=3),
    "deferred upload at offset 5": Scene(length=None, offset=5),
    "deferred upload at offset 0": _DEFERRED,
    "deferred, offset 5": Scene(length=None, offset=5),
    "an expiry is configured": _EXPIRING,
    "expiry 48 h": _EXPIRING,
    "expiry configured": _EXPIRING,
    "expiry configured; length 5, offset 0": _EXPIRING,
    "expiry on, length 5": _EXPIRING,
    "expiry on, unfinished": Scene(offset=3, expiry=_SLIDING),
    "upload expired": _EXPIRING,
    "expired and remembered": _EXPIRING,
    "option on": Scene(options={"idempotent_delete": True}),
    "value decodes to a CR LF sequence and a header line": Scene(),
    "count receive() calls": Scene(),
    "length 5; more_body true on all but the last": Scene(),
    "two Upload-Offset lines, 0 and 1": Scene(),
    "http_version '2'": Scene(),
    "no Expect header": Scene(),
}
"""What a precondition means, by its words."""

_OFF = {
    "EDGE-019": Scene(options={"without": ["creation-defer-length"]}),
    "EDGE-020": Scene(options={"without": ["concatenation"]}),
    "EDGE-021": Scene(options={"without": ["checksum"]}),
    "EDGE-022": Scene(options={"without": ["termination"]}),
}
"""Where "extension off" means another extension each time."""

# A message without its optional keys; a value that is a description; an upload of another kind;
# and two that a function says more of.
_NOT_TO_BE_SENT_AS_IT_STANDS = {"ASGI-005", "ASGI-019", "CAT-023", "EDGE-027", "EDGE-042"}

_NUMBERS = re.compile(
    r"(?:\{upload\} |upload )?(?:length (\d+)(?: known)?)?(?:, )?(?:offset (\d+))?"
)


def scene_of(rule: Rule) -> Scene | None:
    """Return what a precondition asks for, None if it takes a person to read it."""
    words = rule["precondition"]
    if rule["id"] in _OFF:
        return _OFF[rule["id"]]
    if words in SCENES:
        return SCENES[words]
    if numbers := _NUMBERS.fullmatch(words):
        return Scene(length=int(numbers[1] or 5), offset=int(numbers[2] or 0))
    return None


@dataclass
class Run:
    """One statement on its way through the requests."""

    stage: Stage
    scene: Scene
    rule: Rule
    upload: Upload
    before: dict[str, Any]
    answers: list[RecordedResponse] = field(default_factory=list)

    @property
    def upload_path(self) -> str:
        """The path of `{upload}`: the one just created, else the one of the scene."""
        for answer in reversed(self.answers):
            if "location" in answer.headers:
                return answer.headers["location"].removeprefix("/files")
        return f"/{self.upload.id}"

    async def target(self, name: str) -> str:
        name, slash = name.removesuffix("/"), "/" if name.endswith("/") else ""
        if name == "{collection}":
            return slash
        if name == "{missing}":
            return f"/{'0' * 32}"
        if name == "{deleted}":
            await self.stage.uploads.terminate(self.upload.id)
        elif name == "{expired}":
            self.stage.clock.advance(hours=49)
        return self.upload_path + slash


# The conditions that no answer shows.


async def _unchanged(run: Run) -> None:
    assert run.stage.snapshot() == run.before


async def _no_body(run: Run) -> None:
    assert [answer.body for answer in run.answers] == [b""] * len(run.answers)


async def _gone(run: Run) -> None:
    assert (await run.stage.head(run.upload.id)).status in (404, 410)


async def _never_asked(run: Run) -> None:
    assert [answer.receives_before_start for answer in run.answers] == [0] * len(run.answers)


async def _unchanged_unasked(run: Run) -> None:
    await _unchanged(run)
    await _never_asked(run)


async def _completed_once(run: Run) -> None:
    assert run.stage.events == ["completed"]
    assert (await run.stage.store.get(run.upload_path[1:])).is_complete


async def _completed_with_length(run: Run) -> None:
    await _completed_once(run)
    assert (await run.stage.head(run.upload.id)).headers["upload-length"] == "11"


async def _no_hook_again(run: Run) -> None:
    assert run.stage.events == ["completed"]  # when the scene was set


async def _unfinished(run: Run) -> None:
    assert run.stage.events == []
    assert not (await run.stage.store.get(run.upload.id)).is_complete


async def _rolled_back(run: Run) -> None:
    await _unchanged(run)
    await _unfinished(run)
    assert run.answers[-1].headers["upload-offset"] == str(run.scene.offset)


async def _all_succeeded(run: Run) -> None:
    assert all(200 <= answer.status < 300 for answer in run.answers)


async def _hello_world(run: Run) -> None:
    assert await run.stage.content(run.upload.id) == b"hello world"


async def _agrees(run: Run) -> None:
    first, last = run.answers
    assert first.headers["upload-offset"] == last.headers["upload-offset"]


async def _created(run: Run) -> None:
    head = await run.stage.head(run.upload_path[1:])
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("0", "100")
    assert run.upload_path[1:] != run.upload.id


async def _still_at_zero(run: Run) -> None:
    assert run.answers[-1].headers["upload-offset"] == "0"
    await _unchanged(run)


async def _refused_type(run: Run) -> None:
    assert run.answers[0].status == 415
    await _unchanged(run)


async def _no_expiration(run: Run) -> None:
    extensions = run.answers[0].headers["tus-extension"].split(",")
    assert extensions
    assert "expiration" not in extensions


async def _world(run: Run) -> None:
    record = await run.stage.store.get(run.upload_path[1:])
    assert dict(record.metadata) == {"filename": b"world", "is_confidential": b""}


async def _empty_value(run: Run) -> None:
    for answer in run.answers:
        record = await run.stage.store.get(answer.headers["location"].removeprefix("/files/"))
        assert dict(record.metadata) == {"is_confidential": b""}


async def _both_pairs(run: Run) -> None:
    head = await run.stage.head(run.upload_path[1:])
    assert head.headers["upload-metadata"] == "a YQ==,b Yg=="


async def _no_transfer_encoding(run: Run) -> None:
    patch, head = run.answers
    assert "content-length" not in patch.headers
    assert head.headers["content-length"] == "0"
    assert "transfer-encoding" not in head.headers


async def _drained(run: Run) -> None:
    (answer,) = run.answers
    assert answer.receives == 1
    assert "connection" not in answer.headers


async def _no_trailer(run: Run) -> None:
    assert "checksum-trailer" not in run.answers[0].headers["tus-extension"].split(",")


async def _no_unfinished(run: Run) -> None:
    assert "concatenation-unfinished" not in run.answers[0].headers["tus-extension"].split(",")


async def _default(run: Run) -> None:
    assert run.scene.options == {}


STATES: dict[str, Callable[[Run], Awaitable[None]]] = {
    "each of the three requests succeeds (2xx)": _all_succeeded,
    "offset and bytes unchanged": _unchanged,
    "nothing created, changed or removed": _unchanged,
    "final HEAD shows Upload-Offset: 0 and the upload still exists": _still_at_zero,
    "later HEAD is 404 or 410": _gone,
    "no response body": _no_body,
    "stored bytes are 'hello world'": _hello_world,
    "offset unchanged": _unchanged,
    "offset still 5; stored bytes still 'hello'": _unchanged,
    "HEAD agrees with the PATCH response": _agrees,
    "a new resource exists at Location with offset 0 and length 100": _created,
    "nothing created": _unchanged,
    "completion hook ran exactly once": _completed_once,
    "metadata is {filename: b'world', is_confidential: b''}": _world,
    "both give an empty value for the key": _empty_value,
    "upload complete; completion hook ran once": _completed_once,
    "if 201, the body was ignored and the offset is 0": _refused_type,
    "no 100 Continue precedes the 413; no body byte was needed": _never_asked,
    "upload complete; HEAD shows Upload-Length: 11": _completed_with_length,
    "upload stays unfinished": _unfinished,
    "length still deferred, offset unchanged": _unchanged,
    "expiration not in Tus-Extension": _no_expiration,
    "HEAD shows 0": _unchanged,
    "checksum-trailer not in Tus-Extension": _no_trailer,
    "concatenation-unfinished not listed": _no_unfinished,
    "in the default configuration": _default,
    "hooks do not run again": _no_hook_again,
    "bytes unchanged": _unchanged,
    "offset 0; no receive() before the response": _unchanged,
    "offset back at its value before the request; completion hook not run": _rolled_back,
    "offset never above 1000": _unchanged,
    "length still deferred": _unchanged,
    "HEAD shows both pairs": _both_pairs,
    "zero body bytes": _no_body,
    # Before it was judged, that is: what comes behind the answer is dropped.
    "receive() was never called": _never_asked,
    "connection stays usable for the next request": _drained,
    "no Transfer-Encoding on the HEAD response": _no_transfer_encoding,
}
"""How a condition on the state is checked, by its words."""


def is_generic(rule: Rule) -> bool:
    """True if every word of the statement is understood here."""
    if rule["id"] in NOT_APPLICABLE or rule["id"] in _NOT_TO_BE_SENT_AS_IT_STANDS:
        return False
    states = rule["expect"].get("state", ())
    return scene_of(rule) is not None and all(state in STATES for state in states)


async def run_rule(rule_id: str, make_stage: MakeStage) -> None:
    """Set the scene, send the requests, hold the answers against what is expected."""
    rule = RULES[rule_id]
    scene = scene_of(rule)
    assert scene is not None
    stage = make_stage(
        engine={"limits": Limits(max_size=scene.max_size), "expiry": scene.expiry},
        **scene.options,
    )
    run = Run(stage, scene, rule, await _upload(stage, scene), stage.snapshot())
    requests = rule["request"] if isinstance(rule["request"], list) else [rule["request"]]
    for request in requests:
        if scene.is_fresh_for_each:
            run.upload = await _upload(stage, scene)
        run.answers.append(await _send(run, request))
    _check_answers(rule["expect"], run.answers)
    for state in rule["expect"].get("state", ()):
        await STATES[state](run)


async def _upload(stage: Stage, scene: Scene) -> Upload:
    return await stage.upload(length=scene.length, content=CONTENT[: scene.offset])


async def _send(run: Run, request: dict[str, Any]) -> RecordedResponse:
    headers, body = _framed(request["body"])
    # None takes the default out, so that a statement can leave the version out.
    lines = [("Tus-Resumable", None), *headers, *request["headers"].items()]
    lines += request.get("extra_header_lines", [])
    return await run.stage.driver.request(
        request["method"],
        await run.target(request["target"]),
        [(name, value) for name, value in lines],
        body,
        scope=_scope(run, request),
    )


def _scope(run: Run, request: dict[str, Any]) -> dict[str, Any]:
    if run.rule["precondition"] == "http_version '2'":
        return {"http_version": "2"}
    return {"http_version": request.get("http_version", "1.1")}


def _framed(body: dict[str, Any] | None) -> tuple[list[tuple[str, str | None]], Any]:
    """Return the headers that frame a body, and the body as the driver takes it."""
    if body is None:
        return [], b""
    if "messages" in body:
        return [], _messages(body["messages"])
    content = body["text"].encode() if "text" in body else bytes(body["size"])
    framing = body.get("framing", "content-length")
    sent = content[: body.get("sent", len(content))]
    announced: list[tuple[str, str | None]] = [("Content-Length", str(len(content)))]
    return {
        "content-length": ([], content),
        "chunked": ([], [sent]),
        "truncated": (announced, [sent, DISCONNECT]),
        "stalled": (announced, [sent, STALL]),
        "wait-for-100": (announced, [STALL]),
    }[framing]


def _messages(messages: list[str]) -> list[bytes]:
    *chunks, last = [message.encode() for message in messages]
    return [*chunks, last] if last else chunks  # the driver ends with an empty message itself


def _check_answers(expect: dict[str, Any], answers: list[RecordedResponse]) -> None:
    if expect.get("mode") == "sequence":
        for answer, step in zip(answers, expect["steps"], strict=True):
            _check(answer, step)
        _check(answers[-1], expect)
    else:
        for answer in answers:
            _check(answer, expect)


def _check(answer: RecordedResponse, expect: dict[str, Any]) -> None:
    if "status" in expect:
        assert answer.status in expect["status"], answer
    for name, value in expect.get("headers", {}).items():
        assert name.lower() in answer.headers, answer
        given = answer.headers[name.lower()]
        if value.startswith("re:"):
            assert re.search(value[3:], given), f"{name}: {given}"
        else:
            assert value in ("*", given), f"{name}: {given}"
    for name in expect.get("absent_headers", ()):
        assert name.lower() not in answer.headers, answer
