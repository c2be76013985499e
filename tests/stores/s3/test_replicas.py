"""Two servers on one bucket: whatever one does, at whichever call of the other."""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

import anyio
import pytest

from tests._stage import OCTETS, TUS
from tests.stores.s3._scenes import (
    BY_NAME,
    CONTENT,
    KIB,
    MIB,
    OTHER,
    THOROUGH,
    Operation,
    Place,
    Scene,
    Wire,
    Wrong,
    appended,
    completed,
    read,
    swept,
)
from tusasgi import (
    Expiry,
    Resumable,
    StoreUnavailable,
    TusApp,
    Upload,
    UploadNotFound,
    UploadPending,
    Uploads,
)
from tusasgi.stores import BytesLost, PartLost, WriteConflict
from tusasgi.stores.s3 import S3Store, writer
from tusasgi.testing import ASGIDriver
from tusasgi.testing.stores import new_upload

pytestmark = pytest.mark.anyio

REFUSALS = (WriteConflict, PartLost, BytesLost, UploadNotFound, UploadPending)
Moment = Literal["before", "after", "late"]


@pytest.fixture
def anyio_backend() -> str:
    """Under trio the same client makes the same calls."""
    return "asyncio"


@dataclass
class Rival:
    """The other server, and what it was told that it did."""

    place: Place
    scene: Scene
    store: S3Store
    acknowledged: list[tuple[int, bytes]] = field(default_factory=list)
    start: int | None = None
    """Where it began to write, if it did."""
    is_complete: bool = False
    is_removed: bool = False
    is_new: bool = False
    """True once it has made another upload with the same id."""

    async def get(self) -> Upload:
        return await self.store.get(self.scene.upload.id)

    async def append(self, size: int | None = None) -> None:
        upload = await self.get()
        if upload.removal is not None or upload.has_all_bytes:
            return
        self.start = upload.offset
        content = OTHER[upload.offset : len(self.scene.content)][:size]
        await appended(self.store, upload, content)
        self.acknowledged.append((self.start, content))

    async def append_short(self) -> None:
        await self.append(100 * KIB)

    async def update(self) -> None:
        await self.store.update(replace(await self.get(), facts={"seen": True}))

    async def sweep(self) -> None:
        await swept(self.store)

    async def complete(self) -> None:
        upload = await self.get()
        if upload.has_all_bytes and not upload.is_complete:
            await completed(self.store, upload)
            self.is_complete = True

    async def live(self) -> None:
        await self.append()
        await self.complete()

    async def terminate(self) -> None:
        upload = await self.get()
        if upload.removal is None:
            await self.store.update(replace(upload, removal="terminated"))
        await self.store.terminate(upload.id)
        self.is_removed = True

    async def live_and_die(self) -> None:
        await self.live()
        await self.terminate()
        await self.sweep()

    async def begin_anew(self) -> None:
        await self.terminate()
        self.is_new, self.is_complete, self.acknowledged = True, False, []
        new = replace(self.scene.upload, offset=0, version=None, is_complete=False)
        await self.store.create(new)
        await self.live()


RIVALS: dict[str, Callable[[Rival], Awaitable[None]]] = {
    "append": Rival.append,
    "append-short": Rival.append_short,
    "update": Rival.update,
    "sweep": Rival.sweep,
    "complete": Rival.complete,
    "live": Rival.live,
    "terminate": Rival.terminate,
    "live-and-die": Rival.live_and_die,
    "begin-anew": Rival.begin_anew,
}
FROZEN = [
    "append-short",
    "append-segment",
    "append-whole-small",
    "append-parts",
    "append-onto-a-tail",
    "append-onto-parts",
    "append-saving",
    "append-saving-onto-parts",
    "append-staged",
    "append-staged-onto-parts",
    "refused-saving",
    "refused",
    "refused-onto-parts",
    "finish-small",
    "finish-parts",
    "finish-with-a-tail",
    "complete-small",
    "complete-parts",
    "terminate-small",
    "terminate-parts",
    "terminate-complete",
    "due",
]
FEW = {
    ("append-segment", "append", "late"),
    ("append-segment", "live-and-die", "before"),
    ("append-segment", "sweep", "before"),
    ("append-whole-small", "live", "before"),
    ("append-whole-small", "begin-anew", "late"),
    ("append-onto-a-tail", "append", "before"),
    ("append-onto-a-tail", "live-and-die", "late"),
    ("append-onto-parts", "append", "late"),
    ("refused-saving", "append", "before"),
    ("refused-saving", "terminate", "late"),
    ("finish-small", "live", "before"),
    ("finish-small", "terminate", "before"),
    ("finish-small", "terminate", "late"),
    ("finish-small", "begin-anew", "before"),
    ("finish-small", "begin-anew", "late"),
    ("finish-with-a-tail", "live", "late"),
    ("finish-with-a-tail", "live-and-die", "before"),
    ("complete-small", "live", "late"),
    ("complete-small", "terminate", "before"),
    ("terminate-small", "append", "before"),
    ("terminate-small", "live", "late"),
}
"""Each way to write, each rival and each moment, if not each with each."""


