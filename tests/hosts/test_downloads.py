"""Downloads on real servers, and what becomes of them when nobody takes them."""

import os

import pytest

from tests.hosts._process import Server
from tests.hosts._wire import TUS, Client, Connection, wait_until

MIB = 1024 * 1024
DATA = os.urandom(MIB)


def reading(client: Client) -> tuple[int, int]:
    """Return how many downloads are being read, and how many bytes have been in all."""
    readers, read_bytes = client.get("/reading").body.split()
    return int(readers), int(read_bytes)


@pytest.mark.parametrize("ending", ["cut", "reset"])
def test_a_download_ends_with_its_client(client: Client, ending: str) -> None:
    before = reading(client)[1]
    with Connection(client.port) as connection:
        connection.start("GET", "/endless/x", {})
        taken = 0
        while taken < MIB:
            taken += len(connection.socket.recv(64 * 1024))
        connection.cut() if ending == "cut" else connection.reset()
    wait_until(lambda: reading(client)[0] == 0)
    # What the server and the kernel have buffered, and what was on its way.
    assert reading(client)[1] - before < 64 * MIB


def test_a_download_that_nobody_takes_ends(server: Server, client: Client) -> None:
    if server.name == "hypercorn-trio":
        pytest.skip("hypercorn on trio shields its writes: no time-out reaches them")
    before = reading(client)[1]
    with Connection(client.port) as connection:
        connection.start("GET", "/stuck/x", {})
        wait_until(lambda: reading(client)[1] > before)
        wait_until(lambda: reading(client)[0] == 0)  # and nothing was received here
        assert reading(client)[1] - before < 64 * MIB


def test_a_download_that_is_taken_slowly_goes_on(client: Client) -> None:
    with Connection(client.port) as connection:
        connection.start("GET", "/stuck/x", {})
        wait_until(lambda: reading(client)[0] == 1)
        for _ in range(10):
            taken = 0
            while taken < 4 * MIB:  # more than is buffered on the way
                taken += len(connection.socket.recv(256 * 1024))
            assert reading(client)[0] == 1
    wait_until(lambda: reading(client)[0] == 0)


def test_a_plain_head_is_that_of_the_download(client: Client) -> None:
    path = client.create(len(DATA))
    client.resume(path, DATA)
    with Connection(client.port) as connection:
        connection.start("HEAD", path, {})
        head = connection.answer()
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(DATA)))
        assert head.headers["Transfer-Encoding"] is None
        # A body would stand where the next answer begins.
        connection.start("HEAD", path, TUS)
        told = connection.answer()
        assert (told.status, told.offset) == (200, len(DATA))
    assert head.headers["ETag"] == client.get(path).headers["ETag"]


def test_what_the_client_has_is_not_sent_again(client: Client) -> None:
    path = client.create(len(DATA))
    client.resume(path, DATA)
    tag = client.get(path).headers["ETag"]
    with Connection(client.port) as connection:
        connection.start("GET", path, {"If-None-Match": tag})
        answer = connection.answer()
        assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", tag)
        assert answer.headers["Transfer-Encoding"] is None
        connection.start("GET", path, {"If-Match": '"another"'})
        assert connection.answer().status == 412


def test_a_file_that_the_server_may_send_by_itself_is_the_same(client: Client) -> None:
    path = client.create(len(DATA), **{"Upload-Metadata": "filename bm90ZXMudHh0"})
    assert client.get(path.replace("/files/", "/open/")).status == 404  # not before it is complete
    client.resume(path, DATA)
    alone = path.replace("/files/", "/open/")
    for headers in (
        {},
        {"Range": "bytes=5-9"},
        {"If-None-Match": client.get(path).headers["ETag"]},
    ):
        with Connection(client.port) as connection:
            for url in (path, alone, path):
                connection.start("GET", url, headers)
                answer = connection.answer()
                shown = {n: v for n, v in answer.headers.items() if n.lower() != "date"}
                seen = (answer.status, shown, answer.body)
                if url == path:
                    expected = seen
                assert seen == expected


@pytest.mark.parametrize("tail", ["%2f", "%2F", "%2f/", "/%2f"])
def test_an_escaped_slash_makes_another_url(client: Client, tail: str) -> None:
    path = client.create(10)
    assert client.head(path).status == 200
    assert client.head(f"{path}/").status == 200
    assert client.head(path + tail).status == 404
    assert client.patch(path + tail, 0, b"0123456789").status == 404
    assert client.offset(path) == 0
