"""Bytes that come with a checksum: all of them, or none."""

from collections.abc import Mapping

import anyio
import pytest

from tests._stage import OCTETS, MakeStage, Recorder, Stage, location_path
from tests.conformance.checksum import checksum
from tusasgi import Checksum, Fact, InvalidRequest, Limits, TusError, UnsupportedMedia, Upload
from tusasgi.checksums import ALGORITHMS, parse_checksum
from tusasgi.testing import DISCONNECT, STALL

CONTENT = bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("header", "checksum"),
    [
        pytest.param(
            "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
            Checksum(
                algorithm="sha1",
                digest=bytes.fromhex("2aae6c35c94fcfb415dbe95f408b9ce91ee846ed"),
            ),
            id="sha1",
        ),
        pytest.param(
            "md5 XrY7u+Ae7tCTyyK7j1rNww==",
            Checksum(algorithm="md5", digest=bytes.fromhex("5eb63bbbe01eeed093cb22bb8f5acdc3")),
            id="md5",
        ),
    ],
)
def test_a_checksum_is_read(header: str, checksum: Checksum) -> None:
    assert parse_checksum(header) == checksum


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param("", "the algorithms are sha1, sha256, sha512, md5", id="empty"),
        pytest.param("whirlpool AAAA", "the algorithms are sha1", id="unknown"),
        pytest.param("SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "the algorithms", id="upper-case"),
        pytest.param("sha1", "no digest of sha1", id="no-digest"),
        pytest.param("sha1 AAAA", "no digest of sha1", id="short"),
        pytest.param("sha1 Kq5sNclPz7QV2-lfQIuc6R7oRu0=", "standard Base64", id="url-safe"),
        pytest.param("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0", "standard Base64", id="no-padding"),
        pytest.param("sha1  Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "standard Base64", id="two-blanks"),
        pytest.param("sha1 é", "standard Base64", id="latin"),
    ],
)
def test_what_is_no_checksum_is_refused(header: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_checksum(header)


@pytest.mark.skipif("crc32c" not in ALGORITHMS, reason="the extra crc32c is not installed")
def test_crc32c_is_the_one_of_the_standard() -> None:
    running = ALGORITHMS["crc32c"]()
    running.update(bytes(32))
    # RFC 3720 section B.4, which shows the bytes in the order of its wire: reversed.
    assert running.digest() == bytes.fromhex("8a9136aa")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("ending", "status"),
    [
        pytest.param(DISCONNECT, 204, id="the-client-leaves"),
        pytest.param(STALL, 408, id="the-client-falls-silent"),
    ],
)
async def test_of_a_cut_body_nothing_is_kept(make: MakeStage, ending: object, status: int) -> None:
    stage = make(receive_timeout=0.01)
    upload = await stage.upload(length=len(CONTENT), content=b"\x00\x01")
    before = stage.snapshot()
    headers = {**checksum(CONTENT[2:]), "Content-Length": str(len(CONTENT) - 2)}
    answer = await stage.patch(upload.id, 2, [CONTENT[2:5000], ending], headers)
    assert answer.status == status
    assert answer.headers.get("upload-offset") in (None, "2")
    assert stage.snapshot() == before
    assert (await stage.patch(upload.id, 2, CONTENT[2:], checksum(CONTENT[2:]))).status == 204
    assert await stage.content(upload.id) == CONTENT


@pytest.mark.anyio
async def test_of_a_body_that_is_taken_over_nothing_is_kept(make: MakeStage) -> None:
    stage = make()
    upload = await stage.upload(length=len(CONTENT))
    first = stage.exchange(upload.id, 0, [CONTENT[:5000], STALL], checksum(CONTENT))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await first.starved()
        second = await stage.patch(upload.id, 0, CONTENT, checksum(CONTENT))
    assert (first.answer.status, second.status) == (423, 204)
    assert await stage.content(upload.id) == CONTENT


@pytest.mark.anyio
async def test_bytes_are_seen_only_when_they_are_known_to_be_right(make: MakeStage) -> None:
    stage = make()
    upload = await stage.upload(length=len(CONTENT))
    exchange = stage.exchange(upload.id, 0, None, checksum(CONTENT))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run)
        exchange.feed(CONTENT[:5000])
        await exchange.starved()
        assert await stage.offset(upload.id) == 0
        exchange.feed(CONTENT[5000:])
        exchange.end()
    assert await stage.offset(upload.id) == len(CONTENT)


