"""Uploads a file to Roughy: `python -m examples.roughy.tools.upload FILE`.

The bytes go out with tuspy. Over a lost connection it asks the server how far it came and goes
on there; a second run with the same file does so, too. Ends with 0 when the asset is ready, 1 when
it was refused or failed, 2 for a wrong command, 3 when the network did not come back, and 130 after
Ctrl-C.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx
from tqdm import tqdm  # type: ignore[import-untyped]
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

Asset = dict[str, Any]

MIB = 1024 * 1024
PROJECT_NAME = "Uploads"
# Seconds between attempts; about ten minutes until we give up. An attempt that got further starts
# from the beginning of the list.
DELAYS = (0, 1, 2, 5, 10, 20, *[30] * 18)
# What may pass: a stall, another writer, a lock, too many requests. And anything from 500 on.
_PASSING = (408, 409, 423, 429)


class Refused(Exception):
    """The server, or the file, said no; to try again would not help."""

    exit_code = 1


class Unreachable(Exception):
    """The server cannot be reached or is out of order: later, it may be."""

    exit_code = 3


class Busy(Unreachable):
    """Something stands in the way of this upload that will pass."""


class Api:
    """The REST half of Roughy."""

    def __init__(self, host: str, key: str) -> None:
        self.host = host.rstrip("/")
        self.headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=self.host, headers=self.headers, timeout=30.0)

    def close(self) -> None:
        self._client.close()

    def call(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            response = self._client.request(method, url, **options)
        except httpx.TransportError as error:
            raise Unreachable(f"cannot reach {self.host}: {error}") from None
        if response.status_code == 423:
            raise Busy(f"{self.host} is busy with this upload: {_reason(response)}")
        if response.status_code >= 500:
            raise Unreachable(f"{self.host} is out of order: {_reason(response)}")
        if response.status_code >= 400:
            raise Refused(_reason(response))
        return response

    def project(self) -> str:
        """Return the id of the project for uploads; make it if it is not there."""
        for project in self.call("GET", "/v1/projects", params={"limit": 100}).json()["items"]:
            if project["name"] == PROJECT_NAME:
                return str(project["id"])
        return str(self.call("POST", "/v1/projects", json={"name": PROJECT_NAME}).json()["id"])

    def create(self, project_id: str, size: int) -> tuple[str, str]:
        """Create an asset; return its id and the URL that takes its bytes."""
        body = {"project_id": project_id, "size_bytes": size}
        response = self.call("POST", "/v1/assets", json=body)
        return str(response.json()["id"]), response.headers["Location"]

    def asset(self, asset_id: str) -> Asset:
        asset: Asset = self.call("GET", f"/v1/assets/{asset_id}").json()
        return asset

    def length(self, upload_url: str) -> int:
        """Return the number of bytes that the upload was created for; wait while it is busy."""
        for delay in DELAYS:
            try:
                return self._length(upload_url)
            except Busy:
                time.sleep(delay)
        return self._length(upload_url)

    def _length(self, upload_url: str) -> int:
        response = self.call("HEAD", upload_url, headers={"Tus-Resumable": "1.0.0"})
        return int(response.headers["Upload-Length"])


def _reason(response: httpx.Response) -> str:
    """Put the error envelope into one line."""
    try:
        error = response.json()["error"]
        fields = [f"{field['field']}: {field['message']}" for field in error.get("fields", [])]
        return f"{response.status_code} {error['code']}: {'; '.join(fields) or error['message']}"
    except (ValueError, LookupError, TypeError):
        return f"status {response.status_code}"


def transfer(
    file: BinaryIO,
    url: str,
    headers: dict[str, str],
    *,
    chunk_size: int = 8 * MIB,
    report: Callable[[int], None] = lambda offset: None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Bring the file to the upload URL, over as many connections as it takes.

    `report` is told each offset that the server has confirmed. Raises `Refused` or `Unreachable`.
    """
    client = TusClient(url, headers=headers)
    failures, reached = 0, -1
    while True:
        try:
            for offset in _offsets(client, file, url, chunk_size):
                report(offset)
                if offset > reached:
                    failures, reached = 0, offset
            return
        except TusCommunicationError as error:
            status = error.status_code
            if status is not None and status < 500 and status not in _PASSING:
                raise Refused(f"the upload was refused with status {status}") from None
            if failures == len(DELAYS):
                raise Unreachable("the connection did not come back") from None
            cause = "the connection was lost" if status is None else f"the answer was {status}"
            say(f"{cause}; trying again in {DELAYS[failures]} s")
            time.sleep(DELAYS[failures])
            failures += 1


def _offsets(client: TusClient, file: BinaryIO, url: str, chunk_size: int) -> Iterator[int]:
    """Upload, and yield each offset that the server confirms."""
    # With a URL, tuspy asks for the offset by HEAD first. Its own retries treat every refusal
    # alike, so they stay off.
    uploader = client.uploader(file_stream=file, url=url, chunk_size=chunk_size)
    yield uploader.offset
    while uploader.offset < uploader.stop_at:
        uploader.upload_chunk()  # type: ignore[no-untyped-call]
        yield uploader.offset


def wait_until_done(api: Api, asset_id: str) -> Asset:
    """Return the asset once nothing more happens to it by itself."""
    failures = 0
    while True:
        try:
            asset = api.asset(asset_id)
            if asset["state"] not in ("pending_upload", "processing"):
                return asset
            failures = 0
        except Unreachable:
            if failures == len(DELAYS):
                raise
            time.sleep(DELAYS[failures])
            failures += 1
        time.sleep(0.5)


