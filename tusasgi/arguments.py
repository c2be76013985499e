"""Wrong arguments of a host, each refused in one sentence that says what is right.

`TypeError` for what is of another kind, `ValueError` for what is of the right kind and too small,
unknown or badly written.
"""

import contextlib
import difflib
import inspect
import re
from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

# RFC 9110 section 5.6.2 and 5.5: nothing that would end the header.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_URL = re.compile(r"[!-~]+")  # printable ASCII without blanks
_ALIKE = 0.75  # of 1: `authorise` and `complete` are, `describe` and `close` are not


def check_integer(
    name: str, value: object, *, is_positive: bool = False, least: int = 0, most: int | None = None
) -> None:
    """Check a number of bytes or the like, of which none is negative; a bool is no number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < is_positive:
        raise ValueError(f"{name} must {'be positive' if is_positive else 'not be negative'}")
    if value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {value}")


def check_seconds(
    name: str, value: object, *, may_be_none: bool = True, may_be_zero: bool = False
) -> None:
    """Check a positive number of seconds, or None for no limit."""
    if value is None and may_be_none:
        return
    or_none = ", or None" if may_be_none else ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds{or_none}, not {value!r}")
    if may_be_zero and not value >= 0:
        raise ValueError(f"{name} must be a number of seconds that is not negative{or_none}")
    if not may_be_zero and not value > 0:
        raise ValueError(f"{name} must be a positive number of seconds{or_none}")


def check_folder(name: str, value: object) -> None:
    """Check the path of a folder, there or not."""
    path = value.__fspath__() if hasattr(value, "__fspath__") else value
    if not isinstance(path, str):
        raise TypeError(f"{name} must be the path of a folder, not {_named(value)}")
    if not path or "\0" in path:
        raise ValueError(f"{name} must be the path of a folder, not {path!r}")


def check_callable(name: str, value: object) -> None:
    """Check a function that is called and not awaited."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {_named(value)}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{name} must not be async: nobody would wait for it")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Check that a value is one of a few."""
    if not isinstance(value, str) or value not in choices:
        *others, last = (f'"{one}"' for one in choices)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, not {_named(value)}")


def check_window(name: str, value: object) -> None:
    """Check a positive length of time, or None."""
    if value is None:
        return
    if not isinstance(value, timedelta):
        hint = f"timedelta(seconds={value!r})" if isinstance(value, int | float) else "timedelta"
        raise TypeError(f"{name} must be a {hint}, not {value!r}")
    if value <= timedelta(0):
        raise ValueError(f"{name} must be a positive timedelta")


def check_absolute(name: str, url: object) -> None:
    """Check a URL as clients see it, with scheme and host."""
    parts = urlsplit(url) if isinstance(url, str) and _URL.fullmatch(url) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(
            f"{name} must be a whole URL, as https://example.org/files, or be left out, not {url!r}"
        )


def check_header(name: str, value: str) -> None:
    """Check a header that a host sets: its name, and that nothing in the value would end it."""
    if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"{name!r} is no header that can be sent")


def check_type(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {_a(kind.__name__)}, not {_named(value)}")


def check_choices(name: str, values: object, choices: Collection[str]) -> None:
    """Check a collection of names; one name alone is none, it would be taken letter by letter."""
    if isinstance(values, str):
        raise TypeError(f"{name} must be a collection of names: give {{{values!r}}}")
    if not isinstance(values, Collection):
        raise TypeError(f"{name} must be a collection of names, not {_named(values)}")
    for value in values:
        if value not in choices:
            similar = nearest(str(value), choices)
            hint = f": did you mean {similar!r}?" if similar else ""
            raise ValueError(f"{name}: {value!r} is none of {', '.join(choices)}{hint}")


def check_derived(name: str, value: object, base: type) -> None:
    """Check an object whose class overrides methods of `base`: by their names, and async or not.

    A method with a name that nearly is one of theirs would never be called.
    """
    _check_is_object(name, value)
    if not isinstance(value, base):
        raise TypeError(
            f"{name} must be derived from {base.__name__}, which {_named(value)} is not"
        )
    known = {one for one in vars(base) if not one.startswith("_")}
    for owner in type(value).__mro__:
        if owner in (base, object) or issubclass(base, owner):
            continue
        for own in vars(owner):
            if own in known:
                _check_kind(owner, own, getattr(base, own))
            elif not own.startswith("_") and inspect.isfunction(vars(owner)[own]):
                _check_spelling(owner, own, known, base)


def check_fulfils(name: str, value: object, protocol: type) -> None:
    """Check an object that has to have the methods of a protocol, async ones where those are."""
    _check_is_object(name, value)
    wanted = [one for one in vars(protocol) if inspect.isfunction(vars(protocol)[one])]
    wanted = [one for one in wanted if not one.startswith("_")]
    missing = [one for one in wanted if not callable(getattr(value, one, None))]
    if missing:
        kind = f"a {protocol.__name__.lower()}"
        raise TypeError(f"{name} must be {kind}; {_named(value)} has no {', '.join(missing)}")
    for one in wanted:
        _check_kind(type(value), one, getattr(protocol, one))


@contextlib.contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Say which extra to install if what is imported in the block is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "tusasgi").partition(".")[0]
        if package == "tusasgi":
            raise
        install = f"pip install 'tusasgi[{extra}]'"
        raise ImportError(f"{package} is missing: {install}", name=error.name) from error


def nearest(word: str, known: Iterable[str], *, alike: float = 0.6) -> str | None:
    """Return which of the known words somebody may have meant; `alike` is from 0 to 1."""
    return next(iter(difflib.get_close_matches(word, list(known), 1, alike)), None)


def _check_is_object(name: str, value: object) -> None:
    if isinstance(value, type):
        raise TypeError(f"{name} must be an object, not a class: give {value.__name__}(…)")


def _check_kind(owner: type, name: str, pattern: Any) -> None:
    """Check that a method is async exactly if its pattern is."""
    method = getattr(owner, name, None)
    if not inspect.isfunction(method):
        return  # a property, or a callable of the host's own making
    if inspect.iscoroutinefunction(pattern) and not _is_async(method):
        raise TypeError(f"{owner.__name__}.{name} must be async: async def {name}(…)")
    if not inspect.iscoroutinefunction(pattern) and inspect.iscoroutinefunction(method):
        raise TypeError(f"{owner.__name__}.{name} must not be async: nobody would wait for it")


def _is_async(method: Any) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(
        inspect.unwrap(method)
    )


def _check_spelling(owner: type, name: str, known: Collection[str], base: type) -> None:
    if similar := nearest(name, known, alike=_ALIKE):
        raise TypeError(
            f"{owner.__name__}.{name} would never be called: did you mean {similar}? "
            f"(If it is no method of {base.__name__}, begin its name with an underscore.)"
        )


def _named(value: object) -> str:
    """Return what a message calls a value: by its class, as it may hold secrets."""
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    return _a(type(value).__name__)


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'AEIOUaeiou' else 'a'} {word}"
