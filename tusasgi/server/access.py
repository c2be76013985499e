"""Who may upload, and that uploads are their owners' alone.

A request says who it is by `Authorization: Bearer`, with a key or a token. Nobody else may know of
an upload: it is not there for others.
"""

import re
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from typing import Any, cast

from tusasgi import Creation, Hooks, Operation, Request, Unauthorized, Upload, UploadNotFound
from tusasgi.server.api_keys import ApiKeys
from tusasgi.server.credentials import CHALLENGE, Credentials, InvalidCredential
from tusasgi.server.settings import Settings

_BEARER = re.compile(r"(?i:bearer) +([!-~]+)")
_LONGEST = 8192  # characters of a key or token: nobody gets us to work on more


class Access(Hooks):
    """Hooks that judge access before other hooks are asked; those are told all the rest.

    `request.state["owner"]` tells them who it is. The owner of an upload stays that one, whatever
    `creating` returns. For somebody else's upload they are asked as for one that does not exist.
    """

    def __init__(self, hooks: Hooks, credentials: Sequence[Credentials]) -> None:
        self._hooks = hooks
        self._credentials = credentials
        for name in vars(Hooks).keys() - vars(Access).keys():
            if not name.startswith("_"):
                setattr(self, name, getattr(hooks, name))
        if hasattr(hooks, "aclose"):
            self.aclose = hooks.aclose

    async def authorize(
        self, request: Request, operation: Operation, upload: Upload | None
    ) -> None:
        owner = self._owner_of(request)
        scope = cast("MutableMapping[str, Any]", request.scope)
        scope.setdefault("state", {})["owner"] = owner
        is_theirs = upload is not None and upload.owner == owner
        await self._hooks.authorize(request, operation, upload if is_theirs else None)
        if upload is not None and not is_theirs:
            raise UploadNotFound

    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        if request is None:
            return await self._hooks.creating(creation, None)
        owner = request.state["owner"]
        creation = await self._hooks.creating(replace(creation, owner=owner), request)
        return replace(creation, owner=owner)

    def _owner_of(self, request: Request) -> str:
        given = request.headers.get("authorization")
        if given is None:
            raise Unauthorized("a key or a token is needed", challenge=CHALLENGE)
        match = _BEARER.fullmatch(given)
        if match is not None and len(match[1]) <= _LONGEST:
            for kind in self._credentials:
                if (owner := kind.owner_of(match[1])) is not None:
                    return owner
        raise InvalidCredential("the key or token is not valid")


def make_credentials(settings: Settings) -> list[Credentials]:
    """Return what the settings say that requests have to show; nothing if everybody is let in.

    Raises `OSError` and `ValueError` for files and keys that are of no use.
    """
    credentials: list[Credentials] = []
    if settings.api_key_file is not None:
        credentials.append(ApiKeys(settings.api_key_file))
    if settings.takes_tokens:
        from tusasgi.server.tokens import Tokens

        tokens = Tokens(
            key=settings.jwt_key,
            key_file=settings.jwt_key_file,
            jwks_file=settings.jwt_jwks_file,
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            owner_claim=settings.jwt_owner_claim,
        )
        credentials.append(tokens)
    return credentials
