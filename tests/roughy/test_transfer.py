"""Checklist T and U: the bytes of an upload."""

import errno
import hashlib
import os
import uuid
from datetime import timedelta
from email.utils import parsedate_to_datetime

import pytest

from . import media
from .api import PATCH_TYPE, Api, error_of, fields_of, id_of

pytestmark = pytest.mark.anyio


async def test_capabilities_are_exactly_these(api: Api):  # T01
    headers = (await api.http.options("/v1/uploads")).headers
    told = {name: value for name, value in headers.items() if name.startswith("tus-")}
    assert told == {
        "tus-resumable": "1.0.0",
        "tus-version": "1.0.0",
        "tus-extension": "termination,expiration",
        "tus-max-size": "53687091200",
    }


@pytest.mark.parametrize("path", ["/v1/uploads", "/v1/uploads/"])
async def test_uploads_are_not_created_here(api: Api, path):  # T02
    async with api.nothing_stored():
        response = await api.tus("POST", path, **{"Upload-Length": "1000"})
    assert error_of(response) == (405, "method_not_allowed")


async def test_head_tells_where_the_upload_stands(api: Api, mp4):  # T03, T04, T05, T06
    url = await api.new_upload(len(mp4))
    for offset in (0, 64, 65, 300):
        head = await api.head(url)
        assert head.status_code == 200
        assert head.headers["upload-offset"] == str(offset)
        assert head.headers["upload-length"] == str(len(mp4))
        assert head.headers["cache-control"] == "no-store"
        assert "upload-expires" in head.headers  # U10
        upto = {0: 64, 64: 65, 65: 300, 300: 301}[offset]
        await api.patch(url, offset, mp4[offset:upto])


async def test_head_on_what_is_gone_has_neither_offset_nor_body(api: Api):  # T07, T04, U34
    url = await api.new_upload(1000)
    await api.cancel(url)
    for dead in (url, url.replace(id_of(url), str(uuid.uuid4())), url[:-1], f"{url}/x"):
        head = await api.head(dead)
        assert head.status_code in (404, 422)
        assert "upload-offset" not in head.headers
        assert head.headers["cache-control"] == "no-store"
        assert head.content == b""


async def test_a_finished_upload_still_answers_head(api: Api, mp4):  # T08, U10, U12
    asset_id = await api.upload(mp4)
    for _ in range(2):
        head = await api.head(f"/v1/uploads/{asset_id}")
        assert head.status_code == 200
        assert head.headers["upload-offset"] == head.headers["upload-length"] == str(len(mp4))
        assert "upload-expires" not in head.headers
        await api.work()


async def test_a_patch_is_answered_with_the_new_offset(api: Api, mp4):  # U01
    url = await api.new_upload(len(mp4))
    response = await api.patch(url, 0, mp4[:100])
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["upload-offset"] == "100"
    assert response.headers["tus-resumable"] == "1.0.0"


async def test_each_patch_gives_48_hours_more(api: Api, mp4):  # U02, U03, U9
    url = await api.new_upload(len(mp4))
    for offset in (0, 100, 200):
        api.clock.advance(hours=40)
        response = await api.patch(url, offset, mp4[offset : offset + 100])
        expires = parsedate_to_datetime(response.headers["upload-expires"])
        left = expires - api.clock.now
        assert timedelta(hours=48, seconds=-2) < left <= timedelta(hours=48)
        assert (await api.head(url)).headers["upload-expires"] == response.headers["upload-expires"]


