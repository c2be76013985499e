"""Each fault, with a real client before the proxy and SeaweedFS behind it."""

import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import pytest
from aiohttp import ClientPayloadError
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as ConnectionFailed

from tests.services.aio import s3_client
from tests.services.faults import Call, FaultProxy, Kind
from tests.services.fixtures import need
from tests.services.s3 import SeaweedFS

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
CUT = (ConnectionFailed, HTTPClientError)
"""How the client calls the end of a connection depends on when it comes."""


@pytest.fixture
async def client(seaweedfs: SeaweedFS, proxy: FaultProxy) -> AsyncIterator[Any]:
    async with s3_client(seaweedfs, proxy.endpoint) as client:
        yield client


@pytest.fixture
def named(seaweedfs: SeaweedFS) -> dict[str, str]:
    """An object of a test's own."""
    return {"Bucket": seaweedfs.bucket, "Key": f"{secrets.token_hex(6)}/object"}


def stored(server: SeaweedFS, named: dict[str, str]) -> bytes | None:
    """What the server has, asked without the proxy."""
    if named["Key"] not in server.keys(named["Bucket"], named["Key"]):
        return None
    with server.client.get_object(**named)["Body"] as body:
        return bytes(body.read())


# What was called


async def test_calls_are_known_by_the_names_that_s3_gives_them(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any
) -> None:
    bucket = f"bucket-{secrets.token_hex(6)}"
    one, whole = {"Bucket": bucket, "Key": "a b/1"}, {"Bucket": bucket, "Key": "whole"}
    source = {"CopySource": one}
    await client.create_bucket(Bucket=bucket)
    await client.head_bucket(Bucket=bucket)
    await client.put_object(**one, Body=b"12345")
    await client.get_object(**one)
    await client.head_object(**one)
    await client.copy_object(**whole, **source)
    upload = {"UploadId": (await client.create_multipart_upload(**whole))["UploadId"]}
    part = await client.upload_part(**whole, **upload, PartNumber=1, Body=b"123")
    await client.upload_part_copy(**whole, **upload, PartNumber=2, **source)
    await client.list_parts(**whole, **upload)
    await client.list_multipart_uploads(Bucket=bucket)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    await client.complete_multipart_upload(**whole, **upload, MultipartUpload=parts)
    await client.abort_multipart_upload(**whole, **upload)
    await client.list_objects_v2(Bucket=bucket)
    await client.list_objects(Bucket=bucket)
    await client.delete_object(**whole)
    await client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": one["Key"]}]})
    await client.delete_bucket(Bucket=bucket)
    assert [(call.operation, call.key) for call in proxy.calls] == [
        ("CreateBucket", ""),
        ("HeadBucket", ""),
        ("PutObject", "a b/1"),
        ("GetObject", "a b/1"),
        ("HeadObject", "a b/1"),
        ("CopyObject", "whole"),
        ("CreateMultipartUpload", "whole"),
        ("UploadPart", "whole"),
        ("UploadPartCopy", "whole"),
        ("ListParts", "whole"),
        ("ListMultipartUploads", ""),
        ("CompleteMultipartUpload", "whole"),
        ("AbortMultipartUpload", "whole"),
        ("ListObjectsV2", ""),
        ("ListObjects", ""),
        ("DeleteObject", "whole"),
        ("DeleteObjects", ""),
        ("DeleteBucket", ""),
    ]
    assert {call.bucket for call in proxy.calls} == {bucket}
    assert all(call.status in (200, 204) for call in proxy.calls)


