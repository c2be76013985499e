"""A complete upload as the answer to GET: ranges, names, and nothing that a browser runs."""

from collections.abc import MutableMapping
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import pytest

from tests._stage import Recorder, Stage, make_stage
from tusasgi import (
    FileInfo,
    Headers,
    Operation,
    RangeNotSatisfiable,
    Request,
    Upload,
    UploadNotFound,
    download,
)
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import RecordedResponse

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(100))
UPLOAD = Upload(
    id="u", length=100, offset=100, created=datetime(2026, 1, 1, tzinfo=UTC), is_complete=True
)


@pytest.fixture(params=["memory", "file"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    store = MemoryStore() if request.param == "memory" else FileStore(tmp_path)
    return make_stage(store, downloads=True)


async def fetch(
    stage: Stage, headers: dict[str, str], content: bytes = CONTENT
) -> RecordedResponse:
    upload = await stage.upload(length=len(content), content=content, upload_id="u")
    own = {"Tus-Resumable": None, **headers}
    return await stage.driver.request("GET", f"/{upload.id}", own)


async def test_a_download_is_the_whole_with_its_length(stage: Stage) -> None:
    answer = await fetch(stage, {})
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.headers["content-length"] == "100"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"].startswith('"u.')
    assert "content-range" not in answer.headers


SENDS_FILES: dict[str, Any] = {"http.response.pathsend": {}}


@pytest.fixture
def on_files(tmp_path: Path) -> Stage:
    return make_stage(FileStore(tmp_path), downloads=True, send_timeout=None)


async def sent(
    stage: Stage, extensions: dict[str, Any], *, method: str = "GET", **headers: str
) -> list[MutableMapping[str, Any]]:
    """Return what the app sends for an upload."""
    await stage.upload(length=100, content=CONTENT, upload_id="u")
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": "/u", "headers": lines}
    messages: list[MutableMapping[str, Any]] = []

    body = [b"some bytes"]

    async def receive() -> MutableMapping[str, Any]:
        if not body:
            await anyio.sleep_forever()
        return {"type": "http.request", "body": body.pop()}

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    await stage.app({**scope, "extensions": extensions}, receive, send)
    return messages


async def test_a_file_is_left_to_a_server_that_sends_files(on_files: Stage, tmp_path: Path) -> None:
    start, file = await sent(on_files, SENDS_FILES)
    assert (start["status"], file["type"]) == (200, "http.response.pathsend")
    assert (b"content-length", b"100") in start["headers"]
    assert file["path"] == str(tmp_path / "uploads" / "u" / "u")
    async with await anyio.open_file(file["path"], "rb") as stored:
        assert await stored.read() == CONTENT


@pytest.mark.parametrize(
    ("extensions", "request_of"),
    [
        pytest.param({}, {}, id="server-cannot"),
        pytest.param(SENDS_FILES, {"range": "bytes=1-"}, id="a-range"),
        pytest.param(SENDS_FILES, {"content-length": "9"}, id="with-a-body"),
        pytest.param(SENDS_FILES, {"method": "HEAD"}, id="head"),
    ],
)
async def test_nothing_else_is_left_to_the_server(
    on_files: Stage, extensions: dict[str, Any], request_of: dict[str, str]
) -> None:
    messages = await sent(on_files, extensions, **request_of)
    assert {one["type"] for one in messages} == {"http.response.start", "http.response.body"}


async def test_nothing_is_left_to_the_server_where_clients_have_a_limit(stage: Stage) -> None:
    messages = await sent(stage, SENDS_FILES)
    assert {one["type"] for one in messages} == {"http.response.start", "http.response.body"}


async def test_what_is_no_file_is_not_left_to_the_server() -> None:
    stage = make_stage(MemoryStore(), downloads=True, send_timeout=None)
    messages = await sent(stage, SENDS_FILES)
    assert {one["type"] for one in messages} == {"http.response.start", "http.response.body"}


async def test_a_large_download_comes_in_pieces(stage: Stage) -> None:
    content = CONTENT * 10_000
    answer = await fetch(stage, {}, content)
    assert answer.body == content


async def test_a_download_for_a_request_with_a_body_is_whole(stage: Stage) -> None:
    upload = await stage.upload(length=100, content=CONTENT)
    for body in (b"x" * 100_000, [b"x", b"y"]):
        answer = await stage.driver.request("GET", f"/{upload.id}", body=body)
        assert (answer.status, answer.body) == (200, CONTENT)


async def test_a_download_of_no_bytes_is_empty(stage: Stage) -> None:
    answer = await fetch(stage, {}, b"")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "0", b"")


async def test_a_download_names_the_protocol_like_every_answer(stage: Stage) -> None:
    assert (await fetch(stage, {})).headers["tus-resumable"] == "1.0.0"


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        pytest.param("bytes=0-9", 0, 10, id="first-ten"),
        pytest.param("bytes=10-19", 10, 20, id="middle"),
        pytest.param("bytes=90-", 90, 100, id="from-there-on"),
        pytest.param("bytes=-10", 90, 100, id="last-ten"),
        pytest.param("bytes=0-", 0, 100, id="all-of-it"),
        pytest.param("bytes=99-99", 99, 100, id="last-byte"),
        pytest.param("bytes=50-1000", 50, 100, id="end-beyond"),
        pytest.param("bytes=-1000", 0, 100, id="more-than-there-is"),
        pytest.param("Bytes=5-6", 5, 7, id="unit-in-another-case"),
        pytest.param("bytes= 5-6 ", 5, 7, id="blanks-around"),
        pytest.param("bytes=,5-6, ,", 5, 7, id="empty-elements-of-the-list"),
        pytest.param(f"bytes=98-{'9' * 30}", 98, 100, id="thirty-digits"),
        pytest.param("bytes=-00000000000000000000010", 90, 100, id="leading-zeros"),
    ],
)
async def test_one_range_is_served(stage: Stage, header: str, start: int, stop: int) -> None:
    answer = await fetch(stage, {"Range": header})
    assert (answer.status, answer.body) == (206, CONTENT[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/100"
    assert answer.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param("bytes", id="no-range"),
        pytest.param("bytes=-", id="no-numbers"),
        pytest.param("bytes=5-2", id="backwards"),
        pytest.param("bytes=0-1,5-6", id="two-ranges"),
        pytest.param("lines=0-1", id="another-unit"),
        pytest.param("bytes=a-b", id="letters"),
        pytest.param("bytes=+1-2", id="signed"),
        pytest.param("bytes=5 - 6", id="blanks-within"),
        pytest.param("bytes=0-0 1", id="blanks-between-digits"),
        pytest.param("bytes=\u0665-\u0666".encode().decode("latin-1"), id="other-digits"),
        pytest.param(f"bytes=0-{'9' * 5000}", id="five-thousand-digits"),
    ],
)
async def test_what_is_no_single_range_gets_the_whole(stage: Stage, header: str) -> None:
    answer = await fetch(stage, {"Range": header})
    assert (answer.status, answer.body) == (200, CONTENT)


