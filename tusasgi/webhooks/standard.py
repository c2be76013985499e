"""The messages of our own format, with the payload that Standard Webhooks recommends."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tusasgi.fields import check_creation
from tusasgi.models import Creation, Expiry, FinalResponse, Limits, Upload, is_upload_id
from tusasgi.webhooks.messages import (
    Answer,
    FinalRefusal,
    Message,
    Refusal,
    Seen,
    Unusable,
    as_text,
    document_of,
    passed_on,
    text_of,
)

_REFUSED = "the request was refused"
_WRONG = (TypeError, ValueError, AttributeError, OverflowError)


class Standard:
    """Implements `Format`: the status of an answer decides, its JSON amends."""

    def dump(self, message: Message) -> bytes:
        data: dict[str, Any] = {"upload": None}
        if message.creation is not None:
            data["upload"] = _creation(message.creation)
        if message.upload is not None:
            data["upload"] = _upload(message.upload) | {"place": dict(message.place)}
        if message.operation is not None:
            data["operation"] = message.operation
        if message.event in ("authorize", "creating", "completing", "terminating"):
            data["request"] = _request(message.request)
        return json.dumps(
            {"type": f"upload.{message.event}", "timestamp": _moment(message.at), "data": data}
        ).encode()

    def check(self, answer: Answer, event: str) -> None:
        if event != "progressed":
            _fields(answer, known=())

    def amended(self, answer: Answer, creation: Creation) -> Creation:
        found = _fields(answer, known=_AMENDMENTS)
        try:
            changes = {_AMENDMENTS[name]: _READERS[name](value) for name, value in found.items()}
            amended = replace(creation, **changes)
            if "metadata" in found:
                amended = replace(amended, metadata_header=None)
            check_creation(amended)
        except _WRONG as error:
            raise Unusable(f"what it makes of a creation cannot be: {error}") from None
        return amended

    def final_response(self, answer: Answer) -> FinalResponse | None:
        found = _fields(answer, known=("status", "headers", "body"), kind=FinalRefusal)
        if not found:
            return None
        try:
            return FinalResponse(
                status=found.get("status"),
                headers=found.get("headers", {}),
                body=found.get("body", "").encode(),
            )
        except _WRONG as error:
            raise Unusable(f"what it adds to the last answer cannot be: {error}") from None


def _fields(
    answer: Answer, *, known: Collection[str], kind: type[Refusal] = Refusal
) -> dict[str, Any]:
    """Return what an answer that allows it says; raise what one that refuses it says."""
    if 400 <= answer.status < 500:
        message = text_of(answer.body) or _REFUSED
        raise kind(message, status=answer.status, headers=passed_on(answer.headers))
    if not 200 <= answer.status < 300:
        raise Unusable(f"it answers {answer.status}")
    found = document_of(answer)
    if unknown := found.keys() - set(known):
        raise Unusable(f"its answer has {min(unknown)!r}, which is not known")
    return found


def _owner(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("owner is no text")
    return value


def _id(value: Any) -> str:
    if not isinstance(value, str) or not is_upload_id(value):
        raise ValueError("no upload can have this id")
    return value


def _metadata(value: Any) -> dict[str, bytes]:
    return {key: text.encode() for key, text in value.items()}


def _expiry(value: Any) -> Expiry:
    windows: dict[str, Any] = {name: timedelta(seconds=one) for name, one in value.items()}
    return Expiry(**windows)


def _facts(value: Any) -> dict[str, Any]:
    for fact in value.values():
        if not isinstance(fact, str | int | float | None):
            raise TypeError("a fact is text, a number, true, false or null")
    return dict(value)


_AMENDMENTS = {
    "owner": "owner",
    "id": "upload_id",
    "metadata": "metadata",
    "limits": "limits",
    "expiry": "expiry",
    "facts": "facts",
}
"""What may be amended of a creation, and the field that it is."""

_READERS: Mapping[str, Any] = {
    "owner": _owner,
    "id": _id,
    "metadata": _metadata,
    "limits": lambda value: Limits(**value),
    "expiry": _expiry,
    "facts": _facts,
}


def _creation(creation: Creation) -> dict[str, Any]:
    return {
        "length": creation.length,
        "metadata": as_text(creation.metadata),
        "owner": creation.owner,
        "id": creation.upload_id,
        "is_partial": creation.is_partial,
        "parts": list(creation.parts),
        "protocol": creation.protocol,
    }


def _upload(upload: Upload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "length": upload.length,
        "offset": upload.offset,
        "metadata": as_text(upload.metadata),
        "owner": upload.owner,
        "facts": dict(upload.facts),
        "created": _moment(upload.created),
        "expires": None if upload.expires is None else _moment(upload.expires),
        "is_complete": upload.is_complete,
        "is_partial": upload.is_partial,
        "parts": list(upload.parts),
        "sha256": upload.sha256,
        "protocol": upload.protocol,
    }


def _request(request: Seen | None) -> dict[str, Any] | None:
    if request is None:
        return None
    return {
        "method": request.method,
        "uri": request.uri,
        "address": request.address,
        "headers": dict(request.headers),
    }


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
