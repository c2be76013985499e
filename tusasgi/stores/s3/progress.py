"""How far an append is, and what follows from that for what it does next; pure."""

from tusasgi.stores.s3.manifest import Manifest

FREE = 64 * 1024  # bytes that every append may hold without asking the budget


class Progress:
    """What an append has stored (`draft`), and what others see of it (`committed`).

    Between what it has stored and what it gathers, `under_way` bytes are in parts on their way.
    The methods are asked with each chunk: `buffered` says how many bytes wait to be stored.
    """

    def __init__(
        self,
        draft: Manifest,
        committed: Manifest,
        *,
        under_way: int,
        length: int | None,
        part_size: int,
        is_staged: bool,
    ) -> None:
        self.draft = draft
        self.committed = committed
        self.under_way = under_way
        # What was kept for the next part is in the first one that is on its way.
        rest = 0 if under_way else draft.rest_size
        offset = draft.offset - draft.rest_size + under_way + rest
        self._missing = None if length is None else length - offset
        self.missing_in_part = part_size - rest
        has_none = draft.multipart_id is None
        self._needs_no_part = has_none and length is not None and length <= part_size
        self._has_unshown = offset != committed.offset
        self._is_staged = is_staged

    def has_all(self, buffered: int) -> bool:
        """True if every byte of the upload has come."""
        return buffered == self._missing

    def fills_part(self, buffered: int) -> bool:
        """True if there is enough for a part of an upload that needs more than one."""
        return buffered >= self.missing_in_part and not self._needs_no_part

    def needs_memory(self, buffered: int) -> bool:
        """True if the buffer is more than every append may have.

        What fills a part is sent with all that was kept for it.
        """
        return buffered > FREE or buffered >= self.missing_in_part

    def may_be_shown(self, buffered: int) -> bool:
        """False while only the end can tell that the bytes are right: not one too many, too."""
        return not self._is_staged and not self.has_all(buffered)

    def has_unshown(self, buffered: int) -> bool:
        """True if others would see more bytes although none of the buffer were stored."""
        return self._has_unshown and self.may_be_shown(buffered)

    def is_worth_saving(self, buffered: int) -> bool:
        """True if saving would show others more bytes, or give memory back."""
        if self.may_be_shown(buffered):
            return self._has_unshown or buffered > 0
        return buffered > FREE
