"""Digests of RFC 9530: of the content of a request, and of the whole upload."""

import base64
import hashlib

import pytest

from tests._stage import location_path
from tests.conformance.draft.client import Draft, cut
from tests.conformance.draft.grounds import everywhere
from tests.conformance.ietf import rule, shows
from tusasgi.testing import DISCONNECT

pytestmark = pytest.mark.anyio

CONTENT = b"hello world"
ALGORITHMS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


def digest(content: bytes, algorithm: str = "sha-256") -> str:
    raw = ALGORITHMS[algorithm](content).digest()
    return f"{algorithm}=:{base64.b64encode(raw).decode()}:"


@rule("IETF-200")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_content_with_its_digest_is_kept_and_any_other_is_not(
    draft: Draft, algorithm: str
) -> None:
    right = {"Content-Digest": digest(b" world", algorithm)}
    path = await draft.begin(b"hello")
    for body in (b" World", [b" Wor", b"ld"]):
        for complete in (False, True):
            answer = await draft.append(path, 5, body, complete=complete, headers=right)
            assert (answer.status, draft.is_complete(answer)) == (400, False)
            assert await draft.state(path) == (5, False)
    assert await draft.content(path) == b"hello"
    assert draft.stage.events == []
    answer = await draft.append(path, 5, b" world", complete=True, headers=right)
    assert answer.status == 201
    assert await draft.content(path) == CONTENT


@rule("IETF-200")
async def test_of_a_creation_with_another_digest_nothing_is_left(draft: Draft) -> None:
    headers = {"Content-Digest": digest(b"something else")}
    for body in (CONTENT, [CONTENT]):
        for complete in (False, True):
            answer = await draft.create(body, complete=complete, headers=headers)
            assert (answer.status, draft.is_complete(answer)) == (400, False)
    assert draft.stage.snapshot() == {}
    assert "completed" not in draft.stage.events


@everywhere
@shows("IETF-200")
async def test_content_with_a_digest_that_is_cut_is_not_kept(draft: Draft) -> None:
    path = await draft.begin(b"hello")
    headers = {"Content-Digest": digest(b" world"), **cut(b" wor")}
    await draft.append(path, 5, [b" wor", DISCONNECT], complete=True, headers=headers)
    assert await draft.state(path) == (5, False)
    assert await draft.content(path) == b"hello"


@rule("IETF-201")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_an_upload_of_another_digest_is_not_handed_on(draft: Draft, algorithm: str) -> None:
    headers = {"Repr-Digest": digest(b"something else", algorithm)}
    for body in (CONTENT, [CONTENT]):
        answer = await draft.create(body, complete=True, headers=headers)
        assert (answer.status, draft.is_complete(answer)) == (400, False)
    path = await draft.begin(b"hello", headers=headers)
    answer = await draft.append(path, 5, b" world", complete=True)
    assert (answer.status, draft.is_complete(answer)) == (400, False)
    assert (await draft.head(path)).status == 404
    assert "completed" not in draft.stage.events
    assert draft.stage.snapshot() == {}


@everywhere
@shows("IETF-201", "IETF-202")
async def test_an_upload_of_the_digest_that_was_said_is_complete(draft: Draft) -> None:
    path = await draft.begin(b"hello", headers={"Repr-Digest": digest(CONTENT)})
    wanted = {"Want-Repr-Digest": "sha-256=1"}
    answer = await draft.append(path, 5, b" world", complete=True, headers=wanted)
    assert (answer.status, draft.is_complete(answer)) == (201, True)
    assert answer.headers["repr-digest"] == digest(CONTENT)
    assert draft.stage.events == ["completed"]


@rule("IETF-202")
async def test_only_who_wants_a_digest_is_told_one(draft: Draft) -> None:
    headers = {"Repr-Digest": digest(CONTENT)}
    answer = await draft.create(CONTENT, complete=True, headers=headers)
    assert "repr-digest" not in answer.headers
    headers |= {"Want-Repr-Digest": "sha-512=1, sha-256=9"}
    answer = await draft.create(CONTENT, complete=True, headers=headers)
    assert answer.headers["repr-digest"] == digest(CONTENT)
    assert await draft.state(location_path(answer)) == (11, True)
