"""Ids, secrets, settings and the bell: what needs no database."""

import logging
import re
import socket
import stat
import threading
import uuid
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from examples.roughy.api.wire import seconds_or_none, timestamp
from examples.roughy.ids import parse_uuid, uuid7
from examples.roughy.media.bell import Bell
from examples.roughy.server.logs import without_signatures
from examples.roughy.server.serving import CannotListen, listening, url_of
from examples.roughy.settings import Settings, SettingsError
from examples.roughy.storage.private import read_or_make

NOW = datetime(2026, 5, 2, 8, 54, 52, 423000, UTC)
SOME = uuid.UUID("019de7f7-3a52-74d1-9eeb-323e0bfb7bb9")


def test_ids_are_version_7_and_sort_by_time():
    made = [uuid7(NOW + timedelta(microseconds=number)) for number in range(3000)]
    assert made == sorted(made)
    assert len(set(made)) == 3000
    assert {(each.version, each.variant) for each in made} == {(7, uuid.RFC_4122)}
    assert made[0].int >> 80 == int(NOW.timestamp() * 1000)


def test_ids_of_one_moment_differ():
    assert len({uuid7(NOW) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "8c5e1f5a2f0b4c52a1c1a2b7a8f9d6e3",
        "{8c5e1f5a-2f0b-4c52-a1c1-a2b7a8f9d6e3}",
        "urn:uuid:8c5e1f5a-2f0b-4c52-a1c1-a2b7a8f9d6e3",
        "8c5e1f5a-2f0b-4c52-a1c1-a2b7a8f9d6e3\n",
    ],
)
def test_only_the_usual_spelling_is_an_id(text):
    assert parse_uuid(text) is None


def test_an_id_is_read_in_either_case():
    assert parse_uuid(str(SOME).upper()) == SOME


def test_values_are_written_as_documented():
    assert timestamp(NOW) == "2026-05-02T08:54:52.423000Z"
    assert seconds_or_none(3_782_413) == "3782.413"
    assert seconds_or_none(40) == "0.040"
    assert seconds_or_none(None) is None


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path):
    path = tmp_path / "data" / "secret"
    made = read_or_make(path, lambda: "first")
    assert (made, read_or_make(path, lambda: "second")) == ("first", "first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["secret"]


def test_processes_that_start_at_once_share_a_secret(tmp_path):
    path, barrier, got = tmp_path / "secret", threading.Barrier(8), []

    def start(number):
        def make():
            barrier.wait(10)  # all of them have found that there is none
            return f"secret {number}"

        got.append(read_or_make(path, make))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(got)) == 1


def test_settings_have_defaults(tmp_path):
    settings = Settings.of(tmp_path, {})
    assert settings.upload_expires_after == timedelta(days=7)
    assert settings.upload_idle_after == timedelta(hours=48)
    assert settings.database_url.database == str(tmp_path / "roughy.sqlite3")
    assert (settings.api_keys, settings.cors_origins, settings.public_url) == ((), (), None)


def test_settings_come_from_the_environment(tmp_path):
    settings = Settings.of(
        tmp_path,
        {
            "ROUGHY_DATABASE_URL": "postgresql://me:secret@db.example/roughy",
            "ROUGHY_API_KEYS": "sk_0123456789abcdef, sk_fedcba9876543210,",
            "ROUGHY_INITIAL_CREDITS": "0",
            "ROUGHY_PUBLIC_URL": "https://api.example.com/",
            "ROUGHY_CORS_ORIGINS": "https://a.example, http://localhost:3000",
            "ROUGHY_UPLOAD_EXPIRES_AFTER": "60",
            "ROUGHY_UPLOAD_IDLE_AFTER": " 30 ",
        },
    )
    assert settings.database_url.drivername == "postgresql+asyncpg"
    assert settings.api_keys == ("sk_0123456789abcdef", "sk_fedcba9876543210")
    assert settings.initial_credits == 0
    assert settings.public_url == "https://api.example.com"
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.upload_expires_after == timedelta(minutes=1)
    assert settings.upload_idle_after == timedelta(seconds=30)


