"""Which protocol a request speaks, by its head, and by its upload where it has no mark."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.ietf import shows
from tusasgi import Headers, Upload
from tusasgi.protocols.choice import ProtocolName, choose, protocol_of

BOTH: tuple[ProtocolName, ...] = ("tus", "ietf")
METHODS = ("OPTIONS", "POST", "PUT", "PATCH", "HEAD", "GET", "DELETE")
TUS_LINE = ("Tus-Resumable", "1.0.0")
VERSION_LINE = ("Upload-Draft-Interop-Version", "8")
COMPLETE_LINE = ("Upload-Complete", "?1")
TYPE_LINE = ("Content-Type", "application/partial-upload")


def headers(*lines: tuple[str, str]) -> Headers:
    return Headers((name.encode(), value.encode("latin-1")) for name, value in lines)


def created_by(protocol: str) -> Upload:
    created = datetime(2026, 11, 28, tzinfo=UTC)
    return Upload(id="u", length=10, created=created, protocol=protocol)


@shows("IETF-220")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", ["1.0.0", "0.2.2", ""])
def test_tus_resumable_decides_before_all_else(method: str, version: str) -> None:
    lines = (("Tus-Resumable", version), VERSION_LINE, COMPLETE_LINE, TYPE_LINE)
    assert choose(method, headers(*lines), BOTH) == "tus"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", range(3, 10))
def test_a_version_that_we_speak_makes_it_the_draft(method: str, version: int) -> None:
    line = ("Upload-Draft-Interop-Version", str(version))
    assert choose(method, headers(line), BOTH) == "ietf"


@shows("IETF-002", "IETF-007")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", [None, "10", "2", "abc", "9, 8", ""])
@pytest.mark.parametrize(
    "mark",
    [
        pytest.param(COMPLETE_LINE, id="complete"),
        pytest.param(("Upload-Complete", "true"), id="odd-complete"),
        pytest.param(TYPE_LINE, id="type"),
        pytest.param(("content-type", "Application/Partial-Upload; a=b"), id="type-in-other-words"),
    ],
)
def test_without_such_a_version_its_fields_do(
    method: str, version: str | None, mark: tuple[str, str]
) -> None:
    lines = [mark] if version is None else [("Upload-Draft-Interop-Version", version), mark]
    assert choose(method, headers(*lines), BOTH) == "ietf"


@shows("IETF-007")
@pytest.mark.parametrize("method", ["HEAD", "GET", "DELETE"])
@pytest.mark.parametrize(
    "lines", [[], [("Upload-Draft-Interop-Version", "10")]], ids=["no-mark", "unknown-version"]
)
@pytest.mark.parametrize("protocol", BOTH)
def test_without_a_mark_the_protocol_that_created_the_upload_decides(
    method: str, lines: list[tuple[str, str]], protocol: ProtocolName
) -> None:
    assert choose(method, headers(*lines), BOTH) is None
    assert protocol_of(created_by(protocol), BOTH) == protocol


def test_without_an_upload_either_it_is_tus() -> None:
    assert protocol_of(None, BOTH) == "tus"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="nothing"),
        pytest.param([("Content-Type", "application/offset+octet-stream")], id="type-of-tus"),
        pytest.param([("Upload-Offset", "0"), ("Upload-Length", "5")], id="fields-of-both"),
        pytest.param([("Upload-Draft-Interop-Version", "10")], id="unknown-version"),
    ],
)
def test_all_else_is_tus_which_refuses_it(method: str, lines: list[tuple[str, str]]) -> None:
    assert choose(method, headers(*lines), BOTH) == "tus"


_LINES = st.lists(
    st.sampled_from([TUS_LINE, VERSION_LINE, COMPLETE_LINE, TYPE_LINE, ("Upload-Offset", "0")])
)


@given(st.sampled_from(METHODS), _LINES, st.sampled_from(BOTH), st.sampled_from(BOTH))
def test_one_protocol_alone_takes_everything(
    method: str, lines: list[tuple[str, str]], offered: ProtocolName, created: ProtocolName
) -> None:
    assert choose(method, headers(*lines), {offered}) == offered
    for upload in (None, created_by(created)):
        assert protocol_of(upload, {offered}) == offered


@given(st.sampled_from(METHODS), st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9))))
def test_no_head_is_without_an_answer(method: str, raw: list[tuple[bytes, bytes]]) -> None:
    assert choose(method, Headers(raw), BOTH) in (None, *BOTH)


@pytest.mark.parametrize("name", ["content-type", "upload-complete", "tus-resumable"])
def test_lines_that_contradict_each_other_are_no_reason_to_fail(name: str) -> None:
    assert choose("PATCH", headers((name, "a"), (name, "b")), BOTH) in BOTH
