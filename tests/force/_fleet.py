"""Replicas of a server on one prefix of a bucket, each a process that can be killed."""

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.force._server import serving
from tests.hosts._process import Server
from tests.services.faults import Call, FaultProxy
from tests.services.s3 import S3Server, SeaweedFS

PREFIX = "uploads"


def environment(
    server: S3Server, endpoint: str | None = None, prefix: str = PREFIX
) -> dict[str, str]:
    """Return what tells a server of ours where its bucket is."""
    return {
        "TUSASGI_TEST_S3": f"s3://{server.bucket}/{prefix}",
        "AWS_ENDPOINT_URL": endpoint or server.endpoint,
        "AWS_ACCESS_KEY_ID": server.key,
        "AWS_SECRET_ACCESS_KEY": server.secret,
        "AWS_DEFAULT_REGION": server.region,
    }


class Replica:
    """One server of ours; started again on another port, with all else the same."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.is_up = False
        self.deaths = 0
        """So that a request can tell that its server died meanwhile."""
        self.port = 0
        self._folder = folder
        self._environment = environment
        self._server: Server | None = None
        self._life = contextlib.ExitStack()

    def start(self) -> None:
        """Start it, and return once it takes requests."""
        server = self._life.enter_context(serving(self._folder, **self._environment))
        self._server, self.port, self.is_up = server, server.port, True

    def kill(self) -> None:
        """End the whole process group at once."""
        assert self._server is not None
        self.is_up = False
        self.deaths += 1
        os.killpg(self._server.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Wait for its end, and end it if nobody has."""
        self.is_up = False
        self._life.close()


class Fleet:
    """Several replicas, the first of which reaches its bucket through a proxy."""

    def __init__(self, folder: Path, storage: SeaweedFS, proxy: FaultProxy, count: int) -> None:
        self.storage = storage
        self.is_storage_up = True
        self.storage_deaths = 0
        self.proxy = proxy
        self.favourite: Replica | None = None
        """Where most requests go, while it is up."""
        settings = {"TUSASGI_TEST_SAVE": "0.15"}
        self.replicas = [
            Replica(
                f"replica {number}",
                folder,
                {**environment(storage, proxy.endpoint if number == 0 else None), **settings},
            )
            for number in range(count)
        ]

    def pick(self, dice: random.Random) -> Replica:
        """Return one of those that are up."""
        if self.favourite is not None and self.favourite.is_up and dice.random() < 0.8:
            return self.favourite
        return dice.choice([one for one in self.replicas if one.is_up])

    def other(self, dice: random.Random, than: Replica) -> Replica:
        """Return another one that is up, or the same if there is no other."""
        others = [one for one in self.replicas if one.is_up and one is not than]
        return dice.choice(others) if others else than


class Trap:
    """Kills the replica behind the proxy at a call, before it is made or when it took effect."""

    def __init__(self, fleet: Fleet, *, operation: str, key: str, at: int, is_after: bool) -> None:
        self._fleet = fleet
        self._sprung = threading.Event()
        self._fault = "lost_answer" if is_after else "reset"
        proxy = fleet.proxy
        if is_after:
            proxy.on_answer = self._spring
        else:
            proxy.on_call = self._spring
        proxy.fail("lost_answer" if is_after else "reset", operation=operation, key=key, at=at)

    def wait(self, seconds: float) -> bool:
        """Return True once it has killed; False if the call was not made in time."""
        return self._sprung.wait(seconds)

    def remove(self) -> None:
        self._fleet.proxy.heal()
        self._fleet.proxy.on_call = self._fleet.proxy.on_answer = None

    def _spring(self, call: Call) -> None:
        if call.fault == self._fault and not self._sprung.is_set():
            self._fleet.replicas[0].kill()
            self._sprung.set()


@contextlib.contextmanager
def running_fleet(folder: Path, *, replicas: int) -> Iterator[Fleet]:
    """Run an S3 server on the folder and replicas before it, until the block ends."""
    folder.mkdir()
    with (
        SeaweedFS(folder / "storage") as storage,
        FaultProxy(storage.endpoint) as proxy,
        contextlib.ExitStack() as life,
    ):
        fleet = Fleet(folder / "replicas", storage, proxy, replicas)
        for replica in fleet.replicas:
            life.callback(replica.stop)
            replica.start()
        yield fleet