@pytest.mark.parametrize(
    ("header", "content"),
    [
        pytest.param("bytes=100-", CONTENT, id="at-the-end"),
        pytest.param("bytes=500-600", CONTENT, id="beyond-the-end"),
        pytest.param("bytes=-0", CONTENT, id="last-zero"),
        pytest.param("bytes=0-", b"", id="of-nothing"),
        pytest.param("bytes=-1", b"", id="last-of-nothing"),
    ],
)
async def test_a_range_beyond_the_end_is_refused(stage: Stage, header: str, content: bytes) -> None:
    answer = await fetch(stage, {"Range": header}, content)
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(content)}"
    assert answer.headers["tus-resumable"] == "1.0.0"


# Conditions: `TAG` stands for the tag of the download.


async def ask(stage: Stage, headers: dict[str, str], method: str = "GET") -> RecordedResponse:
    """Ask for the download on conditions."""
    upload = await stage.upload(length=100, content=CONTENT, upload_id="u")
    bare = {"Tus-Resumable": None}
    tag = (await stage.driver.request("GET", f"/{upload.id}", bare)).headers["etag"]
    own = {name: value.replace("TAG", tag) for name, value in headers.items()}
    return await stage.driver.request(method, f"/{upload.id}", {**bare, **own})


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        pytest.param("TAG", 206, id="the-same"),
        pytest.param('"v"', 200, id="another"),
        pytest.param("W/TAG", 200, id="weak"),
        pytest.param("TAG, TAG", 200, id="a-list"),
        pytest.param("Wed, 25 Nov 2026 12:00:00 GMT", 200, id="the-date-of-its-creation"),
        pytest.param("Wed, 25 Nov 2037 12:00:00 GMT", 200, id="a-date-to-come"),
    ],
)
async def test_a_range_is_served_only_of_what_the_client_has(
    stage: Stage, if_range: str, status: int
) -> None:
    answer = await ask(stage, {"Range": "bytes=0-9", "If-Range": if_range})
    assert answer.status == status


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("condition", "status"),
    [
        pytest.param({"If-None-Match": "TAG"}, 304, id="none-match-the-same"),
        pytest.param({"If-None-Match": "W/TAG"}, 304, id="none-match-weakly"),
        pytest.param({"If-None-Match": '"a,b", W/"c" ,TAG'}, 304, id="none-match-in-a-list"),
        pytest.param({"If-None-Match": "*"}, 304, id="none-match-any"),
        pytest.param({"If-None-Match": '"a", "b"'}, 200, id="none-match-others"),
        pytest.param({"If-None-Match": ""}, 200, id="none-match-nothing"),
        pytest.param({"If-None-Match": '"u"'}, 200, id="none-match-the-id"),
        pytest.param({"If-Match": "TAG"}, 200, id="match-the-same"),
        pytest.param({"If-Match": '"a", TAG'}, 200, id="match-in-a-list"),
        pytest.param({"If-Match": "*"}, 200, id="match-any"),
        pytest.param({"If-Match": "W/TAG"}, 412, id="match-weakly"),
        pytest.param({"If-Match": '"a"'}, 412, id="match-another"),
        pytest.param({"If-Match": ""}, 412, id="match-nothing"),
        pytest.param({"If-Match": '"a"', "If-None-Match": "TAG"}, 412, id="match-comes-first"),
        pytest.param({"If-None-Match": "TAG", "Range": "bytes=500-"}, 304, id="before-the-range"),
        pytest.param(
            {"If-Modified-Since": "Wed, 25 Nov 2037 12:00:00 GMT"}, 200, id="dates-are-not-known"
        ),
    ],
)
async def test_conditions_are_met_or_not(
    stage: Stage, condition: dict[str, str], status: int, method: str
) -> None:
    answer = await ask(stage, condition, method)
    assert answer.status == status
    assert answer.headers["tus-resumable"] == "1.0.0"
    if status == 304:
        assert answer.body == b""
        assert "content-length" not in answer.headers
        assert answer.headers["etag"].startswith('"u.')
    if status == 412:
        assert "tus-version" not in answer.headers


