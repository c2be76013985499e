"""DELETE: the upload is over, whatever was under way."""

import pytest

from tests._stage import location_path
from tests.conformance.draft.client import Draft
from tests.conformance.draft.conftest import MakeDraft
from tests.conformance.draft.grounds import everywhere
from tests.conformance.ietf import rule, shows

pytestmark = pytest.mark.anyio


@rule("IETF-140", "IETF-141")
async def test_after_delete_an_upload_takes_and_tells_nothing(draft: Draft) -> None:
    complete = location_path(await draft.create(b"hello", complete=True))
    for path in (await draft.begin(), await draft.begin(b"hello", length=11), complete):
        answer = await draft.delete(path)
        assert (answer.status, answer.body) == (204, b"")
        for gone in (
            await draft.head(path),
            await draft.get(path),
            await draft.append(path, 5, b" world"),
            await draft.append(path, 0, complete=True),
        ):
            assert gone.status == 404
            assert "upload-offset" not in gone.headers
    assert draft.stage.snapshot() == {}
    assert draft.stage.events == ["completed"] + ["terminated"] * 3


@rule("IETF-143")
async def test_delete_is_not_redirected(draft: Draft) -> None:
    path = await draft.begin()
    assert (await draft.delete(f"{path}/")).status == 204


@rule("IETF-144")
@pytest.mark.parametrize("is_idempotent", [False, True])
async def test_delete_on_what_is_no_upload(draft_with: MakeDraft, is_idempotent: bool) -> None:
    draft = draft_with(idempotent_delete=is_idempotent)
    gone = await draft.begin()
    await draft.delete(gone)
    for path in (gone, "/unknown"):
        assert (await draft.delete(path)).status == (204 if is_idempotent else 404)
    assert (await draft.delete("/a/b")).status == 404


@rule("IETF-145")
async def test_early_versions_take_no_field_on_delete(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    for name in draft.dialect.refused_on_delete:
        for value in ("5", "?1", "anything"):
            assert (await draft.delete(path, {name: value})).status == 400
    assert await draft.state(path) == (5, False)
    assert draft.stage.events == []


@shows("IETF-145")
@pytest.mark.parametrize("version", [7, 8, 9])
async def test_later_versions_overlook_fields_on_delete(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    headers = {"Upload-Offset": "5", "Upload-Complete": "?1"}
    assert (await draft.delete(path, headers)).status == 204


@everywhere
@shows("IETF-140")
async def test_what_is_deleted_leaves_nothing_stored(draft: Draft) -> None:
    path = await draft.begin(b"hello", length=11)
    assert (await draft.delete(path)).status == 204
    assert draft.stage.snapshot() == {}
