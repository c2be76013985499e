"""Whatever comes from outside is understood or refused, and in no third way."""

import base64
import contextlib
import json
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from examples.roughy.api.errors import ValidationFailed
from examples.roughy.api.links import Links
from examples.roughy.api.paging import parse_paging
from examples.roughy.api.validation import Fields
from examples.roughy.settings import Settings, SettingsError
from tests.media.conftest import sample as sample  # the fixture
from tests.media.samples import HAND_MADE, RECIPES
from tusasgi import Upload
from tusasgi.asgi.download import _parse_range
from tusasgi.asgi.routes import find_id
from tusasgi.checksums import ALGORITHMS, parse_checksum
from tusasgi.errors import TusError
from tusasgi.fields import parse_concat
from tusasgi.media import HEAD_SIZE
from tusasgi.models import Checksum
from tusasgi.protocols.headers import Headers
from tusasgi.protocols.tus import Extension, method_of
from tusasgi.server import values
from tusasgi.server.proxies import Believed
from tusasgi.stores.records import dump_record, load_record

from .hostile import BY_HAND, damaged
from .targets import DRAFT_NAMES, NAMES, check_draft, check_head, check_headers, check_texts

SEED = 20_261_126

# Headers

_URL = st.sampled_from(
    ["/files/a", "http://example.com/files/b", "c", "/d", "//x/files/e", "?", "["]
)
_DIGEST = st.sampled_from(sorted(ALGORITHMS)).flatmap(
    lambda name: st.binary(min_size=1, max_size=64).map(
        lambda digest: f"{name} {base64.b64encode(digest).decode()}"
    )
)
_VALUES = st.one_of(
    st.sampled_from(["", "0", "1", "5", "1.0.0", "partial", "application/offset+octet-stream"]),
    st.lists(_URL, max_size=3).map(lambda urls: "final;" + " ".join(urls)),
    st.just(f"sha1 {base64.b64encode(bytes(20)).decode()}"),
    _DIGEST,
    st.text(st.characters(max_codepoint=255), max_size=40),
).map(lambda text: text.replace("\n", " ").encode("latin-1"))
_SIZES = st.sampled_from([b"0", b"1", b"5", b"9" * 18, b"1" + b"0" * 18, b"9" * 19, b"-1", b"+1"])
_LIKELY: Mapping[str, st.SearchStrategy[bytes]] = {
    "Content-Length": _SIZES,
    "Content-Type": st.just(b"application/offset+octet-stream"),
    "Upload-Length": _SIZES,
    "Upload-Offset": _SIZES,
    "Upload-Defer-Length": st.just(b"1"),
    "Upload-Concat": st.just(b"partial")
    | st.lists(_URL, max_size=3).map(lambda urls: b"final;" + " ".join(urls).encode()),
    "Upload-Checksum": st.just(b"sha1 " + base64.b64encode(bytes(20)))
    | _DIGEST.map(lambda text: text.encode()),
    "Upload-Metadata": st.sampled_from([b"a", b"a YQ==,b", b"a YQ==, b YQ=="]),
}


def _request(*names: str) -> st.SearchStrategy[list[bytes]]:
    """Lines that would do, most of the time; a stranger among them now and then."""
    lines = [_LIKELY[name].map(partial(_line, name)) for name in names]
    anything = st.builds(_line, st.sampled_from(NAMES), _VALUES)
    return st.tuples(st.tuples(*lines), st.lists(anything, max_size=1)).map(
        lambda found: [*found[0], *found[1]]
    )


def _line(name: str, value: bytes) -> bytes:
    return bytes([NAMES.index(name)]) + value