def _cases() -> Iterator[tuple[str, str, str]]:
    for name in FROZEN:
        for rival in RIVALS:
            if name.startswith("terminate") and rival == "begin-anew":
                continue  # a removal that was begun cannot know the new upload from the old
            for moment in ("before", "after", "late"):
                if THOROUGH or (name, rival, moment) in FEW:
                    yield name, rival, moment


@pytest.mark.parametrize(("name", "rival", "moment"), list(_cases()))
async def test_whatever_another_server_does_meanwhile_nothing_acknowledged_is_lost(
    name: str, rival: str, moment: Moment, place: Place
) -> None:
    number = 0
    while True:
        number += 1
        met = Meeting(place, BY_NAME[name], RIVALS[rival], number, moment)
        try:
            if not await met.happens():
                break
            await met.check()
        except Exception as error:
            error.add_note(f"{name}, {rival} {moment} call {number}: {met.wire.names}")
            raise
    assert number > 1


class Meeting:
    """A server that stands still at one of its calls until another one has done its work."""

    wire: Wire

    def __init__(
        self,
        place: Place,
        operation: Operation,
        rival: Callable[[Rival], Awaitable[None]],
        number: int,
        moment: Moment,
    ) -> None:
        self._place = place
        self._operation = operation
        self._rival = rival
        self._number = number
        self._moment = moment
        self._parts: dict[tuple[str, int], set[str]] = {}
        self._is_acknowledged = False
        self._has_met = False
        self._is_removing = False
        """True if the other one came when a removal had been written down."""

    async def happens(self) -> bool:
        """Run the operation; return False if it has fewer calls."""
        store = self._place.store(name="one")
        scene = self._scene = await self._operation.prepare(store)
        scene.is_contested = True
        other = self._other = Rival(self._place, scene, self._place.store(name="other"))
        self.wire, wire_of_other = Wire(store), Wire(other.store)
        self.wire.before, wire_of_other.before = self._before, self._note_parts
        self.wire.after = self._after
        if self._moment == "late":
            self.wire.late_at = self._number
        async with self.wire.listening(), wire_of_other.listening():
            try:
                await self._run(store)
                self._is_acknowledged = True
            except (*REFUSALS, StoreUnavailable, Wrong):
                pass
            if self._moment == "late" and self.wire.count >= self._number:
                await self._meet()
                await self.wire.land()
        return self._has_met

    async def _run(self, store: S3Store) -> None:
        if self._operation.name.startswith("finish"):
            await completed(store, self._scene.upload)  # as the engine goes on
        else:
            await self._operation.run(store, self._scene)

    async def _before(self, number: int, name: str, parameters: dict[str, Any]) -> None:
        await self._note_parts(number, name, parameters)
        if self._moment == "before" and number == self._number:
            is_termination = self._operation.name.startswith("terminate")
            self._is_removing = is_termination and "put_object" in self.wire.names[:-1]
            await self._meet()

    async def _after(self, number: int, name: str, parameters: dict[str, Any]) -> None:
        if self._moment == "after" and number == self._number:
            await self._meet()

    async def _meet(self) -> None:
        self._has_met = True
        with contextlib.suppress(REFUSALS):
            await self._rival(self._other)

    async def _note_parts(self, number: int, name: str, parameters: dict[str, Any]) -> None:
        if name == "upload_part":
            content = hashlib.md5(bytes(parameters["Body"])).hexdigest()
            key = parameters["UploadId"], parameters["PartNumber"]
            self._parts.setdefault(key, set()).add(content)

    # What has to be true afterwards.

    async def check(self) -> None:
        assert all(len(contents) == 1 for contents in self._parts.values()), "a number reused"
        scene, other, store = self._scene, self._other, self._place.store()
        try:
            upload = await store.get(scene.upload.id)
        except UploadNotFound:
            upload = None
        is_termination = self._operation.name.startswith("terminate")
        assert not (self._is_removing and other.acknowledged), "bytes taken for what is removed"
        if upload is None or upload.removal is not None:
            assert other.is_removed or is_termination, "it is gone"
        elif other.is_new:
            await self._check_new(store, upload)
        else:
            assert not other.is_removed, "it is back"
            await self._check_bytes(store, upload)
        # Of what reaches S3 after the removal, a sweeper cannot know whose it is.
        is_late = self._moment == "late" and other.is_removed
        await self._place.check_removal(store, scene, but_objects=is_late)

    async def _check_bytes(self, store: S3Store, upload: Upload) -> None:
        scene, other = self._scene, self._other
        kept = await self._place.content(store, upload)
        assert len(kept) == upload.offset
        base = scene.acknowledged
        assert kept[:base] == scene.content[:base], "acknowledged bytes are lost"
        mine = CONTENT[: upload.offset]
        start = upload.offset if other.start is None else other.start
        theirs = CONTENT[:start] + OTHER[start : upload.offset]
        assert kept in (mine, theirs), "a mixture"
        for begin, content in other.acknowledged:
            assert kept[begin : begin + len(content)] == content, "the other's are lost"
        is_append = self._operation.name.startswith("append")
        if is_append and self._is_acknowledged:
            assert kept[base : scene.sent] == CONTENT[base : scene.sent], "one's own are lost"
        if other.is_complete:
            assert upload.is_complete, "it is not complete any more"
        await self._check_end(store, upload, kept)

    async def _check_end(self, store: S3Store, upload: Upload, kept: bytes) -> None:
        whole = kept + self._scene.content[len(kept) :]
        if not upload.has_all_bytes:
            upload = await appended(store, upload, whole[upload.offset :])
        if not upload.is_complete:
            upload = await completed(store, upload)
        assert await read(self._place.store(), upload) == whole

    async def _check_new(self, store: S3Store, upload: Upload) -> None:
        """Nothing of the old upload may be in the new one."""
        other = self._other
        kept = await self._place.content(store, upload)
        for begin, content in other.acknowledged:
            assert kept[begin : begin + len(content)] == content, "the new one is damaged"
        if other.is_complete:
            assert upload.is_complete


