"""Reading what a client sent: the JSON body, and fields with everything that is wrong listed."""

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import anyio
from starlette.requests import ClientDisconnect, Request

from examples.roughy.api.errors import (
    BadRequest,
    FieldError,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
    ValidationFailed,
)
from examples.roughy.ids import parse_uuid

_MAX_BODY = 64 * 1024
_BODY_SECONDS = 30
_NIL = uuid.UUID(int=0)
# PostgreSQL keeps no NUL, and half a surrogate pair is no text.
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body; its media type is judged before a byte is read."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise UnsupportedMediaType("Content-Type must be application/json")
    try:
        body = json.loads(await _read(request), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise ValidationFailed("the body must be a JSON object")
    return body


async def _read(request: Request) -> bytes:
    body = b""
    try:
        with anyio.fail_after(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY:
                    raise PayloadTooLarge(f"the body has more than {_MAX_BODY} bytes")
    except TimeoutError:
        raise RequestTimeout(f"the body did not arrive within {_BODY_SECONDS} seconds") from None
    except ClientDisconnect:
        raise BadRequest("the client left") from None
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class Fields:
    """Takes the fields of one request one by one, and notes all that is wrong with them.

    `root` is `body`, `query` or `path`. A field that is wrong or missing comes back as a
    placeholder: call `check` before anything is used.
    """

    def __init__(self, root: str, values: Mapping[str, Any]) -> None:
        self._root = root
        self._values = values
        self._errors: list[FieldError] = []

    def check(self) -> None:
        """Raise `ValidationFailed` with everything that was wrong, if anything was."""
        if self._errors:
            names = ", ".join(error.field for error in self._errors)
            raise ValidationFailed(f"not valid: {names}", fields=self._errors)

    def fail(self, name: str, message: str) -> None:
        self._errors.append(FieldError(f"{self._root}.{name}", message))

    def only(self, known: Iterable[str]) -> None:
        """Refuse every other field: a mistyped name would go unnoticed."""
        for name in sorted(self._values.keys() - set(known)):
            self.fail(_NOT_TEXT.sub("?", name[:64]), "there is no such field")

    def has(self, name: str) -> bool:
        return name in self._values

    def uuid(self, name: str) -> uuid.UUID:
        value = self._values.get(name)
        found = parse_uuid(value) if isinstance(value, str) else None
        if found is None:
            self.fail(name, "is required" if value is None else "must be a UUID")
        return found or _NIL

    def integer(self, name: str, *, least: int) -> int:
        """A number as JSON writes it; no text, no fraction, no true."""
        value = self._values.get(name)
        if type(value) is int and value >= least:
            return value
        self.fail(name, "is required" if value is None else f"must be an integer from {least} on")
        return least

    def digits(self, name: str, *, least: int, most: int, default: int) -> int:
        """A number as a query writes it."""
        value = self._values.get(name, str(default))
        if re.fullmatch(r"[0-9]{1,19}", value) and least <= int(value) <= most:
            return int(value)
        self.fail(name, f"must be a whole number from {least} to {most}")
        return default

    def text(self, name: str, *, longest: int) -> str:
        value = self._values.get(name)
        if isinstance(value, str) and 1 <= len(value) <= longest and not _NOT_TEXT.search(value):
            return value
        wrong = f"must be text of 1 to {longest} characters"
        self.fail(name, "is required" if value is None else wrong)
        return ""

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """One of a few words, None if it is not given."""
        if name not in self._values:
            return None
        if self._values[name] not in choices:
            self.fail(name, f"must be one of {', '.join(choices)}")
            return None
        return str(self._values[name])

    def language(self, name: str) -> str | None:
        """Two ASCII letters, lower-cased; None for none."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z]{2}", value):
            self.fail(name, "must be a language code of two letters, as in ISO 639-1")
            return None
        return value.lower()


def path_id(request: Request, name: str) -> uuid.UUID:
    """Return the id in the path; raise `ValidationFailed` for what cannot be one."""
    fields = Fields("path", request.path_params)
    found = fields.uuid(name)
    fields.check()
    return found