_REQUESTS = st.one_of(
    _request("Content-Type", "Upload-Offset"),
    _request("Content-Type", "Upload-Offset", "Upload-Length", "Content-Length"),
    _request("Content-Type", "Upload-Offset", "Upload-Checksum"),
    _request("Upload-Length", "Upload-Metadata"),
    _request("Upload-Defer-Length", "Upload-Metadata"),
    _request("Upload-Concat"),
    _request("Upload-Concat", "Upload-Length"),
    _request("Upload-Concat", "Upload-Defer-Length"),
    st.lists(st.builds(_line, st.sampled_from(NAMES), _VALUES), max_size=8),
)
_OFFERED = st.integers(0, 2 ** len(Extension) - 1)


@settings(max_examples=400)
@given(_OFFERED, _REQUESTS)
def test_any_set_of_headers_is_read_or_refused(offered: int, lines: list[bytes]) -> None:
    check_headers(bytes([offered]) + b"\n".join(lines))


@given(st.binary(max_size=300))
def test_any_bytes_as_headers_are_read_or_refused(data: bytes) -> None:
    check_headers(data)


_DRAFT_LIKELY: Mapping[str, list[str]] = {
    "Upload-Complete": ["?0", "?1", "?1;a=b"],
    "Upload-Incomplete": ["?0", "?1"],
    "Upload-Draft-Interop-Version": ["3", "5", "6", "8", "9", "10"],
    "Content-Length": ["0", "1", "5", "9" * 40],
    "Content-Type": ["application/partial-upload", "video/mp4", "x" * 20_000, "\0"],
    "Content-Disposition": ["inline; filename=a", f'inline; filename="{"b" * 20_000}"'],
    "Upload-Length": ["0", "5", "6", "9" * 15],
    "Upload-Offset": ["0", "5", "9" * 15],
    "Upload-Metadata": ["a", "filename YQ==", f"a {'YWFh' * 4000}"],
    "Repr-Digest": [f"sha-256=:{base64.b64encode(bytes(32)).decode()}:", "sha-256=:YQ==:"],
    "Content-Digest": [f"sha-512=:{base64.b64encode(bytes(64)).decode()}:"],
    "Want-Repr-Digest": ["sha-256=1"],
}


def _draft_line(name: str, value: bytes) -> bytes:
    return bytes([DRAFT_NAMES.index(name)]) + value


_DRAFT_LINES = st.sampled_from(sorted(_DRAFT_LIKELY)).flatmap(
    lambda name: st.builds(
        _draft_line,
        st.just(name),
        st.sampled_from(_DRAFT_LIKELY[name]).map(str.encode),
    )
)
_ANY_DRAFT_LINES = st.builds(_draft_line, st.sampled_from(DRAFT_NAMES), _VALUES)


@settings(max_examples=400)
@given(st.lists(_DRAFT_LINES | _ANY_DRAFT_LINES, max_size=8))
def test_any_request_of_the_draft_is_read_or_refused(lines: list[bytes]) -> None:
    check_draft(b"\n".join(lines))


@given(st.binary(max_size=300))
def test_any_bytes_as_fields_of_the_draft_are_read_or_refused(data: bytes) -> None:
    check_draft(data)


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
@example(b"final;")
@example(b"http://[/files/a")
@example(b"bytes=5-4")
@example(b"bytes=-0")
def test_any_text_is_read_or_refused(data: bytes) -> None:
    check_texts(data)


@given(st.sampled_from(sorted(ALGORITHMS)), st.data())
def test_every_digest_comes_back(algorithm: str, data: st.DataObject) -> None:
    size = len(ALGORITHMS[algorithm]().digest())
    digest = data.draw(st.binary(min_size=size, max_size=size))
    header = f"{algorithm} {base64.b64encode(digest).decode()}"
    assert parse_checksum(header) == Checksum(algorithm=algorithm, digest=digest)


@given(st.lists(st.text("abc/:.%-_", min_size=1), min_size=1, max_size=5), st.integers(1, 3))
def test_every_list_of_parts_comes_back(urls: list[str], blanks: int) -> None:
    concat = parse_concat("final;" + (" " * blanks).join(urls))
    assert (concat.urls, concat.is_partial) == (tuple(urls), False)


