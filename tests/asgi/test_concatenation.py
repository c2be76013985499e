"""Final uploads: joined once, inspected as a whole, and never lost half-way."""

from collections.abc import Mapping
from datetime import timedelta

import anyio
import pytest

from tests._stage import MakeStage, Recorder, Stage, location_path
from tests.conformance.concatenation import final, made, partial
from tusasgi import (
    Creation,
    Expiry,
    Fact,
    Forbidden,
    Limits,
    Operation,
    Request,
    StoreFull,
    UnsupportedMedia,
    Upload,
    UploadNotFound,
    UploadPending,
)

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


class Inspecting(Recorder):
    head_size = 6

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[bytes] = []

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        self.heads.append(head)
        if head.startswith(b"X"):
            raise UnsupportedMedia("this begins with an X")
        return {"seen": len(head)}


async def test_a_final_is_inspected_once_over_the_borders_of_its_parts(make: MakeStage) -> None:
    hooks = Inspecting()
    stage = make(hooks=hooks)
    paths = [await partial(stage, part) for part in (b"he", b"", b"l", b"lo world")]
    path = await made(stage, *paths)
    assert hooks.heads == [b"hello "]
    assert (await stage.store.get(path[1:])).facts == {"seen": 6}
    assert hooks.events == ["completed"]


async def test_a_final_that_is_refused_is_not_created_and_its_parts_stay(make: MakeStage) -> None:
    stage = make(hooks=Inspecting())
    one, two = await partial(stage, b"hello"), await partial(stage, b"X")
    before = stage.snapshot()
    assert (await final(stage, two, one)).status == 415
    assert stage.snapshot() == before
    assert (await final(stage, one, two)).status == 201


async def test_a_piece_may_be_smaller_than_the_minimum_but_not_the_whole(make: MakeStage) -> None:
    stage = make(engine={"limits": Limits(min_size=10, max_size=20)})
    one = await partial(stage, b"hello")
    assert (await final(stage, one)).status == 422
    assert (await final(stage, one, one)).status == 201
    own = {"Upload-Concat": "partial", "Upload-Length": "21"}
    assert (await stage.driver.request("POST", "/", own)).status == 413


async def test_a_piece_may_tell_its_length_later(make: MakeStage) -> None:
    stage = make()
    own = {"Upload-Concat": "partial", "Upload-Defer-Length": "1"}
    path = location_path(await stage.driver.request("POST", "/", own))
    assert (await stage.patch(path[1:], 0, b"hello")).status == 204
    assert (await final(stage, path)).status == 400
    assert (await stage.patch(path[1:], 5, b"", {"Upload-Length": "5"})).status == 204
    assert (await final(stage, path)).status == 201
    deferred = await final(stage, path, Upload_Defer_Length="1")
    assert deferred.status == 400


async def test_the_creating_hook_sees_what_is_joined(make: MakeStage) -> None:
    seen: list[Creation] = []

    class Watching(Recorder):
        async def creating(self, creation: Creation, request: Request | None) -> Creation:
            seen.append(creation)
            return creation

    stage = make(hooks=Watching())
    one = await partial(stage, b"hello")
    await made(stage, one, one)
    assert [(c.is_partial, c.length, c.parts) for c in seen] == [
        (True, 5, ()),
        (False, 10, (one[1:], one[1:])),
    ]


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        pytest.param(UploadNotFound(), 400, id="as-if-it-were-not-there"),
        pytest.param(Forbidden("not yours"), 403, id="openly"),
    ],
)
async def test_a_part_of_somebody_else_cannot_be_joined(
    make: MakeStage, refusal: Exception, status: int
) -> None:
    class Strict(Recorder):
        async def authorize(
            self, request: Request, operation: Operation, upload: Upload | None
        ) -> None:
            if operation is Operation.CONCATENATE:
                raise refusal

    stage = make(hooks=Strict())
    one = await partial(stage, b"hello")
    before = stage.snapshot()
    assert (await final(stage, one)).status == status
    assert stage.snapshot() == before


# What interrupts the joining.


async def failing_first(stage: Stage, failure: Exception) -> str:
    """Ask for a final upload whose joining fails, and return its id."""
    concat = stage.store.concat

    async def failing(upload: Upload) -> Upload:
        raise failure

    stage.store.concat = failing  # type: ignore[method-assign]
    one = await partial(stage, b"hello")
    answer = None
    try:
        answer = await final(stage, one, one)
    except OSError as error:
        assert error is failure
    assert answer is None or answer.status == 507
    stage.store.concat = concat  # type: ignore[method-assign]
    (upload_id,) = [key async for key in stage.store.due(stage.clock())]
    return upload_id


FAILURES = [
    pytest.param(OSError(5, "the disk is broken"), id="outage"),
    pytest.param(StoreFull("no room"), id="full"),
]


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_head_goes_on_with_a_joining_that_failed(
    make: MakeStage, failure: Exception
) -> None:
    stage = make()
    upload_id = await failing_first(stage, failure)
    assert stage.events == []
    head = await stage.head(upload_id)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("10", "10")
    assert await stage.content(upload_id) == b"hellohello"
    assert stage.events == ["completed"]


