"""Bad input: every refusal is a clear status and message, and stores nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests._stage import OCTETS, TUS, Recorder, Stage, make_stage
from tusasgi import (
    Creation,
    Expiry,
    Forbidden,
    Limits,
    Operation,
    Request,
    StoreFull,
    StoreUnavailable,
    Unauthorized,
    UnsupportedMedia,
    Upload,
    UploadNotFound,
)
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import RecordedResponse, ScriptedExchange

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
ARABIC_ONE = "\u0661".encode().decode("latin-1")
NO_ID = "no upload can have this id"
HOURLY = {"expiry": Expiry(initial=timedelta(hours=1))}


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStore | FileStore:
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path)


@pytest.fixture
def file_store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


def check_clear(answer: RecordedResponse) -> None:
    """A refusal names the protocol, is not cached, is one line of text and tells no secrets."""
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["cache-control"] == "no-store"
    assert "location" not in answer.headers
    text = answer.body.decode("utf-8")
    assert text.count("\n") == (1 if text else 0)
    assert len(text) < 300
    for leak in ("Traceback", "Error", "/tmp", ".py", "object at"):
        assert leak not in text


# Everything that is decided before the first byte is asked for


@dataclass(frozen=True)
class Bad:
    """A request to refuse, against an upload of 10 bytes of which 5 are there."""

    status: int
    method: str = "PATCH"
    path: str = "/u"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    extra: tuple[tuple[str, str], ...] = ()
    message: str = ""


def patch(status: int, message: str, **headers: str | None) -> Bad:
    return Bad(status, headers=_named(headers), message=message)


def post(status: int, message: str, **headers: str | None) -> Bad:
    named = {"Upload-Offset": None, "Upload-Length": "5", **_named(headers)}
    return Bad(status, "POST", "/", named, message=message)


def _named(headers: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


BAD_NUMBERS = [
    pytest.param("", id="empty"),
    pytest.param("-1", id="negative"),
    pytest.param("+5", id="signed"),
    pytest.param("5.0", id="fraction"),
    pytest.param("5e0", id="exponent"),
    pytest.param("0x5", id="hexadecimal"),
    pytest.param("1_0", id="underscore"),
    pytest.param("five", id="word"),
    pytest.param("5 5", id="blank-inside"),
    pytest.param("5;5", id="semicolon"),
    pytest.param(ARABIC_ONE, id="arabic-indic"),
    pytest.param("9" * 41, id="forty-one-digits"),
    pytest.param("9" * 10_000, id="ten-thousand-digits"),
]

REFUSALS = [
    # Version and method.
    pytest.param(patch(412, "1.0.0", Tus_Resumable=None), id="no-version"),
    pytest.param(patch(412, "1.0.0", Tus_Resumable="0.2.2"), id="old-version"),
    pytest.param(post(412, "1.0.0", Tus_Resumable="2.0.0"), id="new-version"),
    pytest.param(Bad(412, "DELETE", headers={"Tus-Resumable": ""}), id="empty-version"),
    pytest.param(Bad(405, "PUT", message="PUT is not possible"), id="unknown-method"),
    pytest.param(Bad(405, "GET"), id="get-without-downloads"),
    pytest.param(Bad(405, "POST"), id="post-to-an-upload"),
    pytest.param(Bad(405, "PATCH", "/"), id="patch-of-the-collection"),
    pytest.param(Bad(405, "DELETE", "/"), id="delete-of-the-collection"),
    pytest.param(patch(405, "EVIL", X_HTTP_Method_Override="evil"), id="unknown-override"),
    pytest.param(patch(405, "X" * 16, X_HTTP_Method_Override="X" * 9999), id="long-override"),
    # Ids.
    pytest.param(Bad(404, path="/unknown", message="no such upload"), id="unknown-id"),
    pytest.param(Bad(404, path="/..", message=NO_ID), id="dots"),
    pytest.param(Bad(404, path="/.", message=NO_ID), id="dot"),
    pytest.param(Bad(404, path="/../u"), id="dots-and-slash"),
    pytest.param(Bad(404, path="/u.info", message=NO_ID), id="name-of-a-record"),
    pytest.param(Bad(404, path="/a/u"), id="encoded-slash"),
    pytest.param(Bad(404, path="/..%2fu", message="nothing at this URL"), id="escaped"),
    pytest.param(Bad(404, path="/u\\x", message=NO_ID), id="backslash"),
    pytest.param(Bad(404, path="/u\0", message=NO_ID), id="nul"),
    pytest.param(Bad(404, path="/u\n", message=NO_ID), id="line-feed"),
    pytest.param(Bad(404, path="/u\u00e9", message=NO_ID), id="not-ascii"),
    pytest.param(Bad(404, path="/\u0661", message=NO_ID), id="arabic-indic-digit"),
    pytest.param(Bad(404, path="/" + "u" * 65, message=NO_ID), id="65-characters"),
    pytest.param(Bad(404, path="/" + "u" * 10_000, message=NO_ID), id="10000-characters"),
    pytest.param(Bad(404, "HEAD", path="/" + "u" * 10_000), id="head-10000-characters"),
    pytest.param(Bad(404, "DELETE", path="/..", message=NO_ID), id="delete-dots"),
    # Media type.
    pytest.param(patch(415, OCTETS, Content_Type=None), id="no-type"),
    pytest.param(patch(415, OCTETS, Content_Type="text/plain"), id="another-type"),
    pytest.param(patch(415, OCTETS, Content_Type=f"text/plain;{OCTETS}"), id="type-as-parameter"),
    pytest.param(patch(415, OCTETS, Content_Type="application/octet-stream"), id="nearly-ours"),
    # Offset and length of a PATCH.
    pytest.param(patch(400, "Upload-Offset is missing", Upload_Offset=None), id="no-offset"),
    pytest.param(patch(409, "at offset 5, not 4", Upload_Offset="4"), id="offset-below"),
    pytest.param(patch(409, "at offset 5, not 6", Upload_Offset="6"), id="offset-above"),
    pytest.param(patch(409, "not 999", Upload_Offset="9" * 18), id="offset-huge"),
    pytest.param(patch(400, "cannot become 11", Upload_Length="11"), id="another-length"),
    pytest.param(patch(413, "at most 5 more", Content_Length="6"), id="too-many-bytes"),
    pytest.param(patch(413, "at most 5 more", Content_Length="9" * 18), id="far-too-many-bytes"),
    # Content-Length, for servers that let it pass.
    pytest.param(patch(400, "Content-Length", Content_Length="x"), id="content-length-word"),
    pytest.param(patch(400, "Content-Length", Content_Length="-5"), id="content-length-negative"),
    pytest.param(patch(413, "at most 5 more", Content_Length="9" * 19), id="content-length-huge"),
    # Creation.
    pytest.param(post(400, "Upload-Length is missing", Upload_Length=None), id="no-length"),
    pytest.param(post(413, "maximum of 1000", Upload_Length="1001"), id="over-the-maximum"),
    pytest.param(post(413, "maximum of 1000", Upload_Length="9" * 18), id="far-over-the-maximum"),
    pytest.param(post(422, "minimum of 2", Upload_Length="1"), id="under-the-minimum"),
    pytest.param(post(400, "contradict", Upload_Defer_Length="1"), id="both-lengths"),
    pytest.param(
        post(400, "must be 1", Upload_Length=None, Upload_Defer_Length="2"), id="bad-deferral"
    ),
    pytest.param(post(400, "partial, or final", Upload_Concat="partial;/x"), id="partial"),
    pytest.param(post(400, "not the URL", Upload_Concat="final;//x/y/u"), id="final"),
    pytest.param(
        post(415, OCTETS, Content_Length="5", Content_Type="application/json"), id="creation-type"
    ),
    pytest.param(post(413, "at most 5 more", Content_Length="9" * 30), id="creation-size"),
    # Metadata.
    pytest.param(post(400, "Base64", Upload_Metadata="a !!"), id="metadata-not-base64"),
    pytest.param(post(400, "Base64", Upload_Metadata="a _-8="), id="metadata-url-safe"),
    pytest.param(post(400, "twice", Upload_Metadata="a YQ==,a YQ=="), id="metadata-key-twice"),
    pytest.param(post(400, "key", Upload_Metadata=",,,"), id="metadata-commas"),
    pytest.param(post(400, "ASCII", Upload_Metadata="n\u00e9 YQ=="), id="metadata-not-ascii"),
    pytest.param(post(400, "at most", Upload_Metadata="a " + "QUJD" * 4096), id="metadata-long"),
    pytest.param(post(400, "key", Upload_Metadata="," * 16_000), id="metadata-16000-commas"),
    pytest.param(
        post(400, "twice", Upload_Metadata="k" * 8000 + "," + "k" * 8000), id="metadata-long-keys"
    ),
    # Two lines of one header.
    pytest.param(
        Bad(400, extra=(("Upload-Offset", "6"),), message="more than once"), id="two-offsets"
    ),
    pytest.param(
        Bad(400, extra=(("Tus-Resumable", "0.2.2"),), message="more than once"), id="two-versions"
    ),
    pytest.param(
        Bad(400, extra=(("Content-Type", "text/plain"),), message="more than once"), id="two-types"
    ),
    pytest.param(
        Bad(
            400,
            headers={"Content-Length": "1"},
            extra=(("Content-Length", "2"),),
            message="more than once",
        ),
        id="two-content-lengths",
    ),
    pytest.param(
        Bad(
            405,
            headers={"X-HTTP-Method-Override": "PATCH"},
            extra=(("X-HTTP-Method-Override", "DELETE"),),
            message="PATCH, DELETE is not possible",
        ),
        id="two-overrides",
    ),
    pytest.param(
        Bad(400, "POST", "/", {"Upload-Length": "5"}, (("Upload-Length", "6"),), "more than once"),
        id="two-lengths",
    ),
]


async def refuse(stage: Stage, bad: Bad, body: Any = b"") -> ScriptedExchange:
    """Send a bad request and see that nothing has changed."""
    await stage.upload(length=10, content=b"hello", upload_id="u")
    before = stage.snapshot()
    own = {**TUS, "Upload-Offset": "5", "Content-Type": OCTETS, **bad.headers}
    lines = [*own.items(), *bad.extra]
    exchange = stage.driver.exchange(bad.method, bad.path, lines, body)
    answer = await exchange.run()
    assert answer.status == bad.status, answer.body
    check_clear(answer)
    if bad.method != "HEAD":
        assert bad.message in answer.body.decode()
    assert stage.snapshot() == before
    assert stage.events == []
    return exchange


@pytest.mark.parametrize("bad", REFUSALS)
async def test_a_bad_request_is_refused_unread(bad: Bad, store: MemoryStore | FileStore) -> None:
    stage = make_stage(store, engine={"limits": Limits(max_size=1000, min_size=2)})
    expecting = {"Content-Length": "1", "Expect": "100-continue", **bad.headers}
    exchange = await refuse(stage, Bad(**{**bad.__dict__, "headers": expecting}), body=[b"x"])
    assert exchange.answer.receives_before_start == 0


@pytest.mark.parametrize("bad", REFUSALS)
async def test_a_bad_request_is_judged_before_its_body(bad: Bad) -> None:
    stage = make_stage(MemoryStore(), engine={"limits": Limits(max_size=1000, min_size=2)})
    headers = {"Content-Length": str(20 * MIB), **bad.headers}
    exchange = await refuse(stage, Bad(**{**bad.__dict__, "headers": headers}), [bytes(MIB)] * 20)
    size = headers["Content-Length"]
    if size is not None and len(size) > 5:
        assert exchange.answer.receives_before_start == 0


@pytest.mark.parametrize("number", BAD_NUMBERS)
@pytest.mark.parametrize("name", ["Upload-Offset", "Upload-Length"])
async def test_a_bad_number_in_a_patch_is_refused(
    number: str, name: str, store: MemoryStore | FileStore
) -> None:
    bad = Bad(400, headers={name: number, "Expect": "100-continue"}, message=f"{name} must be")
    exchange = await refuse(make_stage(store), bad, b"x")
    assert exchange.answer.receives_before_start == 0


@pytest.mark.parametrize("number", BAD_NUMBERS)
async def test_a_bad_number_in_a_creation_is_refused(
    number: str, store: MemoryStore | FileStore
) -> None:
    bad = Bad(400, "POST", "/", {"Upload-Length": number}, message="Upload-Length must be")
    exchange = await refuse(make_stage(store), bad)
    assert exchange.answer.receives_before_start == 0


async def test_a_late_length_that_is_bad_leaves_the_upload_without_one(
    store: MemoryStore | FileStore,
) -> None:
    stage = make_stage(store, engine={"limits": Limits(max_size=1000)})
    upload = await stage.upload(length=None, content=b"hello")
    before = stage.snapshot()
    for length, status in (("4", 400), ("1001", 413), ("x", 400)):
        answer = await stage.patch(upload.id, 5, b"x", {"Upload-Length": length})
        assert answer.status == status
        check_clear(answer)
        assert stage.snapshot() == before


async def test_an_expired_upload_is_gone_and_untouched(store: MemoryStore | FileStore) -> None:
    stage = make_stage(store, engine=HOURLY)
    upload = await stage.upload(length=10, content=b"hello")
    before = stage.snapshot()
    stage.clock.advance(hours=2)
    answer = await stage.patch(upload.id, 5, b"x", {"Expect": "100-continue"})
    assert (answer.status, answer.receives_before_start) == (410, 0)
    assert answer.body == b"the upload expired at 2026-11-25 13:00:00 UTC\n"
    check_clear(answer)
    assert stage.snapshot() == before


# What shows only while the body arrives


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([b"worldX"], id="in-one-message"),
        pytest.param([b"world", b"X"], id="in-the-last-byte"),
        pytest.param([b"x"] * 6, id="byte-by-byte"),
        pytest.param([bytes(MIB)] * 20, id="twenty-megabytes"),
    ],
)
async def test_a_chunked_body_past_the_end_is_taken_back(
    chunks: list[bytes], store: MemoryStore | FileStore
) -> None:
    stage = make_stage(store)
    upload = await stage.upload(length=10, content=b"hello")
    before = stage.snapshot()
    answer = await stage.patch(upload.id, 5, chunks)
    assert (answer.status, answer.body) == (
        413,
        b"the body runs past the end: at most 5 more bytes may come\n",
    )
    check_clear(answer)
    assert stage.snapshot() == before
    assert stage.events == []
    assert await stage.content(upload.id) == b"hello"
    assert (await stage.patch(upload.id, 5, b"world")).status == 204  # and it goes on


async def test_a_deferred_upload_does_not_grow_over_the_maximum(
    store: MemoryStore | FileStore,
) -> None:
    stage = make_stage(store, engine={"limits": Limits(max_size=8)})
    upload = await stage.upload(length=None, content=b"hello")
    for body in (b"1234", [b"12", b"34"]):
        answer = await stage.patch(upload.id, 5, body)
        assert answer.status == 413
        assert await stage.content(upload.id) == b"hello"


# What hooks refuse


class Refusing(Recorder):
    """Refuses where it is told to."""

    head_size = 4
    min_head_size = 4

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    async def authorize(
        self, request: Request, operation: Operation, upload: Upload | None
    ) -> None:
        if self.where == operation.value:
            raise Forbidden("not you")

    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        if self.where == "creating" and request is not None:
            raise Forbidden("not this")
        return creation

    async def inspect(self, upload: Upload, head: bytes) -> dict[str, Any]:
        if self.where == "inspect":
            raise UnsupportedMedia("not a film")
        return {}


@pytest.mark.parametrize("where", ["create", "creating"])
async def test_a_creation_that_a_hook_refuses_stores_nothing(
    where: str, store: MemoryStore | FileStore
) -> None:
    stage = make_stage(store, hooks=Refusing(where))
    own = {"Upload-Length": "5", "Content-Type": OCTETS, "Expect": "100-continue"}
    answer = await stage.driver.request("POST", "/", own, b"hello")
    assert (answer.status, answer.receives_before_start) == (403, 0)
    check_clear(answer)
    assert stage.snapshot() == {}


@pytest.mark.parametrize(
    ("where", "method"), [("get", "HEAD"), ("append", "PATCH"), ("terminate", "DELETE")]
)
async def test_what_a_hook_refuses_changes_nothing(
    where: str, method: str, store: MemoryStore | FileStore
) -> None:
    stage = make_stage(store, hooks=Refusing(where))
    upload = await stage.upload()
    before = stage.snapshot()
    own = {"Upload-Offset": "0", "Content-Type": OCTETS, "Expect": "100-continue"}
    answer = await stage.driver.request(method, f"/{upload.id}", own, b"hello")
    assert (answer.status, answer.receives_before_start) == (403, 0)
    check_clear(answer)
    assert stage.snapshot() == before


async def test_bytes_that_a_hook_refuses_end_the_upload(store: MemoryStore | FileStore) -> None:
    stage = make_stage(store, hooks=Refusing("inspect"))
    upload = await stage.upload(length=100 * MIB)
    exchange = stage.exchange(upload.id, 0, [bytes(MIB)] * 100, {"Content-Length": str(100 * MIB)})
    answer = await exchange.run()
    assert (answer.status, answer.body) == (415, b"not a film\n")
    assert answer.receives_before_start == 1  # one message was enough to see it
    assert answer.receives < 20
    assert answer.headers["connection"] == "close"
    check_clear(answer)
    assert stage.snapshot() == {}
    assert stage.events == ["terminated"]


async def test_a_first_patch_too_short_to_judge_is_refused_and_not_kept(
    store: MemoryStore | FileStore,
) -> None:
    stage = make_stage(store, hooks=Refusing("nowhere"))
    upload = await stage.upload(length=10)
    before = stage.snapshot()
    answer = await stage.patch(upload.id, 0, b"abc")
    assert answer.status == 422
    assert b"at least 4 bytes, and carried 3" in answer.body
    check_clear(answer)
    assert stage.snapshot() == before


# Strangers


class Owned(Recorder):
    """Knows whose an upload is, and hides it from everybody else."""

    async def authorize(
        self, request: Request, operation: Operation, upload: Upload | None
    ) -> None:
        user = request.headers.get("authorization")
        if user is None:
            raise Unauthorized("a key is needed")
        if upload is not None and upload.owner != user:
            raise UploadNotFound("there is no such upload")


METHODS = ["HEAD", "PATCH", "DELETE", "GET"]


@pytest.mark.parametrize("method", METHODS)
async def test_without_a_key_nobody_learns_what_exists(method: str) -> None:
    stage = make_stage(MemoryStore(), hooks=Owned(), engine=HOURLY, downloads=True)
    await stage.upload(upload_id="gone")
    stage.clock.advance(hours=2)
    await stage.upload(length=10, upload_id="theirs", owner="b")
    await stage.upload(length=0, upload_id="complete", owner="b")
    before = stage.snapshot()
    answers = []
    for path in ("/theirs", "/complete", "/gone", "/unknown", "/no.id"):
        exchange = stage.driver.exchange(method, path, body=b"")
        answer = await exchange.run()
        answers.append((answer.status, exchange.sent))
        check_clear(answer)
    assert [status for status, _ in answers] == [401] * 5
    assert all(sent == answers[0][1] for _, sent in answers)
    assert stage.snapshot() == before


@pytest.mark.parametrize("method", METHODS)
async def test_a_stranger_cannot_tell_a_foreign_upload_from_none(method: str) -> None:
    stage = make_stage(MemoryStore(), hooks=Owned(), engine=HOURLY, downloads=True)
    await stage.upload(upload_id="gone", owner="b")
    stage.clock.advance(hours=2)
    await stage.upload(length=10, upload_id="theirs", owner="b")
    await stage.upload(length=0, upload_id="complete", owner="b")
    before = stage.snapshot()
    answers = []
    for path in ("/unknown", "/theirs", "/complete", "/gone"):
        own = {"Authorization": "a", "Upload-Offset": "99", "Content-Type": "text/plain"}
        exchange = stage.driver.exchange(method, path, own, b"")
        assert (await exchange.run()).status == 404
        answers.append(exchange.sent)
    assert all(sent == answers[0] for sent in answers)
    assert stage.snapshot() == before


# The store


async def test_a_full_store_says_so_and_the_upload_goes_on_when_there_is_room(
    store: MemoryStore | FileStore,
) -> None:
    stage = make_stage(store)
    upload = await stage.upload(length=10, content=b"hello")
    append = stage.store.append

    async def full(upload: Upload, chunks: Any, **settings: Any) -> Upload:
        raise StoreFull("the store has no room left")

    stage.store.append = full
    answer = await stage.patch(upload.id, 5, b"world")
    assert (answer.status, answer.body) == (507, b"the store has no room left\n")
    check_clear(answer)
    stage.store.append = append
    assert (await stage.patch(upload.id, 5, b"world")).status == 204
    assert await stage.content(upload.id) == b"helloworld"


async def test_a_store_that_is_away_asks_to_come_back(store: MemoryStore | FileStore) -> None:
    stage = make_stage(store)

    async def away(upload_id: str) -> Upload:
        raise StoreUnavailable("the store is away", retry_after=7)

    stage.store.get = away
    answer = await stage.head("x")
    assert (answer.status, answer.headers["retry-after"], answer.body) == (423, "7", b"")
    answer = await stage.patch("x", 0, b"x")
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")


async def test_a_broken_record_is_an_internal_error_that_says_nothing(
    file_store: FileStore,
) -> None:
    stage = make_stage(file_store)
    upload = await stage.upload(length=10, content=b"hello")
    await anyio.Path(f"{file_store.path(upload.id)}.info").write_text("{")
    exchange = stage.exchange(upload.id, 5, b"world")
    with pytest.raises(ValueError, match="Expecting property name"):
        await exchange.run()
    answer = exchange.answer
    assert (answer.status, answer.body) == (500, b"internal error\n")
    check_clear(answer)


# Whatever comes


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "POST", "DELETE", "OPTIONS", "GET", "\u00e9"])
@pytest.mark.parametrize("path", ["/", "/u", "/x/y", "//", "/\u00e9", "/" + "../" * 50])
async def test_no_method_and_path_break_the_app(method: str, path: str) -> None:
    stage = make_stage(MemoryStore(), downloads=True)
    await stage.upload(length=10, upload_id="u")
    answer = await ScriptedExchange(stage.app, method, path, headers=TUS, body=b"").run()
    assert 200 <= answer.status < 500
    assert answer.headers["tus-resumable"] == "1.0.0"
