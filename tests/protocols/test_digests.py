"""Digest fields: what we can verify is read, what we know is told, and the rest is ignored."""

import base64
import hashlib
from datetime import UTC, datetime

import pytest

from tests.conformance.ietf import shows
from tusasgi import Headers, InvalidRequest, Upload
from tusasgi.models import Checksum
from tusasgi.protocols.digests import format_digest, parse_digest, parse_wanted
from tusasgi.protocols.structured import parse_dictionary

SHA256 = hashlib.sha256(b"hello").digest()
SHA512 = hashlib.sha512(b"hello").digest()
BY_256 = Checksum(algorithm="sha256", digest=SHA256)
BY_512 = Checksum(algorithm="sha512", digest=SHA512)


def field(*digests: tuple[str, bytes]) -> str:
    return ", ".join(f"{name}=:{base64.b64encode(digest).decode()}:" for name, digest in digests)


def headers(*lines: tuple[str, str]) -> Headers:
    return Headers((name.encode(), value.encode("latin-1")) for name, value in lines)


def upload(**fields: object) -> Upload:
    return Upload(
        id="u",
        length=5,
        offset=5,
        created=datetime(2026, 11, 28, tzinfo=UTC),
        is_complete=True,
        **fields,
    )


@pytest.mark.parametrize("name", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize(
    ("value", "checksum"),
    [
        pytest.param(field(("sha-256", SHA256)), BY_256, id="sha-256"),
        pytest.param(field(("sha-512", SHA512)), BY_512, id="sha-512"),
        pytest.param(
            field(("sha-256", SHA256), ("sha-512", SHA512)),
            BY_512,
            id="the-stronger-one",
        ),
        pytest.param(
            field(("md5", b"x"), ("sha-256", SHA256)),
            BY_256,
            id="one-unknown",
        ),
        pytest.param(field(("md5", b"x")), None, id="unknown-alone"),
        pytest.param("sha-256=5", None, id="no-bytes"),
        pytest.param(f"sha-256={SHA256.hex()}", None, id="hexadecimal"),
        pytest.param(field(("SHA-256", SHA256)), None, id="upper-case"),
        pytest.param(field(("sha-256", SHA256)) + ",", None, id="malformed"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_digest_that_we_know_is_read(name: str, value: str, checksum: Checksum | None) -> None:
    assert parse_digest(headers((name, value)), name) == checksum


def test_digests_may_have_a_line_each() -> None:
    lines = (("Repr-Digest", field(("md5", b"x"))), ("Repr-Digest", field(("sha-256", SHA256))))
    assert parse_digest(headers(*lines), "Repr-Digest") == Checksum(
        algorithm="sha256", digest=SHA256
    )


def test_what_no_bytes_could_hash_to_is_refused() -> None:
    line = ("Content-Digest", field(("sha-256", SHA256[:-1])))
    with pytest.raises(InvalidRequest, match="Content-Digest: this is no digest of sha256"):
        parse_digest(headers(line), "Content-Digest")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        pytest.param("sha-256=1", ("sha-256",), id="one"),
        pytest.param("sha-256=3, sha-512=10", ("sha-512", "sha-256"), id="by-their-weights"),
        pytest.param("sha-512=1, sha-256=2", ("sha-256", "sha-512"), id="the-weaker-one-first"),
        pytest.param("sha-256=0, sha-512=1", ("sha-512",), id="zero-is-not-wanted"),
        pytest.param("md5=10, sha-256=1", ("sha-256",), id="unknown"),
        pytest.param("sha-256", (), id="no-weight"),
        pytest.param("sha-256=:YQ==:", (), id="no-number"),
        pytest.param("sha-256=1;", (), id="malformed"),
    ],
)
def test_a_wish_is_read_by_its_weights(value: str, wanted: tuple[str, ...]) -> None:
    assert parse_wanted(headers(("Want-Repr-Digest", value))) == wanted


def test_nothing_is_wanted_without_a_wish() -> None:
    assert parse_wanted(headers()) == ()


@shows("IETF-202")
@pytest.mark.parametrize(
    ("known", "wanted", "told"),
    [
        pytest.param(
            {"sha256": SHA256.hex()}, ("sha-256",), {"sha-256": SHA256}, id="computed-by-us"
        ),
        pytest.param(
            {"checksum": BY_256},
            ("sha-256",),
            {"sha-256": SHA256},
            id="verified",
        ),
        pytest.param(
            {"checksum": BY_512, "sha256": SHA256.hex()},
            ("sha-512", "sha-256"),
            {"sha-512": SHA512},
            id="the-most-wanted",
        ),
        pytest.param(
            {"sha256": SHA256.hex()},
            ("sha-512", "sha-256"),
            {"sha-256": SHA256},
            id="the-one-that-is-known",
        ),
        pytest.param({"sha256": SHA256.hex()}, ("sha-512",), None, id="not-known"),
        pytest.param(
            {"checksum": BY_512},
            ("sha-256",),
            None,
            id="another",
        ),
        pytest.param({}, ("sha-256", "sha-512"), None, id="none-known"),
        pytest.param({"sha256": SHA256.hex()}, (), None, id="none-wanted"),
    ],
)
def test_the_digest_that_is_wanted_is_told_if_it_is_known(
    known: dict[str, object], wanted: tuple[str, ...], told: dict[str, bytes] | None
) -> None:
    digest = format_digest(upload(**known), wanted)
    assert (None if digest is None else parse_dictionary([digest])) == told
