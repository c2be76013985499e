"""Chunks to a file, in worker threads, while the next chunks arrive."""

from tusasgi.stores.file.appending import Appender
from tusasgi.stores.file.files import Workers
from tusasgi.stores.gathering import Gatherer

_PIECE_SIZE = 512 * 1024
_LINGER = 0.02  # seconds a piece waits to be filled
_LONGEST_LINGER = 0.5  # the same where little comes meanwhile
_WORTH_A_THREAD = 32 * 1024


class Writer(Gatherer):
    """Has the chunks of one append written, and flushed on the way.

    The threads of `writing` write, and beside them those of `flushing` flush, once at a time.
    Whoever cancels, no thread is at work any more when `gather` has ended.
    """

    def __init__(
        self, appender: Appender, *, is_staged: bool, writing: Workers, flushing: Workers
    ) -> None:
        super().__init__(size=_PIECE_SIZE, linger=_LINGER)
        self._appender = appender
        self._write = appender.stage if is_staged else appender.write
        self._writing = writing
        self._flushing = flushing
        self._is_flushing = False

    async def store(self) -> None:
        self.linger = self._linger_at_this_rate()
        await self._writing.run(self._write, self.take())
        if self._appender.is_to_be_flushed and not self._is_flushing:
            self._is_flushing = True
            self.start(self._flush)

    async def take_back(self) -> None:
        await self._writing.run_surely(self._appender.take_back)

    def _linger_at_this_rate(self) -> float:
        """Return how long the next piece is to wait: until it is worth a thread, within bounds."""
        seconds = self.waited * _WORTH_A_THREAD / self.buffer.size
        return min(max(_LINGER, seconds), _LONGEST_LINGER)

    async def _flush(self) -> None:
        try:
            await self._flushing.run(self._appender.flush)
        finally:
            self._is_flushing = False
