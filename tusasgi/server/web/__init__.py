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

UPLOADER = ("choosing.js", "remembered.js", "style.css", "tabs.js", "upload.js", "words.js")
"""What other pages that upload can be built on: a TUS client, and what goes with it."""

UPLOAD_PAGE = ("index.html", "uploads.js", *UPLOADER)
LIVE_PAGE = ("live.html", "live.js", "style.css", "words.js")


def content_of(name: str) -> tuple[str, bytes]:
    """Return the media type and the bytes of a file."""
    return _TYPES[name.rpartition(".")[2]], (_HERE / name).read_bytes()


def path_of(name: str) -> str:
    """Return where a page looks for a file, or where it is itself."""
    return "/" if name.endswith(".html") else f"/page/{name}"