@pytest.mark.parametrize("failure", FAILURES)
async def test_the_sweeper_goes_on_with_a_joining_that_failed(
    make: MakeStage, failure: Exception
) -> None:
    stage = make()
    upload_id = await failing_first(stage, failure)
    assert await stage.uploads.sweep() == 0
    assert await stage.content(upload_id) == b"hellohello"
    assert stage.events == ["completed"]


async def test_a_joining_goes_on_when_its_request_is_cancelled(make: MakeStage) -> None:
    stage = make()
    one = await partial(stage, b"hello")
    is_joining, concat = anyio.Event(), stage.store.concat

    async def slow(upload: Upload) -> Upload:
        is_joining.set()
        await anyio.sleep_forever()
        return upload

    stage.store.concat = slow  # type: ignore[method-assign]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(final, stage, one, one)
        await is_joining.wait()
        tasks.cancel_scope.cancel()
    stage.store.concat = concat  # type: ignore[method-assign]
    await stage.uploads.sweep()
    assert stage.events == ["completed"]


async def test_a_final_whose_part_is_gone_is_removed_with_its_hook(make: MakeStage) -> None:
    stage = make()
    upload_id = await failing_first(stage, OSError(5, "the disk is broken"))
    (part,) = set((await stage.store.get(upload_id)).parts)
    await stage.uploads.terminate(part)
    stage.events.clear()
    assert (await stage.head(upload_id)).status == 404
    assert stage.events == ["terminated"]
    with pytest.raises(UploadNotFound):
        await stage.store.get(upload_id)


async def test_a_sweep_removes_a_final_whose_part_is_gone(make: MakeStage) -> None:
    stage = make()
    upload_id = await failing_first(stage, OSError(5, "the disk is broken"))
    (part,) = set((await stage.store.get(upload_id)).parts)
    await stage.uploads.terminate(part)
    assert await stage.uploads.sweep() == 1
    with pytest.raises(UploadNotFound):
        await stage.store.get(upload_id)


async def test_a_final_is_not_told_complete_before_its_hook_was(make: MakeStage) -> None:
    class Failing(Recorder):
        async def completed(self, upload: Upload) -> None:
            raise RuntimeError("the database is away")

    stage = make(hooks=Failing())
    one = await partial(stage, b"hello")
    with pytest.raises(RuntimeError):
        await final(stage, one)
    (upload_id,) = [key async for key in stage.store.due(stage.clock())]
    with pytest.raises(UploadPending):
        await stage.uploads.get(upload_id)


# Afterwards.


async def test_a_final_outlives_its_parts(make: MakeStage) -> None:
    stage = make()
    one = await partial(stage, b"hello")
    path = await made(stage, one)
    assert (await stage.driver.request("DELETE", one)).status == 204
    assert await stage.content(path[1:]) == b"hello"


async def test_a_finished_piece_expires_and_its_final_does_not(make: MakeStage) -> None:
    stage = make(engine={"expiry": Expiry(initial=HOUR, after_append=HOUR)})
    one = await partial(stage, b"hello")
    assert "upload-expires" in (await stage.head(one[1:])).headers
    path = await made(stage, one)
    assert "upload-expires" not in (await stage.head(path[1:])).headers
    stage.clock.advance(hours=1)
    assert (await stage.head(one[1:])).status == 410
    assert (await final(stage, one)).status == 400
    assert await stage.uploads.sweep() == 1
    assert await stage.content(path[1:]) == b"hello"


# Digests.


@pytest.mark.parametrize("parts", [[b"hello", b" world"], [b"hello world"]])
async def test_the_completed_hook_is_given_the_digest_of_all_bytes(
    make: MakeStage, parts: list[bytes]
) -> None:
    seen: list[str | None] = []

    class Watching(Recorder):
        async def completed(self, upload: Upload) -> None:
            seen.append(upload.sha256)
            if len(seen) == 1:
                raise RuntimeError("the database is away")

    stage = make(hooks=Watching(), engine={"digest": "sha256"})
    upload = await stage.upload(length=11)
    offset = 0
    with pytest.raises(RuntimeError):
        for part in parts:
            await stage.patch(upload.id, offset, part)
            offset += len(part)
    read, stage.store.read = stage.store.read, None  # type: ignore[assignment, method-assign]
    await stage.uploads.get(upload.id)  # not read again
    stage.store.read = read  # type: ignore[method-assign]
    digest = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
    assert seen == [digest, digest]
    assert (await stage.store.get(upload.id)).sha256 == digest
    one = await partial(stage, b"hello")
    assert (await stage.store.get(one[1:])).sha256 is None


async def test_nothing_is_read_back_where_no_digest_is_wanted(make: MakeStage) -> None:
    stage = make()
    stage.store.read = None  # type: ignore[assignment, method-assign]
    upload = await stage.upload(length=5)
    assert (await stage.patch(upload.id, 0, b"hello")).status == 204
