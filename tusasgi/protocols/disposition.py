"""`Content-Disposition` (RFC 6266, RFC 8187) to a file name that does no harm."""

import re
import unicodedata
from urllib.parse import unquote_to_bytes

MAX_NAME_SIZE = 255
"""Longest file name, in bytes of UTF-8: what file systems take. A longer one is cut."""

_TOKEN = r"[\w!#$%&'*+.^`|~-]++"
_QUOTED = r'"(?P<quoted>([^"\\]|\\.)*+)"'
_BLANKS = r"[ \t]*+"
_TYPE = re.compile(_TOKEN + _BLANKS, re.ASCII)
_PARAMETER = re.compile(
    f";{_BLANKS}(?P<name>{_TOKEN}){_BLANKS}={_BLANKS}({_QUOTED}|(?P<token>{_TOKEN})){_BLANKS}",
    re.ASCII | re.DOTALL,
)
_CHARSETS = {"utf-8": "utf-8", "iso-8859-1": "latin-1"}

# Control characters, line and paragraph separators, halves of surrogate pairs.
_REMOVED = {"Cc", "Zl", "Zp", "Cs"}
# They turn the direction of what follows: "gpj.exe" would be shown as "exe.jpg".
_TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def parse_file_name(header: str) -> str | None:
    """Return the last part of `filename*`, or else of `filename`, as it may be shown and stored.

    None if neither gives one, and for a header that is malformed or has a parameter twice.
    """
    parameters = _parameters(header)
    for name in (_extended(parameters.get("filename*")), _plain(parameters.get("filename"))):
        if safe := safe_name(name):
            return safe
    return None


def safe_name(name: str) -> str:
    """Return a file name without folders, and without what deceives or breaks lines; or ''."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(sign for sign in last if unicodedata.category(sign) not in _REMOVED)
    kept = "".join(sign for sign in kept if sign not in _TURNING).strip()
    kept = kept.encode()[:MAX_NAME_SIZE].decode(errors="ignore").strip()
    return kept if kept.strip(". ") else ""  # not what stands for a folder


def _parameters(header: str) -> dict[str, str]:
    """Return the parameters by lower-case name; none if anything is wrong with them."""
    text = header.rstrip("; \t")
    found: dict[str, str] = {}
    match = _TYPE.match(text)
    while match is not None and match.end() < len(text):
        match = _PARAMETER.match(text, match.end())
        if match is None or match["name"].lower() in found:
            return {}
        found[match["name"].lower()] = _value_of(match)
    return found


def _value_of(match: re.Match[str]) -> str:
    # Of other signs the backslash is left: some clients write a whole path as it is.
    return match["token"] or re.sub(r'\\(["\\])', r"\1", match["quoted"])


def _extended(value: str | None) -> str:
    """Read a value of the form `charset'language'percent-encoded`; '' if it is not one."""
    charset, _, encoded = (value or "").partition("'")
    try:
        return unquote_to_bytes(encoded.partition("'")[2]).decode(_CHARSETS[charset.lower()])
    except (KeyError, UnicodeError):
        return ""


def _plain(value: str | None) -> str:
    """Read a quoted name: UTF-8 if it can be, as clients send it in spite of the standard."""
    try:
        return (value or "").encode("latin-1").decode()
    except UnicodeError:
        return value or ""
