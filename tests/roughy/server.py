"""The real server as a process of its own, to be killed and started again."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx

KEY = "sk_server_0123456789abcdef"
ROOT = Path(__file__).parents[2]


class Server:
    """`python -m examples.roughy` on a free port. Ends with the `with` block at the latest."""

    def __init__(self, data: Path, *, start: Sequence[str] = ("-m",), **environ: str) -> None:
        self._data = data
        self._start = start
        self._environ = {"ROUGHY_API_KEYS": KEY, "ROUGHY_INITIAL_CREDITS": "100", **environ}
        self.log = ""

    def __enter__(self) -> "Server":
        # A file, not a pipe: it takes more than a pipe holds, and nobody has to read meanwhile.
        self._output = tempfile.TemporaryFile("w+")
        self.start()
        return self

    def start(self) -> None:
        """Start it, for the first time or on another port after it was killed."""
        self.port = _free_port()
        command = [sys.executable, *self._start, "examples.roughy", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--data", str(self._data)],
            cwd=ROOT,
            env={**os.environ, **self._environ},
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {KEY}", "Tus-Resumable": "1.0.0"},
            timeout=60,
        )
        wait_for(self._is_up, "the server to start")

    def __exit__(self, *caught: object) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        finally:
            self.kill()
            self.log = self._read_log()
            self._output.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the server stopped:\n{self._read_log()}")
        try:
            return self.http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def _read_log(self) -> str:
        self._output.seek(0)
        return self._output.read()

    # What a client does.

    def new_upload(self, size: int) -> str:
        project = self.http.post("/v1/projects", json={"name": "clips"}).json()
        asset = {"project_id": project["id"], "size_bytes": size}
        return self.http.post("/v1/assets", json=asset).headers["location"]

    def patch(self, url: str, offset: int, content: bytes) -> httpx.Response:
        headers = {
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
        }
        return self.http.patch(path_of(url), content=content, headers=headers)

    def offset(self, url: str) -> int:
        return int(self.http.head(path_of(url)).headers["upload-offset"])

    def asset(self, url: str) -> dict:
        return self.http.get(f"/v1/assets/{url.rpartition('/')[2]}").json()

    def ready(self, url: str) -> dict:
        wait_for(lambda: self.asset(url)["state"] != "processing", "the asset to be prepared")
        return self.asset(url)

    def charges(self) -> list[dict]:
        entries = self.http.get("/v1/credits/history", params={"limit": 100}).json()["items"]
        return [entry for entry in entries if entry["type"] == "consume_asset"]

    def balance(self) -> int:
        return self.http.get("/v1/credits/balance").json()["balance"]


def path_of(url: str) -> str:
    """After a restart the port is another."""
    return urlsplit(url).path


def wait_for(holds, what: str, seconds: float = 60) -> None:
    end, pause = time.monotonic() + seconds, 0.02
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(pause)
        pause = min(1.5 * pause, 0.25)  # asking costs a server more than waiting


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