WRONG = [
    ("DATABASE_URL", "mysql://localhost/x"),
    ("DATABASE_URL", "roughy.db"),
    ("DATABASE_URL", "sqlite://"),
    ("DATABASE_URL", "postgresql://db.example/x?sslmode=always"),
    ("DATABASE_URL", "postgresql://db.example/x?sslmode=require&sslmode=disable"),
    ("DATABASE_URL", "postgresql://db.example/x?channel_binding=require"),
    ("DATABASE_URL", "sqlite:///:memory:"),
    ("API_KEYS", "sk_short"),
    ("API_KEYS", "0123456789abcdef0123"),
    ("API_KEYS", "sk_0123456789abcdef,sk_not good enough at all"),
    ("INITIAL_CREDITS", "-1"),
    ("INITIAL_CREDITS", "many"),
    ("INITIAL_CREDITS", "1.5"),
    ("PUBLIC_URL", "api.example.com"),
    ("PUBLIC_URL", "ftp://api.example.com"),
    ("PUBLIC_URL", "https://api.example.com?x=1"),
    ("CORS_ORIGINS", "app.example.com"),
    ("CORS_ORIGINS", "https://app.example.com/path"),
    ("UPLOAD_EXPIRES_AFTER", "0"),
    ("UPLOAD_EXPIRES_AFTER", "7d"),
    ("UPLOAD_IDLE_AFTER", "-5"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_one_line_that_names_it(tmp_path, name, value):
    with pytest.raises(SettingsError) as caught:
        Settings.of(tmp_path, {f"ROUGHY_{name}": value})
    line = str(caught.value)
    assert line.startswith(f"ROUGHY_{name} ")
    assert "\n" not in line
    if name in ("API_KEYS", "DATABASE_URL"):  # there may be a secret in it
        assert value not in line.removesuffix("sqlite:////var/lib/roughy/roughy.sqlite3")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ROUGHY_DATABASE_URI", "ROUGHY_DATABASE_URL"),
        ("ROUGHY_KEYS", "ROUGHY_API_KEYS"),
        ("ROUGHY_STORAGE", "ROUGHY_STORE"),
        ("ROUGHY_CORS_ORIGIN", "ROUGHY_CORS_ORIGINS"),
        ("ROUGHY_UPLOAD_EXPIRE_AFTER", "ROUGHY_UPLOAD_EXPIRES_AFTER"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_name_that_was_meant(tmp_path, name, meant):
    with pytest.raises(SettingsError) as caught:
        Settings.of(tmp_path, {name: "sk_secret_0123456789abcdef"})
    assert str(caught.value) == f"{name} is no setting: did you mean {meant}?"


def test_what_others_call_by_our_name_is_left_alone(tmp_path):
    """The uploader's key, the folder, and what Kubernetes sets for a service called roughy."""
    theirs = {
        "ROUGHY_API_KEY": "sk_0123456789abcdef",
        "ROUGHY_DATA": "elsewhere",
        "ROUGHY_SERVICE_HOST": "10.0.0.1",
        "ROUGHY_SERVICE_PORT": "8000",
        "ROUGHY_PORT": "tcp://10.0.0.1:8000",
        "ROUGHY_PORT_8000_TCP_ADDR": "10.0.0.1",
    }
    assert Settings.of(tmp_path, theirs) == Settings.of(tmp_path, {})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", r"http://127\.0\.0\.1:\d+"),
        ("::1", r"http://\[::1\]:\d+"),
        ("0.0.0.0", rf"http://{re.escape(socket.gethostname())}:\d+"),
    ],
)
def test_the_address_that_is_told_is_the_one_that_was_taken(host, url):
    with listening(host, 0) as listener:
        assert re.fullmatch(url, url_of(listener))
        port = urlsplit(url_of(listener)).port
        assert port == listener.getsockname()[1] != 0
        with pytest.raises(CannotListen, match=rf"^cannot listen on {host} port {port}: "):
            listening(host, port)


def test_the_log_of_requests_has_no_signature():
    path = "/downloads/7?expires=123&signature=0a1b2c"
    record = logging.LogRecord(
        "uvicorn.access", logging.INFO, "", 0, '%s - "%s %s" %d', ("::1", "GET", path, 200), None
    )
    with without_signatures():
        assert logging.getLogger("uvicorn.access").filter(record)
    assert record.getMessage() == '::1 - "GET /downloads/7?expires=123&signature=…" 200'
    assert logging.getLogger("uvicorn.access").filters == []


@pytest.mark.parametrize(
    "password",
    [
        "first@secret",
        "first@s:secret",
        "first@secret/second",
        "first@x?secret=second",
        "first:secret/@second",
        "@secret",
    ],
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg", "mysql"])
def test_a_password_that_splits_an_address_is_told_how_to_write_it(tmp_path, scheme, password):
    url = f"{scheme}://me:{password}@127.0.0.1/roughy"
    with pytest.raises(SettingsError, match="@ is written as %40") as caught:
        Settings.of(tmp_path, {"ROUGHY_DATABASE_URL": url})
    assert not re.search("first|second|secret", str(caught.value))


def test_a_password_may_have_any_letters_in_the_way_of_addresses(tmp_path):
    url = "postgresql://me:%40first%3A%2F%25@127.0.0.1/roughy"
    settings = Settings.of(tmp_path, {"ROUGHY_DATABASE_URL": url})
    assert settings.database_url.password == "@first:/%"
    assert settings.database_url.host == "127.0.0.1"


def test_the_options_of_a_database_are_those_of_its_driver(tmp_path):
    """`sslmode` is what every provider of PostgreSQL hands out."""
    url = "postgresql://me:secret@db.example/roughy?sslmode=require&host=/run/postgresql"
    settings = Settings.of(tmp_path, {"ROUGHY_DATABASE_URL": url})
    assert settings.database_url.query == {"ssl": "require", "host": "/run/postgresql"}


def test_a_file_may_have_any_name(tmp_path):
    url = f"sqlite:///{tmp_path}/me@home@work.sqlite3"
    settings = Settings.of(tmp_path, {"ROUGHY_DATABASE_URL": url})
    assert settings.database_url.database == f"{tmp_path}/me@home@work.sqlite3"


@pytest.mark.anyio
async def test_a_ring_while_nobody_waits_is_not_lost():
    bell = Bell()
    bell.ring()
    await bell.wait(1000)
    await bell.wait(0)  # and it rings once