@given(st.text("abcXYZ", min_size=1), st.text("abcXYZ", min_size=1))
def test_an_override_counts_only_where_it_is_honoured(method: str, wanted: str) -> None:
    headers = Headers([(b"X-HTTP-Method-Override", wanted.encode())])
    assert method_of(method, headers, "any") == wanted.upper()
    assert method_of(method, headers, "post") == method
    assert method_of("POST", headers, "post") == wanted.upper()
    assert method_of("POST", headers, "off") == "POST"


_NUMBERS = st.integers(0, 10**18 - 1)


@given(_NUMBERS, _NUMBERS, _NUMBERS)
def test_a_range_within_the_upload_is_the_one_asked_for(length: int, one: int, two: int) -> None:
    start, last = sorted((one, two))
    if start < length:
        assert _parse_range(f"bytes={start}-{last}", length) == (start, min(last + 1, length))
    if start and length:
        assert _parse_range(f"bytes=-{start}", length) == (max(0, length - start), length)


# URLs

_IDS = st.text("abcXYZ019-_", min_size=1, max_size=64)
_FOLDERS = st.lists(st.text("abcü %", min_size=1, max_size=5), max_size=3).map(
    lambda parts: "".join(f"/{quote(part)}" for part in parts)
)


@given(_IDS, _FOLDERS, st.sampled_from(["", "//h", "http://h", "HTTPS://H"]), st.booleans())
def test_our_own_urls_lead_to_their_upload(
    upload_id: str, folder: str, server: str, has_slash: bool
) -> None:
    url = f"{server}{folder}/{upload_id}{'/' * has_slash}"
    assert find_id(url, folders={folder}) == upload_id


@given(_IDS, _FOLDERS, _FOLDERS)
def test_urls_of_others_lead_nowhere(upload_id: str, folder: str, ours: str) -> None:
    urls = [f"ftp://h{folder}/{upload_id}"]
    if folder != ours:
        urls.append(f"http://h{ours}/{upload_id}")
    for url in urls:
        with pytest.raises(TusError, match="not the URL of an upload"):
            find_id(url, folders={folder})


# Records

_RECORD = dump_record(
    Upload(
        id="a",
        length=5,
        created=datetime(2026, 11, 26, tzinfo=UTC),
        metadata={"filename": b"x"},
        facts={"type": "audio"},
        expires=datetime(2026, 12, 26, tzinfo=UTC),
        parts=("b", "c"),
        concat_header="final;/b /c",
        sha256="00",
    )
)
# What a damaged record raises: no kind of TusError, so it is told as an outage.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@given(st.integers(0, 2**32))
def test_a_damaged_record_is_never_told_as_the_clients_fault(seed: int) -> None:
    with contextlib.suppress(*_DAMAGE):
        load_record(damaged(_RECORD, random.Random(seed)), offset=0)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["\0", "half a \ud800", "EN", "0190f0d0-0000-7000-8000-00000000000A"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(sorted(json.loads(_RECORD))), _JSON)
def test_a_record_with_a_strange_field_is_never_told_as_the_clients_fault(
    name: str, value: object
) -> None:
    record = {**json.loads(_RECORD), name: value}
    with contextlib.suppress(*_DAMAGE):
        load_record(json.dumps(record).encode(), offset=0)


@given(st.sets(st.sampled_from(["is_partial", "parts", "concat_header", "sha256", "removal"])))
def test_a_record_of_an_earlier_release_is_read(missing: set[str]) -> None:
    record = {name: value for name, value in json.loads(_RECORD).items() if name not in missing}
    assert load_record(json.dumps(record).encode(), offset=3).id == "a"


# First bytes of a file


@given(st.binary(max_size=400))
def test_any_bytes_are_judged_soon(head: bytes) -> None:
    check_head(head)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_head_made_to_hurt_is_judged_soon(name: str) -> None:
    check_head(BY_HAND[name])


@given(st.sampled_from(HAND_MADE), st.integers(0, 2**32))
def test_a_damaged_head_is_judged_soon(head: object, seed: int) -> None:
    check_head(damaged(head.data.ljust(HEAD_SIZE, b"\0"), random.Random(seed)))


