"""Tokens that count and tokens that do not, and keys that are fit to judge them by."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from tests.server._keys import (
    SECRET,
    claims,
    ec_key,
    ed_key,
    forged,
    jwk,
    private_pem,
    public_pem,
    rsa_key,
    token,
)
from tusasgi.server.credentials import InvalidCredential
from tusasgi.server.tokens import Tokens, parse_jwks, parse_key

LONG = f"{SECRET}, {SECRET}"
AGO = datetime.now(UTC) - timedelta(minutes=1)


@pytest.mark.parametrize(
    ("key", "private", "algorithms"),
    [
        pytest.param(SECRET, SECRET, ("HS256",), id="secret"),
        pytest.param(LONG, LONG, ("HS256", "HS384", "HS512"), id="long-secret"),
        pytest.param(
            public_pem(rsa_key()), private_pem(rsa_key()), ("RS256", "RS512", "PS256"), id="rsa"
        ),
        pytest.param(public_pem(ec_key()), private_pem(ec_key()), ("ES256",), id="ec"),
        pytest.param(public_pem(ed_key()), private_pem(ed_key()), ("EdDSA",), id="ed25519"),
    ],
)
def test_the_kind_of_the_key_says_which_signatures_count(
    key: str, private: str, algorithms: tuple[str, ...]
) -> None:
    tokens = Tokens(key=key)
    for algorithm in algorithms:
        assert tokens.owner_of(token(private, algorithm)) == "alice"
    assert set(algorithms) <= set(parse_key(key)[0].algorithms)
    assert len({name[:2] for name in parse_key(key)[0].algorithms} & {"HS", "RS", "ES", "Ed"}) == 1


def signed_by_the_public_key() -> str:
    """Return what a server takes that lets the token choose: RFC 8725 section 2.1."""
    pem = public_pem(rsa_key())
    unsigned = forged({"alg": "HS256", "typ": "JWT"}, _plain()).rpartition(".")[0]
    digest = hmac.digest(pem.encode(), unsigned.encode(), hashlib.sha256)
    return f"{unsigned}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _plain() -> dict[str, object]:
    return {"sub": "alice", "exp": int(time.time()) + 300}


def resigned(payload: bytes) -> str:
    """Return a token with this payload and a signature that is right."""
    unsigned = forged({"alg": "HS256"}, payload).rpartition(".")[0]
    digest = hmac.digest(SECRET.encode(), unsigned.encode(), hashlib.sha256)
    return f"{unsigned}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


OF_RSA: list[tuple[str, Callable[[], str]]] = [
    ("alg-none", lambda: forged({"alg": "none"}, _plain())),
    ("alg-None", lambda: forged({"alg": "None"}, _plain())),
    ("no-alg", lambda: forged({}, _plain())),
    ("alg-a-list", lambda: forged({"alg": ["RS256"]}, _plain())),
    ("hs256-by-the-public-key", signed_by_the_public_key),
    ("hs256-by-a-secret", lambda: token(SECRET, "HS256")),
    ("another-key", lambda: token(private_pem(rsa_key(1)), "RS256")),
    ("a-key-of-the-token", lambda: forged({"alg": "RS256", "jwk": jwk(rsa_key(1))}, _plain())),
    ("another-kind", lambda: token(private_pem(ec_key()), "ES256")),
    ("no-signature", lambda: token(private_pem(rsa_key()), "RS256").rpartition(".")[0] + "."),
    ("half-a-signature", lambda: token(private_pem(rsa_key()), "RS256")[:-40]),
    ("two-parts", lambda: token(private_pem(rsa_key()), "RS256").rpartition(".")[0]),
    ("encrypted", lambda: "a.b.c.d.e"),
    ("nothing", lambda: ""),
    ("dots", lambda: ".."),
    ("not-base64", lambda: "%.%.%"),
    ("deep-header", lambda: f"{base64.urlsafe_b64encode(b'[' * 5000).decode()}.e30.x"),
]


@pytest.mark.parametrize("attack", [pytest.param(make, id=name) for name, make in OF_RSA])
def test_no_signature_counts_but_that_of_the_key(attack: Callable[[], str]) -> None:
    tokens = Tokens(key=public_pem(rsa_key()))
    assert tokens.owner_of(token(private_pem(rsa_key()), "RS256")) == "alice"
    assert tokens.owner_of(attack()) is None


def ours(**more: object) -> str:
    """Return a token that is right but for what is said otherwise."""
    return token(**{"aud": "uploads", "iss": "us", **more})


def saying(claims: str) -> str:
    """Return one whose claims are written by hand."""
    return resigned(f'{{"sub": "alice", "aud": "uploads", "iss": "us", {claims}}}'.encode())


OF_SECRET: list[tuple[str, Callable[[], str]]] = [
    ("no-exp", lambda: ours(exp=None)),
    ("exp-in-words", lambda: saying('"exp": "tomorrow"')),
    ("exp-beyond-numbers", lambda: saying('"exp": 1e999')),
    ("exp-of-many-digits", lambda: saying(f'"exp": {"9" * 5000}')),
    ("exp-null", lambda: saying('"exp": null')),
    ("exp-an-object", lambda: saying('"exp": {}')),
    ("not-yet", lambda: ours(nbf=datetime.now(UTC) + timedelta(minutes=1))),
    ("from-the-future", lambda: ours(iat=datetime.now(UTC) + timedelta(minutes=1))),
    ("no-audience", lambda: ours(aud=None)),
    ("wrong-audience", lambda: ours(aud="others")),
    ("longer-audience", lambda: ours(aud="uploads-of-others")),
    ("no-issuer", lambda: ours(iss=None)),
    ("wrong-issuer", lambda: ours(iss="them")),
    ("a-part-of-the-issuer", lambda: ours(iss="u")),
    ("no-owner", lambda: ours(sub=None)),
    ("empty-owner", lambda: ours(sub="")),
    ("long-owner", lambda: ours(sub="a" * 256)),
    ("owner-with-line-breaks", lambda: ours(sub="a\nb")),
    ("owner-of-half-a-character", lambda: ours(sub="\ud800")),
    ("no-object", lambda: resigned(b'["alice"]')),
    ("deep", lambda: resigned(b"[" * 4000)),
    ("no-json", lambda: resigned(b"\xff\xfe")),
    ("critical", lambda: forged({"alg": "HS256", "crit": ["x"], "x": 1}, _plain())),
]


@pytest.mark.parametrize("attack", [pytest.param(make, id=name) for name, make in OF_SECRET])
def test_no_token_counts_that_is_not_for_us_and_not_for_now(attack: Callable[[], str]) -> None:
    tokens = Tokens(key=SECRET, audience="uploads", issuer="us")
    for right in (ours(), ours(aud=["others", "uploads"]), saying('"exp": 99999999999')):
        assert tokens.owner_of(right) == "alice"
    assert tokens.owner_of(attack()) is None


def test_a_token_for_somebody_else_does_not_count_where_no_audience_is_set() -> None:
    assert Tokens(key=SECRET).owner_of(token(aud="others")) is None


def test_a_token_that_has_expired_says_so() -> None:
    with pytest.raises(InvalidCredential, match="the token has expired"):
        Tokens(key=SECRET).owner_of(token(exp=AGO))
    a_moment_ago = datetime.now(UTC) - timedelta(seconds=2)
    assert Tokens(key=SECRET).owner_of(token(exp=a_moment_ago)) == "alice"  # clocks differ


def test_the_owner_is_in_the_claim_that_is_named() -> None:
    tokens = Tokens(key=SECRET, owner_claim="tenant")
    assert tokens.owner_of(token(tenant="acme")) == "acme"
    assert tokens.owner_of(token(tenant=42)) == "42"
    for other in (None, True, 1.5, ["acme"], {"name": "acme"}):
        assert tokens.owner_of(token(tenant=other)) is None


# Sets of keys.


def jwks(folder: Path, *keys: object) -> str:
    path = folder / "jwks.json"
    path.write_text(json.dumps({"keys": keys}))
    return str(path)


def test_the_key_of_a_set_is_chosen_by_its_name(tmp_path: Path) -> None:
    path = jwks(tmp_path, jwk(rsa_key(), kid="old"), jwk(rsa_key(1), kid="new"), jwk(ec_key()))
    tokens = Tokens(jwks_file=path)
    import jwt as library

    for name, key in (("old", rsa_key()), ("new", rsa_key(1))):
        signed = library.encode(claims(), private_pem(key), "RS256", headers={"kid": name})
        assert tokens.owner_of(signed) == "alice"
    swapped = library.encode(claims(), private_pem(rsa_key()), "RS256", headers={"kid": "new"})
    assert tokens.owner_of(swapped) is None
    unknown = library.encode(claims(), private_pem(rsa_key()), "RS256", headers={"kid": "other"})
    assert tokens.owner_of(unknown) is None
    assert tokens.owner_of(token(private_pem(rsa_key(1)), "RS256")) == "alice"  # it names none
    assert tokens.owner_of(token(private_pem(ec_key()), "ES256")) == "alice"


def test_a_key_that_names_its_algorithm_takes_no_other(tmp_path: Path) -> None:
    tokens = Tokens(jwks_file=jwks(tmp_path, jwk(rsa_key(), alg="PS256")))
    assert tokens.owner_of(token(private_pem(rsa_key()), "PS256")) == "alice"
    assert tokens.owner_of(token(private_pem(rsa_key()), "RS256")) is None


def test_a_set_that_changes_counts_as_it_is_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Tokens(jwks_file=jwks(tmp_path, jwk(rsa_key())))
    (file,) = tokens.files
    old, new = token(private_pem(rsa_key()), "RS256"), token(private_pem(ec_key()), "ES256")
    jwks(tmp_path, jwk(ec_key()))
    file.refresh()
    assert (tokens.owner_of(old), tokens.owner_of(new)) == (None, "alice")
    (tmp_path / "jwks.json").write_text("{")
    for _ in range(2):
        file.refresh()
    assert tokens.owner_of(new) == "alice"
    (warning,) = caplog.messages  # once
    assert "it is no JWK Set" in warning


UNFIT_KEYS: list[tuple[str, str]] = [
    ("short", "a secret has to have 32 bytes or more"),
    ("", "a secret has to have 32 bytes or more"),
    (private_pem(rsa_key()), "it is a private key: give the public one"),
    ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "it is no public key in PEM"),
    (
        public_pem(rsa.generate_private_key(65537, 1024)),
        "an RSA key has to have 2048 bits or more",
    ),
    (public_pem(ec.generate_private_key(ec.SECP256K1())), "it is neither RSA, nor P-256"),
    (public_pem(dsa.generate_private_key(1024)), "it is neither RSA, nor P-256"),
]


@pytest.mark.parametrize(("key", "message"), UNFIT_KEYS)
def test_an_unfit_key_is_refused_without_being_shown(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        parse_key(key)
    assert not key or key not in str(refused.value)


P_384 = ec.generate_private_key(ec.SECP384R1())
UNFIT_SETS: list[tuple[object, str]] = [
    ([], "it is no JWK Set"),
    ({"keys": 7}, "it is no JWK Set"),
    ({"keys": [7]}, "it is no JWK Set"),
    ({"keys": []}, "there is no key for signatures in it"),
    ({"keys": [jwk(rsa_key(), use="enc")]}, "there is no key for signatures in it"),
    ({"keys": [jwk(rsa_key(), alg="RSA-OAEP")]}, "there is no key for signatures in it"),
    ({"keys": [jwk(rsa_key(), alg="HS256")]}, "key 1 is no JWK that can be used"),
    ({"keys": [jwk(P_384, alg="ES256")]}, "key 1 is not of the kind that its alg says"),
    ({"keys": [jwk(rsa_key(), d="AQAB")]}, "key 1 is a private one"),
    ({"keys": [{"kty": "RSA", "n": "x"}]}, "key 1 is no JWK that can be used"),
    ({"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}, "key 1: a secret has to have 32 bytes or more"),
    ({"keys": [{}]}, "key 1 is no JWK that can be used"),
]


@pytest.mark.parametrize(("found", "message"), UNFIT_SETS)
def test_an_unfit_set_is_refused(found: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_jwks(json.dumps(found))
