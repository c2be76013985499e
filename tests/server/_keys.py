"""Keys, certificates and tokens that are made in a test."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

SECRET = "a secret that has thirty-two bytes, and more"


@cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def public_pem(key: Any) -> str:
    return key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    ).decode()  # fmt: skip


def private_pem(key: Any) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def jwk(key: Any, **more: str) -> dict[str, Any]:
    """Return the public JWK of a private key."""
    algorithm = jwt.algorithms.ECAlgorithm if isinstance(key, type(ec_key())) else RSA
    return {**json.loads(algorithm.to_jwk(key.public_key())), **more}


RSA = jwt.algorithms.RSAAlgorithm


def claims(**more: Any) -> dict[str, Any]:
    """Return what a token of Alice says, with a claim left out that is None."""
    own = {"sub": "alice", "exp": datetime.now(UTC) + timedelta(days=1), **more}
    return {name: value for name, value in own.items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", **more: Any) -> str:
    return jwt.encode(claims(**more), key, algorithm=algorithm)


def forged(header: Mapping[str, Any], payload: Any, signature: bytes = b"") -> str:
    """Return a token that no library would make."""
    parts = (json.dumps(header).encode(), _json(payload), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def _json(payload: Any) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for this machine and its key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(ec_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ec_key(), SHA256())
    )
    certfile, keyfile = folder / "certificate.pem", folder / "key.pem"
    certfile.write_bytes(made.public_bytes(Encoding.PEM))
    keyfile.write_text(private_pem(ec_key()))
    return certfile, keyfile
