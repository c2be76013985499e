"""The statements on partial and final uploads whose preconditions are prose."""

from collections.abc import Mapping

import anyio

from tests._stage import OCTETS, UPLOADS_URL, MakeStage, Stage, location_path
from tests.conformance.by_hand import rule
from tusasgi import Limits, Upload
from tusasgi.testing import RecordedResponse

HOST = "files.example"


async def partial(stage: Stage, content: bytes, sent: int | None = None, **headers: str) -> str:
    """Make a partial upload, finished unless less is `sent`, and return its path."""
    own = {"Upload-Concat": "partial", "Upload-Length": str(len(content)), **headers}
    answer = await stage.driver.request("POST", "/", own)
    assert answer.status == 201, answer.body
    path = location_path(answer)
    if content:
        assert (await stage.patch(path[1:], 0, content[:sent])).status == 204
    return path


async def final(
    stage: Stage, *paths: str, base: str = UPLOADS_URL, **headers: str | None
) -> RecordedResponse:
    """Ask for a final upload of some partial ones."""
    concat = "final;" + " ".join(base + path for path in paths)
    own: Mapping[str, str | None] = {"Upload-Concat": concat, "Host": HOST, **headers}
    own = {name.replace("_", "-"): value for name, value in own.items()}
    return await stage.driver.request("POST", "/", own)


async def made(stage: Stage, *paths: str) -> str:
    answer = await final(stage, *paths)
    assert answer.status == 201, answer.body
    return location_path(answer)


@rule("CAT-003")
async def partials_are_not_processed(make_stage: MakeStage) -> None:
    stage = make_stage()
    await partial(stage, b"hello")
    assert stage.events == []


@rule("CAT-004")
async def the_length_is_the_sum(make_stage: MakeStage) -> None:
    stage = make_stage()
    path = await made(stage, await partial(stage, b"hello"), await partial(stage, b" world"))
    assert (await stage.head(path[1:])).headers["upload-length"] == "11"


@rule("CAT-005")
async def a_final_is_created(make_stage: MakeStage) -> None:
    stage = make_stage()
    await made(stage, await partial(stage, b"hello"), await partial(stage, b" world"))
    assert stage.events == ["completed"]


@rule("CAT-006")
async def in_the_order_listed(make_stage: MakeStage) -> None:
    stage = make_stage()
    first, second = await partial(stage, b"hello"), await partial(stage, b" world")
    path = await made(stage, second, first)
    assert await stage.content(path[1:]) == b" worldhello"


@rule("CAT-008")
async def unfinished_partials_are_refused(make_stage: MakeStage) -> None:
    stage = make_stage()
    first, second = await partial(stage, b"hello"), await partial(stage, b" world", 3)
    before = stage.snapshot()
    answer = await final(stage, first, second)
    assert answer.status == 400
    assert "location" not in answer.headers
    assert stage.snapshot() == before


@rule("CAT-011")
async def another_length_than_the_sum_is_refused(make_stage: MakeStage) -> None:
    stage = make_stage()
    paths = [await partial(stage, b"hello"), await partial(stage, b" world")]
    before = stage.snapshot()
    answer = await final(stage, *paths, Upload_Length="99")
    assert (answer.status, "location" in answer.headers) == (400, False)
    assert stage.snapshot() == before
    assert (await final(stage, *paths, Upload_Length="11")).status == 201


@rule("CAT-012")
async def metadata_of_partials_stays_with_them(make_stage: MakeStage) -> None:
    stage = make_stage()
    path = await made(stage, await partial(stage, b"hello", **{"Upload-Metadata": "a YQ=="}))
    assert "upload-metadata" not in (await stage.head(path[1:])).headers


@rule("CAT-013")
async def a_final_has_its_own_metadata(make_stage: MakeStage) -> None:
    stage = make_stage()
    answer = await final(stage, await partial(stage, b"hello"), Upload_Metadata="filename YQ==")
    head = await stage.head(location_path(answer)[1:])
    assert head.headers["upload-metadata"] == "filename YQ=="


@rule("CAT-015")
async def a_partial_may_be_listed_twice(make_stage: MakeStage) -> None:
    stage = make_stage()
    one = await partial(stage, b"ab")
    path = await made(stage, one, one)
    assert await stage.content(path[1:]) == b"abab"


@rule("CAT-016")
async def a_partial_may_be_used_again(make_stage: MakeStage) -> None:
    stage = make_stage()
    one = await partial(stage, b"ab")
    assert await made(stage, one) != await made(stage, one)


@rule("CAT-017")
async def a_final_takes_no_bytes(make_stage: MakeStage) -> None:
    stage = make_stage()
    path = await made(stage, await partial(stage, b"hello world"))
    answer = await stage.patch(path[1:], 11, b"x")
    assert answer.status == 403


@rule("CAT-018")
async def a_refused_patch_changes_nothing(make_stage: MakeStage) -> None:
    stage = make_stage()
    path = await made(stage, await partial(stage, b"hello"))
    before = stage.snapshot()
    for headers in ({}, {"Content-Type": "text/plain"}, {"Upload-Offset": "x"}):
        assert (await stage.patch(path[1:], 0, b"x", headers)).status == 403
    assert stage.snapshot() == before


