"""A bucket far away that costs next to nothing: a server on loopback, in its own process.

    python -m benchmarks.distant PORT

An answer comes `ROUND_TRIP` seconds after its request, and no connection takes more than `RATE`
bytes in a second. Each body is compared with its CRC32. What is small is kept, and may be replaced
by compare-and-swap; of what is large nothing is, so that the figures are those of the store and
not of the bucket: SeaweedFS needs several times the processor time of what is measured.
"""

import base64
import contextlib
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from benchmarks._server import free_port, wait_until_up

ROUND_TRIP = 0.05
RATE = 40e6
_SMALL = 1024 * 1024
_PIECE = 256 * 1024


@contextlib.contextmanager
def distant() -> Iterator[dict[str, str]]:
    """Run it until the block ends; give what a client has to have in its environment."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.distant", str(port)])
    try:
        wait_until_up(port, process)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "S3_CHECK": "0",  # it has only what uploads need
        }
    finally:
        process.terminate()
        process.wait()


class _Bucket(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.kept: dict[str, tuple[str, bytes]] = {}
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    """One connection. It knows the calls that an upload needs, from its creation to its end."""

    server: _Bucket
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # a head and its body leave together

    def handle_expect_100(self) -> bool:
        time.sleep(ROUND_TRIP)
        answered = super().handle_expect_100()
        self.wfile.flush()
        return answered

    def do_PUT(self) -> None:
        body, crc32 = self._body()
        if self.headers.get("x-amz-checksum-crc32", crc32) != crc32:
            self._answer(400, _error("BadDigest"))
            return
        with self.server.lock:
            etag, _ = self.server.kept.get(self._key, (None, b""))
            if not self._may_replace(etag):
                self._answer(412, _error("PreconditionFailed"))
                return
            etag = f'"{uuid.uuid4().hex}"'
            if "partNumber" not in self._query:
                self.server.kept[self._key] = etag, body
        self._answer(200, ETag=etag)

    def do_GET(self) -> None:
        if {"uploads", "list-type"} & self._query.keys():
            self._answer(200, _xml("ListResult", ""))  # of leftovers, of which there are none
            return
        etag, body = self.server.kept.get(self._key, (None, b""))
        if etag is None:
            self._answer(404, _error("NoSuchKey"))
        elif self.headers.get("If-None-Match") == etag:
            self._answer(304)
        else:
            self._answer(200, body, ETag=etag)

    def do_POST(self) -> None:
        self._body()
        if "uploads" in self._query:
            answer = f"<UploadId>{uuid.uuid4().hex}</UploadId>"
            self._answer(200, _xml("InitiateMultipartUploadResult", answer))
        elif "delete" in self._query:
            self._answer(200, _xml("DeleteResult", ""))
        else:
            self._answer(200, _xml("CompleteMultipartUploadResult", '<ETag>"whole"</ETag>'))

    def do_DELETE(self) -> None:
        self.server.kept.pop(self._key, None)
        self._answer(204)

    def log_message(self, *about: object) -> None:
        pass

    @property
    def _key(self) -> str:
        return urlsplit(self.path).path

    @property
    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

    def _may_replace(self, etag: str | None) -> bool:
        wanted = self.headers.get("If-Match", etag)
        return wanted == etag and (etag is None or "If-None-Match" not in self.headers)

    def _body(self) -> tuple[bytes, str]:
        """Read the body at the rate of the line; return it if it is small, and its CRC32."""
        left = size = int(self.headers.get("Content-Length", 0))
        buffer = memoryview(bytearray(min(size, _PIECE)))
        crc32, kept, start = 0, b"", time.monotonic()
        while left:
            count = self.rfile.readinto(buffer[:left])
            if not count:
                raise ConnectionError("the body ended early")
            left -= count
            crc32 = zlib.crc32(buffer[:count], crc32)
            if size <= _SMALL:
                kept += buffer[:count]
            time.sleep(max(0, start + (size - left) / RATE - time.monotonic()))
        return kept, base64.b64encode(crc32.to_bytes(4, "big")).decode()

    def _answer(self, status: int, body: bytes = b"", **fields: str) -> None:
        time.sleep(ROUND_TRIP)
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _error(code: str) -> bytes:
    return _xml("Error", f"<Code>{code}</Code><Message>{code}</Message>")


def _xml(name: str, content: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><{name}>{content}</{name}>'.encode()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _Bucket(int(sys.argv[1])).serve_forever()
