"""Hooks of a module that the command is told of."""

import importlib
import os
import sys

from tusasgi import Hooks
from tusasgi.arguments import check_derived


def load_hooks(reference: str) -> Hooks:
    """Import `package.module:object`, from the current folder too, and return the object.

    Raises whatever the module raises, and `TypeError` or `AttributeError` for what are no hooks.
    """
    module, _, path = reference.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    hooks: object = importlib.import_module(module)
    for name in path.split("."):
        hooks = getattr(hooks, name)
    check_derived(reference, hooks, Hooks)
    assert isinstance(hooks, Hooks)
    return hooks
