"""Who prepares which asset, and what a worker that died leaves."""

import asyncio
import signal
import uuid
from datetime import timedelta

import anyio
import pytest
from sqlalchemy import delete, select

from examples.roughy.media import claims, measuring, worker
from examples.roughy.media.measuring import Outcome, unreadable
from examples.roughy.storage.tables import Asset, Removal
from tusasgi import StoreUnavailable, UploadLocked

from . import media
from .api import Api, id_of
from .conftest import ALICE

pytestmark = pytest.mark.anyio


async def test_a_claimed_asset_is_left_to_its_worker(api: Api, start, mp4):
    second = await start()
    asset_id = await api.upload(mp4)
    assert (await api.roughy.worker.claims.take()).asset_id == uuid.UUID(asset_id)
    assert await second.worker.claims.take() is None
    assert not await second.worker.prepare_next()


async def test_the_claim_of_a_dead_worker_lapses(api: Api, start, mp4):
    second = await start()
    asset_id = await api.upload(mp4)
    await api.roughy.worker.claims.take()  # and nothing more is heard of it
    await api.lapse()
    assert await second.worker.prepare_next()
    assert (await api.asset(asset_id))["state"] == "ready"
    assert await api.balance() == 99


async def test_a_claim_lasts_whatever_the_clock_of_a_machine_says(api: Api, start, clock, mp4):
    """Time is that of the database, which all workers have in common."""
    second = await start()
    await api.upload(mp4)
    clock.advance(days=-100)
    assert await api.roughy.worker.claims.take() is not None
    clock.advance(days=200)
    assert await second.worker.claims.take() is None


async def test_a_failure_counts_from_the_one_who_has_the_claim(api: Api, start, mp4):
    """Who stood still for a while has perhaps lost the file for no fault of it."""
    second = await start()
    asset_id = await api.upload(mp4)
    old = await api.roughy.worker.claims.take()
    await api.lapse()
    await api.roughy.worker.record(old, unreadable("lapsed"))
    new = await second.worker.claims.take()
    await api.roughy.worker.record(old, unreadable("taken over"))
    assert (await api.asset(asset_id))["state"] == "processing"
    await second.worker.record(new, unreadable("it is so"))
    asset = await api.asset(asset_id)
    assert (asset["state"], asset["error_message"]) == ("failed", "it is so")


async def test_a_length_counts_whoever_found_it(api: Api, roughy, mp4):
    asset_id = await api.upload(mp4)
    old = await roughy.worker.claims.take()
    await api.lapse()
    await roughy.worker.record(old, Outcome(milliseconds=2000))
    assert (await api.asset(asset_id))["state"] == "ready"
    assert await api.balance() == 99


@pytest.mark.parametrize(
    ("muxer", "codec", "first", "then"),
    [
        pytest.param("mp4", "aac", "video/mp4", ("audio", "audio/mp4", "m4a"), id="memo"),
        pytest.param("mpegts", "mp2", "video/mp2t", ("audio", "video/mp2t", "ts"), id="radio"),
        pytest.param("mp3", "mp3", "audio/mpeg", ("audio", "audio/mpeg", "mp3"), id="as-it-was"),
    ],
)
async def test_the_type_is_right_once_the_streams_are_known(api: Api, muxer, codec, first, then):
    asset_id = await api.upload(media.audio(20.0, muxer=muxer, codec=codec))
    assert (await api.asset(asset_id))["content_type"] == first
    await api.roughy.worker.prepare_next()
    asset = await api.asset(asset_id)
    assert asset["state"] == "ready"
    assert (asset["type"], asset["content_type"], asset["extension"]) == then