async def test_calls_are_counted_with_their_bytes(
    proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    for size in (0, 1, 3 * MIB):
        await client.put_object(**named, Body=bytes(size))
    await client.head_object(**named)
    with pytest.raises(ClientError):
        await client.head_object(**{**named, "Key": "missing"})
    assert [call.bytes for call in proxy.calls] == [0, 1, 3 * MIB, 0, 0]
    assert [call.status for call in proxy.calls] == [200, 200, 200, 200, 404]
    assert (proxy.count(), proxy.count("HeadObject"), proxy.count("GetObject")) == (5, 2, 0)
    assert proxy.bytes_written() == 3 * MIB + 1
    upload = {"UploadId": (await client.create_multipart_upload(**named))["UploadId"]}
    await client.upload_part(**named, **upload, PartNumber=1, Body=b"12")
    await client.delete_objects(Bucket=named["Bucket"], Delete={"Objects": [{"Key": "missing"}]})
    assert proxy.bytes_written() == 3 * MIB + 3
    proxy.clear()
    assert (proxy.count(), proxy.bytes_written()) == (0, 0)


async def test_bodies_and_signatures_come_through_unchanged(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    odd = {**named, "Key": f"{named['Key']} +%41?#&=;\N{SNOWMAN}"}
    body = secrets.token_bytes(20 * MIB)
    await client.put_object(**odd, Body=body, Metadata={"a": "b  c"})
    answer = await client.get_object(**odd)
    assert answer["Metadata"] == {"a": "b  c"}
    assert await answer["Body"].read() == body
    assert proxy.calls[0].key == odd["Key"]
    assert stored(seaweedfs, odd) == body


async def test_a_body_that_is_refused_beforehand_is_not_sent(
    proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    await client.put_object(**named, Body=b"first")
    proxy.fail("error_503")
    with pytest.raises(ClientError, match="SlowDown"):
        await client.put_object(**named, Body=bytes(8 * MIB))
    # SeaweedFS, though, reads all of it before it looks at a condition.
    with pytest.raises(ClientError, match="PreconditionFailed"):
        await client.put_object(**named, Body=bytes(8 * MIB), IfNoneMatch="*")
    assert [call.bytes for call in proxy.calls] == [5, 0, 8 * MIB]


# Which calls are broken


async def test_a_rule_strikes_at_its_call_and_as_often_as_told(
    proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    rule = proxy.fail("error_500", at=2, times=2, operation="HeadObject")
    await client.put_object(**named, Body=b"")
    for broken in (False, True, True, False):
        await client.put_object(**named, Body=b"")
        assert await fails(client.head_object, **named) is broken
    assert rule.strikes == 2
    assert [call.fault for call in proxy.calls if call.operation == "HeadObject"] == [
        None,
        "error_500",
        "error_500",
        None,
    ]


async def test_a_rule_without_an_operation_counts_all_calls(
    proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    proxy.fail("error_500", at=3)
    await client.put_object(**named, Body=b"")
    await client.head_object(**named)
    assert await fails(client.head_object, **named)
    await client.head_object(**named)


async def test_a_rule_may_be_for_some_keys(
    proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    other = {**named, "Key": "other"}
    proxy.fail("error_500", key="/object", operation="PutObject")
    await client.put_object(**other, Body=b"")
    assert await fails(client.put_object, **named, Body=b"")


async def test_a_rule_for_ever_lasts_until_it_is_healed(
    proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    proxy.fail("error_503", times=None)
    for _ in range(5):
        assert await fails(client.put_object, **named, Body=b"")
    proxy.heal()
    await client.put_object(**named, Body=b"")


# What a fault does


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("error_429", 429, "TooManyRequests"),
        ("error_500", 500, "InternalError"),
        ("error_503", 503, "SlowDown"),
    ],
)
async def test_an_error_is_answered_and_nothing_arrives(
    seaweedfs: SeaweedFS,
    proxy: FaultProxy,
    client: Any,
    named: dict[str, str],
    kind: Kind,
    status: int,
    code: str,
) -> None:
    proxy.fail(kind, times=2)
    with pytest.raises(ClientError) as error:
        await client.put_object(**named, Body=bytes(MIB))
    assert error.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError) as error:
        await client.head_object(**named)
    assert error.value.response["Error"]["Code"] == str(status)
    assert [call.status for call in proxy.calls] == [status, status]
    assert stored(seaweedfs, named) is None


@pytest.mark.parametrize("kind", ["error_500", "error_503", "reset"])
async def test_a_client_that_tries_again_gets_over_it(
    seaweedfs: SeaweedFS, proxy: FaultProxy, named: dict[str, str], kind: Kind
) -> None:
    proxy.fail(kind)
    async with s3_client(seaweedfs, proxy.endpoint, attempts=2) as client:
        await client.put_object(**named, Body=b"again")
    assert [call.fault for call in proxy.calls] == [kind, None]
    assert stored(seaweedfs, named) == b"again"


async def test_a_reset_loses_the_call(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    proxy.fail("reset", times=None)
    with pytest.raises(CUT):
        await client.put_object(**named, Body=b"lost")
    assert {call.status for call in proxy.calls} == {None}
    assert stored(seaweedfs, named) is None


async def test_a_reset_mid_body_leaves_what_was_there(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    await client.put_object(**named, Body=b"old")
    upload = {"UploadId": (await client.create_multipart_upload(**named))["UploadId"]}
    proxy.fail("reset_mid_body", times=None)
    with pytest.raises(CUT):
        await client.put_object(**named, Body=bytes(8 * MIB))
    with pytest.raises(CUT):
        await client.upload_part(**named, **upload, PartNumber=1, Body=bytes(8 * MIB))
    with pytest.raises(CUT):
        await client.head_object(**named)  # which has no body, and is reset
    cut = proxy.calls[2:]
    assert {call.status for call in cut} == {None}
    assert {call.operation for call in cut if call.bytes >= 4 * MIB} == {"PutObject", "UploadPart"}
    assert stored(seaweedfs, named) == b"old"
    with pytest.raises(KeyError):
        seaweedfs.unfinished_part(named["Bucket"], named["Key"], upload["UploadId"], 1)


async def test_a_stalled_call_arrives_when_it_is_released(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    rule = proxy.fail("stall", operation="PutObject")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put, client, named, b"late")
        await anyio.to_thread.run_sync(rule.wait)
        await client.head_bucket(Bucket=named["Bucket"])  # others go on
        assert stored(seaweedfs, named) is None
        rule.release()
    assert stored(seaweedfs, named) == b"late"


async def test_a_stalled_call_goes_on_after_its_time(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    proxy.fail("stall", seconds=0.05)
    await client.put_object(**named, Body=b"late")
    assert stored(seaweedfs, named) == b"late"


async def test_healing_lets_stalled_calls_go_on(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    rule = proxy.fail("stall", times=None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put, client, named, b"late")
        await anyio.to_thread.run_sync(rule.wait)
        proxy.heal()
    assert stored(seaweedfs, named) == b"late"


async def test_a_stalled_call_whose_client_left_never_arrives(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    rule = proxy.fail("stall")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put, client, named, b"never")
        await anyio.to_thread.run_sync(rule.wait)
        tasks.cancel_scope.cancel()
    await client.head_bucket(Bucket=named["Bucket"])
    rule.release()
    await client.head_bucket(Bucket=named["Bucket"])
    assert proxy.calls[0].status is None
    assert stored(seaweedfs, named) is None


async def test_a_slow_call_takes_its_time(
    proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    proxy.fail("slow", seconds=0.2)
    began = time.monotonic()
    await client.put_object(**named, Body=b"slow")
    assert time.monotonic() - began >= 0.2


async def test_a_lost_answer_is_of_a_call_that_took_effect(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    proxy.fail("lost_answer", times=None)
    with pytest.raises(CUT):
        await client.put_object(**named, Body=b"stored")
    with pytest.raises(CUT):
        await client.get_object(**named)
    assert {call.status for call in proxy.calls} == {200}
    assert stored(seaweedfs, named) == b"stored"


async def test_aiohttp_repeats_a_put_unasked_and_a_swap_loses_to_itself(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    proxy.fail("lost_answer")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        await client.put_object(**named, Body=b"mine", IfNoneMatch="*")
    assert [call.status for call in proxy.calls] == [200, 412]
    assert [call.headers["amz-sdk-request"] for call in proxy.calls] == ["attempt=1"] * 2
    assert stored(seaweedfs, named) == b"mine"


async def test_aiohttp_does_not_repeat_a_post(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    proxy.fail("lost_answer")
    with pytest.raises(CUT):
        await client.create_multipart_upload(**named)
    assert proxy.count() == 1
    assert named["Key"] in [key for key, _ in seaweedfs.multiparts(named["Bucket"])]


async def test_a_late_answer_is_of_a_call_that_took_effect(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    rule = proxy.fail("late_answer")
    answered: list[str] = []

    async def put() -> None:
        await client.put_object(**named, Body=b"stored")
        answered.append("put")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put)
        await anyio.to_thread.run_sync(rule.wait)
        assert stored(seaweedfs, named) == b"stored"
        await client.head_object(**named)  # others go on
        assert answered == []
        rule.release()
    assert answered == ["put"]


async def test_a_cut_answer_is_seen_as_one(
    proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    body = secrets.token_bytes(3 * MIB)
    await client.put_object(**named, Body=body)
    proxy.fail("cut_answer", times=None)
    answer = await client.get_object(**named)
    assert answer["ContentLength"] == len(body)
    read = bytearray()
    async with answer["Body"] as cut:  # aiohttp lets go of a broken connection only if told to
        with pytest.raises(ClientPayloadError):  # its own error; aiobotocore lets it pass
            while piece := await cut.read(65536):
                read += piece
    assert body[: len(body) // 2].startswith(read)
    with pytest.raises(CUT):
        await client.list_objects_v2(Bucket=named["Bucket"])
    with pytest.raises(CUT):
        await client.put_object(**named, Body=b"")  # whose answer has no body, and is lost


# The line


async def test_nobody_is_reached_while_the_proxy_is_down(
    proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    endpoint = proxy.endpoint
    await client.put_object(**named, Body=b"kept")
    proxy.down()
    for _ in range(2):  # first on the connection that it keeps
        with pytest.raises(CUT):
            await client.head_object(**named)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urlsplit(endpoint).port)) != 0
    proxy.up()
    assert proxy.endpoint == endpoint
    await client.head_object(**named)


async def test_going_down_cuts_what_is_under_way(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    rule = proxy.fail("stall")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(expect_cut, client, named)
        await anyio.to_thread.run_sync(rule.wait)
        proxy.down()
    assert stored(seaweedfs, named) is None


async def test_a_call_is_forwarded_once(
    seaweedfs: SeaweedFS, proxy: FaultProxy, named: dict[str, str]
) -> None:
    proxy.fail("reset", times=None)
    with FaultProxy(proxy.endpoint) as before:
        async with s3_client(seaweedfs, before.endpoint) as client:
            for call in (client.put_object, client.get_object, client.delete_object):
                with pytest.raises(CUT):
                    await call(**named)
        assert before.count() == proxy.count() > 0


async def test_a_body_is_sent_when_the_server_asks_for_it(
    seaweedfs: SeaweedFS, proxy: FaultProxy, named: dict[str, str]
) -> None:
    proxy.fail("error_503")
    with FaultProxy(proxy.endpoint) as before:
        async with s3_client(seaweedfs, before.endpoint) as client:
            with pytest.raises(ClientError, match="SlowDown"):
                await client.put_object(**named, Body=bytes(8 * MIB))
            await client.put_object(**named, Body=bytes(8 * MIB))
        assert [call.bytes for call in before.calls] == [0, 8 * MIB]


async def test_bodies_are_throttled_both_ways(
    proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    proxy.throttle = 10 * MIB
    began = time.monotonic()
    await client.put_object(**named, Body=bytes(2 * MIB))
    assert time.monotonic() - began >= 0.2
    began = time.monotonic()
    await (await client.get_object(**named))["Body"].read()
    assert time.monotonic() - began >= 0.2


async def test_a_server_that_is_killed_cuts_the_call(tmp_path: Path) -> None:
    need("seaweedfs")
    with SeaweedFS(tmp_path) as server, FaultProxy(server.endpoint) as proxy:
        named = {"Bucket": server.bucket, "Key": "object"}
        async with s3_client(server, proxy.endpoint) as client:
            await client.put_object(**named, Body=b"before")
            proxy.on_call = lambda _: server.kill()
            for _ in range(2):
                with pytest.raises(CUT):
                    await client.put_object(**named, Body=b"never")
            proxy.on_call = None
            server.start()
            assert stored(server, named) == b"before"
            await client.put_object(**named, Body=b"after")
        assert stored(server, named) == b"after"


# Listeners


async def test_listeners_hear_of_a_call_before_and_after_its_effect(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    heard: list[tuple[str, int | None, bytes | None]] = []
    proxy.on_call = lambda call: heard.append((call.operation, call.status, look()))
    proxy.on_answer = lambda call: heard.append((call.operation, call.status, look()))

    def look() -> bytes | None:
        return stored(seaweedfs, named)

    await client.put_object(**named, Body=b"here")
    assert heard == [("PutObject", None, None), ("PutObject", 200, b"here")]


async def test_a_listener_may_call_through_the_same_proxy(
    seaweedfs: SeaweedFS, proxy: FaultProxy, client: Any, named: dict[str, str]
) -> None:
    def overtake(call: Call) -> None:
        if call.bytes == 0 and proxy.count() == 1:
            anyio.run(other_replica)

    async def other_replica() -> None:
        async with s3_client(seaweedfs, proxy.endpoint) as other:
            await other.put_object(**named, Body=b"other", IfNoneMatch="*")

    proxy.on_call = overtake
    with pytest.raises(ClientError, match="PreconditionFailed"):
        await client.put_object(**named, Body=b"mine", IfNoneMatch="*")
    assert [call.status for call in proxy.calls] == [412, 200]
    assert stored(seaweedfs, named) == b"other"


async def test_what_a_listener_raises_is_raised_at_the_end(
    seaweedfs: SeaweedFS, named: dict[str, str]
) -> None:
    def claim(call: Call) -> None:
        raise AssertionError("not so")

    with pytest.raises(AssertionError, match="not so"), FaultProxy(seaweedfs.endpoint) as proxy:
        proxy.on_call = claim
        async with s3_client(seaweedfs, proxy.endpoint) as client:
            with pytest.raises(CUT):
                await client.head_object(**named)


def test_nothing_is_left_of_a_proxy(seaweedfs: SeaweedFS) -> None:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        proxy.fail("stall", times=None)
        port = urlsplit(proxy.endpoint).port
    assert not any(thread.name == "fault-proxy" for thread in threading.enumerate())
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def put(client: Any, named: dict[str, str], body: bytes) -> None:
    await client.put_object(**named, Body=body)


async def expect_cut(client: Any, named: dict[str, str]) -> None:
    with pytest.raises(CUT):
        await client.put_object(**named, Body=b"cut")


async def fails(call: Any, **arguments: Any) -> bool:
    try:
        await call(**arguments)
    except ClientError:
        return True
    return False