@rule("CAT-019")
async def no_offset_while_it_is_joined(make_stage: MakeStage) -> None:
    stage = make_stage()
    one = await partial(stage, b"hello")
    concat, may_go_on, is_joining = stage.store.concat, anyio.Event(), anyio.Event()

    async def slow_concat(upload: Upload) -> Upload:
        is_joining.set()
        await may_go_on.wait()
        return await concat(upload)

    stage.store.concat = slow_concat  # type: ignore[method-assign]
    upload_id = ""

    async def create() -> None:
        nonlocal upload_id
        upload_id = location_path(await final(stage, one))[1:]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(create)
        await is_joining.wait()
        (joining,) = {key async for key in stage.store.due(stage.clock())}
        head = await stage.head(joining)
        may_go_on.set()
    assert (head.status, head.headers["upload-length"]) == (200, "5")
    assert "upload-offset" not in head.headers
    assert joining == upload_id
    assert await stage.offset(upload_id) == 5


@rule("CAT-020")
async def offset_and_length_are_equal_at_the_end(make_stage: MakeStage) -> None:
    stage = make_stage()
    path = await made(stage, await partial(stage, b"hello"), await partial(stage, b" world"))
    head = await stage.head(path[1:])
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("11", "11")


@rule("CAT-021")
async def a_partial_shows_its_offset(make_stage: MakeStage) -> None:
    stage = make_stage()
    assert await stage.offset((await partial(stage, b"hello", 3))[1:]) == 3


@rule("CAT-022")
async def a_final_shows_its_length(make_stage: MakeStage) -> None:
    stage = make_stage()
    path = await made(stage, await partial(stage, b""), await partial(stage, b"world"))
    assert (await stage.head(path[1:])).headers["upload-length"] == "5"


@rule("CAT-023")
async def a_partial_says_that_it_is_one(make_stage: MakeStage) -> None:
    stage = make_stage()
    path = await partial(stage, b"hello")
    assert (await stage.head(path[1:])).headers["upload-concat"] == "partial"


@rule("CAT-024")
async def a_final_repeats_what_it_was_made_of(make_stage: MakeStage) -> None:
    stage = make_stage()
    one, two = await partial(stage, b"hello"), await partial(stage, b"world")
    path = await made(stage, one, two)
    concat = (await stage.head(path[1:])).headers["upload-concat"]
    assert concat == f"final;{UPLOADS_URL}{one} {UPLOADS_URL}{two}"


@rule("CAT-025")
async def other_values_are_refused(make_stage: MakeStage) -> None:
    stage = make_stage()
    for value in ("whole", "final", "final;", "final; ", "partial;x", "Partial", "", "partial "):
        own = {"Upload-Concat": value, "Upload-Length": "5"}
        answer = await stage.driver.request("POST", "/", own)
        if value.strip() != "partial":
            assert (answer.status, "location" in answer.headers) == (400, False), value


@rule("CAT-026")
async def urls_may_be_absolute_or_relative(make_stage: MakeStage) -> None:
    stage = make_stage(public_url="https://cdn.example/media/")
    own = {"Upload-Concat": "partial", "Upload-Length": "5"}
    location = (await stage.driver.request("POST", "/", own)).headers["location"]
    upload_id = location.removeprefix("https://cdn.example/media/")
    assert (await stage.patch(upload_id, 0, b"hello")).status == 204
    for base in (
        "https://cdn.example/media",
        "/media",
        UPLOADS_URL,
        f"http://{HOST}{UPLOADS_URL}",
        f"//{HOST.upper()}{UPLOADS_URL}",
        ".",
    ):
        answer = await final(stage, f"/{upload_id}", base=base)
        assert answer.status == 201, (base, answer.body)
    assert (await final(stage, upload_id, base="")).status == 201


@rule("CAT-027")
async def blanks_only_divide(make_stage: MakeStage) -> None:
    stage = make_stage()
    one, two = await partial(stage, b"hello"), await partial(stage, b"world")
    concat = f"final;  {UPLOADS_URL}{one}  {UPLOADS_URL}{two} "
    answer = await stage.driver.request("POST", "/", {"Upload-Concat": concat})
    assert await stage.content(location_path(answer)[1:]) == b"helloworld"


@rule("EDGE-042")
async def urls_of_others_are_refused(make_stage: MakeStage) -> None:
    stage = make_stage()
    one = await partial(stage, b"hello")
    before = stage.snapshot()
    for base in ("https://elsewhere.example", "/elsewhere", f"{UPLOADS_URL}/..", "//["):
        assert (await final(stage, one, base=base)).status == 400, base
    assert (await final(stage, "/unknown")).status == 400
    assert (await final(stage, "/..")).status == 400
    assert stage.snapshot() == before
    # A proxy may have changed the name of this server: the path tells.
    for base in (f"https://elsewhere.example{UPLOADS_URL}", f"//elsewhere.example{UPLOADS_URL}"):
        assert (await final(stage, one, base=base)).status == 201, base


@rule("EDGE-043")
async def what_is_no_partial_is_refused(make_stage: MakeStage) -> None:
    stage = make_stage()
    upload = await stage.upload(content=b"hello")
    assert (await final(stage, f"/{upload.id}")).status == 400
    path = await made(stage, await partial(stage, b"hello"))
    assert (await final(stage, path)).status == 400


@rule("EDGE-044")
async def a_sum_above_the_maximum_is_refused(make_stage: MakeStage) -> None:
    stage = make_stage(engine={"limits": Limits(max_size=10)})
    paths = [await partial(stage, b"hello"), await partial(stage, b" world")]
    before = stage.snapshot()
    assert (await final(stage, *paths)).status == 413
    assert stage.snapshot() == before


@rule("EDGE-045")
async def a_final_brings_no_bytes(make_stage: MakeStage) -> None:
    stage = make_stage()
    one = await partial(stage, b"hello")
    before = stage.snapshot()
    own = {"Upload-Concat": f"final;{UPLOADS_URL}{one}", "Content-Type": OCTETS}
    answer = await stage.driver.request("POST", "/", own, b"x")
    assert answer.status == 403
    assert stage.snapshot() == before
