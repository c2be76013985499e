"""The hooks that let only audio and video in."""

from collections.abc import Mapping

from tusasgi.hooks import Hooks
from tusasgi.media.detection import HEAD_SIZE, MIN_HEAD_SIZE, inspect_head
from tusasgi.media.rules import Rule
from tusasgi.media.table import FORMATS
from tusasgi.models import Fact, Upload


class MediaHooks(Hooks):
    """Hooks that let only audio and video in, and keep with the upload what it is.

    Derive from it to add other hooks, or to change `formats`.
    """

    head_size = HEAD_SIZE
    min_head_size = MIN_HEAD_SIZE

    formats: tuple[Rule, ...] = FORMATS
    """What is let in."""

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        return (await inspect_head(head, self.formats)).facts
