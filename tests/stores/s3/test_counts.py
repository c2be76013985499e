"""What the S3 store costs: calls and bytes, counted by a proxy before SeaweedFS."""

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import cycle

import pytest

from tests._stage import OCTETS, TUS
from tests.services.faults import Call, FaultProxy
from tests.services.s3 import SeaweedFS
from tests.stores.s3._scenes import THOROUGH
from tests.stores.s3._server import store_on
from tusasgi import Expiry, Fact, Hooks, TusApp, Upload, Uploads
from tusasgi.stores.s3 import S3Store, writer
from tusasgi.testing import ASGIDriver, RecordedResponse

pytestmark = pytest.mark.anyio

KIB, MIB = 1024, 1024 * 1024
TOTAL = (64 if THOROUGH else 32) * MIB
CONTENT = secrets.token_bytes(TOTAL)
_MEASURED: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def report() -> Iterator[None]:
    """Print the table when it was asked for with `-s`."""
    yield
    print("", *_MEASURED, sep="\n")


class Inspecting(Hooks):
    head_size = 64

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        return {"format": "video"}


class Servers:
    """Some servers of one bucket behind one proxy, which a client meets in turn."""

    def __init__(self, proxy: FaultProxy, stores: list[S3Store]) -> None:
        self.proxy = proxy
        self.stores = stores
        self._drivers = cycle([_driver(store) for store in stores])

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[RecordedResponse, list[Call]]:
        """Ask the next server, and return the calls that it took as well."""
        self.proxy.clear()
        answer = await next(self._drivers).request(method, path, headers, body)
        return answer, self.proxy.calls

    async def create(self, length: int) -> str:
        answer, _ = await self.request("POST", "/", {"Upload-Length": str(length)})
        assert answer.status == 201
        return answer.headers["location"].rpartition("/")[2]

    async def upload(self, length: int, size: int) -> "Cost":
        """Send an upload in PATCHes of a size."""
        cost = Cost(length)
        upload_id = await self.create(length)
        cost.creation = [call.operation for call in self.proxy.calls]
        for start in range(0, length, size):
            headers = {"Upload-Offset": str(start), "Content-Type": OCTETS}
            body = CONTENT[start : min(start + size, length)]
            answer, calls = await self.request("PATCH", f"/{upload_id}", headers, body)
            assert (answer.status, answer.headers["upload-offset"]) == (204, str(start + len(body)))
            cost.patches.append([call.operation for call in calls])
            cost.written += self.proxy.bytes_written()
        cost.upload_id = upload_id
        return cost

    async def used_to(self, cost: "Cost") -> int:
        """How many numbers of parts are spent; no clean end wastes one."""
        return (await self.stores[0]._bucket.read(cost.upload_id)).used_to


class Cost:
    """What an upload took."""

    def __init__(self, length: int) -> None:
        self.upload_id = ""
        self.creation: list[str] = []
        self.patches: list[list[str]] = []
        self.written = 0
        self._length = length

    @property
    def calls(self) -> int:
        return len(self.creation) + sum(map(len, self.patches))

    @property
    def most(self) -> int:
        """Of a PATCH that is not the last, which completes the upload as well."""
        return max(map(len, self.patches[:-1]))

    @property
    def average(self) -> float:
        return sum(map(len, self.patches)) / len(self.patches)

    @property
    def amplification(self) -> float:
        return self.written / self._length

    @property
    def operations(self) -> Counter[str]:
        return Counter([*self.creation, *(name for patch in self.patches for name in patch)])

    def tell(self, what: str) -> None:
        _MEASURED.append(
            f"{what}: {self.calls} calls, {self.average:.2f} per PATCH, the last one "
            f"{len(self.patches[-1])}, {self.amplification:.3f} bytes written per byte; "
            f"{dict(self.operations)}"
        )


@pytest.fixture
def anyio_backend() -> str:
    """What is called does not depend on the event loop."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATCH that takes more than a second is saved on its way: not on a slow machine here."""
    monkeypatch.setattr(writer, "_FIRST_SAVE", 600.0)


