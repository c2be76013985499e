"""The uploads behind FastAPI's own dependencies, as docs/mounting.md shows it."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests._stage import OCTETS, TUS
from tusasgi.testing import RecordedResponse, ScriptedExchange

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "mounting.md"
ALICE, BOB = ({"Authorization": f"Bearer token-of-{name}"} for name in ("alice", "bob"))


@pytest.fixture
def page() -> dict[str, Any]:
    """Run the code of the page up to the end of its example."""
    text = PAGE.read_text("utf-8").partition("## Litestar")[0]
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    exec("\n".join(blocks), names)
    return names


async def ask(
    page: dict[str, Any], method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> RecordedResponse:
    return await ScriptedExchange(
        page["app"], method, path, headers={**TUS, **headers}, body=[body] if body else b""
    ).run()


async def created_by_alice(page: dict[str, Any]) -> str:
    answer = await ask(page, "POST", "/guarded/", {**ALICE, "Upload-Length": "5"})
    assert answer.status == 201
    return answer.headers["location"]


async def test_whoever_is_let_in_uploads_and_owns_it(page: dict[str, Any]) -> None:
    path = await created_by_alice(page)
    append = {**ALICE, "Upload-Offset": "0", "Content-Type": OCTETS}
    answer = await ask(page, "PATCH", path, append, b"hello")
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")
    upload = await page["guarded_tus"].uploads.get(path.rpartition("/")[2])
    assert upload.owner == "alice"


@pytest.mark.parametrize("own", [{}, {"Authorization": "Bearer wrong"}], ids=["none", "wrong"])
async def test_whoever_is_not_let_in_hears_it_from_fastapi_and_no_byte_is_read(
    own: dict[str, str], page: dict[str, Any]
) -> None:
    path = await created_by_alice(page)
    append = {**own, "Upload-Offset": "0", "Content-Type": OCTETS}
    answer = await ask(page, "PATCH", path, append, b"hello")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.receives_before_start == 0


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
async def test_the_upload_of_somebody_else_is_not_there(method: str, page: dict[str, Any]) -> None:
    path = await created_by_alice(page)
    append = {"Upload-Offset": "0", "Content-Type": OCTETS} if method == "PATCH" else {}
    answer = await ask(page, method, path, {**BOB, **append})
    assert answer.status == 404


async def test_options_are_answered_before_anybody_logs_in(page: dict[str, Any]) -> None:
    answer = await ask(page, "OPTIONS", "/guarded/", {})
    assert (answer.status, answer.headers["tus-version"]) == (204, "1.0.0")