@pytest.fixture
def die(tmp_path, monkeypatch):
    """Have the measuring program die by a signal; `None` has it live again."""
    sound = measuring._PROGRAM

    def die(number: int | None) -> None:
        deadly = tmp_path / "deadly.py"
        default = "" if number == signal.SIGKILL else f"signal.signal({number}, signal.SIG_DFL); "
        hello = "print('{\"hello\": true}', flush=True); "
        deadly.write_text(f"import os, signal; {hello}{default}os.kill(os.getpid(), {number})")
        monkeypatch.setattr(measuring, "_PROGRAM", sound if number is None else deadly)

    return die


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_program_that_is_told_to_end_is_started_again(api: Api, roughy, die, mp4, number):
    """As systemd does, which tells all programs of a service."""
    asset_id = await api.upload(mp4)
    die(number)
    for _ in range(4):
        assert await roughy.worker.prepare_next()
        assert not await roughy.worker.prepare_next()  # a while later
        await api.lapse()
    assert (await api.asset(asset_id))["state"] == "processing"
    die(None)
    await api.work()
    assert (await api.asset(asset_id))["state"] == "ready"
    assert await api.balance() == 99


async def test_an_asset_outlives_an_installation_that_cannot_measure(
    api: Api, roughy, tmp_path, monkeypatch, mp4
):
    """However often it is tried: nothing of this is the fault of the file."""
    asset_id = await api.upload(mp4)
    with monkeypatch.context() as patched:
        broken = tmp_path / "broken.py"
        broken.write_text("import no_such_package")
        patched.setattr(measuring, "_PROGRAM", broken)
        for _ in range(4):
            assert await roughy.worker.prepare_next()
            await api.lapse()
    assert (await api.asset(asset_id))["state"] == "processing"
    await api.work()
    assert (await api.asset(asset_id))["state"] == "ready"
    assert await api.balance() == 99


async def test_a_program_that_is_killed_is_started_again(api: Api, roughy, die, mp4):
    """As a system does that runs out of memory."""
    asset_id = await api.upload(mp4)
    die(signal.SIGKILL)
    for _ in range(2):
        await roughy.worker.prepare_next()
        await api.lapse()
    assert (await api.asset(asset_id))["state"] == "processing"
    die(None)
    await api.work()
    assert (await api.asset(asset_id))["state"] == "ready"
    assert await api.balance() == 99


async def test_a_program_that_is_killed_again_and_again_is_not_started_for_ever(
    api: Api, start, die, mp4
):
    """Not even if each worker meets it but once, as those do that are killed along with it."""
    asset_id = await api.upload(mp4)
    die(signal.SIGKILL)
    for _ in range(3):
        assert (await api.asset(asset_id))["state"] == "processing"
        await (await start()).worker.prepare_next()
        await api.lapse()
    asset = await api.asset(asset_id)
    assert (asset["state"], asset["error_code"]) == ("failed", "unreadable_media")
    assert await api.balance() == 100
    assert (await api.call("DELETE", f"/v1/assets/{asset_id}")).status_code == 204


async def test_what_interrupts_one_who_lost_the_claim_is_not_counted(
    api: Api, roughy, die, monkeypatch, mp4
):
    asset_id = await api.upload(mp4)
    die(signal.SIGKILL)
    measure = worker.measure

    async def too_late(read, length):
        await api.lapse()
        return await measure(read, length)

    with monkeypatch.context() as patched:
        patched.setattr(worker, "measure", too_late)
        for _ in range(4):
            await roughy.worker.prepare_next()
    assert (await api.asset(asset_id))["state"] == "processing"
    async with roughy.db.reading() as session:
        assert (await session.get(Asset, uuid.UUID(asset_id))).attempts == 0


async def test_the_oldest_asset_comes_first(api: Api, mp4):
    project_id = await api.new_project()
    made = [await api.upload(mp4, project_id=project_id) for _ in range(3)]
    claimed = [str((await api.roughy.worker.claims.take()).asset_id) for _ in range(3)]
    assert claimed == made
    assert await api.roughy.worker.claims.take() is None


