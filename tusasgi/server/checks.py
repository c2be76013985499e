"""What has to be there before the command begins. What is not ends it with one line and code 1."""

import importlib.util
import logging
import os
import socket
import ssl
import sys
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import anyio

from tusasgi import StoreUnavailable
from tusasgi.server.access import make_credentials
from tusasgi.server.failures import describe
from tusasgi.server.lockers import ask_redis, make_locker, url_of_redis
from tusasgi.server.python_hooks import load_hooks
from tusasgi.server.settings import SECRETS, Settings
from tusasgi.server.storage import make_store, reach
from tusasgi.server.values import Address, without_password
from tusasgi.server.web_hooks import make_web_hooks

if TYPE_CHECKING:
    from tusasgi.stores.s3 import Integrity

logger = logging.getLogger("tusasgi.cli")

_FOLDER = "a folder of uploads (other than --store s3://bucket/prefix)"


def fail(message: str) -> NoReturn:
    """End the process with a line and code 1."""
    sys.exit(f"tusasgi: {message}")


def check_extra(what: str, extra: str, *modules: str, install: str | None = None) -> None:
    """Check that the modules of an extra are there, and say how to install them if not."""
    if not all(importlib.util.find_spec(name) for name in modules):
        fail(f"{what} needs the extra `{extra}`: pip install 'tusasgi[{install or extra}]'")


def check_posix(what: str) -> None:
    if not importlib.util.find_spec("fcntl"):
        fail(f"{what} needs a POSIX system (Linux, macOS, WSL)")


def check_folder(path: str) -> None:
    """Check that the folder can be written; it is made if it is missing."""
    check_posix(_FOLDER)
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        fail(f"cannot write to the folder {path}: {error.strerror}")


def check_folder_is_there(path: str) -> None:
    check_posix(_FOLDER)
    if not os.path.isdir(path):
        fail(f"there is no folder {path}")


def check_hooks(reference: str | None) -> None:
    """Check that the hooks can be imported, before anybody depends on them."""
    if reference is None:
        return
    try:
        load_hooks(reference)
    except Exception as error:  # whatever the module does: who runs it wants the reason alone
        fail(f"cannot use the hooks {reference}: {describe(error)}")


def check_web_hooks(settings: Settings, *, install: str) -> None:
    """Check that the web hooks can be made, of a secret that can be read and events that exist."""
    if settings.hook is None:
        return
    check_extra("--hook", "hooks", "httpx", install=install)
    try:
        make_web_hooks(settings)
    except OSError as error:
        fail(f"--hook-secret-file {settings.hook_secret_file}: {error.strerror}")
    except ValueError as error:
        name = "--hook-secret-file" if "secret" in str(error) else "--hook"
        fail(f"{name}: {error}")


def check_certificate(settings: Settings) -> None:
    """Check that certificate and key are there, belong together and need no password."""
    if settings.ssl_certfile is None:
        return
    assert settings.ssl_keyfile is not None
    for path in (settings.ssl_certfile, settings.ssl_keyfile):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            fail(f"cannot read {path}: {error.strerror}")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, _no_password)
    except (OSError, ValueError) as error:
        fail(
            f"cannot use the certificate {settings.ssl_certfile} with the key "
            f"{settings.ssl_keyfile}: {_tls_reason(error)}"
        )


def _no_password() -> str:
    raise ValueError("the key has a password: give one without")


def _tls_reason(error: OSError | ValueError) -> str:
    if not isinstance(error, ssl.SSLError):
        return str(error)
    reasons = {
        "KEY_VALUES_MISMATCH": "they do not belong together",
        "NO_CERTIFICATE_ASSIGNED": "they do not belong together",
        "EE_KEY_TOO_SMALL": "the key is too small",
        "CA_MD_TOO_WEAK": "the certificate is signed by a weak digest",
    }
    return reasons.get(error.reason or "", "one of them is not PEM, or not of its kind")


