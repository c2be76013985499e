"""Roughy as the tests see it: what is there now, asked over its own REST API."""

import hashlib
import time
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

KEY = "sk_test_0123456789abcdefghij"
_SECONDS = 60.0


class Roughy:
    """A running server as one account sees it."""

    def __init__(self, port: int, key: str = KEY) -> None:
        self.port = port
        self.key = key
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=_SECONDS
        )

    def __enter__(self) -> "Roughy":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.http.close()

    @cached_property
    def project(self) -> str:
        return self.new_project("Tests")

    def new_project(self, name: str) -> str:
        return str(self.http.post("/v1/projects", json={"name": name}).json()["id"])

    def names_of_projects(self) -> list[str]:
        return [project["name"] for project in self.http.get("/v1/projects").json()["items"]]

    def create(self, size: int, project: str | None = None) -> str:
        body = {"project_id": project or self.project, "size_bytes": size}
        return str(self.http.post("/v1/assets", json=body).json()["id"])

    def refuse(self, project: str) -> None:
        """Make an asset that fails, as what came for it is not media."""
        headers = {
            "Content-Type": "application/offset+octet-stream",
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
        }
        url = f"/v1/uploads/{self.create(64, project)}"
        assert self.http.patch(url, content=bytes(64), headers=headers).status_code == 409

    def assets(self, project: str | None = None) -> list[dict[str, Any]]:
        of = {} if project is None else {"project_id": project}
        return list(self.http.get("/v1/assets", params={"limit": 100, **of}).json()["items"])

    def only_asset(self, project: str | None = None) -> str:
        """The id of the one asset there is, in the project or in the account."""
        (asset,) = self.assets(project)
        return str(asset["id"])

    def asset(self, asset_id: str) -> httpx.Response:
        return self.http.get(f"/v1/assets/{asset_id}")

    def wait_for_asset(self) -> str:
        """Wait until a client has made the first asset of the account."""
        give_up = time.monotonic() + _SECONDS
        while time.monotonic() < give_up:
            if self.assets():
                return self.only_asset()
            time.sleep(0.02)
        raise AssertionError("there is no asset")

    def offset(self, asset_id: str) -> int:
        answer = self.http.head(f"/v1/uploads/{asset_id}", headers={"Tus-Resumable": "1.0.0"})
        return int(answer.headers["Upload-Offset"])

    def wait_for_offset(self, asset_id: str, least: int) -> int:
        """Wait until the upload has that many bytes; return how many it has."""
        give_up = time.monotonic() + _SECONDS
        while time.monotonic() < give_up:
            if (offset := self.offset(asset_id)) >= least:
                return offset
            time.sleep(0.02)
        raise AssertionError(f"it stays at {offset}")

    def is_pending(self, asset_id: str) -> bool:
        return bool(self.asset(asset_id).json()["state"] == "pending_upload")

    def wait_until_done(self, asset_id: str) -> dict[str, Any]:
        give_up = time.monotonic() + _SECONDS
        while time.monotonic() < give_up:
            asset: dict[str, Any] = self.asset(asset_id).json()
            if asset["state"] not in ("pending_upload", "processing"):
                return asset
            time.sleep(0.05)
        raise AssertionError(f"it stays {asset['state']}")

    def check_same(self, asset_id: str, file: Path) -> None:
        """Fail unless the asset becomes ready and its download is the file, byte by byte."""
        asset = self.wait_until_done(asset_id)
        assert asset["state"] == "ready", asset
        assert asset["size_bytes"] == file.stat().st_size
        downloaded = httpx.get(asset["download_url"], timeout=_SECONDS).raise_for_status().content
        assert sha256(downloaded) == sha256(file.read_bytes())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
