"""`/openapi.json`: what may be asked and what is answered, as OpenAPI 3.1.

The document is written by hand. Tests hold it against the code: paths and methods, limits, states
and error codes, and the answers themselves.
"""

import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

DOCUMENT: dict[str, Any] = json.loads(Path(__file__).with_name("openapi.json").read_text("utf-8"))


async def read(request: Request) -> Response:
    return JSONResponse(DOCUMENT)
