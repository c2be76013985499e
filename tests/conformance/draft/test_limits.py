"""Limits and lifetimes: told, kept to, and not stricter than they were told."""

from datetime import timedelta

import pytest

from tests._stage import location_path
from tests.conformance.draft.client import Draft, limits
from tests.conformance.draft.conftest import MakeDraft
from tests.conformance.draft.grounds import everywhere
from tests.conformance.ietf import rule, shows
from tusasgi import Expiry, Limits, TusApp, Uploads
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import DISCONNECT, request

pytestmark = pytest.mark.anyio

BOUNDS = Limits(max_size=20, min_size=4, max_append=10, min_append=3)
MEMBERS = {"max-size": 20, "min-size": 4, "max-append-size": 10, "min-append-size": 3}
MINUTE = timedelta(minutes=1)


@rule("IETF-040", "IETF-045", "IETF-056", "IETF-083")
async def test_limits_are_told_wherever_they_can_be(draft_with: MakeDraft) -> None:
    draft = draft_with(engine={"limits": BOUNDS})
    creation = await draft.create(b"hello", complete=False)
    path = location_path(creation)
    for answer in (
        creation,
        await draft.options(),
        await draft.options(path),
        await draft.head(path),
        await draft.append(path, 5, b"hello"),
    ):
        assert limits(answer) == MEMBERS


@shows("IETF-045", "IETF-049", "IETF-221")
@pytest.mark.parametrize("path", ["/", "/unknown"])
async def test_options_tell_limits_to_who_names_no_version_too(
    draft_with: MakeDraft, path: str
) -> None:
    anyone = Draft(draft_with(engine={"limits": BOUNDS}).stage, None)
    answer = await anyone.options(path)
    assert answer.status == 204
    assert limits(answer) == MEMBERS
    assert answer.headers["accept-patch"] == "application/partial-upload"


@shows("IETF-047")
async def test_options_of_a_whole_server_tell_limits_too() -> None:
    app = TusApp(Uploads(MemoryStore(), limits=BOUNDS))
    answer = await request(app, "OPTIONS", "*")
    assert (answer.status, limits(answer)) == (204, MEMBERS)


@rule("IETF-041", "IETF-042")
async def test_more_than_the_maximum_is_refused_an_upload(draft_with: MakeDraft) -> None:
    draft = draft_with(engine={"limits": BOUNDS})
    for answer in (
        await draft.create(complete=False, length=21),
        await draft.create(b"hello", complete=False, length=21),
        await draft.create(b"x" * 21, complete=True),
        await draft.create(b"x" * 21, complete=False),
        await draft.create([b"x" * 10, b"x" * 11], complete=True),
    ):
        assert (answer.status, draft.is_complete(answer)) == (413, False)
        assert limits(answer) == MEMBERS
    assert draft.stage.snapshot() == {}


@rule("IETF-041", "IETF-042")
async def test_an_upload_does_not_outgrow_the_maximum(draft_with: MakeDraft) -> None:
    draft = draft_with(engine={"limits": Limits(max_size=20)})
    path = await draft.begin(b"x" * 15)
    for body in (b"x" * 6, [b"x" * 5, b"x"]):
        for complete in (False, True):
            answer = await draft.append(path, 15, body, complete=complete)
            assert (answer.status, draft.is_complete(answer)) == (413, False)
            assert limits(answer) == {"max-size": 20, "min-size": 0}
            assert await draft.state(path) == (15, False)
    answer = await draft.append(path, 15, b"x", length=21)
    assert (answer.status, limits(answer)["max-size"]) == (413, 20)
    assert (await draft.append(path, 15, b"x" * 5, complete=True)).status == 201


@rule("IETF-042")
async def test_less_than_the_minimum_is_no_upload(draft_with: MakeDraft) -> None:
    draft = draft_with(engine={"limits": BOUNDS})
    for answer in (
        await draft.create(complete=False, length=3),
        await draft.create(b"xxx", complete=True),
        await draft.create(complete=True),
    ):
        assert 400 <= answer.status < 500
        assert limits(answer) == MEMBERS
    path = await draft.begin()
    answer = await draft.append(path, 0, b"xxx", complete=True)
    assert 400 <= answer.status < 500
    assert await draft.state(path) == (0, False)
    await draft.delete(path)
    assert draft.stage.snapshot() == {}
    assert "completed" not in draft.stage.events


@shows("IETF-041")
@pytest.mark.parametrize("version", [3, 6, 9])
async def test_chunked_content_under_the_minimum_completes_nothing(draft_with: MakeDraft) -> None:
    draft = draft_with(engine={"limits": BOUNDS})
    assert 400 <= (await draft.create([b"xxx"], complete=True)).status < 500
    path = await draft.begin()
    answer = await draft.append(path, 0, [b"xxx"], complete=True)
    assert (400 <= answer.status < 500, draft.is_complete(answer)) == (True, False)
    assert "completed" not in draft.stage.events


@rule("IETF-042")
async def test_one_request_brings_no_more_than_the_largest_append(draft_with: MakeDraft) -> None:
    draft = draft_with(engine={"limits": BOUNDS})
    path = await draft.begin(b"hello")
    for body in (b"x" * 11, [b"x" * 6, b"x" * 5]):
        for complete in (False, True):
            answer = await draft.append(path, 5, body, complete=complete)
            assert (answer.status, limits(answer)) == (413, MEMBERS)
            answer = await draft.create(body, complete=complete)
            assert (answer.status, limits(answer)) == (413, MEMBERS)
    assert await draft.state(path) == (5, False)
    assert await draft.content(path) == b"hello"


