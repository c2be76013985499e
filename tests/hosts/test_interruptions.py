"""Connections that break, stall or are overtaken, and what is left of their bytes."""

import os
import random
from pathlib import Path

import pytest

from tests.hosts._process import Server
from tests.hosts._wire import UPLOAD, Client, Connection, wait_until

MIB = 1024 * 1024
DATA = os.urandom(2 * MIB + 11)


def _send(patch: Connection, data: bytes, is_chunked: bool) -> None:
    if is_chunked:
        patch.send_chunk(data)
    else:
        patch.send(data)


@pytest.mark.parametrize("ending", ["cut", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_cut_at_random_bytes_is_resumed_and_whole(
    client: Client, framing: str, ending: str
) -> None:
    path = client.create(len(DATA))
    dice = random.Random(f"{framing} {ending}")
    offset = 0
    for _ in range(3):
        rest = len(DATA) - offset
        seen, unseen = sorted(dice.sample(range(1, rest // 2), 2))
        with client.patching(path, offset, None if framing == "chunked" else rest) as patch:
            _send(patch, DATA[offset : offset + seen], framing == "chunked")
            wait_until(lambda told=offset + seen: client.offset(path) == told)
            _send(patch, DATA[offset + seen : offset + unseen], framing == "chunked")
            patch.cut() if ending == "cut" else patch.reset()
        client.take_over(path)
        # What HEAD has told once is never taken back; of the rest some may have arrived.
        assert offset + seen <= client.offset(path) <= offset + unseen
        offset = client.offset(path)
    client.resume(path, DATA)
    assert client.get(path).body == DATA


@pytest.mark.parametrize("ending", ["cut", "reset"])
def test_a_cut_within_the_framing_of_a_chunk_stores_no_framing(client: Client, ending: str) -> None:
    path = client.create(len(DATA))
    with client.patching(path, 0, None) as patch:
        patch.send_chunk(DATA[:5000])
        wait_until(lambda: client.offset(path) == 5000)
        patch.send(b"3e")  # half of a chunk's size
        patch.cut() if ending == "cut" else patch.reset()
    client.resume(path, DATA)
    assert client.get(path).body == DATA


def test_a_client_that_stalls_is_told_so_and_keeps_what_it_sent(client: Client) -> None:
    path = client.create(len(DATA)).replace("/files/", "/quick/")
    with client.patching(path, 0, len(DATA)) as patch:
        patch.send(DATA[:100_000])
        answer = patch.answer()
        assert (answer.status, answer.headers["Connection"]) == (408, "close")
        assert patch.is_closed()
    assert client.offset(path) == 100_000
    client.resume(path, DATA)
    assert client.offset(path) == len(DATA)


def test_a_new_patch_takes_over_from_a_half_open_one(client: Client) -> None:
    path = client.create(len(DATA))
    with client.patching(path, 0, len(DATA)) as old:
        old.send(DATA[:300_000])
        wait_until(lambda: client.offset(path) == 300_000)
        answer = client.patch(path, 300_000, DATA[300_000:])
        assert (answer.status, answer.offset) == (204, len(DATA))
        assert old.answer().status == 423
    assert client.get(path).body == DATA


def test_what_an_overtaken_client_sends_later_is_not_stored(client: Client) -> None:
    path = client.create(len(DATA))
    with client.patching(path, 0, len(DATA)) as old:
        old.send(DATA[:300_000])
        wait_until(lambda: client.offset(path) == 300_000)
        with client.patching(path, 300_000, len(DATA) - 300_000) as new:
            new.send(DATA[300_000:400_000])
            wait_until(lambda: client.offset(path) == 400_000)
            old.send(b"\0" * 60_000)
            new.send(DATA[400_000:])
            assert new.answer().offset == len(DATA)
        assert old.answer().status == 423
    assert client.get(path).body == DATA


def test_a_delete_stops_a_running_patch_and_leaves_nothing(server: Server, client: Client) -> None:
    path = client.create(len(DATA))
    with client.patching(path, 0, len(DATA)) as patch:
        patch.send(DATA[:300_000])
        wait_until(lambda: client.offset(path) == 300_000)
        assert client.request("DELETE", path).status == 204
        assert patch.answer().status == 423
    assert client.head(path).status == 404
    assert not list(server.folder.rglob(f"{Path(path).name}*"))


def test_head_does_not_disturb_a_running_patch(client: Client) -> None:
    path = client.create(len(DATA))
    with client.patching(path, 0, len(DATA)) as patch:
        for start in range(0, len(DATA), 700_000):
            patch.send(DATA[start : start + 700_000])
            head = client.head(path)
            # 423 from the last byte on, until the upload is complete.
            assert head.status == 200 or (head.status, start + 700_000 >= len(DATA)) == (423, True)
        assert patch.answer().offset == len(DATA)
    assert client.get(path).body == DATA


def test_a_chunked_body_past_the_end_is_413_and_rolled_back(client: Client) -> None:
    path = client.create(500_000)
    client.patch(path, 0, DATA[:200_000])
    with client.patching(path, 200_000, None) as patch:
        patch.send_chunk(DATA[200_000:300_000])
        wait_until(lambda: client.offset(path) == 300_000)  # some of it is on the disk
        for start in range(300_000, 600_000, 100_000):
            patch.send_chunk(DATA[start : start + 100_000])
        patch.send_chunk(b"")
        assert patch.answer().status == 413
    assert client.offset(path) == 200_000
    client.resume(path, DATA[:500_000])
    assert client.get(path).body == DATA[:500_000]


def test_a_client_that_expects_continue_is_told_to_go_on(client: Client) -> None:
    path = client.create(1000)
    with Connection(client.port) as connection:
        expecting = {"Upload-Offset": "0", "Content-Length": "1000", "Expect": "100-continue"}
        connection.start("PATCH", path, {**UPLOAD, **expecting})
        assert connection.first_line().startswith(b"HTTP/1.1 100 ")
        connection.send(DATA[:1000])
        assert connection.answer().offset == 1000


def test_a_refused_client_that_expects_continue_sends_no_body(
    server: Server, client: Client
) -> None:
    path = client.create(100_000_000)
    with Connection(client.port) as connection:
        expecting = {"Upload-Offset": "7", "Content-Length": "100000000", "Expect": "100-continue"}
        connection.start("PATCH", path, {**UPLOAD, **expecting})
        line = connection.first_line()
        # hypercorn says 100 on its own before it calls the app.
        status = b"100" if server.name.startswith("hypercorn") else b"409"
        assert line.startswith(b"HTTP/1.1 %b " % status)
        # Nothing is asked for behind the answer: what is read there makes no server say 100.
        rest = line[1:] + connection.until_closed()
        assert rest.count(b"HTTP/1.1") == (1 if status == b"100" else 0), rest
