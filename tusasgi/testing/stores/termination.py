"""What a store promises about uploads that are terminated."""

import pytest

from tusasgi import UploadNotFound
from tusasgi.stores import Store
from tusasgi.testing.stores.base import Reopened, StoreTests
from tusasgi.testing.stores.tools import NOW, created, new_upload, supports_terminate


class TerminationTests(StoreTests):
    async def test_a_terminated_upload_is_gone_and_another_may_take_its_id(
        self, store: Store, reopened: Reopened
    ) -> None:
        terminating = supports_terminate(store)
        upload = await created(store, b"abcdef", expires=NOW)
        for _ in range(2):
            await terminating.terminate(upload.id)
            with pytest.raises(UploadNotFound):
                await (await reopened()).get(upload.id)
        again = await created(store, b"x", id=upload.id)
        assert await self.content(await reopened(), again) == b"x"

    async def test_terminating_what_never_was_is_nothing(self, store: Store) -> None:
        terminating = supports_terminate(store)
        upload = await created(store, b"abc")
        await terminating.terminate(new_upload().id)
        assert await store.get(upload.id) == upload