async def test_the_tag_of_a_removed_upload_is_not_that_of_the_next_with_its_id(
    stage: Stage,
) -> None:
    async def tag(content: bytes) -> str:
        answer = await fetch(stage, {}, content)
        await stage.driver.request("DELETE", "/u")
        return answer.headers["etag"]

    tags = [await tag(b"old"), await tag(b"another length")]
    stage.clock.advance(milliseconds=1)
    tags.append(await tag(b"new"))
    assert len(set(tags)) == 3


@pytest.fixture
def starts(tmp_path: Path) -> list[Stage]:
    """Two servers, one after the other, over the same files."""
    return [make_stage(FileStore(tmp_path), downloads=True) for _ in range(2)]


async def test_the_tag_of_an_upload_is_the_same_after_a_restart_and_in_another_store(
    starts: list[Stage],
) -> None:
    first, again = starts
    tag = (await fetch(first, {})).headers["etag"]
    again.clock.advance(days=1)
    assert (await again.driver.request("GET", "/u")).headers["etag"] == tag
    assert (await fetch(make_stage(MemoryStore(), downloads=True), {})).headers["etag"] == tag


async def test_an_unfinished_upload_cannot_be_downloaded(stage: Stage) -> None:
    upload = await stage.upload(length=10, content=b"secret")
    answer = await stage.driver.request("GET", f"/{upload.id}")
    assert (answer.status, answer.body) == (404, b"the upload is not complete yet\n")


