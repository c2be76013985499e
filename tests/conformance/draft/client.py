"""A client of the IETF draft in one of its versions, in front of the app of a stage."""

from collections.abc import Mapping
from typing import Any

from tests._stage import UPLOADS_URL, Stage, location_path
from tusasgi.protocols.dialects import DIALECTS
from tusasgi.protocols.ietf import CONTENT_TYPE, VERSION_FIELD
from tusasgi.protocols.structured import format_item
from tusasgi.testing import ASGIDriver, RecordedResponse, ScriptedExchange

Lines = Mapping[str, str | None]

CUT = 10
"""How many bytes more than it sends a client that is cut off has announced."""


class Draft:
    """Speaks one version; without one it names none, and speaks the newest."""

    def __init__(self, stage: Stage, version: int | None) -> None:
        self.stage = stage
        self.dialect = DIALECTS[9 if version is None else version]
        named = {} if version is None else {VERSION_FIELD: str(version)}
        self.driver = ASGIDriver(stage.app, root_path=UPLOADS_URL, headers=named)

    def says(self, complete: bool) -> dict[str, str]:
        """Return the field that says whether a request is the last one."""
        return {self.dialect.completeness: format_item(complete != self.dialect.is_negated)}

    def is_complete(self, answer: RecordedResponse) -> bool | None:
        """Return what an answer says of completeness."""
        value = answer.headers.get(self.dialect.completeness.lower())
        return None if value is None else (value == "?1") != self.dialect.is_negated

    # Requests.

    def creation(
        self,
        body: Any = b"",
        *,
        complete: bool,
        length: int | None = None,
        method: str = "POST",
        headers: Lines | None = None,
        **more: Any,
    ) -> ScriptedExchange:
        lines = {**self.says(complete), **_length(length), **(headers or {})}
        return self.driver.exchange(method, "/", lines, body, **more)

    async def create(self, body: Any = b"", **options: Any) -> RecordedResponse:
        return await self.creation(body, **options).run()

    async def begin(
        self, content: bytes = b"", *, length: int | None = None, **options: Any
    ) -> str:
        """Create an upload of which more is to come, and return its path."""
        answer = await self.create(content, complete=False, length=length, **options)
        assert answer.status == 201, answer
        return location_path(answer)

    def appending(
        self,
        path: str,
        offset: int,
        body: Any = b"",
        *,
        complete: bool | None = False,
        length: int | None = None,
        headers: Lines | None = None,
        **more: Any,
    ) -> ScriptedExchange:
        lines = {
            "Content-Type": CONTENT_TYPE,
            "Upload-Offset": str(offset),
            **({} if complete is None else self.says(complete)),
            **_length(length),
            **(headers or {}),
        }
        return self.driver.exchange("PATCH", path, lines, body, **more)

    async def append(
        self, path: str, offset: int, body: Any = b"", **options: Any
    ) -> RecordedResponse:
        return await self.appending(path, offset, body, **options).run()

    async def head(self, path: str, headers: Lines | None = None) -> RecordedResponse:
        return await self.driver.request("HEAD", path, headers or {})

    async def get(self, path: str, headers: Lines | None = None) -> RecordedResponse:
        return await self.driver.request("GET", path, headers or {})

    async def delete(self, path: str, headers: Lines | None = None) -> RecordedResponse:
        return await self.driver.request("DELETE", path, headers or {})

    async def options(self, path: str = "/") -> RecordedResponse:
        return await self.driver.request("OPTIONS", path)

    # What there is.

    async def state(self, path: str) -> tuple[int, bool | None]:
        """Return the offset and the completeness that HEAD tells."""
        answer = await self.head(path)
        assert answer.status == 204, answer
        return int(answer.headers["upload-offset"]), self.is_complete(answer)

    async def content(self, path: str) -> bytes:
        return await self.stage.content(path.removeprefix("/"))


def cut(*chunks: bytes) -> dict[str, str]:
    """Return the headers of a request that announces more bytes than these."""
    return {"Content-Length": str(sum(map(len, chunks)) + CUT)}


def limits(answer: RecordedResponse) -> dict[str, int]:
    """Return the members of `Upload-Limit`."""
    pairs = (member.split("=") for member in answer.headers["upload-limit"].split(", "))
    return {name: int(value) for name, value in pairs}


def _length(length: int | None) -> dict[str, str]:
    return {} if length is None else {"Upload-Length": str(length)}
