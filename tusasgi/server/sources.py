"""Where settings come from besides the options: the environment, and a file.

Each setting has one name in three spellings: `--max-size`, `TUSASGI_MAX_SIZE`, and `max-size` in a
TOML file. The words are read by what reads the option.
"""

import argparse
import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

PREFIX = "TUSASGI_"
_FILE = "_FILE"
_ALIKE = 0.85  # of 1: there may be variables of others
_ON, _OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

Options = Mapping[str, argparse.Action]
"""The options of a command, by the names of their settings."""


class WrongSetting(Exception):
    """What is wrong, and where, in one line."""


def from_environment(
    options: Options, environment: Mapping[str, str], *, others: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the settings that the variables give.

    `TUSASGI_X_FILE` names a file that has what `TUSASGI_X` would say. Variables that nearly have
    the name of a setting are refused, but for those of `others`.
    """
    settings: dict[str, Any] = {}
    known = {PREFIX + name.upper(): name for name in options}
    for variable in sorted(environment):
        direct = variable.removesuffix(_FILE)
        if name := known.get(direct):
            word = environment[variable]
            if variable != direct:
                if direct in environment:
                    raise WrongSetting(f"{variable}: {direct} is given as well")
                word = _content_of(word, variable).strip()
            settings[name] = _read(options, name, word, variable)
        elif variable.startswith(PREFIX) and variable not in others:
            _check_spelling(variable, known)
    return settings


def from_file(options: Options, path: str, *, others: Iterable[str] = ()) -> dict[str, Any]:
    """Return the settings that a TOML file gives; `others` are names that are of no use here."""
    try:
        with open(path, "rb") as file:
            given = tomllib.load(file)
    except OSError as error:
        raise WrongSetting(f"cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise WrongSetting(f"{path} is no TOML: {error}") from None
    settings: dict[str, Any] = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if name in options:
            settings[name] = _read(options, name, value, f"{path}: {key}")
        elif name not in others:
            raise WrongSetting(f"{path}: {key} is no setting{_hint(key, [*options, *others])}")
    return settings


def to_toml(settings: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """Write settings as such a file, each with where it comes from."""
    lines = []
    for name, value in settings.items():
        key = name.replace("_", "-")
        written = f"{key} = {_toml(value)}" if value not in (None, ()) else f"# {key} is not set"
        lines.append(f"{written}  # {sources[name]}" if name in sources else written)
    return "\n".join([*lines, ""])


def _read(options: Options, name: str, value: Any, where: str) -> Any:
    """Return the value of a setting; raise `WrongSetting` with where it was given."""
    try:
        return _value_of(options[name], value)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise WrongSetting(f"{where}: {error}") from None


def _value_of(action: argparse.Action, value: Any) -> Any:
    if action.nargs == 0:
        return _switch(value)
    read: Callable[[str], Any] = action.type if callable(action.type) else str
    if isinstance(action, argparse._AppendAction):  # it has no other name
        words = value if isinstance(value, list) else [word.strip() for word in value.split(",")]
        return [read(_word(word)) for word in words if word != ""]
    found = read(_word(value))
    if action.choices is not None and found not in action.choices:
        raise ValueError(f"{value!r} is none of {', '.join(map(str, action.choices))}")
    return found


def _word(value: Any) -> str:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{value!r} is neither text nor a whole number")


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in (*_ON, *_OFF):
        return str(value).lower() in _ON
    raise ValueError(f"{value!r} is neither true nor false")


def _content_of(path: str, where: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise WrongSetting(f"{where}: cannot read {path}: {reason}") from None


def _check_spelling(variable: str, known: Iterable[str]) -> None:
    if hint := _hint(variable, known, _ALIKE):
        raise WrongSetting(f"{variable} is no setting{hint}")


def _hint(word: str, known: Iterable[str], alike: float = 0.6) -> str:
    similar = difflib.get_close_matches(word, list(known), 1, alike)
    return f": did you mean {similar[0]}?" if similar else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
