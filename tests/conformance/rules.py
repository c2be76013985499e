"""The statements of the protocol as data, and those that say nothing about this server."""

import json
from pathlib import Path
from typing import Any

Rule = dict[str, Any]

RULES: dict[str, Rule] = {
    rule["id"]: rule
    for rule in json.loads(Path(__file__).with_name("rules.json").read_text("utf-8"))
}

_CLIENT = "a duty or an option of the client: "

NOT_APPLICABLE = {
    "CORE-023": _CLIENT + "to send the override header where it cannot send PATCH or DELETE",
    "CORE-038": _CLIENT + "to transfer in parallel by concatenation",
    "CORE-051": _CLIENT + "to leave Tus-Resumable out of OPTIONS (CORE-052 is our side of it)",
    "CRE-015": _CLIENT + "to create with POST and a length (CRE-004 is our side of it)",
    "CWU-009": _CLIENT + "to ask for the extension first (CWU-002 is our side of it)",
    "EXP-005": _CLIENT + "to look at the date before it resumes",
    "EXP-011": _CLIENT + "to start anew after 404 or 410",
    "CHK-016": "no ASGI server passes request trailers on (CHK-017 is our side of it)",
    "CAT-007": _CLIENT + "to wait until the partials are finished (CAT-008 is our side of it)",
    "CAT-010": "concatenation-unfinished is not offered (CAT-009 is our side of it)",
    "CAT-014": "partials stay until they are deleted or expire",
    "EDGE-049": "CORS is never built into the app: it is the business of middleware",
}
"""The id of each statement that is not tested, and why."""