@pytest.mark.parametrize("offset", [0, 99, 101, 10**17])
async def test_a_patch_at_another_offset_changes_nothing(api: Api, mp4, offset):  # U04, U8
    url = await api.new_upload(len(mp4))
    await api.patch(url, 0, mp4[:100])
    async with api.nothing_stored():
        response = await api.patch(url, offset, mp4[100:200])
    assert error_of(response) == (409, "conflict")
    assert response.headers["upload-offset"] == "100"
    assert (await api.head(url)).headers["upload-offset"] == "100"


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", "video/mp4"])
async def test_a_patch_of_another_type_is_refused(api: Api, mp4, content_type):  # U05
    url = await api.new_upload(len(mp4))
    async with api.nothing_stored():
        response = await api.patch(url, 0, mp4, **{"Content-Type": content_type})
    assert error_of(response) == (415, "unsupported_media_type")


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0.1"])
async def test_another_protocol_version_is_refused(api: Api, mp4, method, version):  # U06, D05
    url = await api.new_upload(len(mp4))
    headers = {} if version is None else {"Tus-Resumable": version}
    headers |= {"Upload-Offset": "0", "Content-Type": PATCH_TYPE}
    async with api.nothing_stored():
        response = await api.call(method, url, headers=headers, content=mp4)
    assert response.status_code == 412
    assert response.headers["tus-version"] == "1.0.0"
    if method != "HEAD":
        assert error_of(response) == (412, "precondition_failed")


@pytest.mark.parametrize("offset", [None, "", "-1", "+0", "0x0", "1e3", " ", "9" * 41, "\u0660"])
async def test_an_offset_that_is_no_number_is_refused(api: Api, mp4, offset):  # U07
    url = await api.new_upload(len(mp4))
    headers = {"Tus-Resumable": "1.0.0", "Content-Type": PATCH_TYPE}
    if offset is not None:
        headers["Upload-Offset"] = offset.encode()
    async with api.nothing_stored():
        response = await api.call("PATCH", url, headers=headers, content=mp4)
    assert error_of(response) == (400, "bad_request")


async def test_chunks_may_have_any_size(api: Api, mp4):  # U08, U16, U17
    url = await api.new_upload(len(mp4))
    sizes = [64, 1, 1, 2, 500, len(mp4)]
    offset = 0
    for size in sizes:
        response = await api.patch(url, offset, mp4[offset : offset + size])
        assert response.status_code == 204
        offset = min(offset + size, len(mp4))
        assert response.headers["upload-offset"] == str(offset)
    assert hashlib.sha256(mp4).hexdigest() in (await api.stored())["files"].values()
    assert (await api.asset(id_of(url)))["state"] == "processing"


async def test_a_patch_without_bytes_changes_nothing_and_is_no_first_one(api: Api, mp4):
    url = await api.new_upload(len(mp4))
    response = await api.patch(url, 0, b"")
    assert (response.status_code, response.headers["upload-offset"]) == (204, "0")
    assert (await api.patch(url, 0, mp4)).status_code == 204


@pytest.mark.parametrize("size", [1, 63])
async def test_a_first_patch_too_short_to_judge_is_refused(api: Api, mp4, size):  # U09, U4
    url = await api.new_upload(len(mp4))
    async with api.nothing_stored():
        response = await api.patch(url, 0, mp4[:size])
    assert error_of(response) == (422, "validation_error")
    assert "fields" not in response.json()["error"]
    assert (await api.head(url)).headers["upload-offset"] == "0"
    assert (await api.patch(url, 0, mp4)).status_code == 204


async def test_64_bytes_are_enough_to_judge(api: Api, mp4):  # U10
    url = await api.new_upload(len(mp4))
    response = await api.patch(url, 0, mp4[:64])
    assert response.headers["upload-offset"] == "64"
    assert (await api.asset(id_of(url)))["type"] == "video"


