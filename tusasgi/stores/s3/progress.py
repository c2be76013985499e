"""How far an append is, and what follows from that for what it does next; pure."""

from typing import NamedTuple

from tusasgi.stores.s3.manifest import Manifest

FREE = 64 * 1024  # bytes that every append may hold without asking the budget


class Progress(NamedTuple):
    """What an append has stored, and what waits to be stored."""

    draft: Manifest
    """What is stored."""
    shown: int
    """The offset that others see."""
    buffered: int
    """How many bytes came that are not stored yet."""
    length: int | None
    part_size: int
    is_staged: bool

    @property
    def has_all(self) -> bool:
        """True if every byte of the upload has come."""
        return self.draft.offset + self.buffered == self.length

    @property
    def waiting(self) -> int:
        """How many bytes are not in a part."""
        return self.draft.rest_size + self.buffered

    @property
    def fills_part(self) -> bool:
        """True if there is enough for a part of an upload that needs more than one."""
        has_none = self.draft.multipart_id is None
        fits_in_one = has_none and self.length is not None and self.length <= self.part_size
        return not fits_in_one and self.waiting >= self.part_size

    @property
    def needs_memory(self) -> bool:
        """True if the buffer is more than every append may have.

        What fills a part is sent with all that was kept for it.
        """
        return self.buffered > FREE or self.waiting >= self.part_size

    @property
    def may_be_shown(self) -> bool:
        """False while only the end can tell that the bytes are right: not one too many, too."""
        return not self.is_staged and not self.has_all

    @property
    def has_unshown_parts(self) -> bool:
        """True if others would see more bytes although none of the buffer were stored."""
        return self.may_be_shown and self.draft.offset != self.shown

    @property
    def is_worth_saving(self) -> bool:
        """True if saving would show others more bytes, or give memory back."""
        if self.may_be_shown:
            return self.draft.offset + self.buffered != self.shown
        return self.buffered > FREE