@rule("IETF-043")
async def test_the_smallest_append_binds_neither_an_empty_creation_nor_the_last_request(
    draft_with: MakeDraft,
) -> None:
    draft = draft_with(engine={"limits": Limits(min_append=3)})
    path = await draft.begin()
    answer = await draft.append(path, 0, b"xx")
    assert 400 <= answer.status < 500
    assert limits(answer)["min-append-size"] == 3
    assert await draft.state(path) == (0, False)
    assert (await draft.append(path, 0, b"xxx")).status == draft.dialect.partial_status
    assert (await draft.append(path, 3, b"x", complete=True)).status == 201
    assert (await draft.create(b"x", complete=True)).status == 201
    assert (await draft.create(complete=True)).status == 201
    path = await draft.begin(b"xxx")
    assert (await draft.append(path, 3, complete=True)).status == 201


@rule("IETF-046")
async def test_what_options_allow_an_upload_allows(draft_with: MakeDraft) -> None:
    draft = draft_with(engine={"limits": BOUNDS})
    told = limits(await draft.options())
    path = await draft.begin(length=told["max-size"])
    assert limits(await draft.head(path)) == told
    largest = told["max-append-size"]
    answer = await draft.append(path, 0, b"x" * largest)
    assert answer.status == draft.dialect.partial_status
    answer = await draft.append(path, largest, b"x" * (told["max-size"] - largest), complete=True)
    assert answer.status == 201
    assert (await draft.create(b"x" * told["min-size"], complete=True)).status == 201
    answer = await draft.create(b"x" * told["min-append-size"], complete=False)
    assert answer.status == 201


# Lifetimes.


@rule("IETF-048")
async def test_the_time_that_is_left_is_told_in_seconds_as_it_is_now(
    draft_with: MakeDraft,
) -> None:
    draft = draft_with(engine={"expiry": Expiry(initial=MINUTE)})
    name = draft.dialect.lifetime
    creation = await draft.create(b"hello", complete=False)
    assert limits(creation)[name] == 60
    path = location_path(creation)
    for seconds, left in ((7, 53), (0.6, 52), (52, 0)):
        draft.stage.clock.advance(seconds=seconds)
        assert limits(await draft.head(path))[name] == left
    draft.stage.clock.advance(seconds=1)
    answer = await draft.head(path)
    assert answer.status == 410
    assert "upload-limit" not in answer.headers


@rule("IETF-044")
async def test_the_end_of_an_upload_does_not_come_closer(draft_with: MakeDraft) -> None:
    draft = draft_with(engine={"expiry": Expiry(initial=MINUTE, after_append=2 * MINUTE)})
    name, clock = draft.dialect.lifetime, draft.stage.clock
    began = clock.now
    creation = await draft.create(complete=False)
    path = location_path(creation)
    ends = [limits(creation)[name]]

    def see(limited: dict[str, int]) -> None:
        ends.append(limited[name] + int((clock.now - began).total_seconds()))

    for ask in (
        lambda: draft.head(path),
        lambda: draft.append(path, 0, b"hello"),
        lambda: draft.append(path, 5, b""),
        lambda: draft.append(path, 5, b" "),
        lambda: draft.head(path),
    ):
        clock.advance(seconds=10)
        see(limits(await ask()))
    await draft.append(path, 6, [b"wor", DISCONNECT])
    see(limits(await draft.head(path)))
    assert ends == sorted(ends)
    assert ends[-1] > ends[0]


@shows("IETF-044")
@pytest.mark.parametrize("version", [6, 9])
async def test_limits_of_an_upload_are_those_of_its_creation(draft_with: MakeDraft) -> None:
    first = draft_with(engine={"limits": Limits(max_size=20, min_size=2)})
    path = await first.begin(b"hello")
    stricter = draft_with(engine={"limits": Limits(max_size=10, min_size=8)})
    told = limits(await stricter.head(path))
    assert (told["max-size"], told["min-size"]) == (20, 2)
    assert (await stricter.append(path, 5, b"x" * 15, complete=True)).status == 201


@everywhere
@rule("IETF-215")
async def test_an_idle_upload_is_removed(draft_with: MakeDraft) -> None:
    draft = draft_with(engine={"expiry": Expiry(initial=MINUTE)})
    path = await draft.begin(b"hello", length=6)
    draft.stage.clock.advance(minutes=2)
    assert (await draft.append(path, 5, complete=True)).status == 410
    assert await draft.stage.uploads.sweep() == 1
    assert draft.stage.events == ["expired"]
    assert draft.stage.snapshot() == {}
    assert (await draft.head(path)).status == 404


@shows("IETF-215")
@pytest.mark.parametrize("version", [3, 6, 9])
async def test_a_client_that_sends_nothing_is_not_waited_for(draft_with: MakeDraft) -> None:
    draft = draft_with(receive_timeout=0.01)
    path = await draft.begin(b"he")
    transfer = draft.appending(path, 2, None, complete=True)
    transfer.feed(b"llo")
    await transfer.run()
    assert (transfer.answer.status, draft.is_complete(transfer.answer)) == (408, False)
    assert await draft.state(path) == (5, False)
