"""Whole uploads on real servers: what goes over the wire, and what is there afterwards."""

import os
from pathlib import Path

import pytest

from tests.hosts._process import Server
from tests.hosts._wire import TUS, UPLOAD, Client, Connection

MIB = 1024 * 1024
DATA = os.urandom(3 * MIB + 7)


def test_an_upload_in_pieces_comes_back_the_same(client: Client) -> None:
    path = client.create(len(DATA), **{"Upload-Metadata": "filename Y2xpcC5tcDQ="})
    offset = 0
    for size in (1, 100, 64 * 1024, MIB, len(DATA)):
        answer = client.patch(path, offset, DATA[offset : offset + size])
        offset = min(offset + size, len(DATA))
        assert (answer.status, answer.offset) == (204, offset)
        assert client.offset(path) == offset
    answer = client.get(path)
    assert answer.status == 200
    assert 'filename="clip.mp4"' in answer.headers["Content-Disposition"]
    assert answer.body == DATA


def test_a_chunked_body_is_stored_without_its_framing(client: Client) -> None:
    path = client.create(len(DATA))
    with client.patching(path, 0, None) as patch:
        for start in range(0, len(DATA), 200_000):
            patch.send_chunk(DATA[start : start + 200_000])
        patch.send_chunk(b"")
        assert patch.answer().offset == len(DATA)
    assert client.get(path).body == DATA


def test_many_uploads_go_over_one_connection(server: Server, client: Client) -> None:
    paths = [client.create(1000) for _ in range(3)]
    with Connection(server.port) as connection:
        for path in paths:
            connection.start(
                "PATCH", path, {**UPLOAD, "Upload-Offset": "0", "Content-Length": "1000"}
            )
            connection.send(DATA[:1000])
            assert connection.answer().status == 204
    assert [client.get(path).body for path in paths] == [DATA[:1000]] * 3


def test_an_upload_can_be_created_with_its_bytes(client: Client) -> None:
    headers = {**UPLOAD, "Upload-Length": str(len(DATA))}
    answer = client.request("POST", client.path, headers, DATA)
    assert (answer.status, answer.offset) == (201, len(DATA))
    assert client.get(answer.headers["Location"]).body == DATA


def test_head_has_a_length_of_zero_and_no_body(client: Client) -> None:
    path = client.create(10)
    with Connection(client.port) as connection:
        connection.start("HEAD", path, TUS)
        answer = connection.answer()
        assert (answer.status, answer.headers["Content-Length"]) == (200, "0")
        assert answer.headers["Transfer-Encoding"] is None
        # A body would stand where the next answer begins.
        connection.start("HEAD", path, TUS)
        assert connection.answer().status == 200


def test_a_204_has_no_length_and_no_framing(client: Client) -> None:
    path = client.create(10)
    for answer in (
        client.request("OPTIONS", client.path),
        client.patch(path, 0, b"0123456789"),
        client.request("DELETE", path),
    ):
        assert answer.status == 204
        assert answer.headers["Content-Length"] is None
        assert answer.headers["Transfer-Encoding"] is None


def test_a_refusal_has_a_length_and_a_reason(client: Client) -> None:
    answer = client.head("/files/nothing")
    assert (answer.status, answer.body) == (404, b"")
    assert answer.headers["Upload-Offset"] is None
    answer = client.patch("/files/nothing", 0, b"")
    assert (answer.status, answer.headers["Transfer-Encoding"]) == (404, None)
    assert int(answer.headers["Content-Length"]) == len(answer.body) > 0


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        pytest.param("bytes=0-0", 0, 1, id="first-byte"),
        pytest.param("bytes=-5", 9_995, 10_000, id="last-bytes"),
        pytest.param("bytes=400-", 400, 10_000, id="open-end"),
    ],
)
def test_a_range_of_a_complete_upload_is_sent(
    client: Client, wanted: str, start: int, stop: int
) -> None:
    path = client.create(10_000)
    client.patch(path, 0, DATA[:10_000])
    answer = client.get(path, Range=wanted)
    assert (answer.status, answer.body) == (206, DATA[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/10000"


def test_one_large_patch_does_not_fill_the_memory(server: Server, client: Client) -> None:
    size, piece = 64 * MIB, DATA[:MIB]
    client.resume(client.create(len(DATA)), DATA)  # all that is imported and allocated once
    before = highest = server.rss()
    path = client.create(size)
    with client.patching(path, 0, size) as patch:
        for _ in range(size // len(piece)):
            patch.send(piece)
            highest = max(highest, server.rss())
        assert patch.answer().offset == size
    assert highest - before < 16 * MIB


def test_the_folder_holds_what_was_uploaded_and_no_more(server: Server, client: Client) -> None:
    path = client.create(len(DATA))
    client.resume(path, DATA)
    upload_id = Path(path).name
    files = sorted(file.name for file in server.folder.rglob(f"{upload_id}*"))
    assert files == [upload_id, f"{upload_id}.info"]
    client.request("DELETE", path)
    assert not list(server.folder.rglob(f"{upload_id}*"))