async def test_a_file_of_64_bytes_can_come_in_one_patch(api: Api, mp4):  # U6 of the decisions
    url = await api.new_upload(64)
    assert (await api.patch(url, 0, mp4[:64])).headers["upload-offset"] == "64"
    assert (await api.asset(id_of(url)))["state"] == "processing"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(media.PDF, id="pdf"),
        pytest.param(bytes(5000), id="zeros"),
        pytest.param(b"#EXTM3U\n#EXT-X-VERSION:3\nfile:///etc/passwd\n" * 9, id="playlist"),
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" * 20, id="picture"),
    ],
)
async def test_what_is_no_media_ends_the_upload(api: Api, content):  # U11, U12, U7, U8, B10
    project_id = await api.new_project()
    before = await api.stored()
    url = await api.new_upload(10**9, project_id=project_id)
    response = await api.patch(url, 0, content)
    assert error_of(response) == (409, "conflict")
    assert "upload-offset" not in response.headers  # it tells this 409 from the other one
    # A client that retries begins with HEAD, and learns that it is final.
    assert (await api.head(url)).status_code == 404
    assert error_of(await api.patch(url, 0, content)) == (404, "not_found")
    assert (await api.cancel(url)).status_code == 204
    asset = await api.asset(id_of(url))
    assert (asset["state"], asset["error_code"]) == ("failed", "unsupported_media")
    assert asset["error_message"] == response.json()["error"]["message"]
    nothing = ("type", "extension", "content_type", "size_bytes", "duration_seconds")
    assert [asset[name] for name in (*nothing, "upload_url", "download_url")] == [None] * 7
    await api.work()
    assert {**await api.stored(), "assets": []} == before


async def test_a_refused_asset_can_be_deleted(api: Api):
    url = await api.new_upload(5000)
    before = await api.stored()
    await api.patch(url, 0, bytes(5000))
    assert (await api.call("DELETE", f"/v1/assets/{id_of(url)}")).status_code == 204
    assert await api.stored() == {**before, "assets": [], "files": {}}


async def test_the_first_chunk_tells_what_it_is(api: Api, mp4):  # U13, C3 of the conflicts
    url = await api.new_upload(len(mp4))
    await api.patch(url, 0, mp4[:200])
    asset = await api.asset(id_of(url))
    assert asset["state"] == "pending_upload"
    assert asset["upload_url"] == url
    assert (asset["type"], asset["content_type"], asset["extension"], asset["size_bytes"]) == (
        "video",
        "video/mp4",
        "mp4",
        len(mp4),
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(lambda: media.video(2), ("video", "video/mp4", "mp4"), id="mp4"),
        pytest.param(
            lambda: media.video(2, muxer="matroska"),
            ("video", "video/x-matroska", "mkv"),
            id="matroska",
        ),
        pytest.param(lambda: media.audio(2.0), ("audio", "audio/mpeg", "mp3"), id="mp3"),
        pytest.param(
            lambda: media.audio(2.0, muxer="wav", codec="pcm_s16le"),
            ("audio", "audio/wav", "wav"),
            id="wav",
        ),
    ],
)
async def test_the_bytes_decide_not_what_the_client_says(api: Api, content, found):  # U14
    content = content()
    url = await api.new_upload(len(content))
    claim = {"Upload-Metadata": "filename ZG9jLnBkZg==,filetype YXBwbGljYXRpb24vcGRm"}
    assert (await api.patch(url, 0, content, **claim)).status_code == 204
    asset = await api.asset(id_of(url))
    assert (asset["type"], asset["content_type"], asset["extension"]) == found


@pytest.mark.parametrize("first", [0, 100])
async def test_more_bytes_than_announced_are_refused(api: Api, mp4, first):  # U18, U14
    url = await api.new_upload(len(mp4))
    if first:
        await api.patch(url, 0, mp4[:first])

    async def in_chunks():
        yield mp4[first:]
        yield b"!"

    async with api.nothing_stored():
        by_length = await api.patch(url, first, mp4[first:] + b"!")
    assert error_of(by_length) == (413, "payload_too_large")
    by_chunks = await api.patch(url, first, in_chunks())
    assert error_of(by_chunks) == (413, "payload_too_large")
    assert (await api.head(url)).headers["upload-offset"] == str(first)
    assert (await api.patch(url, first, mp4[first:])).status_code == 204


