"""What a store can do beyond the core, asked once."""

from typing import TypeVar

from tusasgi.stores import (
    Store,
    SupportsConcat,
    SupportsDeferLength,
    SupportsHandOver,
    SupportsList,
    SupportsProgress,
    SupportsRead,
    SupportsSweep,
    SupportsTerminate,
    SupportsVersions,
)

T = TypeVar("T")


class Capabilities:
    """The capabilities of one store.

    For each there is what tells whether it is there, and what gives it: the latter raises a
    `TypeError` that names the store if it is not.
    """

    def __init__(self, store: Store) -> None:
        self._name = type(store).__name__
        self._terminator = store if isinstance(store, SupportsTerminate) else None
        self._deferrer = store if isinstance(store, SupportsDeferLength) else None
        self._sweeper = store if isinstance(store, SupportsSweep) else None
        self._joiner = store if isinstance(store, SupportsConcat) else None
        self._reader = store if isinstance(store, SupportsRead) else None
        self._versions = store if isinstance(store, SupportsVersions) else None
        self._reporter = store if isinstance(store, SupportsProgress) else None
        self._lister = store if isinstance(store, SupportsList) else None
        self._hander = store if isinstance(store, SupportsHandOver) else None
        self.can_terminate = self._terminator is not None
        self.can_defer_length = self._deferrer is not None
        self.can_sweep = self._sweeper is not None
        self.can_join = self._joiner is not None
        self.can_read = self._reader is not None
        self.can_hand_over = self._hander is not None
        self.has_versions = self._versions is not None
        self.reports_progress = self._reporter is not None

    @property
    def terminator(self) -> SupportsTerminate:
        return self._need(self._terminator, "cannot terminate uploads")

    @property
    def deferrer(self) -> SupportsDeferLength:
        return self._need(self._deferrer, "needs the length at creation")

    @property
    def sweeper(self) -> SupportsSweep:
        return self._need(self._sweeper, "cannot find what is due")

    @property
    def joiner(self) -> SupportsConcat:
        return self._need(self._joiner, "cannot join uploads")

    @property
    def reader(self) -> SupportsRead:
        return self._need(self._reader, "cannot read uploads back")

    @property
    def versions(self) -> SupportsVersions:
        return self._need(self._versions, "has no versions")

    @property
    def reporter(self) -> SupportsProgress:
        return self._need(self._reporter, "promises what it shows")

    @property
    def lister(self) -> SupportsList:
        return self._need(self._lister, "cannot list its uploads")

    @property
    def hander(self) -> SupportsHandOver:
        return self._need(self._hander, "cannot hand uploads over")

    def _need(self, capability: T | None, lack: str) -> T:
        if capability is None:
            raise TypeError(f"{self._name} {lack}")
        return capability
