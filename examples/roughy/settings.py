"""What can be set from outside, and one clear line for what cannot be meant."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from examples.roughy.replicas.postgres import for_asyncpg
from tusasgi.arguments import nearest

T = TypeVar("T")

MAX_SIZE = 50 * 1024**3
MIN_SIZE = 64
DOWNLOAD_SECONDS = 900
MEASURE_SECONDS = 600.0

# Keys are kept as plain SHA-256 (`keys.py`), which is safe only for keys nobody can guess.
_KEY = re.compile(r"sk_[A-Za-z0-9_-]{16,200}")

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}

_KNOWN = {
    "API_KEY",  # which is the uploader's
    "API_KEYS",
    "CORS_ORIGINS",
    "DATA",
    "DATABASE_URL",
    "INITIAL_CREDITS",
    "MONITORING",
    "PUBLIC_URL",
    "STORE",
    "UPLOAD_EXPIRES_AFTER",
    "UPLOAD_IDLE_AFTER",
}

_DATABASE_FORMS = (
    "must be sqlite:///… or postgresql://name:password@host/database, "
    "and in name and password @ is written as %40, : as %3A, / as %2F"
)


class SettingsError(Exception):
    """A setting has a value that makes no sense. The message never repeats a secret."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketSettings:
    """Where on S3 the bytes are kept. None leaves it to the usual places of the AWS tools."""

    url: str
    endpoint_url: str | None = None
    region: str | None = None
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One value for everything that a process of Roughy needs to know."""

    data: Path
    """The folder of what has no other place: uploads, locks, secrets, the database."""
    database_url: URL
    bucket: BucketSettings | None = None
    """None keeps the bytes in the data folder."""
    api_keys: tuple[str, ...] = ()
    initial_credits: int = 1000
    """What a new account is given."""
    public_url: str | None = None
    """Where clients reach us; None takes it from each request."""
    cors_origins: tuple[str, ...] = ()
    upload_expires_after: timedelta = timedelta(days=7)
    upload_idle_after: timedelta = timedelta(hours=48)
    is_monitored: bool = False
    """Whether `/health` looks deeper and `/metrics` is there, for everybody who reaches us."""

    @classmethod
    def of(cls, data: Path, environ: Mapping[str, str]) -> "Settings":
        """Read the environment; raise `SettingsError` for the first wrong name or value."""
        _check_names(environ)

        def read(name: str, parse: Callable[[str], T], default: T) -> T:
            text = environ.get(f"ROUGHY_{name}", "").strip()
            if not text:
                return default
            try:
                return parse(text)
            except ValueError as error:
                raise SettingsError(f"ROUGHY_{name} {error}") from None

        data = data.absolute()
        own_database = URL.create("sqlite+aiosqlite", database=str(data / "roughy.sqlite3"))
        return cls(
            data=data,
            database_url=read("DATABASE_URL", _database_url, own_database),
            bucket=_bucket(read("STORE", _bucket_url, None), environ),
            api_keys=read("API_KEYS", _keys, ()),
            initial_credits=read("INITIAL_CREDITS", _credits, 1000),
            public_url=read("PUBLIC_URL", _public_url, None),
            cors_origins=read("CORS_ORIGINS", _origins, ()),
            upload_expires_after=read("UPLOAD_EXPIRES_AFTER", _seconds, timedelta(days=7)),
            upload_idle_after=read("UPLOAD_IDLE_AFTER", _seconds, timedelta(hours=48)),
            is_monitored=read("MONITORING", _switch, False),
        )

    @property
    def is_for_several_machines(self) -> bool:
        """Whether nothing that has to last may be in the data folder, as each has its own."""
        return self.bucket is not None and self.database_url.get_backend_name() == "postgresql"


def _check_names(environ: Mapping[str, str]) -> None:
    """Refuse what nearly is one of our names. Others may be there, as those of Kubernetes are."""
    for variable in sorted(environ):
        name = variable.removeprefix("ROUGHY_")
        if name != variable and name not in _KNOWN and (meant := nearest(name, _KNOWN)):
            raise SettingsError(f"{variable} is no setting: did you mean ROUGHY_{meant}?")


def _bucket_url(text: str) -> str:
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.-]+)*/?", text):
        raise ValueError("must be s3://bucket or s3://bucket/prefix")
    return text


def _bucket(url: str | None, environ: Mapping[str, str]) -> BucketSettings | None:
    """Read what the AWS tools read. It is passed on because s3fs reads but some of it."""
    if url is None:
        return None
    return BucketSettings(
        url=url,
        endpoint_url=environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None,
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None,
        key=environ.get("AWS_ACCESS_KEY_ID") or None,
        secret=environ.get("AWS_SECRET_ACCESS_KEY") or None,
        token=environ.get("AWS_SESSION_TOKEN") or None,
    )


def parse_key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise ValueError("needs keys of sk_ and at least 16 letters, digits, - or _ after it")
    return text


def _keys(text: str) -> tuple[str, ...]:
    return tuple(parse_key(key.strip()) for key in text.split(",") if key.strip())


def _credits(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"must be a whole number of credits, 0 or more, not {text!r}")
    return int(text)


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"must be 1 for on or 0 for off, not {text!r}")
    return text == "1"


def _seconds(text: str) -> timedelta:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise ValueError(f"must be a whole number of seconds, 1 or more, not {text!r}")
    return timedelta(seconds=int(text))


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError(f"must be an address like https://api.example.com, not {text!r}")
    return text.rstrip("/")


def _origins(text: str) -> tuple[str, ...]:
    return tuple(_origin(origin.strip()) for origin in text.split(",") if origin.strip())


def _origin(text: str) -> str:
    if text != "*" and not re.fullmatch(r"https?://[^/\s?#@]+", text):
        raise ValueError(f"must be origins like https://app.example.com, or *, not {text!r}")
    return text


def _database_url(text: str) -> URL:
    try:
        url = make_url(text)
    except (ValueError, ArgumentError):  # which may repeat a part of the password
        raise ValueError(_DATABASE_FORMS) from None
    if url.drivername not in _DRIVERS:
        raise ValueError(_DATABASE_FORMS)
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise ValueError("must name a file, as in sqlite:////var/lib/roughy/roughy.sqlite3")
        if not Path(url.database).absolute().parent.is_dir():
            raise ValueError("names a file in a folder that does not exist")
    elif text.count("@") > 1:  # the end of the password would be taken for the host
        raise ValueError(_DATABASE_FORMS)
    else:
        url = for_asyncpg(url)
    return url.set(drivername=_DRIVERS[url.drivername])
