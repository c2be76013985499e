"""The files that the pages of the server consist of. They load nothing from anywhere else."""

from collections.abc import Mapping
from importlib.resources import files

_HERE = files(__name__)
_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What comes with each of them."""

UPLOAD_PAGE = ("index.html", "style.css", "upload.js", "uploads.js", "words.js")
LIVE_PAGE = ("live.html", "live.js", "style.css", "words.js")


def content_of(name: str) -> tuple[str, bytes]:
    """Return the media type and the bytes of a file."""
    return _TYPES[name.rpartition(".")[2]], (_HERE / name).read_bytes()


def path_of(name: str) -> str:
    """Return where a page looks for a file, or where it is itself."""
    return "/" if name.endswith(".html") else f"/page/{name}"
