"""Each option of `serve`, whichever it is: the same by option, by the environment and by a file."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from tusasgi.server.options import _options_of, _parser
from tusasgi.server.settings import DEFAULTS, SECRETS, Settings
from tusasgi.server.sources import layers_of, merged, sources_of, to_toml

PARSER, COMMANDS = _parser()
OPTIONS = _options_of(COMMANDS["serve"])
WORDS = ("some-word", "41", "10.1.0.0/16", "s3://bucket/prefix", "/some/path/", "package.module:it",
         "https://some.example", "[::1]:9100", "memory")  # fmt: skip
"""Each option takes one of them."""


def word_for(action: argparse.Action) -> str:
    """Return a word that the option takes, and that is not its default."""
    default = getattr(DEFAULTS, action.dest)
    if action.choices is not None:
        return next(str(choice) for choice in action.choices if choice != default)
    if action.nargs == 0:
        return "false" if default else "true"
    for word in WORDS:
        try:
            action.type(word) if callable(action.type) else word
        except (ValueError, argparse.ArgumentTypeError):
            continue
        return word
    pytest.fail(f"{action.dest} takes none of the words here")


def settings(words: list[str], environment: dict[str, str]) -> Settings:
    given = vars(PARSER.parse_args(["serve", *words]))
    return Settings(**merged(layers_of(given, OPTIONS, OPTIONS, environment)))


def by_option(action: argparse.Action, word: str) -> Settings:
    if action.nargs != 0:
        return settings([action.option_strings[0], word], {})
    return settings([action.option_strings[0 if word == "true" else -1]], {})


def by_variable(action: argparse.Action, word: str, folder: Path) -> Settings:
    return settings([], {f"TUSASGI_{action.dest.upper()}": word})


def by_file_of_a_word(action: argparse.Action, word: str, folder: Path) -> Settings:
    (folder / "word").write_text(f"{word}\n")
    return settings([], {f"TUSASGI_{action.dest.upper()}_FILE": str(folder / "word")})


def by_toml(action: argparse.Action, word: str, folder: Path) -> Settings:
    value = word if action.nargs == 0 or word.isdecimal() else f'"{word}"'
    (folder / "a.toml").write_text(f"{action.dest.replace('_', '-')} = {value}\n")
    return settings(["--config", str(folder / "a.toml")], {})


Way = Callable[[argparse.Action, str, Path], Settings]
IS_A_FILE_ITSELF = {"jwt_key"}  # whose ..._FILE is that of another option, which means the same


@pytest.mark.parametrize("way", [by_variable, by_file_of_a_word, by_toml])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_means_the_same_by_every_way(name: str, way: Way, tmp_path: Path) -> None:
    action = OPTIONS[name]
    word = word_for(action)
    expected = by_option(action, word)
    assert getattr(expected, name) != getattr(DEFAULTS, name)
    found = way(action, word, tmp_path)
    if way is by_file_of_a_word and name in IS_A_FILE_ITSELF:
        assert getattr(found, f"{name}_file") == str(tmp_path / "word")
    else:
        assert found == expected


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_shown_in_help_and_among_all_settings(name: str) -> None:
    action = OPTIONS[name]
    text = COMMANDS["serve"].format_help()
    assert action.option_strings[0] in text
    assert action.help
    assert "\n" not in action.help
    given = by_option(action, word_for(action))
    shown = to_toml({name: getattr(given, name)}, {name: "options"}, SECRETS)
    assert shown.startswith(
        f"# {name.replace('_', '-')} is secret" if name in SECRETS else name[:3]
    )
    assert shown.endswith("  # options\n")


def test_a_secret_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    from tusasgi.server.options import read_arguments

    with pytest.raises(SystemExit):
        read_arguments(
            ["serve", "--print-config"], {"TUSASGI_JWT_KEY": "not-to-be-seen-by-anybody"}
        )
    assert "not-to-be-seen" not in repr(Settings(jwt_key="not-to-be-seen-by-anybody"))
    shown = capsys.readouterr().out
    assert "not-to-be-seen" not in shown
    assert "# jwt-key is secret  # the environment" in shown


def test_what_is_set_by_several_names_says_where_it_is_from() -> None:
    layers = layers_of({"port": 7}, OPTIONS, OPTIONS, {"TUSASGI_JWT_KEY_FILE": "/keys/public.pem"})
    assert merged(layers) == {"port": 7, "jwt_key_file": "/keys/public.pem"}
    assert sources_of(layers) == {"port": "options", "jwt_key_file": "the environment"}
