from pathlib import Path

from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import StoreSuite


class TestMemoryStore(StoreSuite):
    is_persistent = False
    memory_bound = None

    def make_store(self, place: Path) -> MemoryStore:
        return MemoryStore()
