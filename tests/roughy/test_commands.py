"""`python -m examples.roughy`, without a server."""

import asyncio
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from examples.roughy.__main__ import main
from examples.roughy.app import Roughy
from examples.roughy.keys import find_account
from examples.roughy.ledger import balance_of
from examples.roughy.media import measuring
from examples.roughy.settings import Settings
from examples.roughy.storage.accounts import own_key
from examples.roughy.storage.database import Database

from .conftest import empty
from .server import ROOT


@pytest.fixture
def blockbuster() -> None:
    """Switched off: a command serves nobody while it works."""


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ROUGHY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ROUGHY_INITIAL_CREDITS", "10")


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings.of(tmp_path / "data", {})


def in_database(settings, ask):
    async def run():
        db = Database(settings.database_url)
        try:
            async with db.writing() as session:
                return await ask(session)
        finally:
            await db.close()

    return asyncio.run(run())


def balance(settings, key):
    async def ask(session):
        account_id = await find_account(session, key)
        return None if account_id is None else await balance_of(session, account_id)

    return in_database(settings, ask)


def test_a_key_is_added_printed_and_revoked(settings, capsys):
    assert main(["key", "add"]) == 0
    key, account = re.fullmatch(
        r"(sk_\S{43})  \(account (\S+)\)\n", capsys.readouterr().out
    ).groups()
    assert balance(settings, key) == 10
    assert main(["key", "add", "--account", account]) == 0
    second = capsys.readouterr().out.split()[0]
    assert balance(settings, second) == 10  # the same account, so no other credits
    assert main(["key", "revoke", key]) == 0
    assert balance(settings, key) is None
    assert balance(settings, second) == 10


def test_the_own_key_of_an_installation_stays_revoked(settings, capsys):
    """It is in the data folder until somebody removes it there."""
    key = own_key(settings)
    asyncio.run(prepare(settings))
    assert balance(settings, key) == 1000
    assert main(["key", "revoke", key]) == 0
    asyncio.run(prepare(settings))
    assert balance(settings, key) is None
    (settings.data / "api-key").unlink()
    asyncio.run(prepare(settings))
    assert balance(settings, own_key(settings)) == 1000


async def prepare(settings):
    roughy = Roughy(settings)
    await roughy.prepare()
    await roughy.close()


def test_credits_are_added(settings, capsys):
    main(["key", "add"])
    key = capsys.readouterr().out.split()[0]
    assert main(["credits", "add", "5"]) == 0  # there is but one account
    assert main(["credits", "add", "7", "--key", key]) == 0
    assert balance(settings, key) == 22
    main(["key", "add"])
    other = capsys.readouterr().out.split()[-1].rstrip(")")
    assert main(["credits", "add", "1", "--account", other]) == 0
    assert capsys.readouterr().out == f"account {other} has 11 credits\n"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["credits", "add", "5"], id="no-account"),
        pytest.param(["credits", "add", "0"], id="no-credits"),
        pytest.param(["credits", "add", "5", "--key", "sk_nobody"], id="unknown-key"),
        pytest.param(["credits", "add", "5", "--account", "x"], id="no-id"),
        pytest.param(
            ["key", "add", "--account", "01a2110b-c3c8-7866-bec1-0b320d032541"], id="unknown"
        ),
        pytest.param(["key", "revoke", "sk_nobody"], id="nothing-to-revoke"),
    ],
)
def test_what_cannot_be_done_is_one_line(settings, capsys, arguments):
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"roughy: [^\n]+\n", told.err)
    assert (
        in_database(settings, lambda session: session.scalar(text("SELECT count(*) FROM ledger")))
        == 0
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("ROUGHY_UPLOAD_IDLE_AFTER", "soon", id="setting"),
        pytest.param("ROUGHY_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/x", id="no-server"),
        pytest.param("ROUGHY_DATABASE_URL", "sqlite:////nowhere/at/all.sqlite3", id="no-folder"),
    ],
)
@pytest.mark.parametrize("command", [["key", "add"], ["serve", "--port", "0"]])
def test_a_wrong_setting_is_one_line(monkeypatch, capsys, command, name, value):
    monkeypatch.setenv(name, value)
    assert main(command) == 2
    told = capsys.readouterr()
    assert re.fullmatch(r"roughy: [^\n]+\n", told.err)
    assert "secret" not in told.err


