"""Tell audio and video from everything else by the first bytes of an upload.

`FORMATS` is the whole knowledge: a tuple of rules that are asked in turn, and the first answer
counts. A rule says what a head is, or None. Where puremagic knows a signature of some length,
a rule names it (`Magic`) and adds what puremagic leaves open; where it knows two or four bytes
or nothing, the rule reads the structure itself. Nothing is accepted that no rule names, so a
guess of puremagic alone never lets a file in.

Every reader in this package takes any bytes whatever, cut at any place, and never raises.
"""

from tusasgi.media.detection import HEAD_SIZE, MIN_HEAD_SIZE, detect, inspect_head
from tusasgi.media.hooks import MediaHooks
from tusasgi.media.measured import measured
from tusasgi.media.rules import Judge, Magic, MediaFormat, Rule, pattern
from tusasgi.media.table import FORMATS

__all__ = [
    "FORMATS",
    "HEAD_SIZE",
    "MIN_HEAD_SIZE",
    "Judge",
    "Magic",
    "MediaFormat",
    "MediaHooks",
    "Rule",
    "detect",
    "inspect_head",
    "measured",
    "pattern",
]
