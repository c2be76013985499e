"""What the S3 store finds out about a server before it relies on it."""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from aiohttp import web
from anyio.to_thread import run_sync
from botocore.exceptions import ClientError

from tests.services import faults
from tests.services.faults import Call, FaultProxy
from tests.services.s3 import Moto, S3Server
from tests.stores.s3._server import store_on
from tusasgi import StoreUnavailable
from tusasgi.stores.s3 import check
from tusasgi.stores.s3.failures import Conflict, Gone
from tusasgi.stores.s3.rope import Rope
from tusasgi.testing.stores import new_upload

pytestmark = pytest.mark.anyio

ONCE: Mapping[str, Any] = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}


@pytest.fixture
def prefix() -> str:
    return secrets.token_hex(6)


class Racy(FaultProxy):
    """Looks whether a condition holds, and writes then: as gateways do over what knows none."""

    def __init__(self, server: S3Server) -> None:
        super().__init__(server.endpoint)
        self.condition = ""
        self._behind = server

    async def _forward(
        self, request: web.BaseRequest, call: Call, rule: faults.Rule | None = None
    ) -> web.StreamResponse:
        if call.operation == "PutObject" and self.condition in request.headers:
            etag = await self._loop.run_in_executor(self._callers, self._etag, call)
            wanted = None if self.condition == "If-None-Match" else request.headers["If-Match"]
            if etag != wanted:
                return faults._error(call, 412, "PreconditionFailed")
        return await super()._forward(request, call, rule)

    def _etag(self, call: Call) -> str | None:
        try:
            found = self._behind.client.head_object(Bucket=call.bucket, Key=call.key)
        except ClientError:
            return None
        return str(found["ETag"])


