"""Where settings come from besides the options: the environment, and a file.

Each setting has one name in three spellings: `--max-size`, `TUSASGI_MAX_SIZE`, and `max-size` in a
TOML file. The words are read by what reads the option.
"""

import argparse
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from tusasgi.arguments import nearest
from tusasgi.server.settings import FOR_WORKERS

_PREFIX = "TUSASGI_"
_FILE = "_FILE"
_ALIKE = 0.85  # of 1: there may be variables of others
_ALTERNATIVES = ("dir", "store")
_ON, _OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

Options = Mapping[str, argparse.Action]
"""The options of a command, by the names of their settings."""

Layer = tuple[str, dict[str, Any]]
"""Settings, and what they are from."""


class WrongSetting(Exception):
    """What is wrong, and where, in one line."""


def layers_of(
    given: dict[str, Any], options: Options, all_options: Options, environment: Mapping[str, str]
) -> list[Layer]:
    """Return all that is set, what counts less before what counts more.

    `given` is what the words of the command say, `options` what it takes of `all_options`.
    """
    others = [*all_options, "config"]
    layers: list[Layer] = []
    if path := given.get("config") or environment.get(f"{_PREFIX}CONFIG"):
        layers.append((path, _from_file(options, path, others)))
    reserved = [FOR_WORKERS, *(_PREFIX + name.upper() for name in others)]
    layers.append(("the environment", _from_environment(options, environment, reserved)))
    layers.append(("options", {name: given[name] for name in given if name in options}))
    for where, settings in layers:
        if set(_ALTERNATIVES) <= settings.keys():
            raise WrongSetting(f"{where}: dir and store exclude each other")
    return layers


def merged(layers: Iterable[Layer]) -> dict[str, Any]:
    """Return what counts of all layers."""
    merged: dict[str, Any] = {}
    for _, settings in layers:
        if settings.keys() & set(_ALTERNATIVES):  # of which only the last one counts
            merged = {name: one for name, one in merged.items() if name not in _ALTERNATIVES}
        merged |= settings
    return merged


def sources_of(layers: Iterable[Layer]) -> dict[str, str]:
    """Return, for each setting, which layer it counts from."""
    return {name: where for where, settings in layers for name in settings}


def _from_environment(
    options: Options, environment: Mapping[str, str], others: Iterable[str]
) -> dict[str, Any]:
    """Return the settings that the variables give.

    `TUSASGI_X_FILE` names a file that has what `TUSASGI_X` would say. Variables that nearly have
    the name of a setting are refused, but for those of `others`.
    """
    settings: dict[str, Any] = {}
    known = {_PREFIX + name.upper(): name for name in options}
    for variable in sorted(environment):
        # Settings that are files themselves have names with that end.
        direct = variable if variable in known else variable.removesuffix(_FILE)
        if name := known.get(direct):
            word = environment[variable]
            if variable != direct:
                if direct in environment:
                    raise WrongSetting(f"{variable}: {direct} is given as well")
                word = _content_of(word, variable).strip()
            settings[name] = _read(options, name, word, variable)
        elif variable.startswith(_PREFIX) and variable not in others:
            _check_spelling(variable, known)
    return settings


def _from_file(options: Options, path: str, others: Iterable[str]) -> dict[str, Any]:
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
            similar = nearest(key, [*options, *others])
            hint = f": did you mean {similar}?" if similar else ""
            raise WrongSetting(f"{path}: {key} is no setting{hint}")
    return settings


def to_toml(
    settings: Mapping[str, Any], sources: Mapping[str, str], secrets: Collection[str] = ()
) -> str:
    """Write settings as such a file, each with where it comes from; secrets without their value."""
    lines = []
    for name, value in settings.items():
        key = name.replace("_", "-")
        if value in (None, ()):
            lines.append(f"# {key} is not set")
        else:
            source = f"  # {sources[name]}" if name in sources else ""
            line = f"# {key} is secret" if name in secrets else f"{key} = {_toml(value)}"
            lines.append(line + source)
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
    if similar := nearest(variable, known, alike=_ALIKE):
        raise WrongSetting(f"{variable} is no setting: did you mean {similar}?")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
