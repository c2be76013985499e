"""Which protocol a request speaks, as pure functions of its head and of its upload."""

from collections.abc import Collection
from typing import Literal

from tusasgi.models import Upload
from tusasgi.protocols.headers import Headers
from tusasgi.protocols.ietf import is_partial_upload, named_version

ProtocolName = Literal["tus", "ietf"]


def choose(method: str, headers: Headers, offered: Collection[ProtocolName]) -> ProtocolName | None:
    """Return the protocol of a request; None if only its upload can tell: see `protocol_of`.

    `Tus-Resumable` decides before all else: Apple's URLSession adds the fields of the draft to
    every upload, those of TUS clients too. A request without any mark is one of TUS, to be
    refused as TUS refuses it, unless a client of the draft would send it like this.
    """
    if len(offered) == 1:
        return next(iter(offered))
    if "tus-resumable" in headers:
        return "tus"
    if _is_of_draft(headers):
        return "ietf"
    return None if method in ("HEAD", "GET", "DELETE") else "tus"


def protocol_of(upload: Upload | None, offered: Collection[ProtocolName]) -> ProtocolName:
    """Return the protocol of a request that has no mark, by the upload that it is about.

    It is the one that created the upload; where there is none, TUS.
    """
    if len(offered) == 1:
        return next(iter(offered))
    return "ietf" if upload is not None and upload.protocol == "ietf" else "tus"


def _is_of_draft(headers: Headers) -> bool:
    return (
        named_version(headers) is not None
        or "upload-complete" in headers
        or is_partial_upload(headers)
    )
