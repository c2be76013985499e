"""The requests of a run, by short names, and what each of them may leave behind.

A scenario is written in one line, `begun:patch+delete|sweep`: what there is before, and the
requests that come together. `+` is another request to the same process, `|` another process that
shares nothing but the store.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

LENGTH = 12
BEGUN = 3  # bytes that are there before, where some are
SETUP, FINISH = 14, 13  # whose bytes they are
TARGET, OTHER = "u", "v"
OCTETS = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}
DRAFT = {"Upload-Draft-Interop-Version": "9"}

Keeps = Literal["beginning", "whole", "nothing"]
_PASSING = {404, 408, 410, 423, 503}


def content(whose: int, start: int, stop: int) -> bytes:
    """Bytes that show whose they are, and where they belong."""
    return bytes(16 * (whose + 1) + place for place in range(start, stop)) if whose < 15 else b""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request as a client sends it."""

    kind: str
    method: str
    upload_id: str
    headers: dict[str, str] = field(default_factory=dict)
    chunks: tuple[bytes, ...] = ()
    leaves: bool = False
    """True for a client that is gone after its chunks."""
    offset: int = 0
    keeps: Keeps = "nothing"
    """How much of its bytes may be stored if nobody says that all of them are."""
    statuses: frozenset[int] = frozenset()
    jump: float = 0.0
    """Seconds that pass before the request, for sweeps."""

    @property
    def data(self) -> bytes:
        return b"".join(self.chunks)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What there is before. `fails` and `refuses` say what the hooks do."""

    length: int | None = LENGTH
    begun: int = BEGUN
    fails: tuple[str, ...] = ()
    """Hooks that fail the next time they are called."""
    inspects: bool = False
    refuses: bool = False
    is_partial: bool = False
    is_removed: bool = False
    """True for one whose removal was begun and whose hook failed."""


SETUPS: dict[str, Setup] = {
    "fresh": Setup(begun=0),
    "begun": Setup(),
    "grown": Setup(begun=6),
    "failing": Setup(fails=("completed",)),
    "judged": Setup(begun=0, inspects=True),
    "refused": Setup(begun=0, inspects=True, refuses=True),
    "unrefused": Setup(begun=0, inspects=True, refuses=True, fails=("refused",)),
    "deferred": Setup(length=None),
    "full": Setup(begun=LENGTH, fails=("completed",)),
    "done": Setup(begun=LENGTH),
    "parts": Setup(length=5, begun=5, is_partial=True),
    "removed": Setup(fails=("terminated",), is_removed=True),
}


def _append(kind: str, number: int, setup: Setup, stops: tuple[int, ...], **more: object) -> Ask:
    """A PATCH from where the upload is, in chunks that end at `stops`."""
    starts = (setup.begun, *stops[:-1])
    chunks = tuple(content(number, start, stop) for start, stop in zip(starts, stops, strict=True))
    return _patch(kind, setup, chunks, **more)


def _patch(kind: str, setup: Setup, chunks: tuple[bytes, ...], **more: object) -> Ask:
    options: dict[str, object] = {"keeps": "beginning", "chunked": False, **more}
    headers = {
        **TUS,
        "Upload-Offset": str(setup.begun),
        "Content-Type": OCTETS,
        **options.pop("headers", {}),  # type: ignore[dict-item]
    }
    if options.pop("chunked"):
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = str(sum(map(len, chunks)) + int(options.pop("missing", 0)))  # type: ignore[call-overload]
    statuses = {204, 409, *_PASSING, *options.pop("statuses", ())}  # type: ignore[misc]
    if setup.refuses:
        statuses |= {415}
    if setup.begun == setup.length:
        statuses |= {413}
    return Ask(
        kind=kind,
        method="PATCH",
        upload_id=TARGET,
        headers=headers,
        chunks=chunks,
        offset=setup.begun,
        statuses=frozenset(statuses),
        **options,  # type: ignore[arg-type]
    )


def _checksum(data: bytes) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()
    return {"Upload-Checksum": f"sha1 {digest}"}


def _patch_all(number: int, setup: Setup) -> Ask:
    return _append("patch", number, setup, (8, LENGTH), statuses=_length_statuses(setup))


def _piece(number: int, setup: Setup) -> Ask:
    return _append("piece", number, setup, _piece_stops(setup))


def _piece_stops(setup: Setup) -> tuple[int, int]:
    return max(6, setup.begun + 1), 9


def _over(number: int, setup: Setup) -> Ask:
    return _append("over", number, setup, (8, 14), chunked=True, statuses={413})


def _right_sum(number: int, setup: Setup) -> Ask:
    data = content(number, setup.begun, LENGTH)
    return _append("sum", number, setup, (8, LENGTH), keeps="whole", headers=_checksum(data))


def _wrong_sum(number: int, setup: Setup) -> Ask:
    return _append(
        "badsum", number, setup, (8, LENGTH),
        keeps="nothing", headers=_checksum(b"?"), statuses={460},
    )  # fmt: skip


def _leave(number: int, setup: Setup) -> Ask:
    return _append("leave", number, setup, _piece_stops(setup), missing=3, leaves=True)


def _declare(number: int, setup: Setup) -> Ask:
    return _append(
        "declare",
        number,
        setup,
        (8, LENGTH),
        headers={"Upload-Length": str(LENGTH)},
        statuses={400},
    )


def _part(number: int, setup: Setup) -> Ask:
    """All bytes by the draft, which does not call them the last."""
    return _draft_append("part", number, setup, is_last=False)


def _last(number: int, setup: Setup) -> Ask:
    """All bytes by the draft, chunked, and the end is where they end."""
    return _draft_append("last", number, setup, is_last=True)


def _draft_append(kind: str, number: int, setup: Setup, *, is_last: bool) -> Ask:
    ask = _append(kind, number, setup, (8, LENGTH), chunked=is_last, statuses={201, 400})
    own = {
        "Upload-Offset": str(setup.begun),
        "Content-Type": "application/partial-upload",
        "Upload-Complete": f"?{int(is_last)}",
    }
    framing = {name: ask.headers[name] for name in ask.headers if name not in {*own, *TUS}}
    return replace(ask, headers={**DRAFT, **own, **framing})


def _length_statuses(setup: Setup) -> set[int]:
    return {413} if setup.length is None else set()


def _plain(kind: str, method: str, *statuses: int) -> Callable[[int, Setup], Ask]:
    def make(number: int, setup: Setup) -> Ask:
        return Ask(
            kind=kind,
            method=method,
            upload_id=TARGET,
            headers=TUS,
            statuses=frozenset({*statuses, *_PASSING}),
        )

    return make


def _stop(number: int, setup: Setup) -> Ask:
    """HEAD of the draft: whoever appends is stopped, and the offset holds."""
    return Ask(
        kind="stop",
        method="HEAD",
        upload_id=TARGET,
        headers=DRAFT,
        statuses=frozenset({204, *_PASSING}),
    )


def _sweep(kind: str, jump: float) -> Callable[[int, Setup], Ask]:
    def make(number: int, setup: Setup) -> Ask:
        return Ask(kind=kind, method="SWEEP", upload_id=TARGET, jump=jump)

    return make


def _post(number: int, setup: Setup) -> Ask:
    chunks = content(number, 0, 7), content(number, 7, LENGTH)
    headers = {
        **TUS,
        "Upload-Length": str(LENGTH),
        "Content-Type": OCTETS,
        "Content-Length": str(LENGTH),
    }
    return Ask(
        kind="post",
        method="POST",
        upload_id=f"n{number}",
        headers=headers,
        chunks=chunks,
        keeps="beginning",
        statuses=frozenset({201, 408, 415, 423, 503}),
    )


def _empty_post(number: int, setup: Setup) -> Ask:
    headers = {**TUS, "Upload-Length": str(LENGTH)}
    return Ask(
        kind="create",
        method="POST",
        upload_id=f"n{number}",
        headers=headers,
        statuses=frozenset({201, 503}),
    )


def _final(number: int, setup: Setup) -> Ask:
    headers = {**TUS, "Upload-Concat": f"final;/files/{TARGET} /files/{OTHER}"}
    return Ask(
        kind="final",
        method="POST",
        upload_id=f"n{number}",
        headers=headers,
        statuses=frozenset({201, 400, *_PASSING}),
    )


KINDS: dict[str, Callable[[int, Setup], Ask]] = {
    "patch": _patch_all,
    "piece": _piece,
    "over": _over,
    "sum": _right_sum,
    "badsum": _wrong_sum,
    "leave": _leave,
    "declare": _declare,
    "head": _plain("head", "HEAD", 200),
    "get": _plain("get", "GET", 200),
    "delete": _plain("delete", "DELETE", 204),
    "part": _part,
    "last": _last,
    "stop": _stop,
    "sweep": _sweep("sweep", 900),  # past the time of every upload that was not renewed
    "tidy": _sweep("tidy", 0),
    "post": _post,
    "create": _empty_post,
    "final": _final,
}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    name: str
    setup: Setup
    asks: tuple[Ask, ...]
    processes: tuple[int, ...]
    """Which process each request comes to."""

    @property
    def is_shared(self) -> bool:
        return len(set(self.processes)) > 1


def parse(name: str) -> Scenario:
    """Read `begun:patch+delete|sweep`."""
    setup_name, _, rest = name.partition(":")
    setup = SETUPS[setup_name]
    words = re.split(r"([+|])", rest)
    processes = [0]
    for separator in words[1::2]:
        processes.append(processes[-1] + (separator == "|"))
    asks = tuple(KINDS[kind](number, setup) for number, kind in enumerate(words[::2]))
    return Scenario(name=name, setup=setup, asks=asks, processes=tuple(processes))