class Unfinished:
    """Remembers which asset a file was going to, so that the next run goes on with it."""

    def __init__(self, host: str, file: Path) -> None:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self._path = Path(state) / "roughy" / "uploads.json"
        about = file.stat()
        self._name = f"{host} {file.resolve()} {about.st_size} {about.st_mtime_ns}"

    def asset_id(self) -> str | None:
        return self._all().get(self._name)

    def remember(self, asset_id: str) -> None:
        self._save({**self._all(), self._name: asset_id})

    def forget(self) -> None:
        self._save({name: id for name, id in self._all().items() if name != self._name})

    def _all(self) -> dict[str, str]:
        try:
            ids: dict[str, str] = json.loads(self._path.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return ids

    def _save(self, ids: dict[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(ids, indent=1))
        new.replace(self._path)


def upload(api: Api, path: Path, *, project: str | None, resume: str | None) -> Asset:
    """Upload the file to a new or an unfinished asset; return the asset when it is done."""
    unfinished = Unfinished(api.host, path)
    asset_id, url = _find(api, path, unfinished, resume) or _create(api, path, project)
    unfinished.remember(asset_id)
    try:
        if url is not None:
            _send(api, path, url)
    except Refused as refusal:
        # The asset may know more: a client that lost the answer still learns the reason.
        asset = api.asset(asset_id)
        if asset["state"] != "failed":
            raise
        unfinished.forget()
        raise Refused(f"{asset['error_code']}: {asset['error_message']}") from refusal
    asset = wait_until_done(api, asset_id)
    unfinished.forget()
    return asset


def _create(api: Api, path: Path, project: str | None) -> tuple[str, str]:
    asset_id, url = api.create(project or api.project(), path.stat().st_size)
    _say(f"asset {asset_id}")
    return asset_id, url


def _find(
    api: Api, path: Path, unfinished: Unfinished, resume: str | None
) -> tuple[str, str | None] | None:
    """Return the asset to go on with, and its upload URL if it still needs bytes."""
    asset_id = resume or unfinished.asset_id()
    if asset_id is None:
        return None
    try:
        asset = api.asset(asset_id)
    except Refused:
        if resume is not None:
            raise
        return None  # cancelled or expired since, or another account's
    if asset["state"] == "failed" and resume is None:
        return None
    url = asset["upload_url"]
    if url is not None and (length := api.length(url)) != path.stat().st_size:
        raise Refused(f"asset {asset_id} is for a file of {length} bytes: this is another file")
    _say(f"asset {asset_id}, going on with it")
    return asset_id, url


def _send(api: Api, path: Path, url: str) -> None:
    with path.open("rb") as file, _progress_bar(path) as report:
        transfer(file, url, api.headers, report=report, say=_say)


@contextmanager
def _progress_bar(path: Path) -> Iterator[Callable[[int], None]]:
    is_first = True
    with tqdm(
        total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, unit_divisor=1024
    ) as bar:

        def report(offset: int) -> None:
            nonlocal is_first
            if is_first:
                bar.initial = offset  # what was there before does not count as speed
                is_first = False
            bar.update(offset - bar.n)

        yield report


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.roughy.tools.upload", description="Upload a file to Roughy."
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--host", default="http://127.0.0.1:8000", metavar="URL")
    parser.add_argument(
        "--key", default=os.environ.get("ROUGHY_API_KEY"), help="or set ROUGHY_API_KEY"
    )
    parser.add_argument("--project", metavar="ID", help=f'default: the one named "{PROJECT_NAME}"')
    parser.add_argument("--resume", metavar="ASSET_ID", help="go on with this asset")
    arguments = parser.parse_args()
    if not arguments.key:
        parser.error("an API key is needed: --key sk_…, or ROUGHY_API_KEY")
    if not arguments.file.is_file():
        parser.error(f"there is no file {arguments.file}")
    if not arguments.host.startswith(("http://", "https://")):
        parser.error("--host must begin with http:// or https://")
    return arguments


def main() -> int:
    arguments = _arguments()
    api = Api(arguments.host, arguments.key)
    try:
        asset = upload(api, arguments.file, project=arguments.project, resume=arguments.resume)
    except (Refused, Unreachable) as error:
        print(f"upload: {error}", file=sys.stderr)
        if isinstance(error, Unreachable):
            _tell_how_to_go_on(arguments)
        return error.exit_code
    except OSError as error:  # of the file, or of what we remember of it
        print(f"upload: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("upload: interrupted", file=sys.stderr)
        _tell_how_to_go_on(arguments)
        return 130
    finally:
        api.close()
    print(json.dumps(asset, indent=2))
    if asset["state"] != "ready":
        reason = asset["error_message"] or "it needs more credits than the account has"
        print(f"upload: the asset is {asset['state']}: {reason}", file=sys.stderr)
        return 1
    return 0


def _tell_how_to_go_on(arguments: argparse.Namespace) -> None:
    """Print the command that goes on; the key is not in it."""
    asset_id = Unfinished(arguments.host.rstrip("/"), arguments.file).asset_id()
    if asset_id is not None:
        file, host = shlex.quote(str(arguments.file)), shlex.quote(arguments.host)
        print("go on with:", file=sys.stderr)
        print(
            f"  python -m examples.roughy.tools.upload {file} --host {host} --resume {asset_id}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