@pytest.fixture
def proxy(seaweedfs: SeaweedFS) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture(params=[1, 3], ids=["one-server", "another-server-each-time"])
def count(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
async def servers(count: int, seaweedfs: SeaweedFS, proxy: FaultProxy) -> Servers:
    prefix = secrets.token_hex(6)
    stores = [
        store_on(seaweedfs, prefix, endpoint=proxy.endpoint, check=False) for _ in range(count)
    ]
    for store in stores:
        async with store:  # the first calls of a client are not to be counted
            pass
    return Servers(proxy, stores)


def _driver(store: S3Store) -> ASGIDriver:
    days = Expiry(initial=timedelta(days=1), after_append=timedelta(days=1))
    app = TusApp(Uploads(store, hooks=Inspecting(), expiry=days), prefix="/files")
    return ASGIDriver(app, root_path="/files", headers=TUS)


async def test_a_head_is_one_call(servers: Servers, count: int) -> None:
    upload_id = await servers.create(3 * MIB)
    headers = {"Upload-Offset": "0", "Content-Type": OCTETS}
    for wanted in (0, 200 * KIB):
        for _ in range(count):
            answer, calls = await servers.request("HEAD", f"/{upload_id}", {})
            assert (answer.status, answer.headers["upload-offset"]) == (200, str(wanted))
            assert [call.operation for call in calls] == ["GetObject"]
        if wanted == 0:
            await servers.request("PATCH", f"/{upload_id}", headers, CONTENT[: 200 * KIB])


async def test_a_creation_is_one_call(servers: Servers) -> None:
    await servers.create(3 * MIB)
    assert [call.operation for call in servers.proxy.calls] == ["PutObject"]


async def test_an_upload_in_patches_of_a_part_takes_four_calls_each(
    servers: Servers, count: int
) -> None:
    cost = await servers.upload(TOTAL, 8 * MIB)
    cost.tell(f"{TOTAL} bytes in PATCHes of 8 MiB, {count} server(s)")
    assert cost.most <= 4
    assert len(cost.patches[-1]) <= 6  # and it is completed
    assert cost.amplification <= 1.05
    assert not _listings(cost)
    assert await servers.used_to(cost) == TOTAL // (8 * MIB)


async def test_an_upload_in_small_patches_takes_four_calls_each(
    servers: Servers, count: int
) -> None:
    cost = await servers.upload(TOTAL, MIB)
    cost.tell(f"{TOTAL} bytes in PATCHes of 1 MiB, {count} server(s)")
    assert cost.average <= 4
    read = 0 if count == 1 else 5  # who fills a part reads what other servers kept for it
    assert cost.most <= 4 + read
    assert len(cost.patches[-1]) <= 7 + read  # and it is completed
    assert cost.amplification <= 2.0
    assert not _listings(cost)
    assert await servers.used_to(cost) == TOTAL // (8 * MIB)


@pytest.mark.parametrize("size", [1, 100 * KIB, 300 * KIB, 8 * MIB], ids=lambda size: f"{size}")
async def test_an_upload_in_one_patch_takes_five_calls_in_all(
    size: int, servers: Servers, count: int
) -> None:
    cost = await servers.upload(size, size)
    cost.tell(f"{size} bytes in one PATCH, {count} server(s)")
    assert cost.calls <= 5
    assert not _listings(cost)


@pytest.mark.parametrize("count", [1])
async def test_a_body_in_one_go_takes_two_calls_a_part(servers: Servers, count: int) -> None:
    cost = await servers.upload(TOTAL, TOTAL)
    cost.tell(f"{TOTAL} bytes in one PATCH, {count} server(s)")
    assert cost.calls <= 2 * (TOTAL // (8 * MIB)) + 4
    assert cost.amplification <= 1.05


@pytest.mark.parametrize("count", [1])
async def test_only_a_long_body_waits_until_it_is_asked_for(servers: Servers, count: int) -> None:
    cost = await servers.upload(17 * MIB, 17 * MIB)
    assert cost.operations["UploadPart"] == 3
    sent = [call for call in servers.proxy.calls if call.operation in ("PutObject", "UploadPart")]
    waits = {call.operation: "Expect" in call.headers for call in sent}
    assert waits == {"PutObject": False, "UploadPart": True}


async def test_nothing_is_listed_but_by_a_removal_and_a_sweep(servers: Servers) -> None:
    cost = await servers.upload(17 * MIB, 4 * MIB)
    assert not _listings(cost)
    upload_id = await servers.create(17 * MIB)
    headers = {"Upload-Offset": "0", "Content-Type": OCTETS}
    await servers.request("PATCH", f"/{upload_id}", headers, CONTENT[: 9 * MIB])
    answer, calls = await servers.request("DELETE", f"/{upload_id}", {})
    assert answer.status == 204
    assert not [call for call in calls if call.operation == "ListParts"]
    _MEASURED.append(f"DELETE of an unfinished upload: {[call.operation for call in calls]}")


def _listings(cost: Cost) -> list[str]:
    return [name for name in cost.operations if name.startswith("List")]