@pytest.mark.parametrize("recipe", [recipe.id for recipe in RECIPES])
def test_a_damaged_real_head_is_judged_soon(sample: Callable[[str], Path], recipe: str) -> None:
    content = sample(recipe).read_bytes()[: HEAD_SIZE + 1000]
    for number in range(30):
        check_head(damaged(content, random.Random(f"{SEED} {recipe} {number}")))


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(b"\0\0\0\x08moov", id="empty-boxes"),
        pytest.param(b"\xff\xfb\x90\x64", id="frames-of-mp3"),
        pytest.param(b"\xff\xf1\x50\x80\0\xff\xfc", id="frames-of-aac"),
        pytest.param(b"\x0b\x77", id="frames-of-ac3"),
        pytest.param(b"ID3\3\0\0\0\0\0\0", id="tags"),
        pytest.param(b"OggS\0\0" + bytes(20) + b"\1\0", id="pages"),
        pytest.param(b"\x47" + bytes(187), id="packets"),
        pytest.param(b"\x1a\x45\xdf\xa3\x80", id="elements"),
        pytest.param(b"\0\0\1\xba\x44", id="packs"),
        pytest.param(b"\x0b\x77\0\0\x07\x10", id="frames-of-eac3"),
        pytest.param(b"\x3c", id="frames-of-amr"),
    ],
)
def test_a_head_of_one_thing_repeated_is_judged_soon(unit: bytes) -> None:
    for start in (b"", b"\0\0\0\x18ftypisom" + bytes(12), b"#!AMR\n", b"\x1a\x45\xdf\xa3\x80"):
        check_head((start + unit * HEAD_SIZE)[: HEAD_SIZE + 1])


# Options of the commands


@pytest.mark.parametrize(
    ("parse", "holds"),
    [
        pytest.param(values.positive, lambda number: number > 0, id="positive"),
        pytest.param(values.port, lambda port: 0 <= port < 2**16, id="port"),
        pytest.param(values.address, lambda found: found.host and found.port < 2**16, id="address"),
        pytest.param(values.size, lambda size: size > 0, id="size"),
        pytest.param(
            values.path, lambda path: path[0] == path[-1] == "/" and "//" not in path, id="path"
        ),
        pytest.param(values.origin, lambda origin: origin.isascii(), id="origin"),
        pytest.param(
            values.header, lambda name: name.isascii() and name.isprintable(), id="header"
        ),
        pytest.param(values.proxy, lambda proxy: Believed([proxy]) is not None, id="proxy"),
        pytest.param(values.url, lambda url: url.startswith("http"), id="url"),
    ],
)
def test_any_word_is_an_option_or_refused(
    parse: Callable[[str], object], holds: Callable[[object], object]
) -> None:
    @given(
        st.text(max_size=30)
        | st.integers(0, 10**6).map(str)
        | st.builds(
            "{}{}".format, st.integers(0, 10**6), st.sampled_from(["kb", "GiB", "k", "m", ""])
        )
        | st.builds("{}:{}".format, st.sampled_from(["", "h", "[::1]"]), st.integers(0, 10**6))
        | st.text("htps:/ab.1-_?#@%{}\n", max_size=20).map(lambda text: f"http://{text}")
        | st.text("/a.-_~%{}?#\n", max_size=12).map(lambda text: f"/{text}")
    )
    @example("65536")
    @example("h:65536")
    @example("/")
    def check(word: str) -> None:
        try:
            found = parse(word)
        except ValueError as refusal:
            assert str(refusal).startswith(f"{word!r} is not a")
        else:
            assert holds(found)
            assert "\n" not in str(found)

    check()


# Roughy


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 9 and value.encode().count(0) == 0