@pytest.fixture
def racy(moto: Moto) -> Iterator[Racy]:
    with Racy(moto) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("condition", "anyio_backend"), [("If-None-Match", "asyncio"), ("If-Match", "trio")]
)
async def test_a_server_whose_conditions_are_not_atomic_is_refused(
    condition: str, racy: Racy, moto: Moto, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_HOP_BY_HOP", (*faults._HOP_BY_HOP, condition.lower()))
    racy.condition = condition
    store = store_on(moto, prefix, endpoint=racy.endpoint)
    told = rf"PutObject with {condition} at once not exactly one succeeds"
    for _ in range(2):
        with pytest.raises(RuntimeError, match=told):
            await store.create(new_upload())
    assert await run_sync(moto.keys, moto.bucket, prefix) == []


class Bucket:
    """Objects in a dict. Nothing is awaited but bodies, so calls meet only while these come."""

    def __init__(self, *, looks_first: bool = False, keeps_what_it_refused: bool = False) -> None:
        self.objects: dict[str, str] = {}
        self._looks_first = looks_first
        self._keeps = keeps_what_it_refused

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        if operation == "delete_objects":
            for named in parameters["Delete"]["Objects"]:
                self.objects.pop(named["Key"], None)
            return {}
        key = parameters["Key"]
        if operation == "put_object":
            return {"ETag": await self._put(**parameters)}
        if key not in self.objects:
            raise Gone("NoSuchKey")
        return {"ETag": self.objects[key]}

    async def _put(self, Key: str, Body: bytes | Rope, **condition: str) -> str:  # noqa: N803
        if self._looks_first:
            self._look(Key, condition)
        content = await _content(Body)
        try:
            if not self._looks_first:
                self._look(Key, condition)
        except Conflict:
            if self._keeps and len(content) > 1:
                self.objects[Key] = content.hex()
            raise
        self.objects[Key] = content.hex()
        return self.objects[Key]

    def _look(self, key: str, condition: Mapping[str, str]) -> None:
        if self.objects.get(key) != condition.get("IfMatch"):
            raise Conflict("PreconditionFailed")


async def _content(body: bytes | Rope) -> bytes:
    return body if isinstance(body, bytes) else b"".join([bytes(chunk) async for chunk in body])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the loop of the client
async def test_calls_meet_however_fast_the_server_is(anyio_backend: str) -> None:
    await check.check_conditions(Bucket().call, "prefix/")
    for fault in ("looks_first", "keeps_what_it_refused"):
        bucket = Bucket(**{fault: True})
        with pytest.raises(RuntimeError, match="at once not exactly one succeeds"):
            await check.check_conditions(bucket.call, "prefix/")
        assert bucket.objects == {}


async def test_a_server_that_is_honest_passes_also_when_many_ask_at_once(
    s3_server: S3Server, prefix: str
) -> None:
    with FaultProxy(s3_server.endpoint) as proxy:
        async with store_on(s3_server, prefix, endpoint=proxy.endpoint):
            pass
        conditional = [call for call in proxy.calls if call.operation == "PutObject"]
        races = 2 * check._ROUNDS
        assert len(conditional) >= races * check._RACERS
        # Where a sweep finds what is left if the check is broken off.
        assert all("/pieces/check-" in call.key for call in conditional)
    assert await run_sync(s3_server.keys, s3_server.bucket, prefix) == []


@pytest.mark.parametrize(
    ("times", "anyio_backend"),
    [(20, "asyncio"), (500, "trio")],
    ids=["for-a-while", "for-ever"],
)
async def test_a_server_that_takes_one_write_at_a_time_is_no_liar(
    times: int, moto: Moto, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_PAUSE", 0.01)
    monkeypatch.setattr("tusasgi.stores.s3.calls._TURN", 0.01)
    with FaultProxy(moto.endpoint) as proxy:
        store = store_on(moto, prefix, endpoint=proxy.endpoint, **ONCE)
        proxy.fail("error_429", operation="PutObject", at=9, times=times)
        if times == 500:
            with pytest.raises(StoreUnavailable):
                await store.__aenter__()
            proxy.heal()
        async with store:
            await store.create(new_upload())


@pytest.mark.parametrize("check", [True, False])
async def test_a_store_that_is_opened_makes_no_request_wait(
    check: bool, moto: Moto, prefix: str
) -> None:
    with FaultProxy(moto.endpoint) as proxy:
        store = store_on(moto, prefix, endpoint=proxy.endpoint, check=check)
        await store.open()
        assert store._client._loop()._client is not None
        tried = len(proxy.calls)
        await store.create(new_upload())
        assert len(proxy.calls) == tried + 1


async def test_a_store_that_was_away_when_it_was_opened_is_tried_by_the_first_request(
    moto: Moto, prefix: str
) -> None:
    with FaultProxy(moto.endpoint) as proxy:
        store = store_on(moto, prefix, endpoint=proxy.endpoint, **ONCE)
        proxy.fail("error_503", times=None)
        with pytest.raises(StoreUnavailable):
            await store.open()
        assert store._client._loops == {}  # nothing is left open
        proxy.heal()
        tried = len(proxy.calls)
        await store.create(new_upload())
        assert len(proxy.calls) > tried + check._RACERS


async def test_an_answer_that_is_lost_in_the_race_is_no_lie(moto: Moto, prefix: str) -> None:
    with FaultProxy(moto.endpoint) as proxy:
        store = store_on(moto, prefix, endpoint=proxy.endpoint)
        lost = proxy.fail("lost_answer", operation="PutObject", at=6, times=40)
        await store.create(new_upload())
        assert lost.strikes > 20  # how many of them come to a blow is up to the machine


@pytest.mark.parametrize(("number", "condition"), [(1, "If-None-Match"), (3, "If-Match")])
async def test_a_server_that_does_not_know_a_condition_is_refused(
    number: int, condition: str, moto: Moto, prefix: str
) -> None:
    with FaultProxy(moto.endpoint) as proxy:
        store = store_on(moto, prefix, endpoint=proxy.endpoint)
        proxy.fail("error_501", operation="PutObject", at=number)
        with pytest.raises(RuntimeError, match=f"does not know {condition} on PutObject"):
            await store.create(new_upload())


@pytest.mark.parametrize("code", ["NotImplemented", "AccessDenied"])
async def test_what_a_server_will_never_do_is_told_with_operation_and_code(
    code: str, moto: Moto, prefix: str
) -> None:
    with FaultProxy(moto.endpoint) as proxy:
        store = store_on(moto, prefix, endpoint=proxy.endpoint, check=False)
        proxy.fail("error_501" if code == "NotImplemented" else "error_403", times=None)
        with pytest.raises(ClientError, match=rf"\({code}\) when calling the PutObject operation"):
            await store.create(new_upload())
        assert len(proxy.calls) == 1  # and it is not asked again
