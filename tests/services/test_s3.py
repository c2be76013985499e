"""The servers do what the tests of the store rely on, and we see what they really store."""

import base64
import contextlib
import hashlib
import http.client
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.services import fixtures, s3
from tests.services.aio import s3_client
from tests.services.faults import FaultProxy
from tests.services.s3 import Moto, S3Server, SeaweedFS, _Ports, why_not

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
OTHER = '"00000000000000000000000000000000"'


@pytest.fixture
def seaweed(tmp_path: Path) -> SeaweedFS:
    """One that a test may kill; not started."""
    fixtures.need("seaweedfs")
    return SeaweedFS(tmp_path)


@pytest.fixture
def where() -> str:
    """A prefix of a test's own; as a key too, which must not end in a slash on SeaweedFS."""
    return f"{secrets.token_hex(6)}/-"


@pytest.fixture
async def client(s3_server: S3Server) -> AsyncIterator[Any]:
    """Through a proxy, which is to change nothing as long as it is not told to."""
    with FaultProxy(s3_server.endpoint) as proxy:
        async with s3_client(s3_server, proxy.endpoint) as client:
            yield client


def refused(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    answer: Any = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def begin(server: S3Server, key: str) -> str:
    created = server.client.create_multipart_upload(Bucket=server.bucket, Key=key)
    return str(created["UploadId"])


def send(server: S3Server, key: str, multipart_id: str, number: int, body: bytes) -> str:
    part = {"Bucket": server.bucket, "Key": key, "UploadId": multipart_id, "PartNumber": number}
    return str(server.client.upload_part(**part, Body=body)["ETag"])


def until(holds: Callable[[], bool]) -> None:
    """Look until it holds: what is looked at is done by a process that nobody can wait for."""
    give_up = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


# Life


def test_what_was_stored_before_a_kill_is_there_after_it(seaweed: SeaweedFS) -> None:
    with seaweed as server:
        endpoint, bucket = server.endpoint, server.bucket
        server.client.put_object(Bucket=bucket, Key="whole", Body=b"kept")
        multipart_id = begin(server, "half")
        send(server, "half", multipart_id, 1, b"part")
        server.kill()
        with pytest.raises(BotoCoreError):
            server.client.head_bucket(Bucket=bucket)
        server.start()
        assert (server.endpoint, server.bucket) == (endpoint, bucket)
        assert server.keys(bucket) == ["whole"]
        assert server.multiparts(bucket) == [("half", multipart_id)]
        assert server.unfinished_part(bucket, "half", multipart_id, 1) == b"part"


def test_two_servers_run_side_by_side(seaweedfs: SeaweedFS, seaweed: SeaweedFS) -> None:
    with seaweed:
        seaweed.client.put_object(Bucket=seaweed.bucket, Key="mine", Body=b"")
        assert seaweed.keys(seaweed.bucket) == ["mine"]
        with pytest.raises(ClientError) as error:
            seaweedfs.keys(seaweed.bucket)
        assert refused(error) == (404, "NoSuchBucket")


def test_a_stopped_server_leaves_no_process_socket_or_port(seaweed: SeaweedFS) -> None:
    with seaweed as server:
        process, ports = server.process, server._ports
        assert process is not None
        assert ports is not None
        assert any(Path("/tmp").glob(f"seaweedfs-*-{ports.first}.sock"))
    assert process.poll() is not None
    for port in ports.all:
        assert not list(Path("/tmp").glob(f"seaweedfs-*-{port}.sock"))
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    server.stop()  # again


def test_a_server_does_not_outlive_who_started_it(tmp_path: Path) -> None:
    fixtures.need("seaweedfs")
    code = f"""
import os, signal
from pathlib import Path
from tests.services.s3 import SeaweedFS
with SeaweedFS(Path({str(tmp_path)!r})) as server:
    print(server.process.pid, server._ports.first, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    starter = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert starter.returncode == -signal.SIGKILL
    pid, port = map(int, starter.stdout.split())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(10)
    until(lambda: not any(Path("/tmp").glob(f"seaweedfs-*-{port}.sock")))


def test_a_server_that_ends_at_once_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "weed"
    broken.write_text("#!/bin/sh\necho no such option\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(s3, "_weed", lambda: broken)
    with pytest.raises(RuntimeError, match=r"ended:\nno such option"), SeaweedFS(tmp_path):
        pass


def test_nobody_takes_ports_that_another_has() -> None:
    rows = [_Ports(5) for _ in range(20)]
    try:
        taken = [port for row in rows for port in row.all]
        assert len(set(taken)) == len(taken) == 20 * 10
        assert max(taken) < 32_768  # where those begin that the kernel hands out
    finally:
        for row in rows:
            row.release()


def test_a_row_whose_grpc_port_is_taken_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "randbelow", lambda _: 0)  # where the search begins
    free = _Ports(5)
    free.release()
    with socket.socket() as other:
        other.bind(("127.0.0.1", free.first + 10_003))
        other.listen()
        row = _Ports(5)
    row.release()
    assert row.first > free.first


def test_a_missing_server_skips_unless_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not("seaweedfs") is None or why_not("moto") is None
    monkeypatch.setattr(fixtures, "why_not", lambda _: "needs it")
    monkeypatch.delenv("TUSASGI_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs it"):
        fixtures.need("seaweedfs")
    monkeypatch.setenv("TUSASGI_REQUIRE_SERVICES", "1")
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match="needs it") as error:
        fixtures.need("seaweedfs")
    assert error.type is pytest.fail.Exception


def test_seaweedfs_refuses_a_wrong_secret(seaweedfs: SeaweedFS, seaweed: SeaweedFS) -> None:
    # It stands for a client: the same endpoint, another secret.
    seaweed._ports, seaweed.secret = seaweedfs._ports, "wrong"
    with pytest.raises(ClientError) as error:
        seaweed.client.list_objects_v2(Bucket=seaweedfs.bucket)
    seaweed._forget_client()
    assert refused(error) == (403, "SignatureDoesNotMatch")


# What is really stored


def test_buckets_are_apart(s3_server: S3Server) -> None:
    one, two = s3_server.new_bucket(), s3_server.new_bucket()
    s3_server.client.put_object(Bucket=one, Key="a/b", Body=b"")
    assert s3_server.keys(one) == ["a/b"]
    assert s3_server.keys(two) == []
    assert s3_server.keys(one, "a/") == ["a/b"]
    assert s3_server.keys(one, "b") == []


def test_a_listing_of_keys_goes_past_a_page(moto: Moto) -> None:
    bucket = moto.new_bucket()
    for number in range(1001):
        moto._backend.put_object(bucket, f"{number:04}", b"")
    assert moto.keys(bucket) == [f"{number:04}" for number in range(1001)]


def test_every_unfinished_upload_is_listed_once_and_in_order(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    keys = [f"b/{number}" for number in range(12)] + ["a", "a"]
    made = []
    for key in keys:
        created = s3_server.client.create_multipart_upload(Bucket=bucket, Key=key)
        made.append((key, created["UploadId"]))
    assert s3_server.multiparts(bucket) == sorted(made)
    for key, multipart_id in made:
        s3_server.client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=multipart_id)
    assert s3_server.multiparts(bucket) == []


def test_parts_are_seen_before_their_upload_is_complete(s3_server: S3Server, where: str) -> None:
    key, bucket = f"{where}a film", s3_server.bucket
    multipart_id = begin(s3_server, key)
    large = secrets.token_bytes(9 * MIB)
    send(s3_server, key, multipart_id, 1, large)
    send(s3_server, key, multipart_id, 11, b"small")
    assert s3_server.unfinished_part(bucket, key, multipart_id, 1) == large
    assert s3_server.unfinished_part(bucket, key, multipart_id, 11) == b"small"
    with pytest.raises(KeyError):
        s3_server.unfinished_part(bucket, key, multipart_id, 2)
    with pytest.raises(KeyError):
        s3_server.unfinished_part(bucket, key, "nonsense", 1)


def test_a_part_that_was_sent_again_is_seen_as_one(s3_server: S3Server, where: str) -> None:
    multipart_id = begin(s3_server, where)
    for _ in range(3):
        send(s3_server, where, multipart_id, 1, b"same")
    assert s3_server.unfinished_part(s3_server.bucket, where, multipart_id, 1) == b"same"


def test_two_contents_under_one_number_are_not_passed_over(
    seaweedfs: SeaweedFS, where: str
) -> None:
    multipart_id = begin(seaweedfs, where)
    send(seaweedfs, where, multipart_id, 1, b"one")
    send(seaweedfs, where, multipart_id, 1, b"two")
    with pytest.raises(AssertionError, match="2 different contents"):
        seaweedfs.unfinished_part(seaweedfs.bucket, where, multipart_id, 1)


# What S3 answers, with aiobotocore and through the proxy


async def test_an_etag_is_the_same_text_everywhere(
    s3_server: S3Server, client: Any, where: str
) -> None:
    named = {"Bucket": s3_server.bucket, "Key": f"{where}o"}
    put = await client.put_object(**named, Body=b"hello")
    head = await client.head_object(**named)
    get = await client.get_object(**named)
    assert await get["Body"].read() == b"hello"
    listed = await client.list_objects_v2(Bucket=s3_server.bucket, Prefix=where)
    etags = {put["ETag"], head["ETag"], get["ETag"], listed["Contents"][0]["ETag"]}
    assert etags == {f'"{hashlib.md5(b"hello").hexdigest()}"'}


async def test_a_put_that_must_create_does_it_once(
    s3_server: S3Server, client: Any, where: str
) -> None:
    named = {"Bucket": s3_server.bucket, "Key": where}
    await client.put_object(**named, Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as error:
        await client.put_object(**named, Body=b"second", IfNoneMatch="*")
    assert refused(error) == (412, "PreconditionFailed")
    assert await read(client, **named) == b"first"


async def test_a_put_that_must_replace_replaces_what_it_names(
    s3_server: S3Server, client: Any, where: str
) -> None:
    named = {"Bucket": s3_server.bucket, "Key": where}
    first = (await client.put_object(**named, Body=b"first"))["ETag"]
    await client.put_object(**named, Body=b"second", IfMatch=first)
    with pytest.raises(ClientError) as error:
        await client.put_object(**named, Body=b"third", IfMatch=first)
    assert refused(error) == (412, "PreconditionFailed")
    assert await read(client, **named) == b"second"


async def test_a_put_that_must_replace_does_not_create(
    s3_server: S3Server, client: Any, where: str
) -> None:
    with pytest.raises(ClientError) as error:
        await client.put_object(Bucket=s3_server.bucket, Key=where, Body=b"", IfMatch=OTHER)
    # AWS answers as moto does.
    assert (
        refused(error)
        == {
            "seaweedfs": (412, "PreconditionFailed"),
            "moto": (404, "NoSuchKey"),
        }[s3_server.name]
    )
    assert s3_server.keys(s3_server.bucket, where) == []


async def test_what_is_known_already_is_not_sent_again(
    s3_server: S3Server, client: Any, where: str
) -> None:
    named = {"Bucket": s3_server.bucket, "Key": where}
    etag = (await client.put_object(**named, Body=b"known"))["ETag"]
    for look in (client.get_object, client.head_object):
        with pytest.raises(ClientError) as error:
            await look(**named, IfNoneMatch=etag)
        assert refused(error) == (304, "304")
    assert await read(client, **named, IfNoneMatch=OTHER) == b"known"


async def test_objects_are_deleted_together_whether_there_or_not(
    s3_server: S3Server, client: Any, where: str
) -> None:
    keys = [f"{where}{name}" for name in ("one", "two & <three>", "missing")]
    for key in keys[:2]:
        await client.put_object(Bucket=s3_server.bucket, Key=key, Body=b"")
    objects = {"Objects": [{"Key": key} for key in keys]}
    answer = await client.delete_objects(Bucket=s3_server.bucket, Delete=objects)
    assert [one["Key"] for one in answer["Deleted"]] == keys
    assert "Errors" not in answer
    assert s3_server.keys(s3_server.bucket, where) == []
    await client.delete_object(Bucket=s3_server.bucket, Key=keys[0])


async def test_keys_come_in_pages(s3_server: S3Server, client: Any, where: str) -> None:
    keys = [f"{where}{number}" for number in range(7)]
    for key in keys:
        await client.put_object(Bucket=s3_server.bucket, Key=key, Body=b"")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=s3_server.bucket, Prefix=where, MaxKeys=3
    )
    listed = [[found["Key"] for found in page["Contents"]] async for page in pages]
    assert listed == [keys[0:3], keys[3:6], keys[6:7]]


async def test_a_bucket_is_not_made_by_the_way(client: Any) -> None:
    with pytest.raises(ClientError) as error:
        await client.put_object(Bucket=f"bucket-{secrets.token_hex(6)}", Key="o", Body=b"")
    assert refused(error) == (404, "NoSuchBucket")


async def test_a_range_is_read(s3_server: S3Server, client: Any, where: str) -> None:
    named = {"Bucket": s3_server.bucket, "Key": where}
    await client.put_object(**named, Body=b"0123456789")
    assert await read(client, **named, Range="bytes=2-4") == b"234"
    assert await read(client, **named, Range="bytes=7-") == b"789"
    with pytest.raises(ClientError) as error:
        await client.get_object(**named, Range="bytes=10-")
    assert refused(error) == (416, "InvalidRange")


async def test_a_presigned_link_gives_ranges_under_the_name_it_was_signed_with(
    s3_server: S3Server, client: Any, where: str
) -> None:
    named = {"Bucket": s3_server.bucket, "Key": f"{where}a b/\N{SNOWMAN}+%41?#&.mp4"}
    await client.put_object(**named, Body=b"0123456789")
    disposition = "attachment; filename=\"film.mp4\"; filename*=UTF-8''%E2%98%83.mp4"
    signed = {"ResponseContentDisposition": disposition, "ResponseContentType": "video/mp4"}
    link = await client.generate_presigned_url("get_object", Params={**named, **signed})
    status, headers, body = follow(link, {"Range": "bytes=2-4"})
    assert (status, body) == (206, b"234")
    assert headers["Content-Range"] == "bytes 2-4/10"
    assert headers["Content-Disposition"] == disposition
    assert headers["Content-Type"] == "video/mp4"
    if s3_server.name == "seaweedfs":  # moto does not look at signatures
        assert follow(link.replace("film", "other"), {})[0] == 403


async def test_a_body_that_is_not_what_its_md5_says_is_refused(
    seaweedfs: SeaweedFS, where: str
) -> None:
    multipart_id = begin(seaweedfs, where)
    md5 = base64.b64encode(hashlib.md5(b"right").digest()).decode()
    async with s3_client(seaweedfs) as client:
        with pytest.raises(ClientError) as error:
            await client.upload_part(
                Bucket=seaweedfs.bucket,
                Key=where,
                UploadId=multipart_id,
                PartNumber=1,
                Body=b"wrong",
                ContentMD5=md5,
            )
    assert refused(error) == (400, "BadDigest")
    with pytest.raises(KeyError):
        seaweedfs.unfinished_part(seaweedfs.bucket, where, multipart_id, 1)


async def test_parts_are_copied_by_ranges(s3_server: S3Server, client: Any, where: str) -> None:
    bucket, key = s3_server.bucket, f"{where}copy"
    content = secrets.token_bytes(6 * MIB)
    source = {"Bucket": bucket, "Key": f"{where}source"}
    await client.put_object(**source, Body=content)
    multipart_id = begin(s3_server, key)
    parts = []
    for number, span in [(1, f"bytes=10-{5 * MIB + 9}"), (2, "bytes=0-0")]:
        copied = await client.upload_part_copy(
            Bucket=bucket,
            Key=key,
            UploadId=multipart_id,
            PartNumber=number,
            CopySource=source,
            CopySourceRange=span,
        )
        # SeaweedFS leaves the quotes out, and completes with them or without.
        parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
    part = s3_server.unfinished_part(bucket, key, multipart_id, 1)
    assert part == content[10 : 5 * MIB + 10]
    await client.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=multipart_id, MultipartUpload={"Parts": parts}
    )
    assert await read(client, Bucket=bucket, Key=key) == part + content[:1]


async def test_a_completion_may_be_repeated(s3_server: S3Server, client: Any, where: str) -> None:
    named = {"Bucket": s3_server.bucket, "Key": where}
    multipart_id = begin(s3_server, where)
    etag = send(s3_server, where, multipart_id, 1, b"all")
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    completion = {**named, "UploadId": multipart_id, "MultipartUpload": parts}
    first = await client.complete_multipart_upload(**completion)
    again = await client.complete_multipart_upload(**completion)
    assert first["ETag"] == again["ETag"]
    assert await read(client, **named) == b"all"
    assert (where, multipart_id) not in s3_server.multiparts(s3_server.bucket)


async def test_an_aborted_upload_is_gone(s3_server: S3Server, client: Any, where: str) -> None:
    named = {"Bucket": s3_server.bucket, "Key": where}
    multipart_id = begin(s3_server, where)
    etag = send(s3_server, where, multipart_id, 1, b"all")
    await client.abort_multipart_upload(**named, UploadId=multipart_id)
    with pytest.raises(KeyError):
        s3_server.unfinished_part(s3_server.bucket, where, multipart_id, 1)
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    with pytest.raises(ClientError) as error:
        await client.complete_multipart_upload(
            **named, UploadId=multipart_id, MultipartUpload=parts
        )
    # moto's is a KeyError of its own.
    assert (
        refused(error)
        == {
            "seaweedfs": (404, "NoSuchUpload"),
            "moto": (500, "500"),
        }[s3_server.name]
    )
    with pytest.raises(ClientError) as error:
        await client.abort_multipart_upload(**named, UploadId="nonsense")
    assert refused(error) == (404, "NoSuchUpload")
    assert s3_server.keys(s3_server.bucket, where) == []


async def read(client: Any, **named: Any) -> bytes:
    answer = await client.get_object(**named)
    return bytes(await answer["Body"].read())


def follow(link: str, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
    url = urlsplit(link)
    connection = http.client.HTTPConnection(url.netloc, timeout=10)
    try:
        connection.request("GET", f"{url.path}?{url.query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()
