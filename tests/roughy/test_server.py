"""The real server in its own process: cut connections, kills, restarts, company."""

import asyncio
import contextlib
import hashlib
import signal
import socket
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from examples.roughy.__main__ import main

from .conftest import empty
from .server import KEY, Server, path_of, wait_for

MIB = 1024 * 1024


@pytest.fixture
def blockbuster() -> None:
    """Switched off: the server is another process."""


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "sqlite":
        return {}
    url = request.getfixturevalue("postgres_server")
    asyncio.run(empty(url))
    return {"ROUGHY_DATABASE_URL": url}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def send_and_leave(server: Server, url: str, offset: int, length: int, content: bytes) -> None:
    """Announce `length` bytes, send some of them, and pull the plug."""
    head = (
        f"PATCH {path_of(url)} HTTP/1.1\r\nHost: roughy\r\nAuthorization: Bearer {KEY}\r\n"
        f"Tus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\nContent-Length: {length}\r\n"
        "Content-Type: application/offset+octet-stream\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + content)


def measuring_by(program: str, folder: Path) -> tuple[str, str]:
    """Return how to start a server that has another program for the one that measures."""
    path = folder / "program.py"
    path.write_text(f"import sys\nprint('{{\"hello\": true}}', flush=True)\n{program}")
    code = (
        "import sys; from pathlib import Path; from examples.roughy.__main__ import main;"
        "from examples.roughy.media import measuring;"
        f"measuring._PROGRAM = Path({str(path)!r}); sys.exit(main(sys.argv[2:]))"
    )
    return "-c", code


def test_killed_while_an_asset_is_prepared_it_goes_on_and_charges_once(
    tmp_path, tmp_path_factory, film, database
):
    for_ever = "if sys.argv[1] != '0': sys.stdin.read()"
    start = measuring_by(for_ever, tmp_path_factory.mktemp("program"))
    with Server(tmp_path, start=start, **database) as server:
        url = server.new_upload(len(film))
        for offset in range(0, len(film), 3 * MIB):
            response = server.patch(url, offset, film[offset : offset + 3 * MIB])
            assert response.status_code == 204
        assert server.asset(url)["state"] == "processing"
        assert server.charges() == []
        server.kill()

    with Server(tmp_path, **database) as server:
        asset = server.ready(url)
        assert (asset["state"], asset["duration_seconds"]) == ("ready", "65.000")
        assert sha256(server.http.get(asset["download_url"]).content) == sha256(film)
        assert [(entry["delta"], entry["asset_id"]) for entry in server.charges()] == [
            (-2, asset["id"])
        ]
        server.kill()

    with Server(tmp_path, **database) as server:
        assert server.asset(url)["state"] == "ready"
        assert server.http.get("/v1/credits/balance").json() == {"balance": 98}


def test_a_cut_connection_keeps_what_came_and_goes_on_from_there(tmp_path, film):  # U15, U16
    with Server(tmp_path) as server:
        url = server.new_upload(len(film))
        send_and_leave(server, url, 0, len(film), film[: 3 * MIB])
        wait_for(lambda: server.offset(url) == 3 * MIB, "what was sent to be kept")
        assert server.asset(url)["type"] == "video"
        send_and_leave(server, url, 3 * MIB, len(film) - 3 * MIB, film[3 * MIB : 5 * MIB + 7])
        wait_for(lambda: server.offset(url) == 5 * MIB + 7, "what was sent to be kept")
        response = server.patch(url, 5 * MIB + 7, film[5 * MIB + 7 :])
        assert response.status_code == 204
        asset = server.ready(url)
        assert asset["state"] == "ready"
        assert sha256(server.http.get(asset["download_url"]).content) == sha256(film)


@pytest.mark.parametrize("sent", [0, 1, 63])
def test_a_cut_before_the_format_is_known_keeps_nothing(tmp_path, film, sent):  # U5
    with Server(tmp_path) as server:
        url = server.new_upload(len(film))
        send_and_leave(server, url, 0, len(film), film[:sent])
        # The next PATCH takes the upload over, whether the one before has ended or not. On a
        # machine that is that busy it may be told to come again, as any client does.
        assert server.offset(url) == 0
        wait_for(lambda: server.patch(url, 0, film).status_code == 204, "the upload to be let go")
        assert server.ready(url)["state"] == "ready"


def test_killed_in_the_middle_of_a_patch_it_has_what_it_acknowledged(tmp_path, film):
    with Server(tmp_path) as server:
        url = server.new_upload(len(film))
        assert server.patch(url, 0, film[:MIB]).status_code == 204
        with contextlib.suppress(ConnectionError):
            send_and_leave(server, url, MIB, len(film) - MIB, film[MIB : 4 * MIB])
        server.kill()
    with Server(tmp_path) as server:
        offset = server.offset(url)
        assert MIB <= offset <= 4 * MIB
        assert server.patch(url, offset, film[offset:]).status_code == 204
        asset = server.ready(url)
        assert sha256(server.http.get(asset["download_url"]).content) == sha256(film)


def test_told_to_stop_it_stops_without_a_word(tmp_path, film):
    with Server(tmp_path) as server:
        url = server.new_upload(len(film))
        server.patch(url, 0, film[:MIB])
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log
    assert "ERROR" not in server.log


def test_several_processes_may_share_folder_and_database(tmp_path, film, database):
    with Server(tmp_path, **database) as first, Server(tmp_path, **database) as second:
        servers = [first, second]

        def upload(number: int) -> str:
            here, there = servers[number % 2], servers[1 - number % 2]
            url = here.new_upload(len(film))
            assert here.patch(url, 0, film[:MIB]).status_code == 204
            assert there.offset(url) == MIB
            assert there.patch(url, MIB, film[MIB:]).status_code == 204
            return url

        with ThreadPoolExecutor(4) as threads:
            urls = list(threads.map(upload, range(6)))
        for url in urls:
            asset = first.ready(url)
            assert asset["state"] == "ready"
            link = asset["download_url"].replace(str(first.port), str(second.port))
            assert sha256(second.http.get(link).content) == sha256(film)
        charged = [entry["asset_id"] for entry in first.charges()]
        assert sorted(charged) == sorted(url.rpartition("/")[2] for url in urls)
        assert first.http.get("/v1/credits/balance").json() == {"balance": 100 - 2 * 6}


def test_the_newest_patch_wins(tmp_path, film):  # U16 of the decisions
    with Server(tmp_path) as server:
        url = server.new_upload(len(film))
        sending, done = threading.Event(), threading.Event()

        def slowly():
            yield film[:MIB]
            sending.set()
            done.wait(20)

        def first():
            headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
            return server.http.patch(path_of(url), content=slowly(), headers=headers)

        with ThreadPoolExecutor(1) as threads:
            stopped = threads.submit(first)
            assert sending.wait(20)
            wait_for(lambda: server.offset(url) == MIB, "the first bytes to be kept")
            response = server.patch(url, MIB, film[MIB:])
            done.set()
            assert response.status_code == 204
            assert stopped.result(20).status_code == 423
        asset = server.ready(url)
        assert sha256(server.http.get(asset["download_url"]).content) == sha256(film)


def test_without_keys_it_makes_one_and_says_where_it_is(tmp_path, film):
    with Server(tmp_path, ROUGHY_API_KEYS="") as server:
        key = (tmp_path / "api-key").read_text()
        assert server.http.get("/v1/projects").status_code == 401
        server.http.headers["Authorization"] = f"Bearer {key}"
        url = server.new_upload(len(film))
        server.patch(url, 0, film)
        link = server.ready(url)["download_url"]
        assert server.http.get(link).status_code == 200
    assert f"API key: in {tmp_path / 'api-key'}\n" in server.log
    assert f"Roughy:  http://127.0.0.1:{server.port}/\n" in server.log
    # A log is read by more people than may have what it tells of.
    assert "GET /downloads/" in server.log
    assert link.partition("signature=")[2] not in server.log
    assert key not in server.log
    with Server(tmp_path, ROUGHY_API_KEYS="") as server:
        answer = server.http.get("/v1/projects", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 200


def test_credits_added_beside_a_running_server_count_at_once(tmp_path, film):
    with Server(tmp_path, ROUGHY_INITIAL_CREDITS="1") as server:
        url = server.new_upload(len(film))
        server.patch(url, 0, film)
        assert server.ready(url)["state"] == "pending_payment"
        assert main(["--data", str(tmp_path), "credits", "add", "5", "--key", KEY]) == 0
        assert server.asset(url)["state"] == "ready"
        assert server.http.get("/v1/credits/balance").json() == {"balance": 4}


def test_the_database_of_a_killed_server_is_whole(tmp_path, film):
    with Server(tmp_path) as server:
        url = server.new_upload(len(film))
        server.patch(url, 0, film[:MIB])
        server.kill()
    with contextlib.closing(sqlite3.connect(tmp_path / "roughy.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
