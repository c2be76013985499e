"""The statements on checksums whose preconditions are prose."""

import base64
import hashlib

from tests._stage import OCTETS, MakeStage, Stage
from tests.conformance.by_hand import rule
from tusasgi.checksums import ALGORITHMS
from tusasgi.testing import RecordedResponse


def checksum(content: bytes, algorithm: str = "sha1") -> dict[str, str]:
    """Return the header for a body."""
    running = ALGORITHMS[algorithm]()
    running.update(content)
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(running.digest()).decode()}"}


@rule("CHK-004")
async def it_covers_one_body(make_stage: MakeStage) -> None:
    stage = make_stage()
    upload = await stage.upload(length=11, content=b"hello ")
    answer = await stage.patch(upload.id, 6, b"world", checksum(b"world"))
    assert (answer.status, await stage.content(upload.id)) == (204, b"hello world")


@rule("CHK-009")
async def nothing_is_kept_of_a_mismatch(make_stage: MakeStage) -> None:
    stage = make_stage()
    upload = await stage.upload(length=5, content=b"he")
    before = stage.snapshot()
    answer = await stage.patch(upload.id, 2, b"lloo"[:3], checksum(b"LLO"))
    assert (answer.status, stage.snapshot()) == (460, before)
    assert await stage.offset(upload.id) == 2
    assert (await stage.patch(upload.id, 2, b"llo")).status == 204
    assert await stage.content(upload.id) == b"hello"
    assert stage.events == ["completed"]


@rule("CHK-014")
async def each_algorithm_is_accepted(make_stage: MakeStage) -> None:
    stage = make_stage()
    answer = await stage.driver.request("OPTIONS", "/", {"Tus-Resumable": None})
    listed = answer.headers["tus-checksum-algorithm"].split(",")
    assert listed == list(ALGORITHMS)
    for algorithm in listed:
        upload = await stage.upload(length=5)
        wrong = checksum(b"hellO", algorithm)
        assert (await stage.patch(upload.id, 0, b"hello", wrong)).status == 460
        right = checksum(b"hello", algorithm)
        assert (await stage.patch(upload.id, 0, b"hello", right)).status == 204


@rule("CHK-015")
async def anything_else_is_refused(make_stage: MakeStage) -> None:
    stage = make_stage()
    upload = await stage.upload(length=5)
    before = stage.snapshot()
    digest = base64.b64encode(hashlib.sha1(b"hello").digest()).decode()
    for value in ("sha1", "sha1 ", "sha1  x y", "sha1 !!!", "", "sha1 YQ==", f"SHA1 {digest}"):
        answer = await stage.patch(upload.id, 0, b"hello", {"Upload-Checksum": value})
        assert answer.status == 400, value
    assert stage.snapshot() == before


@rule("EDGE-027")
async def a_creation_with_a_wrong_body_leaves_nothing(make_stage: MakeStage) -> None:
    stage = make_stage()
    answer = await _create(stage, b"hello", checksum(b"hellO"))
    assert answer.status == 460
    assert "location" not in answer.headers
    assert stage.snapshot() == {}
    assert (await _create(stage, b"hello", checksum(b"hello"))).status == 201


async def _create(stage: Stage, content: bytes, headers: dict[str, str]) -> RecordedResponse:
    own = {"Upload-Length": str(len(content)), "Content-Type": OCTETS, **headers}
    return await stage.driver.request("POST", "/", own, content)