@pytest.mark.anyio
async def test_a_long_chunk_is_hashed_like_any_other(make: MakeStage) -> None:
    stage = make()
    content = CONTENT * 100
    upload = await stage.upload(length=len(content))
    assert (await stage.patch(upload.id, 0, content, checksum(content, "sha512"))).status == 204
    assert await stage.content(upload.id) == content


@pytest.mark.anyio
async def test_a_checksum_of_nothing_is_checked_too(make: MakeStage) -> None:
    stage = make()
    upload = await stage.upload(length=5)
    assert (await stage.patch(upload.id, 0, b"", checksum(b""))).status == 204
    assert (await stage.patch(upload.id, 0, b"", checksum(b"x"))).status == 460


class Picky(Recorder):
    """Takes what begins with an A."""

    head_size = 4

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        self.events.append("inspect")
        if head[:1] != b"A":
            raise UnsupportedMedia("this begins with no A")
        return {"kind": head[:4].decode()}

    async def refused(self, upload: Upload, refusal: TusError) -> None:
        self.events.append("refused")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"XLPHA" * 10, 460, id="damaged"),
        pytest.param([b"XLPHA" * 5, DISCONNECT], 204, id="cut"),
    ],
)
async def test_a_head_that_was_damaged_on_the_way_is_not_refused_for_good(
    make: MakeStage, body: object, status: int
) -> None:
    stage = make(hooks=Picky())
    content = b"ALPHA" * 10
    upload = await stage.upload(length=50)
    headers = {**checksum(content), "Content-Length": "50"}
    assert (await stage.patch(upload.id, 0, body, headers)).status == status
    assert "refused" not in stage.events
    assert (await stage.patch(upload.id, 0, content, checksum(content))).status == 204
    assert (await stage.store.get(upload.id)).facts == {"kind": "ALPH"}


@pytest.mark.anyio
async def test_a_head_that_came_as_it_was_sent_is_refused_for_good(make: MakeStage) -> None:
    stage = make(hooks=Picky())
    content = b"XLPHA" * 10
    upload = await stage.upload(length=50)
    assert (await stage.patch(upload.id, 0, content, checksum(content))).status == 415
    assert stage.events == ["inspect", "refused", "terminated"]
    assert (await stage.head(upload.id)).status == 404


@pytest.mark.anyio
@pytest.mark.parametrize("size", [10, 100], ids=["to-the-end", "past-the-end"])
async def test_a_chunked_body_is_verified_too(make: MakeStage, size: int) -> None:
    stage = make(engine={"limits": Limits(max_size=50)})
    upload = await stage.upload(length=10)
    content = bytes(size)
    answer = await stage.patch(upload.id, 0, [content], checksum(content))
    assert answer.status == (204 if size == 10 else 413)
    assert await stage.offset(upload.id) == (10 if size == 10 else 0)


@pytest.mark.anyio
async def test_a_creation_with_right_bytes_and_checksum_keeps_them(make: MakeStage) -> None:
    stage = make()
    own = {"Upload-Length": "9", "Content-Type": OCTETS, **checksum(b"hello")}
    answer = await stage.driver.request("POST", "/", own, b"hello")
    assert (answer.status, answer.headers["upload-offset"]) == (201, "5")
    assert await stage.content(location_path(answer)[1:]) == b"hello"


@pytest.mark.anyio
async def test_a_malformed_checksum_on_a_creation_creates_nothing(make: MakeStage) -> None:
    stage = make()
    own = {"Upload-Length": "5", "Content-Type": OCTETS, "Upload-Checksum": "sha1 x"}
    assert (await stage.driver.request("POST", "/", own, b"hello")).status == 400
    assert stage.snapshot() == {}


def _left_in_new(stage: Stage) -> list[str]:
    return [name for name in stage.snapshot() if isinstance(name, str) and "/new/" in name]


@pytest.mark.anyio
async def test_no_staged_file_is_left(make: MakeStage) -> None:
    stage = make()
    for body, sum_ in ((CONTENT, CONTENT), (CONTENT, b""), ([CONTENT[:9], DISCONNECT], CONTENT)):
        upload = await stage.upload(length=len(CONTENT))
        await stage.patch(upload.id, 0, body, checksum(sum_))
    assert _left_in_new(stage) == []
