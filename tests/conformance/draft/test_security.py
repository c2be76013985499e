"""Who may do what, what a URL gives away, and when rights and bytes are looked at."""

import re
from dataclasses import replace

import pytest

from tests._stage import Recorder, location_path
from tests.conformance.draft.client import Draft
from tests.conformance.draft.conftest import MakeDraft
from tests.conformance.ietf import rule, shows
from tusasgi import Creation, Operation, Request, Unauthorized, Upload, UploadNotFound

pytestmark = pytest.mark.anyio

CONTENT = b"hello world"
ANN, BOB = {"Authorization": "Ann"}, {"Authorization": "Bob"}


class Owners(Recorder):
    """Lets everybody at their own uploads only; anybody may read those that are complete."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Operation, str]] = []
        self.banned: set[str] = set()

    async def authorize(
        self, request: Request, operation: Operation, upload: Upload | None
    ) -> None:
        who = request.headers.get("authorization", "")
        self.asked.append((operation, who))
        if who in self.banned:
            raise Unauthorized("no more")
        is_download = operation is Operation.READ and upload is not None and upload.is_complete
        if operation is Operation.CREATE or is_download:
            return
        if upload is None or upload.owner != who:
            raise UploadNotFound

    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        assert request is not None
        return replace(creation, owner=request.headers.get("authorization"))


@pytest.fixture
def hooks() -> Owners:
    return Owners()


@pytest.fixture
def guarded(draft_with: MakeDraft, hooks: Owners) -> Draft:
    return draft_with(hooks=hooks, downloads=True)


@rule("IETF-210")
async def test_a_stranger_neither_sees_nor_changes_an_upload(guarded: Draft) -> None:
    path = await guarded.begin(b"hello", headers=ANN)
    before = guarded.stage.snapshot()
    unknown = await guarded.head("/unknown", BOB)
    anyone = Draft(guarded.stage, None)
    for answer in (
        await guarded.head(path, BOB),
        await guarded.get(path, BOB),
        await anyone.head(path, BOB),
        await anyone.get(path, BOB),
        await guarded.append(path, 5, b" world", complete=True, headers=BOB),
        await guarded.append(path, 4, b"?", headers=BOB),
        await guarded.delete(path, BOB),
        await anyone.delete(path, BOB),
    ):
        assert answer.status == unknown.status == 404
        for name in ("upload-offset", "upload-length", "upload-limit"):
            assert name not in answer.headers
    assert guarded.stage.snapshot() == before
    assert (await guarded.append(path, 5, b"!", headers=ANN)).status < 300


@shows("IETF-210")
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_who_may_read_files_may_not_ask_for_offsets(
    draft_with: MakeDraft, method: str
) -> None:
    class Public(Recorder):
        """Lets everybody read, and nobody ask for an offset."""

        async def authorize(
            self, request: Request, operation: Operation, upload: Upload | None
        ) -> None:
            if operation is Operation.GET:
                raise UploadNotFound

    draft = draft_with(hooks=Public(), downloads=True)
    path = await draft.begin(b"hello")
    for client in (draft, Draft(draft.stage, None)):
        answer = await client.driver.request(method, path)
        assert answer.status == 404
        assert "upload-offset" not in answer.headers
    complete = location_path(await draft.create(CONTENT, complete=True))
    assert (await draft.get(complete)).body == CONTENT


@rule("IETF-211", "IETF-212")
async def test_a_url_is_random_and_tells_nothing(draft: Draft) -> None:
    headers = {"Content-Disposition": 'attachment; filename="secret.mp4"', "Authorization": "Ann"}
    paths = [await draft.begin(b"hello", headers=headers) for _ in range(50)]
    for path in paths:
        assert re.fullmatch("/[0-9a-f]{32}", path)  # of which 122 bits are random
    for place in range(1, 33):
        if place not in (13, 17):  # where a UUID says which kind it is
            assert len({path[place] for path in paths}) > 4


@rule("IETF-213")
@pytest.mark.parametrize(
    "value",
    [
        "attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd",
        'attachment; filename="../../etc/passwd"',
        'attachment; filename="C:\\\\etc\\\\passwd"',
        'attachment; filename="a"; filename="b"',
        "attachment; filename*=UTF-8''%0d%0aSet-Cookie:%20a",
        'attachment; filename="' + "x" * 5000 + '"',
        "\xff\xfe; filename=\x00",
    ],
)
async def test_a_hostile_file_name_does_no_harm(draft_with: MakeDraft, value: str) -> None:
    draft = draft_with(downloads=True)
    answer = await draft.create(CONTENT, complete=True, headers={"Content-Disposition": value})
    assert answer.status == 201
    path = location_path(answer)
    name = (await draft.stage.uploads.get(path[1:])).metadata.get("filename", b"")
    assert not set(name) & set(b"/\\\r\n\x00")
    assert len(name) <= 1024
    answer = await draft.get(path)
    assert (answer.status, answer.body) == (200, CONTENT)
    assert "set-cookie" not in answer.headers


@rule("IETF-214")
async def test_rights_are_checked_when_an_upload_is_finished(guarded: Draft, hooks: Owners) -> None:
    path = await guarded.begin(b"hello", headers=ANN)
    hooks.asked.clear()
    hooks.banned.add("Ann")
    answer = await guarded.append(path, 5, b" world", complete=True, headers=ANN)
    assert answer.status == 401
    assert hooks.asked == [(Operation.APPEND, "Ann")]
    assert hooks.events == []
    hooks.banned.clear()
    assert (await guarded.append(path, 5, b" world", complete=True, headers=ANN)).status == 201
    assert hooks.events == ["completed"]


@rule("IETF-216")
async def test_what_scans_an_upload_sees_all_of_it_at_once(draft_with: MakeDraft) -> None:
    class Scanner(Recorder):
        async def completed(self, upload: Upload) -> None:
            seen.append(await draft.content(f"/{upload.id}"))
            await super().completed(upload)

    seen: list[bytes] = []
    draft = draft_with(hooks=Scanner())
    path = await draft.begin(b"hel")
    await draft.append(path, 3, b"lo ")
    await draft.append(path, 6, b"wor")
    assert seen == []
    await draft.append(path, 9, b"ld", complete=True)
    assert seen == [CONTENT]
