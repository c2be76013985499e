"""What a store promises about records and ids."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tusasgi import (
    Checksum,
    FinalResponse,
    InvalidUploadId,
    Target,
    Upload,
    UploadExists,
    UploadNotFound,
)
from tusasgi.stores import (
    Store,
    SupportsConcat,
    SupportsDeferLength,
    SupportsRead,
    SupportsTerminate,
)
from tusasgi.testing.stores.base import Reopened, StoreTests
from tusasgi.testing.stores.tools import (
    NOW,
    Arriving,
    created,
    new_upload,
    read,
    supports_defer_length,
)

HOSTILE_IDS = [
    pytest.param("", id="empty"),
    pytest.param(".", id="dot"),
    pytest.param("..", id="dot-dot"),
    pytest.param("../outside", id="climbing"),
    pytest.param("a/b", id="slash"),
    pytest.param("a\\b", id="backslash"),
    pytest.param("/etc/passwd", id="absolute"),
    pytest.param("a.info", id="suffix"),
    pytest.param("a\0b", id="nul"),
    pytest.param("a\n", id="newline"),
    pytest.param("%2e%2e", id="escaped"),
    pytest.param("é", id="latin"),
    pytest.param("٣", id="arabic-digit"),
    pytest.param("x" * 65, id="65-characters"),
    pytest.param("x" * 10_000, id="10000-characters"),
]


TARGET = Target(
    method="PUT",
    path="/videos/\xe9",
    raw_path=b"/videos/%C3%A9",
    query_string=b"key=\xff",
    headers=(("content-type", "video/mp4"), ("content-language", "de")),
)

FIELDS = [
    pytest.param({"length": 4711}, id="length"),
    pytest.param({"length": None}, id="length-not-declared"),
    pytest.param({"created": NOW + timedelta(days=1, microseconds=1)}, id="created"),
    pytest.param(
        {"metadata": {"a": b"", "bin": b"\x00\xff\n", "name": "é".encode()}}, id="metadata"
    ),
    pytest.param({"metadata_header": "a ,bin AP8K"}, id="metadata-header"),
    pytest.param({"max_size": 2**62, "min_size": 2**61}, id="limits"),
    pytest.param({"owner": "somebody é"}, id="owner"),
    pytest.param({"facts": {"i": 1, "f": 0.5, "s": "é", "b": True, "n": None}}, id="facts"),
    pytest.param({"expires": NOW + timedelta(microseconds=1)}, id="expires"),
    pytest.param({"is_partial": True, "concat_header": "partial"}, id="partial"),
    pytest.param({"parts": ("a", "b", "a"), "concat_header": "final;/a b /a"}, id="final"),
    pytest.param({"sha256": "0f" * 32}, id="sha256"),
    pytest.param({"is_complete": True}, id="complete"),
    pytest.param({"removal": "terminated"}, id="being-terminated"),
    pytest.param({"protocol": "ietf", "is_open": True}, id="open"),
    pytest.param({"checksum": Checksum(algorithm="sha512", digest=bytes(64))}, id="checksum"),
    pytest.param({"final_response": FinalResponse(body=b"\x00\xff")}, id="final-response"),
    pytest.param(
        {"final_response": FinalResponse(status=201, headers={"X-Name": "\xe9"})},
        id="final-response-with-headers",
    ),
    pytest.param({"target": TARGET}, id="target"),
    pytest.param(
        {"untold": {"completed": NOW, "created": NOW + timedelta(seconds=1)}}, id="untold"
    ),
    pytest.param({"target": replace(TARGET, raw_path=None)}, id="target-of-no-raw-path"),
]


class RecordTests(StoreTests):
    @pytest.mark.parametrize("fields", FIELDS)
    async def test_a_record_comes_back_as_it_was_created(
        self, fields: dict[str, Any], store: Store, reopened: Reopened
    ) -> None:
        upload = replace(new_upload(), **fields)
        await store.create(upload)
        assert await store.get(upload.id) == upload
        assert await (await reopened()).get(upload.id) == upload

    @pytest.mark.parametrize("fields", FIELDS)
    async def test_an_update_replaces_everything_but_the_offset(
        self, fields: dict[str, Any], store: Store, reopened: Reopened
    ) -> None:
        upload = await created(store, b"abc")
        await store.update(replace(upload, offset=999, **fields))
        assert await (await reopened()).get(upload.id) == replace(upload, offset=3, **fields)
        assert await self.content(store, upload) == b"abc"

    async def test_a_taken_id_is_refused_and_the_upload_that_has_it_stays(
        self, store: Store
    ) -> None:
        upload = await created(store, b"abc")
        with pytest.raises(UploadExists):
            await store.create(replace(new_upload(), id=upload.id, length=1))
        assert await store.get(upload.id) == upload
        assert await self.content(store, upload) == b"abc"

    async def test_an_unknown_id_is_not_found(self, store: Store) -> None:
        upload = new_upload()
        with pytest.raises(UploadNotFound):
            await store.get(upload.id)
        with pytest.raises(UploadNotFound):
            await store.update(upload)
        with pytest.raises(UploadNotFound):
            await store.get(upload.id)

    async def test_a_declared_length_stays(self, store: Store, reopened: Reopened) -> None:
        deferring = supports_defer_length(store)
        upload = await created(store, b"abc", length=None)
        declared = await deferring.declare_length(upload, 7)
        assert declared == replace(upload, length=7)
        assert await (await reopened()).get(upload.id) == declared

    @pytest.mark.parametrize("upload_id", HOSTILE_IDS)
    async def test_an_id_outside_the_grammar_is_refused_and_touches_nothing(
        self, upload_id: str, store: Store, place: Path
    ) -> None:
        await created(store, b"abc")
        before = await run_sync(_tree, place.parent)
        for refused in _operations(store, replace(new_upload(), id=upload_id)):
            with pytest.raises(InvalidUploadId):
                await refused()
        assert await run_sync(_tree, place.parent) == before

    async def test_ids_that_differ_in_case_or_begin_alike_are_different_uploads(
        self, store: Store
    ) -> None:
        contents = {"a": b"1", "A": b"2", "aa": b"3", "a-_a": b"4", "x" * 64: b"5"}
        for upload_id, content in contents.items():
            await created(store, content, id=upload_id)
        for upload_id, content in contents.items():
            assert await self.content(store, await store.get(upload_id)) == content


def _operations(store: Store, upload: Upload) -> Iterator[Callable[[], Awaitable[object]]]:
    yield lambda: store.create(upload)
    yield lambda: store.get(upload.id)
    yield lambda: store.append(upload, Arriving(b"abc"))
    yield lambda: store.append(upload, Arriving(b"abc"), staged=True)
    yield lambda: store.update(upload)
    yield lambda: store.finish(upload)
    if isinstance(store, SupportsTerminate):
        yield lambda: store.terminate(upload.id)
    if isinstance(store, SupportsConcat):
        yield lambda: store.concat(upload)
    if isinstance(store, SupportsDeferLength):
        yield lambda: store.declare_length(upload, 3)
    if isinstance(store, SupportsRead):
        yield lambda: read(store, upload, 0, 3)


def _tree(folder: Path) -> dict[str, bytes | None]:
    """Return every file below a folder with its content, and every folder."""
    tree: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        tree[str(path)] = None if path.is_dir() else path.read_bytes()
    return tree