async def test_an_upload_without_a_length_cannot_be_downloaded(stage: Stage) -> None:
    upload = await stage.upload(length=None, content=b"secret")
    assert (await stage.driver.request("GET", f"/{upload.id}")).status == 404


async def test_head_stays_the_question_for_the_offset(stage: Stage) -> None:
    upload = await stage.upload(length=5, content=b"hello")
    answer = await stage.head(upload.id)
    assert (answer.headers["upload-offset"], answer.headers["content-length"]) == ("5", "0")
    assert "content-disposition" not in answer.headers


async def test_head_without_the_protocol_is_that_of_the_download(stage: Stage) -> None:
    upload = await stage.upload(length=5, content=b"hello", metadata={"filename": b"a.mp4"})
    bare = {"Tus-Resumable": None}
    head = await stage.driver.request("HEAD", f"/{upload.id}", bare)
    get = await stage.driver.request("GET", f"/{upload.id}", bare)
    assert (head.status, head.body, dict(head.headers)) == (200, b"", dict(get.headers))
    # A range is for GET alone.
    part = await stage.driver.request("HEAD", f"/{upload.id}", {**bare, "Range": "bytes=9-"})
    assert (part.status, part.headers["content-length"]) == (200, "5")


async def test_head_without_the_protocol_is_refused_as_get_is(stage: Stage) -> None:
    upload = await stage.upload(length=5, content=b"he")
    for path, status in ((f"/{upload.id}", 404), ("/nothing", 404), ("/", 405)):
        answer = await stage.driver.request("HEAD", path, {"Tus-Resumable": None})
        assert (answer.status, answer.body, answer.headers["content-length"]) == (status, b"", "0")


async def test_head_of_a_download_is_authorized_as_reading() -> None:
    asked = []

    class Watching(Recorder):
        async def authorize(
            self, request: Request, operation: Operation, upload: Upload | None
        ) -> None:
            asked.append(operation)

    stage = make_stage(MemoryStore(), hooks=Watching(), downloads=True)
    upload = await stage.upload(length=0)
    await stage.driver.request("HEAD", f"/{upload.id}", {"Tus-Resumable": None})
    await stage.driver.request("HEAD", f"/{upload.id}")
    assert asked == [Operation.READ, Operation.GET]


async def test_head_without_the_protocol_is_refused_where_there_are_no_downloads() -> None:
    stage = make_stage(MemoryStore())
    upload = await stage.upload(length=5, content=b"hello")
    bare = {"Tus-Resumable": None}
    answer = await stage.driver.request("HEAD", f"/{upload.id}", bare)
    assert (answer.status, answer.headers["tus-version"], answer.body) == (412, "1.0.0", b"")


async def test_without_downloads_get_is_not_possible() -> None:
    stage = make_stage(MemoryStore())
    upload = await stage.upload(content=b"hello")
    answer = await stage.driver.request("GET", f"/{upload.id}")
    assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, HEAD, PATCH, DELETE")


def test_a_store_that_cannot_read_cannot_offer_downloads() -> None:
    class WriteOnly(MemoryStore):
        read = None  # type: ignore[assignment]

    with pytest.raises(ValueError, match="WriteOnly cannot read uploads back"):
        make_stage(WriteOnly(), downloads=True)


