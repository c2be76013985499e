"""Each setting comes from an option, from the environment, or from a file, and means the same."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.server.test_settings import ALL, FLAGS
from tusasgi.server.options import read_arguments
from tusasgi.server.settings import DEFAULTS, Settings

MORE = {**ALL, "--max-append-size": "5MB", "--protocol": "tus", "--server": "uvicorn"}
NUMBERS = ("port", "workers", "expires-after", "shutdown-timeout", "header-timeout", "keep-alive")


def by_options(given: dict[str, str]) -> Settings:
    words = [word for option in given.items() for word in option]
    return read_arguments(["serve", *words, *(f"--{flag}" for flag in FLAGS)], {})[1]


def variable(option: str) -> str:
    return "TUSASGI_" + option.strip("-").replace("-", "_").upper()


def by_environment(given: dict[str, str]) -> Settings:
    environment = {variable(option): word for option, word in given.items()}
    environment |= {variable(flag): "1" for flag in FLAGS}
    return read_arguments(["serve"], environment)[1]


def by_files_of_words(given: dict[str, str], folder: Path) -> Settings:
    environment = {}
    for option, word in given.items():
        file = folder / option.strip("-")
        file.write_text(f"{word}\n")
        environment[f"{variable(option)}_FILE"] = str(file)
    for flag in FLAGS:
        (folder / flag).write_text("true")
        environment[f"{variable(flag)}_FILE"] = str(folder / flag)
    return read_arguments(["serve"], environment)[1]


def toml_of(given: dict[str, str]) -> str:
    lines = [f"{flag} = true" for flag in FLAGS]
    for option, word in given.items():
        name = option.strip("-")
        lines.append(f"{name} = {word}" if name in NUMBERS else f'{name} = "{word}"')
    return "\n".join(lines)


def by_file(text: str, folder: Path, *more: str, **environment: str) -> Settings:
    path = folder / "tusasgi.toml"
    path.write_text(text)
    return read_arguments(["serve", "--config", str(path), *more], environment)[1]


@pytest.mark.parametrize("way", ["environment", "files-of-words", "file"])
def test_every_setting_means_the_same_by_every_way(way: str, tmp_path: Path) -> None:
    ways = {
        "environment": lambda: by_environment(MORE),
        "files-of-words": lambda: by_files_of_words(MORE, tmp_path),
        "file": lambda: by_file(toml_of(MORE), tmp_path),
    }
    settings, expected = ways[way](), by_options(MORE)
    for name in Settings.__dataclass_fields__:
        assert getattr(settings, name) == getattr(expected, name), name


def test_lists_are_given_by_commas_in_the_environment_and_as_lists_in_a_file(
    tmp_path: Path,
) -> None:
    origins = ["https://a.example", "https://b.example"]
    settings = read_arguments(["serve"], {"TUSASGI_CORS_ORIGIN": ", ".join(origins)}).settings
    assert settings.cors_origin == origins
    assert by_file(f"cors-origin = {origins!r}", tmp_path).cors_origin == origins


def test_an_option_counts_more_than_the_environment_and_that_more_than_a_file(
    tmp_path: Path,
) -> None:
    text = "port = 1\nworkers = 2\nmax_size = '3MB'"
    settings = by_file(text, tmp_path, "--port", "11", TUSASGI_PORT="12", TUSASGI_WORKERS="13")
    assert (settings.port, settings.workers, settings.max_size) == (11, 13, 3_000_000)


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("port = 7")
    settings = read_arguments(["serve"], {"TUSASGI_CONFIG": str(tmp_path / "a.toml")}).settings
    assert settings.port == 7


def test_a_place_replaces_the_other_kind_that_counts_less(tmp_path: Path) -> None:
    settings = by_file("store = 's3://bucket/prefix'", tmp_path, "--dir", "data")
    assert (settings.dir, settings.store) == ("data", None)
    settings = read_arguments(["sweep", "--store", "s3://bucket"], {"TUSASGI_DIR": "data"}).settings
    assert (settings.dir, settings.store) == (None, "s3://bucket")


@pytest.mark.parametrize("word", ["0", "false", "No", "off"])
def test_a_switch_can_be_off(word: str) -> None:
    settings = read_arguments(["serve"], {"TUSASGI_LOG_REQUESTS": word}).settings
    assert settings == DEFAULTS


def test_sweep_takes_the_place_of_a_file_for_serve(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("dir = 'data'\nport = 7\nmonitor = '9100'")
    environment = {"TUSASGI_MAX_SIZE": "1MB"}
    arguments = ["sweep", "--config", str(tmp_path / "a.toml")]
    assert read_arguments(arguments, environment)[1].dir == "data"


def test_other_variables_are_left_alone() -> None:
    others = {
        "TUSASGI_SERVE": "{}",
        "TUSASGI_TEST_FOLDER": "x",
        "TUSASGI_COMPANY": "y",
        "PORT": "z",
    }
    assert read_arguments(["serve"], others) == ("serve", DEFAULTS, {})


WRONG: list[tuple[dict[str, str], str, str]] = [
    ({"TUSASGI_PORT": "x"}, "", "TUSASGI_PORT: 'x' is not a port from 0 to 65535"),
    ({"TUSASGI_MAXSIZE": "1"}, "", "TUSASGI_MAXSIZE is no setting: did you mean TUSASGI_MAX_SIZE?"),
    (
        {"TUSASGI_LOG_REQUESTS": "maybe"},
        "",
        "LOG_REQUESTS: 'maybe' is neither true nor false",
    ),
    (
        {"TUSASGI_DURABILITY": "some"},
        "",
        "DURABILITY: 'some' is none of complete, append, none",
    ),
    (
        {"TUSASGI_PORT_FILE": "/nowhere"},
        "",
        "TUSASGI_PORT_FILE: cannot read /nowhere: No such file",
    ),
    (
        {"TUSASGI_PORT_FILE": "/nowhere", "TUSASGI_PORT": "1"},
        "",
        "TUSASGI_PORT_FILE: TUSASGI_PORT is given as well",
    ),
    (
        {"TUSASGI_DIR": "a", "TUSASGI_STORE": "s3://bucket"},
        "",
        "the environment: dir and store exclude each other",
    ),
    ({}, "prot = 1", "prot is no setting: did you mean port?"),
    ({}, "prots = 1", "prots is no setting"),
    ({}, "port = 1.5", "port: 1.5 is neither text nor a whole number"),
    ({}, "port = true", "port: True is neither text nor a whole number"),
    ({}, "log-requests = 2", "log-requests: 2 is neither true nor false"),
    ({}, "cors-origin = ['x']", "cors-origin: 'x' is not an origin"),
    ({}, "port = ", "is no TOML"),
    ({"TUSASGI_CONFIG": "/nowhere.toml"}, "", "cannot read /nowhere.toml: No such file"),
]


@pytest.mark.parametrize(("environment", "text", "message"), WRONG, ids=[row[2] for row in WRONG])
def test_what_is_wrong_is_said_in_one_line_with_where_it_was_given(
    environment: dict[str, str],
    text: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["serve"]
    if text:
        (tmp_path / "a.toml").write_text(text)
        arguments += ["--config", str(tmp_path / "a.toml")]
    with pytest.raises(SystemExit) as ended:
        read_arguments(arguments, environment)
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("tusasgi: ")
    assert message in line
    assert line.count("\n") == 1


def test_what_is_printed_is_a_file_that_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("port = 7\nmonitor = '[::1]:9100'\ndir = 'a \"b\" \\\\c'")
    command = [sys.executable, "-m", "tusasgi", "serve", "--config", str(tmp_path / "a.toml")]
    command += ["--print-config", "--cors-origin", "https://a.example"]
    environment = {**os.environ, "TUSASGI_MAX_SIZE": "1MiB", "TUSASGI_LOG_REQUESTS": "yes"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    told: dict[str, Any] = tomllib.loads(done.stdout)
    assert (told["port"], told["max-size"], told["log-requests"]) == (7, 1024 * 1024, True)
    assert f"port = 7  # {tmp_path / 'a.toml'}" in done.stdout
    assert "max-size = 1048576  # the environment" in done.stdout
    assert 'cors-origin = ["https://a.example"]  # options' in done.stdout
    assert "# store is not set" in done.stdout
    again = by_file(done.stdout, tmp_path)
    assert again == by_file(
        (tmp_path / "a.toml").read_text(),
        tmp_path,
        "--cors-origin",
        "https://a.example",
        TUSASGI_MAX_SIZE="1MiB",
        TUSASGI_LOG_REQUESTS="yes",
    )