def check_credentials(settings: Settings, *, install: str) -> None:
    """Check that the keys that access is judged by can be read, and are fit for that."""
    if settings.takes_tokens:
        check_extra("access by JWT", "jwt", "jwt", "cryptography", install=install)
    for name in ("api_key_file", "jwt_key", "jwt_key_file", "jwt_jwks_file"):
        value = getattr(settings, name)
        if value is None:
            continue
        shown = f"--{name.replace('_', '-')}{'' if name in SECRETS else f' {value}'}"
        try:
            make_credentials(replace(Settings(), **{name: value}))
        except OSError as error:
            fail(f"{shown}: {error.strerror}")
        except ValueError as error:
            fail(f"{shown}: {error}")


def check_readable(settings: Settings) -> Settings:
    """Check where the uploads are for who only reads; the conditions of a bucket are not tried."""
    if settings.is_in_bucket:
        check_extra("a bucket", "s3", "s3fs")
        return replace(settings, check_bucket=False)
    return check_place(settings, may_be_away=False)


def check_place(settings: Settings, *, may_be_away: bool, may_be_made: bool = False) -> Settings:
    """Check where the uploads are; return settings by which nobody has to do so again."""
    if settings.is_in_bucket:
        return _check_bucket(settings, may_be_away=may_be_away)
    if not settings.is_in_folder:
        _check_filesystem(settings, may_be_away=may_be_away)
    elif may_be_made:
        check_folder(settings.place)
    else:
        check_folder_is_there(settings.place)
    return settings


def _check_bucket(settings: Settings, *, may_be_away: bool) -> Settings:
    """Check what the bucket can do.

    The settings are as they were if it cannot be reached for now, and that is no reason to end.
    """
    check_extra("a bucket", "s3", "s3fs")
    try:
        integrity = anyio.run(_try_bucket, settings.place)
    except Exception as error:  # of a long list; whoever typed the URL wants the reason alone
        _end_or_warn("bucket", settings.place, error, may_be_away=may_be_away)
        return settings
    return replace(settings, check_bucket=False, integrity=integrity)


def _check_filesystem(settings: Settings, *, may_be_away: bool) -> None:
    """Check that fsspec has what reaches there, and that it can write, read, list and delete."""
    check_extra("a store other than S3", "fsspec", "fsspec")
    import fsspec

    scheme = settings.place.partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        fail(f"cannot use the store {settings.shown_place}: fsspec knows no {scheme}://")
    except ImportError as error:
        fail(f"cannot use the store {settings.shown_place}: {error}")  # it names the package
    try:
        anyio.run(reach, make_store(settings))
    except Exception as error:  # each filesystem has exceptions of its own
        _end_or_warn("store", settings.shown_place, error, may_be_away=may_be_away)


def _end_or_warn(kind: str, place: str, error: Exception, *, may_be_away: bool) -> None:
    if not (may_be_away and isinstance(error, StoreUnavailable)):
        fail(f"cannot use the {kind} {place}: {without_password(describe(error))}")
    logger.warning(
        "The %s %s cannot be reached for now; the first request tries again: %s",
        kind,
        place,
        without_password(describe(error)),
    )


def check_locker(settings: Settings) -> None:
    """Check that there is such a locker; say in a line if it cannot be reached for now."""
    url = url_of_redis(settings)
    if url is None:
        return
    check_extra("--locker redis://", "redis", "redis")
    try:
        make_locker(settings)
    except ValueError as error:
        fail(f"cannot use the locker {without_password(url)}: {without_password(str(error))}")
    try:
        anyio.run(ask_redis, url)
    except Exception as error:  # of a long list, and none of it is a reason to end
        logger.warning(
            "Redis at %s cannot be used for locks; whoever changes an upload is asked to try "
            "again until it can: %s",
            without_password(url),
            without_password(describe(error)),
        )


async def _try_bucket(url: str) -> "Integrity":
    from tusasgi.stores.s3 import S3Store

    async with S3Store(url) as store:
        return store.integrity


def check_address(host: str, port: int) -> Address:
    """Return the address with a port that is free there, a chosen one for 0.

    Checked before the server begins: of several workers each would report the failure itself.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return Address(host, probe.getsockname()[1])
    except OSError as error:
        fail(f"cannot listen on {host} port {port}: {error.strerror}")
