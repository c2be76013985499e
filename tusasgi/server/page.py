"""The page of `--page`, which uploads from a browser to where it comes from."""

import html

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tusasgi.server.settings import Settings
from tusasgi.server.web import HEADERS, UPLOAD_PAGE, content_of, path_of


def upload_page(settings: Settings) -> list[BaseRoute]:
    """Return the routes of the page and of what it consists of."""
    return [_route(name, settings) for name in UPLOAD_PAGE]


def _route(name: str, settings: Settings) -> Route:
    content_type, body = content_of(name)
    if name == "index.html":
        body = _filled_in(body.decode(), settings).encode()

    async def answer(_: Request) -> Response:
        return Response(body, headers={**HEADERS, "Content-Type": content_type})

    return Route(path_of(name), answer)


def _filled_in(page: str, settings: Settings) -> str:
    """Tell the page where uploads are created, and what it need not offer."""
    # Relative, so that it is right behind a proxy which has all of this below a path.
    collection = settings.path.removeprefix("/")
    missing = [name for name in ("downloads", "termination") if not getattr(settings, name)]
    return page.replace("{collection}", html.escape(collection)).replace(
        "{missing}", " ".join(missing)
    )