def test_sslmode_means_what_it_means_to_postgresql(monkeypatch, capsys, postgres_server):
    """The server here has no TLS."""
    asyncio.run(empty(postgres_server))
    monkeypatch.setenv("ROUGHY_DATABASE_URL", f"{postgres_server}?sslmode=require")
    assert main(["key", "add"]) == 2
    assert re.fullmatch(r"roughy: .*rejected SSL upgrade\n", capsys.readouterr().err)
    monkeypatch.setenv("ROUGHY_DATABASE_URL", f"{postgres_server}?sslmode=disable")
    assert main(["key", "add"]) == 0


@pytest.mark.parametrize("port", ["-1", "65536", "http", "\uff18\uff10"])
def test_a_wrong_option_is_refused(capsys, port):
    with pytest.raises(SystemExit) as stopped:
        main(["--port", port])
    assert stopped.value.code == 2
    assert "--port" in capsys.readouterr().err


def test_the_data_folder_may_be_named_before_or_after_the_command(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["--data", str(first), "key", "add"]) == 0
    assert main(["key", "add", "--data", str(second)]) == 0
    assert (first / "roughy.sqlite3").exists()
    assert (second / "roughy.sqlite3").exists()


def test_a_key_of_its_own_is_kept_for_the_owner_alone(settings):
    key = own_key(settings)
    assert key == own_key(settings)
    path = settings.data / "api-key"
    assert path.read_text() == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_spoilt_key_file_opens_nothing(settings, capsys):
    settings.data.mkdir()
    (settings.data / "api-key").write_text("")
    assert main(["serve", "--port", "0"]) == 2
    assert capsys.readouterr().err == f"roughy: {settings.data / 'api-key'} holds no key\n"


def test_a_database_of_another_version_is_left_alone(settings, capsys):
    assert main(["key", "add"]) == 0
    in_database(settings, lambda s: s.execute(text("UPDATE schema_version SET version = 99")))
    capsys.readouterr()
    assert main(["key", "add"]) == 2
    assert capsys.readouterr().err == ("roughy: the database has version 99, this code needs 2\n")


# What a server needs is asked for before it serves


def run_with(before: str, *arguments: str, folder: Path, **environ: str):
    """Run a command of Roughy in a process of its own, after some lines of Python."""
    code = (
        f"import resource, runpy, sys\n{before}\n"
        f"sys.argv = ['roughy', '--data', {str(folder)!r}, *{arguments!r}]\n"
        "runpy.run_module('examples.roughy', run_name='__main__')"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


def test_a_server_that_cannot_measure_does_not_start(settings, monkeypatch, tmp_path, capsys):
    """Else every file that comes would fail."""
    program = tmp_path / "program.py"
    program.write_text("raise ModuleNotFoundError(\"No module named 'av'\")")
    monkeypatch.setattr(measuring, "_PROGRAM", program)
    assert main(["serve", "--port", "0"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"roughy: media cannot be measured[^\n]+: pip install av\n", told.err)


def test_a_server_with_too_little_memory_to_measure_does_not_start(tmp_path):
    limited = "resource.setrlimit(resource.RLIMIT_AS, (3 * 2**29, 3 * 2**29))"
    done = run_with(limited, "--port", "0", folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"roughy: media cannot be measured[^\n]+2 GiB[^\n]+\n", done.stderr)


def test_monitoring_alone_needs_its_package(tmp_path):
    missing = "sys.modules['prometheus_client'] = None"
    done = run_with(missing, "key", "add", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = run_with(missing, "--port", "0", folder=tmp_path, ROUGHY_MONITORING="1")
    assert done.returncode == 2
    assert done.stderr == ("roughy: prometheus_client is missing: pip install 'tusasgi[metrics]'\n")


def test_a_taken_port_is_one_line(settings, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    told = capsys.readouterr()
    assert told.out == ""  # no address that is another's
    assert told.err.startswith(f"roughy: cannot listen on 127.0.0.1 port {port}: ")


def test_the_first_command_of_the_readme_works_in_a_fresh_clone(tmp_path):
    """All but the making of the environment, which is what it begins with."""
    readme = (ROOT / "examples/roughy/README.md").read_text()
    command = re.search(r"^\$ (\S+)", readme, re.MULTILINE)[1]
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(ROOT / command, scripts)
    for package in ("examples", "tusasgi"):
        (tmp_path / package).symlink_to(ROOT / package)
    install = scripts / "install"
    install.write_text(f"#!/bin/sh\necho {sys.prefix}\n")
    install.chmod(0o755)
    done = subprocess.run(
        [tmp_path / command, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "serve | key | credits" in done.stdout
