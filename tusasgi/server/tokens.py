"""JSON Web Tokens (RFC 7519) by which somebody else says whose upload it is.

The kind of a key decides which signatures count: a token cannot choose, and no public key is ever
taken for a secret.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tusasgi.arguments import needs_extra
from tusasgi.server.credentials import InvalidCredential
from tusasgi.server.watched_file import WatchedFile

with needs_extra("jwt"):
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

_LEEWAY_SECONDS = 10  # that clocks may differ
_SHORTEST_RSA = 2048  # bits
_LONGEST_OWNER = 255
_OF_SECRETS = {"HS256": 32, "HS384": 48, "HS512": 64}  # bytes at least: RFC 7518 section 3.2
_OF_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_OF_CURVES = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_OF_EDWARDS = ("EdDSA",)
_SIGNING = (*_OF_SECRETS, *_OF_RSA, "ES256", "ES384", "ES512", *_OF_EDWARDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """What signatures are checked by."""

    key: Any = field(repr=False)
    algorithms: tuple[str, ...]
    name: str | None = None
    """The `kid` of a key in a set."""


class Tokens:
    """The tokens that are signed for one of the keys, and for us.

    `audience` is needed where tokens name one: a token for somebody else is not for us. Raises
    `OSError` and `ValueError` for files and keys that are of no use, without a word of a key.
    """

    def __init__(
        self,
        *,
        key: str | None = None,
        key_file: str | None = None,
        jwks_file: str | None = None,
        audience: str | None = None,
        issuer: str | None = None,
        owner_claim: str = "sub",
    ) -> None:
        self._fixed = [] if key is None else parse_key(key)
        parsers = ((key_file, parse_key), (jwks_file, parse_jwks))
        self.files = [WatchedFile(path, parse) for path, parse in parsers if path is not None]
        self._audience = audience
        self._issuer = issuer
        self._owner_claim = owner_claim

    def owner_of(self, token: str) -> str | None:
        """Return whom the token speaks for; None if it is not valid."""
        try:
            header = jwt.get_unverified_header(token)
            claims = self._claims(token, header.get("alg"), header.get("kid"))
        except jwt.ExpiredSignatureError:
            raise InvalidCredential("the token has expired") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None  # the last four: older releases of PyJWT pass on what int() and json raise
        return _text(claims[self._owner_claim])

    def _keys_for(self, algorithm: object, name: object) -> list[Key]:
        keys = [*self._fixed, *(key for file in self.files for key in file.content)]
        named = [key for key in keys if name is None or key.name in (None, name)]
        return [key for key in named if algorithm in key.algorithms]

    def _claims(self, token: str, algorithm: object, name: object) -> Mapping[str, Any]:
        for key in self._keys_for(algorithm, name):
            with contextlib.suppress(jwt.InvalidSignatureError):
                claims: Mapping[str, Any] = jwt.decode(
                    token,
                    key.key,
                    algorithms=list(key.algorithms),
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=_LEEWAY_SECONDS,
                    options={"require": ["exp", self._owner_claim]},
                )
                return claims
        raise jwt.InvalidSignatureError


def _text(owner: object) -> str | None:
    """Return the owner that a claim names, if it is one that can be kept with an upload."""
    if isinstance(owner, int) and not isinstance(owner, bool):
        owner = str(owner)
    if not isinstance(owner, str) or not 0 < len(owner) <= _LONGEST_OWNER:
        return None
    return owner if owner.isprintable() else None


def parse_key(text: str) -> Sequence[Key]:
    """Return a secret, or the public key of a PEM. Raises `ValueError` for one that is unfit."""
    text = text.strip()
    if "PRIVATE KEY-----" in text:
        raise ValueError("it is a private key: give the public one, which is all that is needed")
    if not text.startswith("-----BEGIN"):
        return [Key(key=text.encode(), algorithms=_algorithms_of(text.encode()))]
    try:
        key = load_pem_public_key(text.encode())
    except ValueError:
        raise ValueError("it is no public key in PEM (BEGIN PUBLIC KEY)") from None
    return [Key(key=key, algorithms=_algorithms_of(key))]


def parse_jwks(text: str) -> Sequence[Key]:
    """Return the keys of a JWK Set that are for signatures; those for other uses are left out."""
    found = _keys_in(text)
    keys = [_parse_jwk(jwk, number) for number, jwk in enumerate(found, 1) if _is_for_signing(jwk)]
    if not keys:
        raise ValueError("there is no key for signatures in it")
    return keys


def _keys_in(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError('it is no JWK Set: {"keys": [...]}')
    return found


def _is_for_signing(jwk: Mapping[str, Any]) -> bool:
    is_known = jwk.get("alg") in (None, *_SIGNING)
    return (
        is_known and jwk.get("use", "sig") == "sig" and "verify" in jwk.get("key_ops", ["verify"])
    )


def _parse_jwk(jwk: Mapping[str, Any], number: int) -> Key:
    if "d" in jwk:
        raise ValueError(f"key {number} is a private one: give what is public of it")
    try:
        key = jwt.PyJWK(dict(jwk)).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        raise ValueError(f"key {number} is no JWK that can be used") from None
    try:
        algorithms = _algorithms_of(key)
    except ValueError as error:
        raise ValueError(f"key {number}: {error}") from None
    if "alg" in jwk:
        algorithms = tuple(name for name in algorithms if name == jwk["alg"])
    if not algorithms:
        raise ValueError(f"key {number} is not of the kind that its alg says")
    return Key(key=key, algorithms=algorithms, name=jwk.get("kid"))


def _algorithms_of(key: object) -> tuple[str, ...]:
    """Return by which algorithms signatures count for a public key, or for a secret."""
    match key:
        case bytes() if len(key) < min(_OF_SECRETS.values()):
            raise ValueError("a secret has to have 32 bytes or more")
        case bytes():
            return tuple(name for name, least in _OF_SECRETS.items() if len(key) >= least)
        case rsa.RSAPublicKey() if key.key_size < _SHORTEST_RSA:
            raise ValueError(f"an RSA key has to have {_SHORTEST_RSA} bits or more")
        case rsa.RSAPublicKey():
            return _OF_RSA
        case ec.EllipticCurvePublicKey() if key.curve.name in _OF_CURVES:
            return _OF_CURVES[key.curve.name]
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return _OF_EDWARDS
    raise ValueError("it is neither RSA, nor P-256, P-384 or P-521, nor Ed25519 or Ed448")
