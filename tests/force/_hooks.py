"""A receiver of web hooks as a process that is killed, and what it must have been told."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.force._ledger import Entry, check
from tests.hosts._process import ROOT, free_port
from tests.hosts._wire import wait_until

_ORDER = ["created", "completed", "terminated", "expired"]


class HookReceiver:
    """Runs on one port, from `start` to `kill`, and writes down what it hears before it answers."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self, *, is_good: bool = False) -> None:
        """Listen; unless it is good, it fails, hangs up or is slow now and then.

        Returns when it can be reached.
        """
        self.kill()
        command = ["-m", "tests.force._hooks", str(self.port), str(self.ledger), str(int(is_good))]
        self._process = subprocess.Popen([sys.executable, *command], cwd=ROOT)
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def check(self, entries: Iterable[Entry], counts: Counter[str]) -> None:
        """Hold it against what clients were told: everything came, and in order."""
        heard = self._heard()
        for events in heard.values():
            _check_order(events)
        for entry in entries:
            kinds = {kind for kind, _ in heard.get(entry.upload_id, [])}
            check("created" in kinds, "it was never told to be created", entry)
            if entry.is_complete and not entry.is_partial:
                check("completed" in kinds, "it was never told to be complete", entry)
                counts["told to be complete"] += 1
            if entry.is_deleted:
                check("terminated" in kinds, "it was never told to be removed", entry)
                counts["told to be removed"] += 1
            if entry.is_partial and not entry.is_deleted:
                check("expired" in kinds, "it was never told to have expired", entry)
        messages = [event for events in heard.values() for event in events]
        counts["messages"] = len(messages)
        counts["messages more than once"] = len(messages) - sum(
            len({kind for kind, _ in events}) for events in heard.values()
        )

    def _heard(self) -> dict[str, list[tuple[str, bool]]]:
        """Return, for each upload, what was heard of it and whether it was taken, in order."""
        heard: dict[str, list[tuple[str, bool]]] = {}
        for line in self.ledger.read_text().splitlines():
            upload_id, kind, is_taken = line.split()
            heard.setdefault(upload_id, []).append((kind, is_taken == "1"))
        return heard


def _check_order(events: list[tuple[str, bool]]) -> None:
    """An event comes for the first time when those before it were taken."""
    seen: set[str] = set()
    taken: set[str] = set()
    for kind, is_taken in events:
        if kind not in seen:
            later = seen & set(_ORDER[_ORDER.index(kind) + 1 :])
            check(not later, f"{kind} comes behind {later}: {events}")
            check(seen <= taken, f"{kind} comes before {seen - taken} was taken: {events}")
        seen.add(kind)
        if is_taken:
            taken.add(kind)


def _serve(port: int, ledger: str, is_good: bool) -> None:
    dice = random.Random(os.getpid())
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            message = json.loads(body)
            kind = message["type"].removeprefix("upload.")
            mood = "good" if is_good else dice.choice(["good"] * 7 + ["bad", "cut", "slow"])
            is_taken = mood in ("good", "slow")
            line = f"{message['data']['upload']['id']} {kind} {int(is_taken)}\n"
            os.write(file, line.encode())
            if mood == "slow":
                time.sleep(dice.uniform(0.0, 0.3))
            if mood == "cut":
                self.close_connection = True
                return
            self.send_response(204 if is_taken else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """Whoever was to be answered is gone: servers are killed."""

    Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2], bool(int(sys.argv[3])))