# Through the engine, which has a locker in each process and none in common.


def server_of(store: S3Store) -> ASGIDriver:
    return ASGIDriver(TusApp(Uploads(store), prefix="/files"), root_path="/files", headers=TUS)


def patch(offset: int) -> dict[str, str]:
    return {"Upload-Offset": str(offset), "Content-Type": OCTETS}


@pytest.mark.parametrize("is_saved", [True, False], ids=["saved", "not-saved"])
async def test_the_newest_request_wins_though_the_last_client_hangs_elsewhere(
    is_saved: bool, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_FIRST_SAVE", 0.0 if is_saved else 60.0)
    one, other = place.store(name="one"), place.store(name="other")
    upload = await one.create(new_upload(length=MIB))
    wire, saved = Wire(one), anyio.Event()

    async def tell(number: int, name: str, parameters: dict[str, Any]) -> None:
        if name == "put_object":
            saved.set()

    wire.after = tell
    hanging = server_of(one).exchange("PATCH", f"/{upload.id}", patch(0))
    async with wire.listening(), anyio.create_task_group() as tasks:
        tasks.start_soon(hanging.run)
        hanging.feed(CONTENT[: 200 * KIB])
        await hanging.starved()
        if is_saved:
            await saved.wait()
        server = server_of(other)
        answer = await server.request("HEAD", f"/{upload.id}")
        offset = int(answer.headers["upload-offset"])
        assert offset == (200 * KIB if is_saved else 0)
        answer = await server.request("PATCH", f"/{upload.id}", patch(offset), OTHER[offset:MIB])
        assert answer.status == 204
        hanging.feed(CONTENT[200 * KIB : 300 * KIB])
        hanging.end()
    assert hanging.answer.status == 423
    kept = await other.get(upload.id)
    assert kept.is_complete
    assert await read(place.store(), kept) == CONTENT[:offset] + OTHER[offset:MIB]


async def test_an_offset_that_the_draft_was_told_holds_though_the_last_client_hangs_elsewhere(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_FIRST_SAVE", 60.0)
    one, other = place.store(name="one"), place.store(name="other")
    upload = await one.create(new_upload(length=MIB))
    hanging = server_of(one).exchange("PATCH", f"/{upload.id}", patch(0))
    draft = {"Upload-Draft-Interop-Version": "9", "Tus-Resumable": None}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hanging.run)
        hanging.feed(CONTENT[: 200 * KIB])
        await hanging.starved()
        answer = await server_of(other).request("HEAD", f"/{upload.id}", draft)
        assert (answer.status, answer.headers["upload-offset"]) == (204, "0")
        # What the hanging one received is no longer added, and takes the place of nothing.
        hanging.disconnect()
    assert (await other.get(upload.id)).offset == 0
    last = {
        **draft,
        "Upload-Offset": "0",
        "Upload-Complete": "?1",
        "Content-Type": "application/partial-upload",
    }
    answer = await server_of(other).request("PATCH", f"/{upload.id}", last, OTHER[:MIB])
    assert (answer.status, answer.headers["upload-complete"]) == (201, "?1")
    kept = await other.get(upload.id)
    assert kept.is_complete
    assert await read(place.store(), kept) == OTHER[:MIB]


async def test_an_app_made_resumable_is_called_with_what_came_through_several_servers(
    place: Place,
) -> None:
    bodies: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["more_body"]:
            body += message["body"]
        bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"taken"})

    expiry = Expiry(initial=timedelta(hours=1))
    servers = [
        ASGIDriver(Resumable(app, Uploads(place.store(name=name), expiry=expiry)))
        for name in ("one", "other", "third")
    ]
    draft = {"Upload-Draft-Interop-Version": "9"}
    begin = {**draft, "Upload-Complete": "?0", "Content-Length": "0"}
    answer = await servers[0].request("POST", "/videos", begin)
    url, offset = answer.headers["location"], 0
    for turn, size in enumerate((1, 100 * KIB, 6 * MIB, 3), start=1):
        headers = {
            **draft,
            "Upload-Offset": str(offset),
            "Upload-Complete": "?1" if turn == 4 else "?0",
            "Content-Type": "application/partial-upload",
        }
        body = CONTENT[offset : offset + size]
        answer = await servers[turn % 3].request("PATCH", url, headers, body)
        offset += size
    assert (answer.status, answer.body) == (200, b"taken")
    assert bodies == [CONTENT[:offset]]
    again = await servers[2].request("PATCH", url, {**headers, "Upload-Offset": str(offset)}, b"")
    assert (again.status, again.body, len(bodies)) == (200, b"taken", 1)


async def test_a_client_may_meet_another_server_with_each_request(place: Place) -> None:
    servers = [server_of(place.store(name=name)) for name in ("one", "other", "third")]
    length = 7 * MIB
    answer = await servers[0].request("POST", "/", {"Upload-Length": str(length)})
    path = answer.headers["location"].removeprefix("/files")
    offset, turn = 0, 0
    for size in (1, 100 * KIB, 400 * KIB, 5 * MIB, 3, length):
        turn += 1
        answer = await servers[turn % 3].request("HEAD", path)
        assert answer.headers["upload-offset"] == str(offset)
        turn += 1
        body = CONTENT[offset : min(offset + size, length)]
        answer = await servers[turn % 3].request("PATCH", path, patch(offset), body)
        assert answer.status == 204
        offset += len(body)
    kept = await place.store().get(path[1:])
    assert kept.is_complete
    assert await read(place.store(), kept) == CONTENT[:length]
