"""How far an upload is, and whether it is complete: HEAD, and GET beside it."""

from pathlib import Path

import pytest

from tests._stage import Recorder, Stage, location_path, make_stage
from tests.conformance.draft.client import Draft, cut, limits
from tests.conformance.draft.conftest import MakeDraft
from tests.conformance.draft.grounds import everywhere
from tests.conformance.ietf import rule, shows, versions_of
from tusasgi import Upload
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import DISCONNECT

pytestmark = pytest.mark.anyio

CONTENT = b"hello world"


@rule("IETF-080", "IETF-081", "IETF-083", "IETF-084", "IETF-089")
async def test_head_tells_how_far_an_upload_is(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    answer = await draft.head(path)
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")
    assert draft.is_complete(answer) is False
    assert limits(answer) == {"min-size": 0}
    assert answer.headers["cache-control"] == "no-store"
    assert "upload-length" not in answer.headers
    assert answer.body == b""


@rule("IETF-085")
@pytest.mark.parametrize("downloads", [False, True])
async def test_get_tells_the_same_as_head(draft_with: MakeDraft, downloads: bool) -> None:
    draft = draft_with(downloads=downloads)
    anyone = Draft(draft.stage, None)
    for content, complete in ((b"hello", False), (CONTENT, True)):
        path = location_path(await draft.create(content, complete=complete, length=11))
        for client in (draft, anyone):
            head, get = await client.head(path), await client.get(path)
            told = {name for name in head.headers if name.startswith("upload-")}
            assert {"upload-offset", "upload-complete", "upload-length"} <= told
            assert {name: get.headers[name] for name in told} == {
                name: head.headers[name] for name in told
            }
            assert get.body == (CONTENT if complete and downloads else b"")


@shows("IETF-085")
async def test_get_tells_nothing_of_uploads_of_tus_where_there_are_no_downloads(
    draft: Draft,
) -> None:
    anyone = Draft(draft.stage, None)
    path = f"/{(await draft.stage.upload(length=5, content=b'hello')).id}"
    answer = await anyone.get(path)
    assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, HEAD, PATCH, DELETE")
    assert (await draft.get(path)).headers["upload-offset"] == "5"


@rule("IETF-086")
async def test_head_is_not_redirected(draft: Draft) -> None:
    path = await draft.begin()
    for url in (path, f"{path}/"):
        assert (await draft.head(url)).status == 204


@rule("IETF-087")
@pytest.mark.parametrize("path", ["/unknown", "/a/b", "/-", "/%2e%2e"])
async def test_what_is_no_upload_has_no_offset(draft: Draft, path: str) -> None:
    for answer in (await draft.head(path), await draft.get(path)):
        assert answer.status == 404
        assert "upload-offset" not in answer.headers


@rule("IETF-092")
async def test_a_complete_upload_is_kept(draft: Draft) -> None:
    path = location_path(await draft.create(CONTENT, complete=True))
    for _ in range(2):
        answer = await draft.head(path)
        assert answer.headers["upload-offset"] == answer.headers["upload-length"] == "11"
        assert draft.is_complete(answer)
    assert await draft.content(path) == CONTENT


@rule("IETF-093")
async def test_early_versions_take_no_field_on_head(draft: Draft) -> None:
    path = await draft.begin(b"hello", length=11)
    before = draft.stage.snapshot()
    for name in draft.dialect.refused_on_head:
        for value in ("5", "?0", "anything"):
            answer = await draft.head(path, {name: value})
            assert answer.status == 400
            assert "upload-offset" not in answer.headers
    assert draft.stage.snapshot() == before


@shows("IETF-093")
@pytest.mark.parametrize("version", [7, 8, 9])
async def test_later_versions_overlook_fields_on_head(draft: Draft) -> None:
    path = await draft.begin(b"hello", length=11)
    for name in ("Upload-Offset", "Upload-Complete", "Upload-Length"):
        assert (await draft.head(path, {name: "5"})).status == 204


# What the offset is.


@everywhere
@rule("IETF-020", "IETF-119")
async def test_the_offset_counts_what_is_kept(draft: Draft) -> None:
    path = await draft.begin(b"he")
    await draft.append(path, 2, [b"llo", DISCONNECT], headers=cut(b"llo"))
    offset, _ = await draft.state(path)
    assert offset == 5
    assert await draft.content(path) == b"hello"


@rule("IETF-021", "IETF-106")
async def test_the_offset_never_goes_down(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    wrong_digest = {"Content-Digest": f"sha-256=:{'A' * 43}=:"}
    asks = [
        draft.append(path, 0, b"hello"),
        draft.append(path, 4, b"x"),
        draft.append(path, 6, b"x"),
        draft.append(path, 5, b"x", headers={"Upload-Offset": "-5"}),
        draft.append(path, 5, b"x", headers=wrong_digest),
        draft.append(path, 5, [b"x", DISCONNECT], headers={**wrong_digest, **cut(b"x")}),
        draft.append(path, 5, b"x", length=4),
    ]
    for ask in asks:
        await ask
        assert await draft.state(path) == (5, False)
    assert await draft.content(path) == b"hello"
    told = 5
    for body in ([b" ", DISCONNECT], [DISCONNECT], [b"w", b"o"]):
        await draft.append(path, told, body)
        offset, _ = await draft.state(path)
        assert offset >= told
        told = offset
    assert await draft.content(path) == b"hello wo"


@pytest.fixture
def servers(tmp_path: Path, version: int) -> list[Draft]:
    """Clients of servers that come one after the other on the same files."""
    return [Draft(make_stage(FileStore(tmp_path)), version) for _ in range(4)]


@rule("IETF-023")
async def test_what_was_told_holds_for_the_next_server(servers: list[Draft]) -> None:
    path = await servers[0].begin(b"he")
    await servers[0].append(path, 2, [b"ll", DISCONNECT], headers=cut(b"ll"))
    told, _ = await servers[1].state(path)
    answer = await servers[2].append(path, told, CONTENT[told:], complete=True)
    assert answer.status == 201
    assert await servers[3].state(path) == (11, True)
    assert await servers[3].content(path) == CONTENT


@rule("IETF-090")
async def test_an_offset_that_was_told_is_taken(draft: Draft) -> None:
    path = await draft.begin(b"he")
    for byte in b"llo":
        offset, _ = await draft.state(path)
        assert (await draft.append(path, offset, bytes([byte]))).status in (201, 204)
        await draft.append(path, offset, b"?")  # refused: the offset holds
    offset, _ = await draft.state(path)
    assert (await draft.append(path, offset, b" world", complete=True)).status == 201
    assert await draft.content(path) == CONTENT


# Completeness.


@rule("IETF-024")
async def test_an_upload_that_has_reached_its_length_waits_for_its_end(draft: Draft) -> None:
    paths = [await draft.begin(body, length=11) for body in (CONTENT, [CONTENT])]
    if draft.dialect.version != 6:  # see IETF-230
        paths.append(await draft.begin(length=0))
    for path in paths:
        offset, is_complete = await draft.state(path)
        assert is_complete is False
        assert draft.stage.events == []
        answer = await draft.append(path, offset, complete=True)
        assert (answer.status, draft.is_complete(answer)) == (201, True)
        assert draft.stage.events == ["completed"]
        draft.stage.events.clear()


@rule("IETF-022")
@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_an_upload_that_lost_bytes_which_were_all_there_is_refused(draft: Draft) -> None:
    path = location_path(await draft.create(CONTENT, complete=True))
    _lose_bytes(draft.stage, path[1:])
    await _is_refused(draft, path)
    assert (await draft.driver.request("DELETE", path)).status == 204  # what is left of it goes
    assert (await draft.driver.request("HEAD", path)).status == 404


@shows("IETF-022")
@pytest.mark.parametrize("kind", ["file"])
@pytest.mark.parametrize("content", [b"{", b'{"trash', b'{"version": 1}', b"[]"])
async def test_an_upload_without_a_readable_record_is_refused(draft: Draft, content: bytes) -> None:
    path = await draft.begin(b"hello", length=11)
    data, record = _files(draft, path)
    record.write_bytes(content)
    for ask in (
        draft.driver.exchange("HEAD", path),
        draft.appending(path, 5, b" world", complete=True),
    ):
        with pytest.raises(ValueError, match=r"."):  # the host hears of it
            await ask.run()
        assert ask.answer.status == 500
        assert "upload-offset" not in ask.answer.headers
    assert record.read_bytes() == content
    assert data.read_bytes() == b"hello"


@shows("IETF-022")
@pytest.mark.parametrize("kind", ["file"])
async def test_bytes_without_a_record_are_no_upload(draft: Draft) -> None:
    path = await draft.begin(b"hello", length=11)
    data, record = _files(draft, path)
    record.unlink()
    await _is_refused(draft, path)
    assert data.read_bytes() == b"hello"


def _files(draft: Draft, path: str) -> tuple[Path, Path]:
    """Return where the bytes of an upload are, and its record."""
    data = _file_store(draft.stage).path(path[1:])
    return Path(data), Path(f"{data}.info")


def _file_store(stage: Stage) -> FileStore:
    assert isinstance(stage.store, FileStore)
    return stage.store


async def _is_refused(draft: Draft, path: str) -> None:
    for answer in (
        await draft.head(path),
        await draft.get(path),
        await draft.append(path, 2, b"llo"),
        await draft.append(path, 11, b"", complete=True),
    ):
        assert answer.status in (404, 410), answer
        assert "upload-offset" not in answer.headers


def _lose_bytes(stage: Stage, upload_id: str) -> None:
    if isinstance(stage.store, MemoryStore):
        del stage.store._bytes[upload_id][2:]
    else:
        Path(_file_store(stage).path(upload_id)).write_bytes(CONTENT[:2])


# What has to follow on the last byte.


class Failing(Recorder):
    """Fails as often as it is told to."""

    failures = 1

    async def completed(self, upload: Upload) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the database is away")
        await super().completed(upload)


@everywhere
@shows("IETF-080")
async def test_who_asks_while_the_end_is_pending_brings_it_about(draft_with: MakeDraft) -> None:
    hooks = Failing()
    draft = draft_with(hooks=hooks)
    path = await draft.begin(CONTENT)
    append = draft.appending(path, 11, complete=True)
    with pytest.raises(RuntimeError, match="the database"):
        await append.run()
    assert (append.answer.status, draft.is_complete(append.answer)) == (503, False)
    hooks.failures = 1
    ask = draft.driver.exchange("HEAD", path)
    with pytest.raises(RuntimeError, match="the database"):
        await ask.run()
    assert (ask.answer.status, ask.answer.headers["retry-after"]) == (503, "5")
    assert "upload-offset" not in ask.answer.headers
    assert await draft.state(path) == (11, True)
    assert hooks.events == ["completed"]


@versions_of("IETF-081")
async def test_the_answer_to_a_repeated_end_is_the_last_one(draft_with: MakeDraft) -> None:
    draft = draft_with(hooks=Failing())
    path = await draft.begin(CONTENT)
    with pytest.raises(RuntimeError, match="the database"):
        await draft.append(path, 11, complete=True)
    if draft.dialect.repeats_answer:
        answer = await draft.append(path, 11, complete=True)
        assert (answer.status, draft.is_complete(answer)) == (201, True)
    assert await draft.state(path) == (11, True)
    assert draft.stage.events == ["completed"]
