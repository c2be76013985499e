"""What whoever looks after a Roughy sees, and strangers do not."""

import signal
import sqlite3
from contextlib import closing

import httpx
import pytest

from examples.roughy.settings import Settings, SettingsError
from tests.hosts._wire import UPLOAD, Connection
from tests.roughy.server import KEY, Server, path_of, wait_for

MIB = 1024 * 1024


def test_metrics_are_not_there_unless_asked_for(tmp_path):
    with Server(tmp_path) as server:
        assert server.http.get("/metrics").status_code == 404
        assert server.http.get("/health").status_code == 200


def test_metrics_need_no_key_and_name_nobody(tmp_path, film):
    with Server(tmp_path, ROUGHY_MONITORING="1") as server:
        url = server.new_upload(len(film))
        server.patch(url, 0, film)
        server.ready(url)
        answer = httpx.get(f"http://127.0.0.1:{server.port}/metrics")
        assert answer.status_code == 200
        assert 'tusasgi_uploads_total{event="completed"} 1.0' in answer.text
        assert 'roughy_assets{state="ready"} 1.0' in answer.text
        for secret in (url.rsplit("/", 1)[1], str(tmp_path), "sk_"):
            assert secret not in answer.text


def test_health_tells_when_nothing_can_be_stored(tmp_path):
    with Server(tmp_path, ROUGHY_MONITORING="1") as server:
        assert server.http.get("/health").json() == {"status": "ok"}
        (tmp_path / "uploads").rename(tmp_path / "elsewhere")
        (tmp_path / "uploads").write_text("in the way")
        answer = server.http.get("/health")
        (tmp_path / "uploads").unlink()
        (tmp_path / "elsewhere").rename(tmp_path / "uploads")
        assert answer.status_code == 503
        assert str(tmp_path) not in answer.text
        assert server.http.get("/health").status_code == 200


def test_health_tells_when_the_database_does_not_answer(tmp_path):
    def rename(old, new):
        with closing(
            sqlite3.connect(tmp_path / "roughy.sqlite3", isolation_level=None)
        ) as database:
            database.execute(f"ALTER TABLE {old} RENAME TO {new}")

    with Server(tmp_path, ROUGHY_MONITORING="1") as server:
        rename("schema_version", "elsewhere")
        answer = server.http.get("/health")
        rename("elsewhere", "schema_version")
        assert answer.status_code == 503
        assert "schema_version" not in answer.text
        assert server.http.get("/health").status_code == 200


@pytest.mark.parametrize("text", ["yes", "2", "on"])
def test_the_switch_is_0_or_1(tmp_path, text):
    with pytest.raises(SettingsError, match="ROUGHY_MONITORING"):
        Settings.of(tmp_path, {"ROUGHY_MONITORING": text})


def test_stopping_keeps_what_a_slow_client_has_sent(tmp_path, film):
    headers = {**UPLOAD, "Upload-Offset": "0", "Content-Length": str(len(film))}
    with Server(tmp_path) as server, Connection(server.port) as slow:
        url = server.new_upload(len(film))
        slow.start("PATCH", path_of(url), {**headers, "Authorization": f"Bearer {KEY}"})
        slow.send(film[:MIB])
        wait_for(lambda: server.offset(url) == MIB, "the first bytes to be kept")
        server.process.send_signal(signal.SIGTERM)
        assert slow.answer().status == 503
        server.process.wait(15)
    with Server(tmp_path) as server:
        assert server.offset(url) == MIB
        assert server.patch(url, MIB, film[MIB:]).status_code == 204
        server.ready(url)