async def test_a_store_that_gives_too_few_bytes_does_not_pass_for_a_whole_answer(
    stage: Stage,
) -> None:
    upload = await stage.upload(content=b"hello")
    read = stage.store.read
    stage.store.read = lambda upload, start, stop: read(upload, start, stop - 1)
    exchange = stage.driver.exchange("GET", f"/{upload.id}", body=b"")
    with pytest.raises(OSError, match="1 bytes too few"):
        await exchange.run()
    assert not exchange.is_answered  # so that the server cuts the connection


async def test_a_download_that_is_given_up_closes_its_file(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(stage.store, MemoryStore):
        monkeypatch.setattr("tusasgi.stores.memory._READ_SIZE", 10)
    else:
        monkeypatch.setattr("tusasgi.stores.file.store._READ_SIZE", 10)
    closed, read = [], stage.store.read

    async def watched(upload: Upload, start: int, stop: int) -> Any:
        try:
            async with aclosing(read(upload, start, stop)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            closed.append(True)

    stage.store.read = watched
    upload = await stage.upload(length=100, content=CONTENT)
    exchange = stage.driver.exchange("GET", f"/{upload.id}", body=b"", send_fails_from=3)
    with pytest.raises(RuntimeError, match="not sent a complete response"):
        await exchange.run()  # of the driver, which misses the end
    assert closed == [True]


async def test_a_store_may_read_with_any_kind_of_iterator() -> None:
    class Chunks:
        def __init__(self) -> None:
            self.chunks = [b"he", b"llo"]

        def __aiter__(self) -> "Chunks":
            return self

        async def __anext__(self) -> bytes:
            if not self.chunks:
                raise StopAsyncIteration
            return self.chunks.pop(0)

    stage = make_stage(MemoryStore(), downloads=True)
    upload = await stage.upload(content=b"hello")
    stage.store.read = lambda upload, start, stop: Chunks()
    assert (await stage.driver.request("GET", f"/{upload.id}")).body == b"hello"


# Content-Type and Content-Disposition


async def presented(file: FileInfo) -> dict[str, str]:
    response = download(UPLOAD, MemoryStore(), Headers([]), file)
    assert response.stream is not None
    await response.stream.aclose()  # type: ignore[attr-defined]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"].startswith("sandbox;")
    return dict(response.headers)


@pytest.mark.parametrize(
    "content_type",
    [
        "audio/mpeg",
        "video/mp4",
        "Video/MP4; codecs=avc1",
        "video/x-matroska",
        "image/png",
        "application/pdf",
        "text/plain",
    ],
)
async def test_media_is_shown_in_place(content_type: str) -> None:
    headers = await presented(FileInfo(name="a", content_type=content_type))
    assert headers["Content-Type"] == content_type.partition(";")[0].lower()
    assert headers["Content-Disposition"].startswith("inline; ")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "TEXT/HTML",
        " text/html ;charset=utf-8",
        "application/xhtml+xml",
        "image/svg+xml",
        "text/xml",
        "application/xml",
        "video/anything+xml",
        "audio/anything+XML",
        "application/javascript",
        "text/css",
        "multipart/x-mixed-replace",
        "",
        "video/",
        "video",
        "video/mp4\r\nX-Evil: 1",
        "video/mp4, text/html",
        "video/\u00e9",
    ],
)
async def test_everything_else_is_bytes_to_be_saved(content_type: str) -> None:
    headers = await presented(FileInfo(name="a", content_type=content_type))
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"].startswith("attachment; ")


