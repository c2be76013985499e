"""The API as an OpenAPI 3.1 document, served at `/openapi.json`.

Written by hand, as a list of what may be asked and answered: reading it is a way to learn the
API. Limits, states and error codes come from the code, and a test compares the paths and methods
with the routes of the app.
"""

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .db import State
from .errors import CODES
from .settings import MAX_SIZE, MIN_SIZE

Json = dict[str, Any]


async def read(request: Request) -> Response:
    return JSONResponse(DOCUMENT)


# Values.

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_ID: Json = {"type": "string", "format": "uuid"}
_URL: Json = {"type": "string", "format": "uri"}
_TIME: Json = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$",
    "examples": ["2026-05-02T08:54:52.423000Z"],
}
_HTTP_DATE: Json = {
    "type": "string",
    "pattern": r"^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT$",
    "examples": ["Sat, 09 May 2026 08:54:52 GMT"],
}
_NAME: Json = {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[^\\u0000]*$"}
_LANGUAGE: Json = {
    "type": ["string", "null"],
    "pattern": "^[A-Za-z]{2}$",
    "description": "ISO 639-1, in either case; null means that it is to be found out.",
}
_SECONDS: Json = {
    "type": "string",
    "pattern": r"^[0-9]+\.[0-9]{3}$",
    "description": "A decimal as text, because JSON numbers are floats in many clients.",
    "examples": ["3782.413"],
}
_PROJECT_STATE: Json = {"type": "string", "enum": ["active", "archived"]}
_ASSET_STATE: Json = {"type": "string", "enum": [str(state) for state in State]}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(properties: Json, *, optional: Iterable[str] = ()) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _page_of(schema: str) -> Json:
    return _object(
        {
            "items": {"type": "array", "items": _schema(schema)},
            "total": {**_COUNT, "description": "Of all pages together."},
            "limit": _COUNT,
            "offset": _COUNT,
        }
    )


def _schema(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


# Resources.

_PROJECT_SUMMARY: Json = {
    "id": _ID,
    "name": _NAME,
    "state": _PROJECT_STATE,
    "created_at": _TIME,
    "updated_at": _TIME,
}
_ASSET_SUMMARY: Json = {
    "id": _ID,
    "project_id": _ID,
    "type": _or_null({"type": "string", "enum": ["audio", "video"]}),
    "state": _ASSET_STATE,
    "extension": _or_null({**_TEXT, "examples": ["mp4"]}),
    "size_bytes": _or_null(_COUNT),
    "content_type": _or_null({**_TEXT, "examples": ["video/mp4"]}),
    "duration_seconds": _or_null(_SECONDS),
    "language": _or_null({"type": "string", "pattern": "^[a-z]{2}$"}),
    "created_at": _TIME,
}
_ASSET: Json = {
    **_ASSET_SUMMARY,
    "error_code": _or_null(_TEXT),
    "error_message": _or_null(_TEXT),
}

_SCHEMAS: Json = {
    "ProjectSummary": _object(_PROJECT_SUMMARY),
    "Project": _object({**_PROJECT_SUMMARY, "archived_at": _or_null(_TIME)}),
    "AssetSummary": _object(_ASSET_SUMMARY),
    "Asset": _object(_ASSET),
    "AssetDetail": _object(
        {
            **_ASSET,
            "upload_url": {
                **_or_null(_URL),
                "description": "Where the bytes go, by TUS, while it is `pending_upload`.",
            },
            "download_url": {
                **_or_null(_URL),
                "description": "Signed and short-lived: ask again for another. Set when `ready`.",
            },
        }
    ),
    "LedgerEntry": _object(
        {
            "id": _ID,
            "type": {**_TEXT, "examples": ["topup", "consume_asset"]},
            "delta": {"type": "integer"},
            "asset_id": _or_null(_ID),
            "grant_id": _or_null(_ID),
            "stripe_invoice_id": _or_null(_TEXT),
            "created_at": _TIME,
        }
    ),
    "FieldError": _object(
        {"field": {"type": "string", "pattern": r"^(body|query|path)\."}, "message": _TEXT}
    ),
}


# Refusals: one envelope for all of them.


def _refusal(status: int) -> Json:
    error: Json = {"code": {"const": CODES[status]}, "message": {"type": "string", "minLength": 1}}
    if status == 422:
        error["fields"] = {"type": "array", "minItems": 1, "items": _schema("FieldError")}
    answer = _json(CODES[status], _object({"error": _object(error, optional={"fields"})}))
    if status == 401:
        answer["headers"] = _headers({"WWW-Authenticate": {"const": "Bearer"}})
    return answer


def _refused(*statuses: int) -> Json:
    return {str(status): {"$ref": f"#/components/responses/{CODES[status]}"} for status in statuses}


def _headers(schemas: Json, *, optional: Iterable[str] = ()) -> Json:
    return {
        name: {"schema": schema, "required": name not in optional}
        for name, schema in schemas.items()
    }


def _json(description: str, schema: Json, **more: Json) -> Json:
    content = {"application/json": {"schema": schema}}
    return {"description": description, "content": content, **more}


_REST_CODES = (400, 401, 402, 403, 404, 408, 412, 413, 415, 416, 422, 500, 503, 507)
_WITH_KEY = (401, 500)
_WITH_JSON = (400, 408, 413, 415, 422)
_NOTHING: Json = {"204": {"description": "Done."}}


# What TUS adds: headers on every answer, refusals included.

_TUS: Json = {"Tus-Resumable": {"const": "1.0.0"}}
_NOT_CACHED: Json = {"Cache-Control": {"const": "no-store"}}
_OFFSET: Json = {"Upload-Offset": _COUNT}
_EXPIRES: Json = {"Upload-Expires": _HTTP_DATE}
_TUS_CODES = (400, 401, 404, 408, 409, 412, 413, 415, 422, 423, 500, 503, 507)


def _tus_refusal(status: int) -> Json:
    answer = _refusal(status)
    headers = answer.get("headers", {}) | _headers({**_TUS, **_NOT_CACHED})
    if status == 409:
        headers |= _headers(_OFFSET, optional=_OFFSET)
        answer["description"] += (
            ": the wrong offset, and `Upload-Offset` is the right one; or no media"
        )
    if status == 412:
        headers |= _headers({"Tus-Version": {"const": "1.0.0"}})
    if status == 503:
        headers |= _headers({"Retry-After": _COUNT}, optional=["Retry-After"])
    return {**answer, "headers": headers}


def _tus_refused(*statuses: int) -> Json:
    return {
        str(status): {"$ref": f"#/components/responses/upload_{CODES[status]}"}
        for status in (400, 401, 412, 422, 500, 503, *statuses)
    }


def _without_content(refusals: Json) -> Json:
    """As HEAD answers: the status says it all."""
    return {
        status: {"description": CODES[int(status)], "headers": _headers({**_TUS, **_NOT_CACHED})}
        for status in refusals
    }


_CAPABILITIES: Json = {
    "summary": "What of TUS is offered, and of the IETF draft",
    "security": [],
    "responses": {
        "204": {
            "description": "Version, extensions and limits, in the words of both.",
            "headers": _headers(
                {
                    **_TUS,
                    "Tus-Version": {"const": "1.0.0"},
                    "Tus-Extension": _TEXT,
                    "Tus-Max-Size": _COUNT,
                    "Upload-Limit": _TEXT,
                    "Accept-Patch": {"const": "application/partial-upload"},
                }
            ),
        },
        **_refused(500),
    },
}


# Parameters.


def _in(place: str, name: str, schema: Json, *, required: bool = True) -> Json:
    return {"in": place, "name": name, "schema": schema, "required": required}


def _filter(name: str, schema: Json) -> Json:
    return _in("query", name, schema, required=False)


_LIMIT = _filter("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20})
_START = _filter("offset", {"type": "integer", "minimum": 0, "maximum": 2**63 - 1, "default": 0})
_PROJECT_ID = _in("path", "project_id", _ID)
_ASSET_ID = _in("path", "asset_id", _ID)
_UPLOAD_ID = _in("path", "upload_id", _ID)
_ANY_ID = _in("path", "upload_id", _TEXT)
_TUS_VERSION = _in("header", "Tus-Resumable", {"const": "1.0.0"})


def _body(properties: Json, *, optional: Iterable[str] = ()) -> Json:
    schema = _object(properties, optional=optional)
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _leads_to(parameter: str, *operations: str, **more: object) -> Json:
    """The id in this answer is what these operations ask for."""
    parameters = {parameter: "$response.body#/id", **more}
    return {name: {"operationId": name, "parameters": parameters} for name in operations}


_PATHS: Json = {
    "/v1/projects": {
        "post": {
            "operationId": "createProject",
            "summary": "Make a project",
            "requestBody": _body({"name": _NAME}),
            "responses": {
                "201": _json(
                    "The new project.",
                    _schema("Project"),
                    links=_leads_to("project_id", "readProject", "updateProject", "deleteProject")
                    | {
                        "createAsset": {
                            "operationId": "createAsset",
                            "requestBody": {
                                "project_id": "$response.body#/id",
                                "size_bytes": MIN_SIZE,
                            },
                        }
                    },
                ),
                **_refused(*_WITH_KEY, *_WITH_JSON),
            },
        },
        "get": {
            "operationId": "listProjects",
            "summary": "List projects, the newest first",
            "parameters": [
                _filter("state", {**_PROJECT_STATE, "default": "active"}),
                _LIMIT,
                _START,
            ],
            "responses": {
                "200": _json("One page.", _page_of("ProjectSummary")),
                **_refused(*_WITH_KEY, 422),
            },
        },
    },
    "/v1/projects/{project_id}": {
        "parameters": [_PROJECT_ID],
        "get": {
            "operationId": "readProject",
            "summary": "Read a project",
            "responses": {
                "200": _json("The project.", _schema("Project")),
                **_refused(*_WITH_KEY, 404, 422),
            },
        },
        "patch": {
            "operationId": "updateProject",
            "summary": "Rename or archive a project, or take it back from the archive",
            "requestBody": _body(
                {"name": _NAME, "state": _PROJECT_STATE}, optional=["name", "state"]
            ),
            "responses": {
                "200": _json("The project as it is now.", _schema("Project")),
                **_refused(*_WITH_KEY, *_WITH_JSON, 404),
            },
        },
        "delete": {
            "operationId": "deleteProject",
            "summary": "Remove a project, its assets and their bytes",
            "responses": {**_NOTHING, **_refused(*_WITH_KEY, 404, 422)},
        },
    },
    "/v1/assets": {
        "post": {
            "operationId": "createAsset",
            "summary": "Make an asset, and the upload that will bring its bytes",
            "description": "Send the bytes to the URL in `Location` with any TUS client.",
            "requestBody": _body(
                {
                    "project_id": _ID,
                    "size_bytes": {
                        "type": "integer",
                        "minimum": MIN_SIZE,
                        "maximum": MAX_SIZE,
                        "description": "Written as an integer: 100, not 100.0.",
                    },
                    "language": _LANGUAGE,
                },
                optional=["language"],
            ),
            "responses": {
                "201": _json(
                    "The new asset.",
                    _schema("Asset"),
                    headers=_headers({**_TUS, "Location": _URL, **_OFFSET, **_EXPIRES}),
                    links=_leads_to("asset_id", "readAsset", "deleteAsset")
                    | _leads_to("upload_id", "headUpload", "deleteUpload")
                    | _leads_to("upload_id", "patchUpload", **{"Upload-Offset": "0"}),
                ),
                **_refused(*_WITH_KEY, *_WITH_JSON, 402, 404, 503, 507),
            },
        },
        "get": {
            "operationId": "listAssets",
            "summary": "List assets, the newest first",
            "parameters": [
                _filter("project_id", _ID),
                _filter("state", _ASSET_STATE),
                _LIMIT,
                _START,
            ],
            "responses": {
                "200": _json("One page.", _page_of("AssetSummary")),
                **_refused(*_WITH_KEY, 422),
            },
        },
    },
    "/v1/assets/{asset_id}": {
        "parameters": [_ASSET_ID],
        "get": {
            "operationId": "readAsset",
            "summary": "Read an asset, with the URL for its bytes",
            "responses": {
                "200": _json("The asset.", _schema("AssetDetail")),
                **_refused(*_WITH_KEY, 404, 422, 503),
            },
        },
        "delete": {
            "operationId": "deleteAsset",
            "summary": "Remove an asset and its bytes",
            "responses": {**_NOTHING, **_refused(*_WITH_KEY, 404, 422)},
        },
    },
    "/v1/uploads": {"options": {**_CAPABILITIES, "operationId": "optionsUploads"}},
    "/v1/uploads/{upload_id}": {
        "description": "The TUS 1.0.0 transfer; an upload has the id of its asset. PATCH, DELETE "
        "and HEAD may also come as POST with `X-HTTP-Method-Override`. The same methods carry "
        "bytes by the IETF draft *Resumable Uploads for HTTP*, for requests that name its version "
        "in `Upload-Draft-Interop-Version`; what they are answered is not described here.",
        "options": {
            **_CAPABILITIES,
            "operationId": "optionsUpload",
            "parameters": [_ANY_ID],
            "responses": {**_CAPABILITIES["responses"], **_tus_refused(404)},
        },
        "head": {
            "operationId": "headUpload",
            "summary": "Ask how many bytes have arrived",
            "parameters": [_UPLOAD_ID, _TUS_VERSION],
            "responses": {
                "200": {
                    "description": "Where to go on.",
                    "headers": _headers(
                        {**_TUS, **_NOT_CACHED, **_OFFSET, "Upload-Length": _COUNT, **_EXPIRES},
                        optional=_EXPIRES,
                    ),
                },
                **_without_content(_tus_refused(404)),
            },
        },
        "patch": {
            "operationId": "patchUpload",
            "summary": "Send bytes",
            "description": f"The first time at least {MIN_SIZE} bytes, which must show audio or "
            "video. With the last byte the asset goes to `processing`.",
            "parameters": [_UPLOAD_ID, _TUS_VERSION, _in("header", "Upload-Offset", _COUNT)],
            "requestBody": {"required": True, "content": {"application/offset+octet-stream": {}}},
            "responses": {
                "204": {
                    "description": "Kept.",
                    "headers": _headers({**_TUS, **_OFFSET, **_EXPIRES}, optional=_EXPIRES),
                },
                **_tus_refused(404, 408, 409, 413, 415, 423, 507),
            },
        },
        "delete": {
            "operationId": "deleteUpload",
            "summary": "Cancel an unfinished upload and remove its asset",
            "description": "What is not there, or not yours, counts as cancelled.",
            "parameters": [_UPLOAD_ID, _TUS_VERSION],
            "responses": {
                "204": {"description": "Cancelled.", "headers": _headers(_TUS)},
                **_tus_refused(409, 423),
            },
        },
    },
    "/v1/credits/balance": {
        "get": {
            "operationId": "readBalance",
            "summary": "How many credits there are",
            "responses": {
                "200": _json("The balance.", _object({"balance": {"type": "integer"}})),
                **_refused(*_WITH_KEY),
            },
        },
    },
    "/v1/credits/history": {
        "get": {
            "operationId": "listLedger",
            "summary": "List what changed the balance, the newest first",
            "parameters": [_LIMIT, _START],
            "responses": {
                "200": _json("One page.", _page_of("LedgerEntry")),
                **_refused(*_WITH_KEY, 422),
            },
        },
    },
    "/downloads/{asset_id}": {
        "parameters": [
            _in("path", "asset_id", _TEXT),
            _in("query", "expires", _TEXT),
            _in("query", "signature", _TEXT),
            {
                **_in("query", "filename", _TEXT, required=False),
                "description": "What the file is to be called; by default, as the asset.",
            },
        ],
        "get": {
            "operationId": "download",
            "summary": "The bytes of a ready asset, by its `download_url`",
            "description": "Not there where bytes are kept on S3: a `download_url` leads to the "
            "S3 server then.",
            "security": [],
            "parameters": [
                _in("header", name, _TEXT, required=False)
                for name in ("Range", "If-Range", "If-Match", "If-None-Match")
            ],
            "responses": {
                "200": {"description": "All bytes.", "content": {"*/*": {}}},
                "206": {"description": "The range.", "content": {"*/*": {}}},
                "304": {"description": "The client has these bytes."},
                **_refused(403, 404, 412, 416, 500),
            },
        },
    },
    "/health": {
        "get": {
            "operationId": "health",
            "summary": "Ask whether server and database are alive",
            "description": "503 only where `ROUGHY_MONITORING` has it look deeper; `/metrics`, "
            "which comes along with it, is no part of the API.",
            "security": [],
            "responses": {
                "200": _json("They are.", _object({"status": {"const": "ok"}})),
                **_refused(500, 503),
            },
        },
    },
    "/openapi.json": {
        "get": {
            "operationId": "readDocument",
            "summary": "This document",
            "security": [],
            "responses": {"200": _json("OpenAPI 3.1.", {"type": "object"}), **_refused(500)},
        },
    },
}

DOCUMENT: Json = {
    "openapi": "3.1.0",
    "info": {
        "title": "Roughy",
        "version": "1",
        "description": "Assets of audio and video. REST makes an asset and its upload, TUS 1.0.0 "
        "carries the bytes. GET answers HEAD too. A method that is not listed is refused with 405.",
    },
    # Relative to this document, wherever it is mounted.
    "servers": [{"url": "."}],
    "security": [{"key": []}],
    "paths": _PATHS,
    "components": {
        "securitySchemes": {
            "key": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key, which starts with `sk_`.",
            }
        },
        "schemas": _SCHEMAS,
        "responses": {
            **{CODES[status]: _refusal(status) for status in _REST_CODES},
            **{f"upload_{CODES[status]}": _tus_refusal(status) for status in _TUS_CODES},
        },
    },
}
