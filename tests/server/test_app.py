"""The app of a worker, where no server is needed to see it."""

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from tusasgi.server.app import Requests

pytestmark = pytest.mark.anyio


async def receive() -> Message:
    return {"type": "http.request"}


async def send(message: Message) -> None:
    pass


async def test_the_end_waits_for_what_requests_do_after_their_answers() -> None:
    requests, may_end, ended = Requests(), anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (may_end.wait() if scope["type"] == "http" else anyio.sleep_forever())

    async def wait_for_the_end() -> None:
        await requests.ended()
        ended.set()

    counted = requests.counted(app)
    async with anyio.create_task_group() as tasks:
        for kind in ("http", "http", "lifespan"):  # the lifespan is what waits
            tasks.start_soon(counted, {"type": kind}, receive, send)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(wait_for_the_end)
        await anyio.wait_all_tasks_blocked()
        assert not ended.is_set()
        may_end.set()
        with anyio.fail_after(5):
            await ended.wait()
        tasks.cancel_scope.cancel()


async def test_there_is_nothing_to_wait_for_where_no_request_runs() -> None:
    with anyio.fail_after(5):
        await Requests().ended()
