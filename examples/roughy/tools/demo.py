"""Shows what Roughy is for: `scripts/demo`.

Starts a server, uploads a video it makes over a network that breaks once, resumes, and gets the
same bytes back. Then the page stays open until Ctrl-C.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from examples.roughy.tools.bad_network import BadNetwork
from examples.roughy.tools.sample import make_video
from examples.roughy.tools.upload import Api, Asset, Refused, Unreachable, transfer, wait_until_done

_HERE = Path(__file__).parents[1]
_ROOT = _HERE.parents[1]
_TUS_JS = _HERE / "node_modules" / "tus-js-client" / "dist" / "tus.min.js"
_START_SECONDS = 60.0
_END_SECONDS = 15.0


class DemoFailed(Exception):
    """Something did not go as it should; the message says what."""


def main() -> int:
    arguments = _arguments()
    # Ended from outside, it still ends its server.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    arguments.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with _server(arguments.data, arguments.port) as (server, port):
            key = _key(arguments.data)
            _show(arguments, port, key)
            if not arguments.exit:
                _keep_open(server, port, key)
    except (DemoFailed, Refused, Unreachable) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="Upload a video to Roughy over a network that breaks."
    )
    parser.add_argument("--exit", action="store_true", help="end after the upload")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000, or a free one")
    parser.add_argument("--data", type=Path, default=Path("roughy-data"), metavar="DIR")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the video")
    return parser.parse_args()


@contextmanager
def _server(data: Path, wanted: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run Roughy until the block ends, on that port or on a free one, and say which it is."""
    # A name of its own: another demo may run in the same folder.
    with tempfile.NamedTemporaryFile("wb", dir=data, prefix="server-", delete=False) as output:
        log = Path(output.name)
    server = _start(data, wanted, log)
    try:
        port = _port_of(server, log)
        if port is None and "cannot listen" in _read(log):
            server = _start(data, 0, log)
            port = _port_of(server, log)
        if port is None:
            raise DemoFailed(f"the server did not start:\n{_read(log)[-2000:]}")
        if port != wanted:
            _tell("Port", f"{wanted} is taken, so it is {port}")
        log = log.rename(data / f"server-{port}.log")
        _tell("Server", f"http://127.0.0.1:{port}/ with SQLite and files in {data}/")
        yield server, port
    finally:
        _end(server)
        if log.suffix != ".log":
            log.unlink()


def _start(data: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "examples.roughy", "--port", str(port)]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, "--data", str(data.absolute())],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us; we end it
        )


def _port_of(server: subprocess.Popen[bytes], log: Path) -> int | None:
    """Return the port that our server says it listens on; None if it ended before.

    Nobody else is asked: on the port that was wanted, there may be another server.
    """
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up:
        is_over = server.poll() is not None
        if said := re.search(r"^Roughy: +http://[^:]+:(\d+)/$", _read(log), re.MULTILINE):
            return int(said[1])
        if is_over:
            return None
        time.sleep(0.05)
    return None


def _read(log: Path) -> str:
    return log.read_text(errors="replace")


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _key(data: Path) -> str:
    """The key that the server was given, or has made for itself."""
    given = os.environ.get("ROUGHY_API_KEYS", "").split(",")[0].strip()
    return given or (data / "api-key").read_text().strip()


def _show(arguments: argparse.Namespace, port: int, key: str) -> None:
    """Upload over a cut, resume, compare."""
    video = arguments.data / f"demo-{port}.mp4"
    make_video(video, seconds=arguments.seconds)
    size, checksum = video.stat().st_size, _sha256(video.read_bytes())
    _tell("Video", f"{video}, {size:,} bytes, sha256 {checksum[:16]}…")
    api = Api(f"http://127.0.0.1:{port}", key)
    try:
        asset_id = _upload(api, port, video)
        asset = wait_until_done(api, asset_id)
        _tell("Asset", json.dumps(asset, indent=2))
        if asset["state"] != "ready":
            raise DemoFailed(f"the asset is {asset['state']}, not ready")
        _compare(asset, checksum)
    finally:
        api.close()


def _upload(api: Api, port: int, video: Path) -> str:
    """Upload in one request, which is cut on the way; return the id of the asset."""
    size = video.stat().st_size
    offsets: list[int] = []
    with BadNetwork(port, cuts=[size * 6 // 10]) as network:
        through = Api(network.url, api.headers["Authorization"].removeprefix("Bearer "))
        try:
            asset_id, url = through.create(api.project(), size)
        finally:
            through.close()
        _tell("Created", f"asset {asset_id}, its bytes go to {url}")
        with video.open("rb") as file:
            transfer(file, url, api.headers, chunk_size=size, report=offsets.append)
    if not network.cuts_made:
        raise DemoFailed("the connection was to be cut once, and was not")
    # The last but one was the answer to the HEAD that the rest was sent after.
    resumed_at = offsets[-2]
    _tell("Cut", f"the connection broke after {network.cuts_made[0]:,} bytes had left")
    _tell("Resumed", f"HEAD said {resumed_at:,} bytes are safe: went on at exactly that byte")
    _tell("Done", f"another connection brought the other {size - resumed_at:,} bytes")
    return asset_id


def _compare(asset: Asset, checksum: str) -> None:
    downloaded = httpx.get(asset["download_url"], timeout=60.0).raise_for_status().content
    if _sha256(downloaded) != checksum:
        raise DemoFailed("the downloaded bytes are not those that were uploaded")
    _tell("Compared", f"downloaded {len(downloaded):,} bytes, sha256 the same")


def _keep_open(server: subprocess.Popen[bytes], port: int, key: str) -> None:
    if not _TUS_JS.is_file():
        _tell("No npm", "the page below uploads without tus-js-client, which npm installs")
    # The page takes the key from behind the #, which browsers do not send.
    _tell("Page", f"http://127.0.0.1:{port}/#key={key}")
    _tell("", "Ctrl-C ends it.")
    code = server.wait()
    raise DemoFailed(f"the server ended by itself with code {code}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tell(what: str, text: str) -> None:
    print(f"{what:<9} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
