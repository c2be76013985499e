"""What can be set from outside, and one clear line for what cannot be meant."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

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


class SettingsError(Exception):
    """A setting has a value that makes no sense. The message never repeats a secret."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One value for everything that a process of Roughy needs to know."""

    data: Path
    """The folder of uploads, locks, secrets and, unless another is named, the database."""
    database_url: URL
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
        """Read the environment; raise `SettingsError` for the first wrong value."""

        def read(name: str, parse: Callable[[str], T], default: T) -> T:
            text = environ.get(f"ROUGHY_{name}", "").strip()
            if not text:
                return default
            try:
                return parse(text)
            except (ValueError, ArgumentError) as error:
                raise SettingsError(f"ROUGHY_{name} {error}") from None

        data = data.absolute()
        own_database = URL.create("sqlite+aiosqlite", database=str(data / "roughy.sqlite3"))
        return cls(
            data=data,
            database_url=read("DATABASE_URL", _database_url, own_database),
            api_keys=read("API_KEYS", _keys, ()),
            initial_credits=read("INITIAL_CREDITS", _credits, 1000),
            public_url=read("PUBLIC_URL", _public_url, None),
            cors_origins=read("CORS_ORIGINS", _origins, ()),
            upload_expires_after=read("UPLOAD_EXPIRES_AFTER", _seconds, timedelta(days=7)),
            upload_idle_after=read("UPLOAD_IDLE_AFTER", _seconds, timedelta(hours=48)),
            is_monitored=read("MONITORING", _switch, False),
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
    url = make_url(text)
    if url.drivername not in _DRIVERS:
        raise ValueError("must start with sqlite:/// or postgresql://")
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise ValueError("must name a file, as in sqlite:////var/lib/roughy/roughy.sqlite3")
        if not Path(url.database).absolute().parent.is_dir():
            raise ValueError("names a file in a folder that does not exist")
    return url.set(drivername=_DRIVERS[url.drivername])
