from collections.abc import Callable
from pathlib import Path

import av
import pytest

from .samples import RECIPES, write


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> Callable[[str], Path]:
    """Give the file of a recipe by its id, written on first use and opened once to prove it."""
    folder = tmp_path_factory.mktemp("media")
    recipes = {recipe.id: recipe for recipe in RECIPES}

    def get(id: str) -> Path:
        path = folder / id
        if not path.exists():
            write(recipes[id], path)
            with av.open(str(path)) as opened:
                assert opened.streams.audio or opened.streams.video
        return path

    return get
