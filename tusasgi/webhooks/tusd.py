"""The messages of tusd (version 2), for receivers that were written for it."""

import json
from dataclasses import replace
from typing import Any

from tusasgi.fields import check_creation
from tusasgi.models import Creation, FinalResponse, is_upload_id
from tusasgi.webhooks.messages import (
    Answer,
    FinalRefusal,
    Message,
    Refusal,
    Seen,
    Unusable,
    as_text,
    document_of,
)

TYPES = {
    "creating": "pre-create",
    "created": "post-create",
    "progressed": "post-receive",
    "completing": "pre-finish",
    "completed": "post-finish",
    "terminating": "pre-terminate",
    "terminated": "post-terminate",
    "expired": "post-terminate",
}
"""What tusd calls our events; it has no expiry, and asks nobody about single requests."""

_WRONG = (TypeError, ValueError, AttributeError, KeyError)
_BAD_REQUEST = 400


class Tusd:
    """Implements `Format`: every answer has a status of 200, and its JSON decides."""

    def dump(self, message: Message) -> bytes:
        event = {"Upload": _upload(message), "HTTPRequest": _request(message.request)}
        return json.dumps({"Type": TYPES[message.event], "Event": event}).encode()

    def check(self, answer: Answer, event: str) -> None:
        found = _document(answer)
        if event == "terminating" and found.get("RejectTermination"):
            raise _refusal(found, "the upload may not be terminated")
        if event == "progressed" and found.get("StopUpload"):
            raise _refusal(found, "the upload was stopped", kind=FinalRefusal)

    def amended(self, answer: Answer, creation: Creation) -> Creation:
        found = _document(answer)
        if found.get("RejectUpload"):
            raise _refusal(found, "the upload was refused")
        try:
            amended = _changed(creation, found.get("ChangeFileInfo") or {})
            check_creation(amended)
        except _WRONG as error:
            raise Unusable(f"its ChangeFileInfo cannot be: {error}") from None
        return amended

    def final_response(self, answer: Answer) -> FinalResponse | None:
        found = _document(answer)
        status, headers, body = _response(found)
        if status is not None and status >= _BAD_REQUEST:
            raise _refusal(found, "the upload was refused", kind=FinalRefusal)
        if status is None and not headers and not body:
            return None
        return FinalResponse(status=status, headers=headers, body=body.encode())


def _document(answer: Answer) -> dict[str, Any]:
    if not 200 <= answer.status < 300:
        raise Unusable(f"it answers {answer.status}")
    return document_of(answer)


def _response(found: dict[str, Any]) -> tuple[int | None, dict[str, str], str]:
    """Return status, headers and body of what the client is to be answered."""
    response = found.get("HTTPResponse") or {}
    try:
        status, body = response.get("StatusCode") or None, response.get("Body") or ""
        headers = dict(response.get("Header") or {})
        FinalResponse(status=status, headers=headers, body=body.encode())  # checks them
    except _WRONG as error:
        raise Unusable(f"its HTTPResponse cannot be: {error}") from None
    return status, headers, body


def _refusal(found: dict[str, Any], message: str, *, kind: type[Refusal] = Refusal) -> Refusal:
    status, headers, body = _response(found)
    return kind(body or message, status=max(status or 0, _BAD_REQUEST), headers=headers)


def _changed(creation: Creation, changes: dict[str, Any]) -> Creation:
    if changes.get("Storage"):
        raise ValueError("Storage is not known here: the store decides where files are")
    if upload_id := changes.get("ID"):
        if not is_upload_id(upload_id):
            raise ValueError("an ID has 1 to 64 letters, digits, hyphens and underscores")
        creation = replace(creation, upload_id=upload_id)
    if metadata := changes.get("MetaData"):
        values = {key: text.encode() for key, text in metadata.items()}
        creation = replace(creation, metadata=values, metadata_header=None)
    return creation


def _upload(message: Message) -> dict[str, Any]:
    subject = message.creation or message.upload
    assert subject is not None
    upload = message.upload
    return {
        "ID": "" if upload is None else upload.id,
        "Size": subject.length or 0,
        "SizeIsDeferred": subject.length is None,
        "Offset": 0 if upload is None else upload.offset,
        "MetaData": as_text(subject.metadata),
        "IsPartial": subject.is_partial,
        "IsFinal": bool(subject.parts),
        "PartialUploads": list(subject.parts) or None,
        "Storage": dict(message.place) or None,
    }


def _request(request: Seen | None) -> dict[str, Any]:
    if request is None:
        return {"Method": "", "URI": "", "RemoteAddr": "", "Header": {}}
    return {
        "Method": request.method,
        "URI": request.uri,
        "RemoteAddr": request.address,
        "Header": {name.title(): [value] for name, value in request.headers.items()},
    }
