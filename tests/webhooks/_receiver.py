"""A receiver of web hooks on this machine, which can be slow, down, wrong, lying and back again."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_" + "c2VjcmV0IG9mIHRlc3RzLCAzMiBieXRlcyBsb25nISE="


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What it answers; `delay` comes before, and a `pause` after each byte of the body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    pause: float = 0.0
    is_cut: bool = False
    """True if the connection ends without an answer."""


@dataclass(frozen=True, kw_only=True)
class Received:
    id: str
    path: str
    headers: Mapping[str, str]
    document: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.document.get("type") or self.document["Type"])

    @property
    def upload(self) -> dict[str, Any]:
        data = self.document.get("data")
        return data["upload"] if data else self.document["Event"]["Upload"]  # type: ignore[no-any-return]


class Receiver:
    """Listens from `start` to `stop`, on the same port each time, and checks all signatures."""

    def __init__(self, *, secret: str | None = SECRET) -> None:
        self.received: list[Received] = []
        self.behave: Callable[[Received], Reply] = lambda _: Reply()
        self._verifier = None if secret is None else Webhook(secret)
        self._server: ThreadingHTTPServer | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def types(self) -> list[str]:
        return [message.type for message in self.received]

    def answer(self, status: int = 200, document: object = None, **more: Any) -> None:
        """Give the same answer to everything from now on."""
        body = b"" if document is None else json.dumps(document).encode()
        self.behave = lambda _: Reply(status=status, body=more.pop("body", body), **more)

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> "Receiver":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _take(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        headers = {name.lower(): value for name, value in headers.items()}
        if self._verifier is not None:
            self._verifier.verify(body, dict(headers))
        message = Received(
            id=headers["webhook-id"], path=path, headers=headers, document=json.loads(body)
        )
        self.received.append(message)
        return self.behave(message)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            close_connection = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                reply = receiver._take(self.path, dict(self.headers.items()), body)
                time.sleep(reply.delay)
                self.close_connection = True
                if reply.is_cut:
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.send_header("Connection", "close")
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self._write(reply)

            def _write(self, reply: Reply) -> None:
                if not reply.pause:
                    self.wfile.write(reply.body)
                    return
                for byte in reply.body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(reply.pause)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
