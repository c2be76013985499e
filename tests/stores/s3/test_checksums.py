"""Which checksum goes along with bytes: what a server compares, what an upload began with."""

import base64
import secrets
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.services.faults import FaultProxy
from tests.services.s3 import S3Server, SeaweedFS
from tests.stores.s3._scenes import (
    CONTENT,
    MIB,
    Place,
    appended,
    completed,
    filled,
    new_place,
    read,
)
from tests.stores.s3._server import store_on
from tusasgi import StoreUnavailable
from tusasgi.stores.s3 import bucket
from tusasgi.stores.s3.checksums import compares_crc32
from tusasgi.stores.s3.failures import Damaged, Gone
from tusasgi.stores.s3.manifest import Manifest, dump_manifest
from tusasgi.stores.s3.rope import Rope

pytestmark = pytest.mark.anyio

ALL = {"put_object", "upload_part"}
REFUSED = ClientError({"Error": {"Code": "InvalidRequest"}}, "any")


class Server:
    """Compares checksums in the operations named; fails in another."""

    def __init__(self, compares: set[str], failing: str = "", failure: Exception = REFUSED) -> None:
        self.objects: set[str] = set()
        self.multiparts: set[str] = set()
        self._compares = compares
        self._failing = failing
        self._failure = failure

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        if operation == self._failing:
            raise self._failure
        if operation in self._compares and parameters["ChecksumCRC32"] != _crc32(parameters):
            raise Damaged("BadDigest")
        answer: dict[str, Any] = getattr(self, operation)(**parameters)
        return answer

    def put_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        self.objects.add(Key)
        return {"ETag": "1"}

    def create_multipart_upload(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        self.multiparts.add(Key)
        return {"UploadId": Key}

    def upload_part(self, **_: Any) -> dict[str, Any]:
        return {"ETag": "1"}

    def upload_part_copy(self, **_: Any) -> dict[str, Any]:
        return {"CopyPartResult": {"ETag": "1"}}

    def complete_multipart_upload(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        self.multiparts.remove(Key)
        return self.put_object(Key=Key)

    def abort_multipart_upload(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        self.multiparts.remove(Key)
        return {}

    def delete_objects(self, *, Delete: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803
        self.objects -= {named["Key"] for named in Delete["Objects"]}
        return {}


def _crc32(parameters: dict[str, Any]) -> str:
    return base64.b64encode(zlib.crc32(parameters["Body"]).to_bytes(4, "big")).decode()


@pytest.mark.parametrize(
    ("server", "is_relied_on"),
    [
        (Server(ALL), True),
        (Server(ALL - {"put_object"}), False),
        (Server(ALL - {"upload_part"}), False),
        (Server(ALL, "create_multipart_upload"), False),
        (Server(ALL, "upload_part", Gone("NoSuchUpload")), False),
        (Server(ALL, "upload_part"), False),
        (Server(ALL, "upload_part_copy"), False),
        (Server(ALL, "complete_multipart_upload"), False),
        (Server(ALL, "put_object", StoreUnavailable("away")), False),
    ],
)
async def test_crc32_is_relied_on_only_where_every_call_compares_it(
    server: Server, is_relied_on: bool
) -> None:
    assert await compares_crc32(server.call, bucket="bucket", prefix="p/") is is_relied_on
    assert server.objects == server.multiparts == set()


async def test_a_store_sends_what_it_found_that_the_server_compares(
    s3_server: S3Server, quickly_checked: None
) -> None:
    async with store_on(s3_server, secrets.token_hex(6)) as store:
        assert store.integrity == {"seaweedfs": "crc32", "moto": "md5"}[s3_server.name]
    assert store_on(s3_server, "unchecked", check=False).integrity == "md5"
    async with store_on(s3_server, secrets.token_hex(6), integrity="none") as store:
        assert store.integrity == "none"


@pytest.fixture
async def proxy(seaweedfs: SeaweedFS) -> AsyncIterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.mark.parametrize("begun", ["md5", "crc32", "none"])
async def test_all_parts_of_an_upload_carry_what_its_first_part_did(
    begun: str, seaweedfs: SeaweedFS, proxy: FaultProxy
) -> None:
    place = new_place(seaweedfs, proxy.endpoint)
    content = CONTENT[: 15 * MIB]
    one = place.store(integrity=begun)
    upload = await filled(one, content, 5 * MIB)
    other = place.store(integrity="md5" if begun == "crc32" else "crc32")
    upload = await appended(other, upload, content[upload.offset :])
    sent = [call.headers for call in proxy.calls if call.operation == "UploadPart"]
    names = {"md5": "Content-MD5", "crc32": "x-amz-checksum-crc32"}
    carried = [{kind for kind, name in names.items() if name in headers} for headers in sent]
    assert carried == [{begun} - {"none"}] * 3
    upload = await completed(other, upload)
    assert await read(other, upload) == content


def _dumped_by_an_earlier_release(manifest: Manifest) -> Rope:
    text = bytes(dump_manifest(manifest))
    field = b'"integrity":"%s",' % manifest.integrity.encode()
    assert text.count(field) == 1
    return Rope([text.replace(field, b" " * len(field))])  # as long: that says what is done


@pytest.mark.parametrize("integrity", ["md5", "crc32", "none"])
async def test_an_upload_of_an_earlier_release_goes_on(
    integrity: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = CONTENT[: 15 * MIB]
    with monkeypatch.context() as earlier:
        earlier.setattr(bucket, "dump_manifest", _dumped_by_an_earlier_release)
        upload = await filled(place.store(integrity=integrity), content, 5 * MIB)
        done = await filled(place.store(integrity=integrity), content[:MIB], MIB)
        done = await completed(place.store(integrity=integrity), done)
    store = place.store()
    upload = await appended(store, await store.get(upload.id), content[upload.offset :])
    assert await read(store, await completed(store, upload)) == content
    assert await read(store, await store.get(done.id)) == content[:MIB]