async def test_a_finished_upload_takes_no_more(api: Api, mp4):  # U12 of the decisions
    url = f"/v1/uploads/{await api.upload(mp4)}"
    async with api.nothing_stored():
        assert error_of(await api.patch(url, len(mp4), b"!")) == (413, "payload_too_large")
        empty = await api.patch(url, len(mp4), b"")
    assert (empty.status_code, empty.headers["upload-offset"]) == (204, str(len(mp4)))


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "upload_id", ["x", "7", "x" * 5000, "%00", f"{{{uuid.UUID(int=1)}}}", "a.b", "%0a", "%2e%2e."]
)
async def test_an_id_that_cannot_be_one_is_named(api: Api, method, upload_id):  # U19
    url = f"/v1/uploads/{upload_id}"
    async with api.nothing_stored():
        if method == "PATCH":
            response = await api.patch(url, 0, b"")
        else:
            response = await api.tus(method, url)
    assert response.status_code == 422
    if method != "HEAD":
        assert error_of(response) == (422, "validation_error")
        assert fields_of(response) == ["path.upload_id"]


async def test_an_encoded_slash_names_nothing(api: Api):
    response = await api.tus("DELETE", "/v1/uploads/..%2f..%2fetc%2fpasswd")
    assert error_of(response) == (404, "not_found")
    assert "passwd" not in response.text


async def test_a_full_disk_keeps_what_was_acknowledged(api: Api, mp4, monkeypatch):
    """507, and the upload goes on when there is room again."""
    url = await api.new_upload(len(mp4))
    await api.patch(url, 0, mp4[:100])

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", full)
        async with api.nothing_stored():
            response = await api.patch(url, 100, mp4[100:])
    assert error_of(response) == (507, "insufficient_storage")
    assert (await api.patch(url, 100, mp4[100:])).status_code == 204


async def test_the_ietf_draft_brings_an_asset_to_its_end(api: Api, mp4):
    url = await api.new_upload(len(mp4))

    async def draft(method: str, content: bytes = b"", **headers: str):
        version = {"Upload-Draft-Interop-Version": "9"}
        return await api.call(method, url, headers={**version, **headers}, content=content)

    async def patch(offset: int, content: bytes, complete: str):
        told = {"Upload-Offset": str(offset), "Upload-Complete": complete}
        return await draft(
            "PATCH", content, **told, **{"Content-Type": "application/partial-upload"}
        )

    assert (await patch(0, mp4[:100], "?0")).status_code == 204
    head = await draft("HEAD")
    assert (head.status_code, head.headers["upload-offset"]) == (204, "100")
    assert head.headers["upload-length"] == str(len(mp4))
    conflict = await patch(0, mp4[:100], "?0")
    assert (conflict.status_code, conflict.json()["expected-offset"]) == (409, 100)
    assert (await patch(100, mp4[100:], "?0")).headers["upload-complete"] == "?0"
    assert (await api.asset(id_of(url)))["state"] == "pending_upload"
    last = await patch(len(mp4), b"", "?1")
    assert (last.status_code, last.headers["upload-complete"]) == (201, "?1")
    await api.work()
    asset = await api.asset(id_of(url))
    assert (asset["state"], asset["size_bytes"]) == ("ready", len(mp4))
    async with api.nothing_stored():
        assert error_of(await draft("DELETE")) == (409, "conflict")


async def test_what_the_draft_brings_is_judged_too(api: Api):
    url = await api.new_upload(1000)
    draft = {"Upload-Draft-Interop-Version": "9", "Content-Type": "application/partial-upload"}
    told = {**draft, "Upload-Offset": "0", "Upload-Complete": "?0"}
    async with api.nothing_stored():
        created = await api.call("POST", "/v1/uploads", headers=told, content=bytes(1000))
    assert error_of(created) == (405, "method_not_allowed")
    refused = await api.call("PATCH", url, headers=told, content=bytes(1000))
    assert error_of(refused) == (409, "conflict")
    assert refused.headers["upload-complete"] == "?1"  # the answer is Roughy's: do not go on
    assert (await api.asset(id_of(url)))["error_code"] == "unsupported_media"
