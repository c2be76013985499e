"""Checksums and concatenation, as real clients use them, over a network that breaks."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tusclient.client import TusClient

from examples.roughy.tools.bad_network import BadNetwork
from tests.clients.needs import HERE, need
from tests.clients.scripts import run
from tests.hosts._process import Server
from tests.hosts._wire import Client
from tests.server.test_command import serving

DATA = bytes(range(256)) * 20_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data") as server:
        yield server


def check_same(server: Server, url: str) -> None:
    stored = Client(server.port).get(urlsplit(url).path)
    assert stored.status == 200
    assert hashlib.sha256(stored.body).digest() == hashlib.sha256(DATA).digest()


def test_tuspy_sends_each_chunk_with_its_checksum(server: Server) -> None:
    client = TusClient(f"{server.url}/files/")
    stream = io.BytesIO(DATA)
    uploader = client.uploader(file_stream=stream, chunk_size=1_000_000, upload_checksum=True)
    uploader.upload()
    check_same(server, uploader.url)


def test_tus_js_client_uploads_in_parallel_over_cuts(server: Server, tmp_path: Path) -> None:
    need("node", "npm:tus-js-client")
    file = tmp_path / "film"
    file.write_bytes(DATA)
    with BadNetwork(server.port, cuts=[300_000, 400_000, 500_000]) as network:
        done = run(["node", str(HERE / "parallel.mjs"), f"{network.url}/files/", str(file)], HERE)
    assert done.returncode == 0, done.stderr
    assert len(network.cuts_made) == 3
    url = done.stdout.strip()
    check_same(server, url)
    head = Client(server.port).head(urlsplit(url).path)
    concat = head.headers["Upload-Concat"]
    assert concat.startswith("final;")
    assert len(concat.split(" ")) == 4