@given(
    st.dictionaries(st.sampled_from(["a", "b", "\ud800"]) | st.text(max_size=9), _JSON, max_size=4)
)
@example({"a": 100.0})
@example({"a": "\ud800"})
def test_any_json_object_is_valid_or_refused(body: Mapping[str, object]) -> None:
    for read, holds in (
        (lambda fields: fields.uuid("a"), lambda found: str(found) == body["a"].lower()),
        (
            lambda fields: fields.integer("a", least=64),
            lambda found: type(found) is int and found >= 64,
        ),
        (lambda fields: fields.text("a", longest=9), _is_text),
        (lambda fields: fields.choice("a", ["x", "y"]), lambda found: found in (None, "x", "y")),
        (
            lambda fields: fields.language("a"),
            lambda found: found is None or (len(found) == 2 and found.islower()),
        ),
        (lambda fields: fields.only({"a"}), lambda _: set(body) <= {"a"}),
    ):
        fields = Fields("body", body)
        found = read(fields)
        try:
            fields.check()
        except ValidationFailed as refusal:
            for field in refusal.fields:
                assert field.field.startswith("body.")
                field.field.encode()  # it goes into a response
        else:
            assert holds(found)


@given(
    st.dictionaries(
        st.sampled_from(["limit", "offset"]),
        st.text(max_size=25)
        | st.integers(-5, 2**70).map(str)
        | st.text("0123456789+-_ .", max_size=9),
    )
)
@example({"limit": "\u0661"})
@example({"offset": "9223372036854775808"})
def test_any_page_is_within_bounds_or_refused(query: dict[str, str]) -> None:
    fields = Fields("query", query)
    paging = parse_paging(fields)
    with contextlib.suppress(ValidationFailed):
        fields.check()
        assert 1 <= paging.limit <= 100
        assert 0 <= paging.offset < 2**63
        assert all(value.isascii() and value.isdigit() for value in query.values())


_NOW = datetime(2026, 11, 26, tzinfo=UTC)
_LINKS = Links("secret", lambda: _NOW)


@given(st.text(), st.text() | st.integers(0, 10**13).map(str), st.text())
def test_no_link_is_guessed(asset_id: str, expires: str, signature: str) -> None:
    assert not _LINKS.is_valid(asset_id, expires, signature)


@given(_IDS, st.integers(0, 10**11 - 1), st.integers(0, 63), st.sampled_from("0123456789abcdef"))
def test_a_link_is_good_for_what_was_signed_alone(
    asset_id: str, expires: int, at: int, digit: str
) -> None:
    signature = _LINKS._sign(asset_id, expires)
    is_in_time = expires > _NOW.timestamp()
    assert _LINKS.is_valid(asset_id, str(expires), signature) == is_in_time
    assert not _LINKS.is_valid(asset_id + "0", str(expires), signature)
    assert not _LINKS.is_valid(asset_id, str(expires + 1), signature)
    if signature[at] != digit:
        wrong = signature[:at] + digit + signature[at + 1 :]
        assert not _LINKS.is_valid(asset_id, str(expires), wrong)


_SETTINGS = [
    "API_KEYS",
    "CORS_ORIGINS",
    "DATABASE_URL",
    "INITIAL_CREDITS",
    "MONITORING",
    "PUBLIC_URL",
    "UPLOAD_EXPIRES_AFTER",
    "UPLOAD_IDLE_AFTER",
]


@given(
    st.sampled_from(_SETTINGS),
    st.text(max_size=40)
    | st.integers().map(str)
    | st.text("sqlitepogrn:/@.?=[]%#1", max_size=30).map(lambda text: f"sqlite://{text}")
    | st.text("htps:/ab.1-_?#@%[]", max_size=20).map(lambda text: f"http://{text}"),
)
def test_any_setting_is_taken_or_refused_in_one_line(name: str, value: str) -> None:
    try:
        found = Settings.of(Path("data"), {f"ROUGHY_{name}": value})
        assert 0 <= found.initial_credits < 10**9
        assert min(found.upload_expires_after, found.upload_idle_after) > timedelta(0)
    except SettingsError as refusal:
        assert "\n" not in str(refusal)