async def test_a_crash_between_the_last_byte_and_the_record_is_finished(api: Api, roughy, mp4):
    """The hook has run, the store's record does not say yet that the upload is complete."""
    url = await api.new_upload(len(mp4))
    update = roughy.store.update

    async def die(upload):
        if upload.is_complete:
            raise KeyboardInterrupt
        await update(upload)

    roughy.store.update = die
    with pytest.raises(BaseException):  # noqa: B017 - whatever the servers make of it
        await api.patch(url, 0, mp4)
    del roughy.store.update
    assert not (await roughy.store.get(id_of(url))).is_complete
    assert (await api.asset(id_of(url)))["state"] == "processing"
    await api.work()
    assert (await roughy.store.get(id_of(url))).is_complete
    asset = await api.asset(id_of(url))
    assert asset["state"] == "ready"
    assert (await api.http.get(asset["download_url"])).content == mp4
    assert await api.balance() == 99


async def test_an_asset_whose_bytes_are_gone_fails(api: Api, roughy, mp4):
    asset_id = await api.upload(mp4)
    await roughy.store.terminate(asset_id)
    await api.work()
    asset = await api.asset(asset_id)
    assert (asset["state"], asset["error_code"]) == ("failed", "unreadable_media")
    assert await api.balance() == 100


async def test_bytes_marked_for_removal_are_removed_by_the_sweeper(api: Api, roughy, mp4):
    """As a process leaves them that dies after the rows are gone."""
    project_id = await api.new_project()
    before = await api.stored()
    asset_id = await api.upload(mp4, project_id=project_id)
    async with roughy.db.writing() as session:
        await session.delete(await session.get(Asset, uuid.UUID(asset_id)))
        session.add(Removal(upload_id=uuid.UUID(asset_id)))
        session.add(Removal(upload_id=uuid.UUID(int=7)))  # removed already, its mark is not
    assert (await api.head(f"/v1/uploads/{asset_id}")).status_code == 404
    await roughy.sweeper.sweep()
    assert await api.stored() == before


async def test_bytes_that_could_not_be_removed_at_once_are_removed_later(
    api: Api, roughy, monkeypatch, mp4
):
    project_id = await api.new_project()
    before = await api.stored()
    asset_id = await api.upload(mp4, project_id=project_id)

    async def held(upload_id):
        raise UploadLocked("another request holds the upload and does not let go")

    with monkeypatch.context() as patched:
        patched.setattr(roughy.uploads, "terminate", held)
        assert (await api.call("DELETE", f"/v1/assets/{asset_id}")).status_code == 204
    assert (await api.get("/v1/assets")).json()["total"] == 0
    assert (await api.stored())["files"] != {}
    await roughy.sweeper.sweep()
    assert await api.stored() == before


