"""Structured fields (RFC 9651): Items and Dictionaries, as far as our protocols have them.

Strict: what breaks the grammar counts as absent, as that RFC asks, and nothing here raises.
Parameters are allowed and ignored. Every bare type is recognised, so that a member that nobody
asked for does no harm, and three of them have a value: Integers, Booleans and Byte Sequences.
"""

import base64
import re
from collections.abc import Mapping, Sequence

MAX_INTEGER = 10**15 - 1
"""The largest Integer."""

Value = int | bool | bytes | None
"""None for an Inner List, and for a type that no field of ours has."""

# In the order of RFC 9651 section 3.3. What a Display String encodes is not looked at. Nothing
# overlaps and repeats, so the time to match is in proportion to the text.
_BARE = r"""
    -?[0-9]{1,15} (?![0-9.])
  | -?[0-9]{1,12} \. [0-9]{1,3}
  | " (?: [ !\x23-\x5b\x5d-~] | \\["\\] )*+ "
  | [A-Za-z*] [\w!\#$%&'*+.^`|~:/-]*+
  | : (?: [A-Za-z0-9+/]{4} )*+ (?: [A-Za-z0-9+/]{2} (?:==)? | [A-Za-z0-9+/]{3} =? )? :
  | \? [01]
  | @ -?[0-9]{1,15}
  | %" (?: [ !\x23\x24\x26-~] | % [0-9a-f]{2} )*+ "
"""
_KEY = r"[a-z*] [a-z0-9_.*-]*+"
_PARAMETERS = rf"(?: ; \x20*+ {_KEY} (?: = (?: {_BARE} ) )? )*+"
_INNER_LIST = rf"\( \x20*+ (?: (?: {_BARE} ) {_PARAMETERS} (?: \x20++ | (?=\)) ) )*+ \)"
_FLAGS = re.VERBOSE | re.ASCII

_ITEM = re.compile(rf"(?P<bare> {_BARE} ) {_PARAMETERS}", _FLAGS)
# With the comma that follows it, if another one does.
_MEMBER = re.compile(
    rf"""(?P<key> {_KEY} ) (?: = (?: (?P<bare> {_BARE} ) | (?P<list> {_INNER_LIST} ) ) )?
         {_PARAMETERS} (?: [ \t]*+ , [ \t]*+ (?=[a-z*]) | \Z )""",
    _FLAGS,
)
_INTEGER = re.compile(r"-?[0-9]+")


def parse_item(lines: Sequence[str]) -> Value:
    """Return the value of an Item; None if there is not exactly one line, or it is malformed."""
    if len(lines) != 1:
        return None
    match = _ITEM.fullmatch(lines[0].strip(" "))
    return None if match is None else _value_of(match["bare"])


def parse_unsigned(lines: Sequence[str]) -> int | None:
    """Return an Integer that is not negative; None if there is none."""
    value = parse_item(lines)
    return value if type(value) is int and value >= 0 else None


def parse_boolean(lines: Sequence[str]) -> bool | None:
    """Return a Boolean; None if there is none."""
    value = parse_item(lines)
    return value if isinstance(value, bool) else None


def parse_dictionary(lines: Sequence[str]) -> dict[str, Value]:
    """Return the members of a Dictionary, which may have many lines; none if it is malformed.

    The last of several members with one key counts.
    """
    text = ", ".join(lines).strip(" ")
    members: dict[str, Value] = {}
    position = 0
    while position < len(text):
        match = _MEMBER.match(text, position)
        if match is None:
            return {}
        members[match["key"]] = _member_of(match)
        position = match.end()
    return members


def _member_of(match: re.Match[str]) -> Value:
    if match["list"] is not None:
        return None
    return True if match["bare"] is None else _value_of(match["bare"])


def _value_of(bare: str) -> Value:
    if _INTEGER.fullmatch(bare):
        return int(bare)
    if bare.startswith("?"):
        return bare == "?1"
    if bare.startswith(":"):
        data = bare.strip(":=")
        return base64.b64decode(data + "=" * (-len(data) % 4))  # the padding may be missing
    return None


def format_item(value: int | bool | bytes) -> str:
    """Write an Integer (of at most 15 digits), a Boolean or a Byte Sequence."""
    if isinstance(value, bool):
        return f"?{int(value)}"
    if isinstance(value, bytes):
        return f":{base64.b64encode(value).decode('ascii')}:"
    return str(value)


def format_dictionary(members: Mapping[str, int | bool | bytes]) -> str:
    """Write a Dictionary; the counterpart of `parse_dictionary`."""
    return ", ".join(f"{key}={format_item(value)}" for key, value in members.items())
