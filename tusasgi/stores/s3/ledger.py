"""What one writer has made in the bucket, and what of it may be removed; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from tusasgi.stores.s3.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Multipart:
    """A multipart upload, by the names that S3 knows it by."""

    key: str
    id: str


@dataclass(frozen=True, slots=True)
class Removable:
    """What nobody names, and nobody ever will."""

    keys: frozenset[str] = frozenset()
    multipart: Multipart | None = None


class Ledger:
    """The segments, the pages and the multipart upload that one writer has made.

    What it makes is *its own* until a manifest that was committed names it, or notes it as unused:
    nobody else knows of it, and this writer may remove it. From then on it is everybody's. Others
    build on that manifest and may return to it; so what is of no use to a manifest any more is
    noted in it as unused, and removed by whoever replaces it.

    - `base` is the manifest before this writer, `committed` the last one that it knows of. What
      `base` names stays of use until the last swap of this writer: it may be taken back to there.
    - A manifest is *in doubt* from when it is tried until one is committed: its swap may have taken
      effect, or may yet. What it names is the writer's own still, and is removed only if another
      manifest is known to have replaced `committed` at once.
    - Every manifest after the first that names a multipart upload names it too, until the upload
      is complete or removed. So the newest one tells whether anybody needs it.
    """

    def __init__(self, base: Manifest) -> None:
        self.base = self.committed = base
        self._own: set[str] = set()
        self._multipart: Multipart | None = None
        self._in_doubt: list[Manifest] = []

    def made(self, keys: Iterable[str]) -> None:
        """Note segments or pages."""
        self._own.update(keys)

    def made_multipart(self, key: str, multipart_id: str) -> None:
        self._multipart = Multipart(key, multipart_id)

    def unused_by(
        self, manifest: Manifest, *, draft: Manifest, is_last: bool = False
    ) -> tuple[str, ...]:
        """Return what is of no use any more once a manifest is committed.

        What `draft` names is of use: a later swap will show it.
        """
        of_use = manifest.names | draft.names
        if not is_last:
            of_use |= self.base.names
        return tuple(sorted((self._own | self.committed.names | self.base.names) - of_use))

    def tried(self, manifest: Manifest) -> None:
        """Note that `committed` is about to be replaced by a manifest."""
        self._in_doubt.append(manifest)

    def commit(self, manifest: Manifest) -> None:
        """Note that a swap took effect; so no other has, or will, that was to replace the same."""
        self.committed = manifest
        self._own -= {*manifest.names, *manifest.unused}
        self._in_doubt.clear()

    @property
    def is_in_doubt(self) -> bool:
        """True if a swap was tried of which it is not known whether it took effect."""
        return bool(self._in_doubt)

    @property
    def own_multipart(self) -> Multipart | None:
        """The multipart upload that it has made, while nobody else knows of it."""
        made = self._multipart
        return None if made is None or made.id == self.committed.multipart_id else made

    def removable(self, newest: Manifest | None) -> Removable:
        """Return what may be removed when this writer goes no further.

        `newest` is the manifest as it was read afterwards, or None if the upload is gone.
        """
        multipart = self.own_multipart
        if newest is None:
            return Removable(frozenset(self._own), multipart)
        if newest.commit == self.committed.commit and self.is_in_doubt:
            return Removable()  # a swap may yet take effect
        if multipart is not None and multipart.id == newest.multipart_id:
            multipart = None
        keys = self._own - newest.names - self._named_before(newest)
        return Removable(frozenset(keys), multipart)

    def _named_before(self, newest: Manifest) -> set[str]:
        """Return what may have been named between `committed` and the newest manifest.

        Another writer may return to it.
        """
        if newest.previous == self.committed.commit:
            return set()
        return {key for tried in self._in_doubt for key in tried.names}