async def test_a_project_is_deleted_at_once_though_the_store_is_away(
    api: Api, roughy, monkeypatch, mp4
):
    """It is not waited for once for each asset, neither then nor in a sweep."""
    before = await api.stored()
    project_id = await api.new_project()
    for _ in range(3):
        await api.upload(mp4, project_id=project_id)
    asked = []

    async def away(upload_id):
        asked.append(upload_id)
        raise StoreUnavailable("it does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(roughy.uploads, "terminate", away)
        assert (await api.call("DELETE", f"/v1/projects/{project_id}")).status_code == 204
        assert len(asked) == 1
        await roughy.sweeper.sweep()
        assert len(asked) == 2
    assert (await api.get("/v1/assets")).json()["total"] == 0
    await roughy.sweeper.sweep()
    assert await api.stored() == before


async def test_an_upload_that_cannot_be_removed_is_not_in_the_way_of_others(
    api: Api, roughy, monkeypatch, mp4
):
    project_id = await api.new_project()
    ids = [await api.upload(mp4, project_id=project_id) for _ in range(3)]
    terminate = roughy.uploads.terminate

    async def broken(upload_id):
        if upload_id in stuck:
            raise StoreUnavailable("this one cannot be removed")
        await terminate(upload_id)

    monkeypatch.setattr(roughy.uploads, "terminate", broken)
    stuck = [*ids]
    await api.call("DELETE", f"/v1/projects/{project_id}")
    for each in ids:  # one of them is the first, in whatever order
        stuck[:] = [each]
        async with roughy.db.writing() as session:
            await session.execute(delete(Removal))
            session.add_all(Removal(upload_id=uuid.UUID(marked)) for marked in ids)
        for _ in range(100):
            await roughy.sweeper.sweep()
            if len((await api.stored())["removals"]) == 1:
                break
        assert len((await api.stored())["removals"]) == 1


async def test_an_upload_finished_after_its_asset_was_deleted_is_no_asset(api, roughy, mp4):
    url = await api.new_upload(len(mp4))
    await api.patch(url, 0, mp4[:100])
    async with roughy.db.writing() as session:
        await session.delete(await session.get(Asset, uuid.UUID(id_of(url))))
    assert (await api.patch(url, 100, mp4[100:])).status_code == 404
    assert (await api.get("/v1/assets")).json()["total"] == 0


async def test_a_worker_keeps_its_claim_as_long_as_it_works(api: Api, roughy, monkeypatch, mp4):
    asset_id = await api.upload(mp4)
    measure, seen = worker.measure, []

    async def slowly(read, length):
        async with roughy.db.reading() as session:
            first = (await session.get(Asset, uuid.UUID(asset_id))).claimed_until
        while not seen:
            async with roughy.db.reading() as session:
                now = (await session.get(Asset, uuid.UUID(asset_id))).claimed_until
            if now != first:
                seen.append(now - first)
        return await measure(read, length)

    monkeypatch.setattr(worker, "measure", slowly)
    monkeypatch.setattr(claims, "_RENEW_SECONDS", 0.01)
    await api.work()
    assert seen[0] > timedelta(0)
    assert (await api.asset(asset_id))["state"] == "ready"


async def test_processes_that_start_at_once_make_everything_once(start, clock):
    processes = await asyncio.gather(*(start() for _ in range(4)))
    api = Api(processes[0], clock, ALICE)
    async with api.http:
        assert await api.balance() == 100
        assert len((await api.stored())["accounts"]) == 2


async def test_a_project_deleted_while_assets_are_made_leaves_nothing(api: Api, roughy, mp4):
    """No answer is a 500, and nothing is left without its project, whoever was first."""
    before = await api.stored()
    project_id = await api.new_project()

    async def make() -> int:
        response = await api.create(len(mp4), project_id=project_id)
        if response.status_code == 201:
            patched = await api.patch(response.headers["location"], 0, mp4)
            assert patched.status_code in (204, 404, 423)
        return response.status_code

    async def remove() -> int:
        return (await api.call("DELETE", f"/v1/projects/{project_id}")).status_code

    done = await asyncio.gather(make(), make(), make(), remove(), make(), make(), remove())
    assert {*done[:3], *done[4:6]} <= {201, 404}
    assert sorted([done[3], done[6]]) == [204, 404]
    await roughy.sweeper.sweep()
    assert await api.stored() == before


async def test_top_ups_charges_and_deletions_at_once_agree_in_the_end(api: Api, start, mp4):
    """They lock in the same order, so none of them has to be given up."""
    second = await start()
    project_id = await api.new_project()
    ids = [await api.upload(mp4, project_id=project_id) for _ in range(6)]
    await api.set_balance(0)
    await asyncio.gather(
        *(process.worker.prepare_next() for process in (api.roughy, second) for _ in range(3)),
        *(api.top_up(1) for _ in range(4)),
        *(api.call("DELETE", f"/v1/assets/{asset_id}") for asset_id in ids[:2]),
    )
    await api.work()
    ready = (await api.get("/v1/assets", state="ready")).json()["total"]
    charged = [entry for entry in await api.history() if entry["type"] == "consume_asset"]
    assert await api.balance() == 4 - len(charged) >= 0
    assert ready == 4 - sum(entry["asset_id"] in ids[:2] for entry in charged)
    assert (await api.get("/v1/assets")).json()["total"] == 4


async def test_cancelling_waits_for_the_end_of_a_transaction(api: Api, roughy):
    """A statement that is cut off would take its connection along."""
    begun = anyio.Event()

    async def write() -> None:
        async with roughy.db.writing() as session:
            begun.set()
            await session.execute(select(Asset))
            session.add(Removal(upload_id=uuid.UUID(int=7)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert len((await api.stored())["removals"]) == 1
