"""What a file is, and the rules by which its first bytes say so."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tusasgi.models import Fact


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFormat:
    """What a file is. The extension has no dot."""

    kind: Literal["audio", "video"]
    content_type: str
    extension: str

    @property
    def facts(self) -> dict[str, Fact]:
        """As the `inspect` hook keeps it with the upload."""
        return {
            "type": self.kind,
            "content_type": self.content_type,
            "extension": self.extension,
        }


class Magic(NamedTuple):
    """A signature of puremagic: its extension, and how many bytes of the head it must cover."""

    extension: str
    length: int


Judge = Callable[[bytes], MediaFormat | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One kind of file: how it is recognised, and every format it may turn out to be.

    With a `magic`, `judge` is asked only about heads in which puremagic finds that signature.
    """

    name: str
    formats: tuple[MediaFormat, ...]
    judge: Judge
    magic: Magic | None = None


def pattern(name: str, regex: bytes, media: MediaFormat, magic: Magic | None = None) -> Rule:
    """Make a rule for heads that start with what `regex` describes; `.` is any byte."""
    search = re.compile(regex, re.DOTALL).match
    return Rule(
        name=name,
        formats=(media,),
        judge=lambda head: media if search(head) else None,
        magic=magic,
    )


def first_match(
    head: bytes, rules: Iterable[Rule], signatures: Mapping[str, int]
) -> MediaFormat | None:
    """Ask the rules in turn, given the signatures that were found, by extension their length."""
    for rule in rules:
        if rule.magic is None or signatures.get(rule.magic.extension, 0) >= rule.magic.length:
            media = rule.judge(head)
            if media is not None:
                return media
    return None