@pytest.mark.parametrize(
    ("name", "ascii_name", "full_name"),
    [
        pytest.param("film.mp4", "film.mp4", "film.mp4", id="plain"),
        pytest.param("my film.mp4", "my film.mp4", "my film.mp4", id="blank"),
        pytest.param('a"b.mp4', "a_b.mp4", "a_b.mp4", id="quote"),
        pytest.param("a\\b", "a_b", "a_b", id="backslash"),
        pytest.param("../../etc/passwd", ".._.._etc_passwd", ".._.._etc_passwd", id="path"),
        pytest.param("a\r\nX-Evil: 1", "a__X-Evil: 1", "a__X-Evil: 1", id="line-feed"),
        pytest.param("a\x00b\x7f", "a_b_", "a_b_", id="control"),
        pytest.param("caf\u00e9 \u96ea.mp4", "caf_ _.mp4", "caf\u00e9 \u96ea.mp4", id="unicode"),
        pytest.param("\U0001f600.mp4", "_.mp4", "\U0001f600.mp4", id="beyond-the-first-plane"),
        pytest.param("50%;x=1'", "50__x=1'", "50%;x=1'", id="percent-and-semicolon"),
        pytest.param("a\x80\x85\x9fb", "a___b", "a___b", id="c1-controls"),
        pytest.param("a\u2028b\u2029", "a_b_", "a_b_", id="ends-of-lines"),
        pytest.param("a\u202egnp.exe", "a_gnp.exe", "a_gnp.exe", id="turned-round"),
        pytest.param("\u200e\u200f\u061c\u202a\u2066\u2069", "______", "______", id="directions"),
        pytest.param("a\ud800b", "a_b", "a_b", id="half-of-a-character"),
        pytest.param("\u0646\u200c\u0647", "___", "\u0646\u200c\u0647", id="joiners-are-letters"),
        pytest.param("x" * 300, "x" * 255, "x" * 255, id="long"),
    ],
)
async def test_a_file_name_cannot_break_out(name: str, ascii_name: str, full_name: str) -> None:
    headers = await presented(FileInfo(name=name, content_type="video/mp4"))
    disposition = headers["Content-Disposition"]
    assert disposition.startswith(f"inline; filename=\"{ascii_name}\"; filename*=UTF-8''")
    escaped = disposition.rpartition("''")[2]
    assert unquote(escaped) == full_name
    assert escaped.isascii()
    assert not set(escaped) & set(" \"';,\\/")
    disposition.encode("ascii")


@pytest.mark.parametrize(
    ("upload", "name", "content_type"),
    [
        pytest.param({}, "u", "", id="nothing-known"),
        pytest.param({"metadata": {"filename": b"a.mp4"}}, "a.mp4", "", id="filename"),
        pytest.param({"metadata": {"name": b"b.mp4"}}, "b.mp4", "", id="name"),
        pytest.param({"metadata": {"filename": b"\xff"}}, "\ufffd", "", id="not-utf-8"),
        pytest.param({"metadata": {"filename": b""}}, "u", "", id="empty-name"),
        pytest.param({"metadata": {"filetype": b"video/mp4"}}, "u", "video/mp4", id="filetype"),
        pytest.param({"metadata": {"type": b"video/mp4"}}, "u", "video/mp4", id="type"),
        pytest.param(
            {"metadata": {"filetype": b"text/html"}, "facts": {"content_type": "audio/mpeg"}},
            "u",
            "audio/mpeg",
            id="what-was-found-counts-more",
        ),
    ],
)
def test_what_is_known_of_a_file(upload: dict[str, Any], name: str, content_type: str) -> None:
    known = Upload(id="u", length=1, created=UPLOAD.created, **upload)
    assert FileInfo.of(known) == FileInfo(name=name, content_type=content_type)


async def test_an_uploaded_page_is_never_served_as_one(stage: Stage) -> None:
    metadata = {"filename": b"x.html", "filetype": b"text/html"}
    upload = await stage.upload(content=b"<scr>", metadata=metadata)
    answer = await stage.driver.request("GET", f"/{upload.id}")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith('attachment; filename="x.html"')
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_host_may_download_without_the_app() -> None:
    with pytest.raises(UploadNotFound):
        download(Upload(id="u", length=5, created=UPLOAD.created), MemoryStore(), Headers([]))
    with pytest.raises(RangeNotSatisfiable):
        download(UPLOAD, MemoryStore(), Headers([(b"range", b"bytes=100-")]))
