"""The public names: all of them, in order, and nothing that nobody documents."""

import ast
import re
from pathlib import Path

import pytest

import tusasgi
import tusasgi.testing

ROOT = Path(__file__).parent.parent


def test_everything_public_is_there() -> None:
    assert [name for name in tusasgi.__all__ if not hasattr(tusasgi, name)] == []
    assert [name for name in tusasgi.testing.__all__ if not hasattr(tusasgi.testing, name)] == []


@pytest.mark.parametrize("module", [tusasgi, tusasgi.testing], ids=["tusasgi", "testing"])
def test_what_is_imported_into_the_public_module_is_public(module: object) -> None:
    tree = ast.parse(Path(module.__file__ or "").read_text("utf-8"))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == set(module.__all__)


def test_no_name_is_listed_twice() -> None:
    assert len(set(tusasgi.__all__)) == len(tusasgi.__all__)


def test_every_kind_of_error_is_public() -> None:
    kinds, found = [tusasgi.TusError], set()
    while kinds:
        kind = kinds.pop()
        if kind.__module__ == "tusasgi.errors":
            found.add(kind.__name__)
            kinds.extend(kind.__subclasses__())
    assert found <= set(tusasgi.__all__)


def test_the_tree_of_errors_in_the_documentation_is_the_real_one() -> None:
    drawn = re.findall(r"[├└]── (\w+) +(\d{3}) ", tusasgi.errors.__doc__ or "")
    real = {
        name: str(kind.status)
        for name, kind in vars(tusasgi.errors).items()
        if isinstance(kind, type) and issubclass(kind, tusasgi.TusError)
    }
    real.pop("TusError")
    assert dict(drawn) == real


@pytest.mark.parametrize("name", tusasgi.__all__)
def test_a_public_class_or_function_says_what_it_is(name: str) -> None:
    thing = getattr(tusasgi, name)
    if callable(thing) and getattr(thing, "__module__", "").startswith("tusasgi"):
        assert thing.__doc__


def test_the_version_is_the_one_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'version = "{tusasgi.__version__}"' in project


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "tusasgi" / "py.typed").exists()
