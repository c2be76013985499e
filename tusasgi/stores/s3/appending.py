"""One writer's way from a state of an upload to the next: parts, pieces, and swaps between them.

Part numbers are reserved before they are used, by a swap, and never given out twice: so a number
carries one content for ever, whatever happens to the server that used it. An upload that has no
multipart upload yet needs no reservation: the one that is made is known to this writer alone
until a swap names it.
"""

import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio

from tusasgi.errors import StoreFull, StoreUnavailable, UploadNotFound
from tusasgi.models import Renewal, Upload
from tusasgi.stores import WriteConflict
from tusasgi.stores.records import after, during
from tusasgi.stores.s3.bucket import Bucket
from tusasgi.stores.s3.rope import Buffer, Rope
from tusasgi.stores.s3.state import MOST_PARTS, State, part_size

FREE = 64 * 1024  # bytes that every append may hold without asking the budget
INLINE = 256 * 1024  # bytes of the tail that are kept in the state object itself
_RESERVED = 8  # part numbers taken at once
_FIRST_SAVE = 1.0  # seconds: then others see that somebody is writing
_SAVE = 5.0  # seconds of work that the death of a server may cost


class Budget:
    """Bytes of memory that all operations of a store share; first come, first served."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    async def take(self, size: int) -> int:
        """Wait for so many bytes and return how many there are: not more than there ever are."""
        size = min(size, self._size)
        if not self._waiting and self._left >= size:
            self._left -= size
            return size
        turn = size, anyio.Event()
        self._waiting.append(turn)
        try:
            await turn[1].wait()
        except BaseException:
            if turn[1].is_set():
                self.give(size)
            else:
                self._waiting.remove(turn)
                self._serve()
            raise
        return size

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Hold so many bytes, or all there are, until the block ends. Not to be nested."""
        held = await self.take(size)
        try:
            yield
        finally:
            self.give(held)

    def give(self, size: int) -> None:
        self._left += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._left:
            size, turn = self._waiting.popleft()
            self._left -= size
            turn.set()


class Writing:
    """What this writer has stored (`draft`), and what of it the world knows (`committed`)."""

    def __init__(self, bucket: Bucket, state: State, upload: Upload, *, least_part: int) -> None:
        self._bucket = bucket
        self._least_part = least_part
        self._base = self._committed = state
        self._draft = state
        self._upload = upload
        self._reserved_to = state.used_to
        # What it has made and, as far as it knows, no state names.
        self._made: set[str] = set()
        self._made_multipart: tuple[str, str] | None = None
        # What a swap was to name whose outcome it does not know.
        self._tried: set[str] = set()
        self._swapping = anyio.Lock()  # each swap follows on the one before

    # Parts.

    async def next_number(self) -> int:
        """Return a part number that nobody else will use, in a multipart upload that exists."""
        number = self._draft.used_to + 1
        if number > MOST_PARTS:
            raise StoreFull("this upload was interrupted too often to go on: start a new one")
        if self._draft.multipart_id is None:
            stored = self._draft.object or self._bucket.object_of(self._upload)
            multipart_id = await self._bucket.start_multipart(stored)
            self._made_multipart = self._bucket.key_of(stored), multipart_id
            self._draft = replace(
                self._draft,
                object=stored,
                multipart_id=multipart_id,
                part_size=part_size(self._draft, self._least_part),
            )
        elif self._made_multipart is None and number > self._reserved_to:
            await self._swap(self._shown, reserve=True)
        self._draft = replace(self._draft, used_to=number)
        return number

    # What the world knows.

    def _shown(self) -> State:
        """Return what may be seen of the draft before the end."""
        return self._draft

    async def _swap(
        self, show: Callable[[], State], *, reserve: bool = False, is_last: bool = False
    ) -> None:
        """Replace the state that the world knows.

        What is of no use any more is noted in the new one, and removed by whoever replaces that.
        What there was before this writer stays of use until its last swap: it may be taken back.
        """
        async with self._swapping:
            await self._swap_to(show, reserve=reserve, is_last=is_last)

    async def _swap_to(self, show: Callable[[], State], *, reserve: bool, is_last: bool) -> None:
        self._draft, made = await self._bucket.paged(self._draft)
        self._made |= made
        used_to = self._draft.used_to + (_RESERVED if reserve else 0)
        shown = replace(show(), used_to=used_to)
        of_use = shown.names | self._draft.names | (set() if is_last else self._base.names)
        unused = (self._made | self._committed.names | self._base.names) - of_use
        await self._bucket.remove_unused(self._committed.unused)
        self._tried |= shown.names
        shown = replace(shown, unused=tuple(sorted(unused)))
        self._committed = await self._bucket.swap(self._committed, shown)
        self._tried = set()
        self._made -= shown.names | unused
        if self._committed.multipart_id is not None:
            self._made_multipart = None
        self._reserved_to = used_to

    async def _swap_date(self, upload: Upload) -> None:
        """Give the state that the world knows the date of `upload`, and change nothing else."""
        self._upload = upload
        self._committed = await self._bucket.swap(self._committed, self._dated(self._committed))

    def _dated(self, state: State) -> State:
        """Return the state with the date that the upload has by now, and nothing else of it."""
        return replace(state, upload=replace(state.upload, expires=self._upload.expires))

    @asynccontextmanager
    async def _giving_up(self) -> AsyncIterator[None]:
        """Remove what nobody will ever name if somebody else is faster."""
        try:
            yield
        except (WriteConflict, UploadNotFound):
            with contextlib.suppress(Exception):
                await self._give_up()
            raise

    async def _give_up(self) -> None:
        try:
            now = await self._bucket.read(self._upload.id)
        except UploadNotFound:
            now = State(upload=self._upload, previous=self._committed.commit)
        if now.etag == self._committed.etag:
            return  # it is not sure that somebody was
        unused = self._made - now.names
        if now.previous != self._committed.commit:
            # A swap of this writer may have been in between, and another writer return to it.
            unused -= self._tried
        await self._bucket.remove_unused(unused)
        if self._made_multipart is not None and self._made_multipart[1] != now.multipart_id:
            await self._bucket.abort(*self._made_multipart)


class Append(Writing):
    """Adds chunks to an upload: one part is filled while another is on its way.

    What does not fill a part is kept in front of the next one: in the state object while it is
    short, as a piece of its own when it is not. Holds at most two parts. From its first byte on the
    upload does not expire, however long the bytes are gathered, or on their way to the bucket.
    """

    def __init__(
        self,
        bucket: Bucket,
        state: State,
        upload: Upload,
        *,
        budget: Budget,
        least_part: int,
        staged: bool = False,
        renewal: Renewal | None = None,
    ) -> None:
        super().__init__(bucket, state, upload, least_part=least_part)
        self._budget = budget
        self._is_staged = staged
        self._renewal = renewal
        self._buffer = Buffer()
        self._held = 0  # bytes of the budget that the buffer has
        self._has_come = False  # a byte, wherever it is by now
        self._is_ended = False
        self._is_discarded = False
        self._failure: Exception | None = None
        self._saved_at: float | None = None
        self._is_over = False
        self._aged = anyio.Event()
        self._changed = anyio.Event()
        self._taken = anyio.Event()

    async def run(self, chunks: AsyncIterable[bytes]) -> State:
        """Store the chunks and return the state with them.

        Raises what the chunks raise, after everything was taken back; raises its own failure,
        and keeps what was committed before.
        """
        async with self._giving_up():
            await self._run(chunks)
        return self._committed

    async def _run(self, chunks: AsyncIterable[bytes]) -> None:
        refusal: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._store)
                if self._renewal is not None:
                    tasks.start_soon(self._live, self._renewal)
                with anyio.CancelScope() as self._reading:
                    try:
                        async for chunk in chunks:
                            await self._add(chunk)
                    except Exception as error:  # raised below, outside of the group
                        refusal = error
                self._is_ended, self._is_discarded = True, refusal is not None
                self._changed.set()
        finally:
            self._give_back()
        if refusal is not None:
            with anyio.CancelScope(shield=True):  # cancelled or not, nothing of it is kept
                await self._take_back()
            raise refusal
        if self._failure is not None:
            raise self._failure

    # The task that brings the chunks.

    async def _add(self, chunk: bytes) -> None:
        self._has_come = self._has_come or bool(chunk)
        if self._would_expire:
            self._aged.set()
        size = self._buffer.size + len(chunk)
        # What fills a part is sent with all that was kept for it.
        if not self._held and (size > FREE or self._draft.rest_size + size >= self._part_size()):
            self._held = await self._budget.take(self._part_size())
        self._buffer.add(chunk)
        self._changed.set()
        while self._is_full and self._failure is None:
            self._taken = anyio.Event()
            await self._taken.wait()

    # The task that talks to S3.

    async def _store(self) -> None:
        self._started_at = anyio.current_time()
        try:
            while not self._is_discarded and self._failure is None:
                if self._is_full:
                    await self._store_part()
                elif self._is_ended:
                    await self._finish()
                    return
                elif self._is_time_to_save:
                    await self._save()
                else:
                    await self._wait()
        except Exception as failure:  # raised by `run`, outside of the group
            self._fail(failure)
        finally:
            self._is_over = True
            self._aged.set()

    def _fail(self, failure: Exception) -> None:
        """Have all tasks of this append end."""
        self._failure = self._failure or failure
        self._reading.cancel()
        self._taken.set()
        self._changed.set()

    async def _wait(self) -> None:
        self._changed = anyio.Event()
        pause = self._save_at - anyio.current_time() if self._has_news else None
        with anyio.move_on_after(pause):
            await self._changed.wait()

    @property
    def _has_news(self) -> bool:
        """True if there is something to save."""
        if self._may_show:
            return self._draft.offset + self._buffer.size != self._committed.offset
        return self._buffer.size > FREE

    @property
    def _may_show(self) -> bool:
        """False while only the end can tell that the bytes are right: not one too many, too."""
        is_over = self._draft.offset + self._buffer.size == self._upload.length
        return not self._is_staged and not is_over

    @property
    def _save_at(self) -> float:
        return self._started_at + _FIRST_SAVE if self._saved_at is None else self._saved_at + _SAVE

    @property
    def _is_time_to_save(self) -> bool:
        return self._has_news and anyio.current_time() >= self._save_at

    def _part_size(self) -> int:
        return part_size(self._draft, self._least_part)

    @property
    def _is_full(self) -> bool:
        """True if there is enough for a part of an upload that needs more than one."""
        length, size = self._upload.length, self._part_size()
        fits_in_one = self._draft.multipart_id is None and length is not None and length <= size
        return not fits_in_one and self._draft.rest_size + self._buffer.size >= size

    async def _store_part(self) -> None:
        size = self._part_size()
        content = self._buffer.take(max(0, size - self._draft.rest_size))
        held, self._held = self._held, 0
        self._taken.set()
        try:
            await self._send_part(content)
        finally:
            self._budget.give(held)
            self._taken.set()  # what is not in a part has become less
        if self._is_time_to_save:
            await self._tell(reserve=True)

    async def _send_part(self, content: Rope) -> None:
        """Make a part of all that is not in one yet, and of the content."""
        rest = await self._rest()
        whole = rest + content
        number = await self.next_number()
        part = await self._bucket.put_part(self._draft, number, whole)
        self._draft = replace(
            self._draft,
            parts=(*self._draft.parts, part),
            parts_size=self._draft.parts_size + len(whole),
            segments=(),
            tail=Rope(),
        )

    async def _rest(self) -> Rope:
        rest = await self._bucket.load(self._draft.segments)
        return rest + self._draft.tail

    async def _save(self) -> None:
        """Make safe what came, and give back the memory of a client that takes its time."""
        if not self._may_show or self._draft.offset == self._committed.offset:
            held, self._held = self._held, 0
            try:
                await self._keep_rest(INLINE)
            finally:
                self._budget.give(held)
                self._taken.set()
        await self._tell(reserve=self._draft.multipart_id is not None)

    async def _tell(self, *, reserve: bool) -> None:
        """Let the world see what may be seen."""
        if self._may_show:
            await self._swap(self._shown, reserve=reserve)
        self._saved_at = anyio.current_time()

    async def _keep_rest(self, inline: int) -> None:
        """Move the buffer to what is stored: into the tail, or as a piece if that is too long."""
        content = self._draft.tail + self._buffer.take(self._buffer.size)
        if len(content) <= inline:
            tail = content if len(content) > INLINE else Rope([bytes(content)])
            self._draft = replace(self._draft, tail=tail)
            return
        piece = await self._bucket.put_piece(self._upload.id, content)
        self._made.add(piece.key)
        self._draft = replace(self._draft, segments=(*self._draft.segments, piece), tail=Rope())

    async def _finish(self) -> None:
        """Everything came that comes: keep it, and let go of the numbers that were not used."""
        total = self._draft.offset + self._buffer.size
        has_all = total == self._upload.length
        if has_all and self._draft.multipart_id is not None:
            if self._draft.rest_size + self._buffer.size:
                self._held = self._held or await self._budget.take(self._part_size())
                await self._send_part(self._buffer.take(self._buffer.size))
        elif self._buffer.size:
            # What will be sent to the object in one call needs no pieces.
            await self._keep_rest(self._part_size() if has_all else INLINE)
        if self._draft == self._base and self._committed is self._base:
            return
        await self._swap(self._final, is_last=True)

    # The task that keeps the upload from expiring.

    async def _live(self, renewal: Renewal) -> None:
        """Move the date while bytes come, whatever the other tasks are waiting for."""
        try:
            while not self._is_over and self._failure is None:
                with anyio.move_on_after(renewal.interval):
                    await self._aged.wait()
                self._aged = anyio.Event()
                async with self._swapping:
                    if self._would_expire and not self._is_over:
                        await self._swap_date(renewal.during(self._upload))
        except Exception as failure:  # raised by `run`, outside of the group
            self._fail(failure)

    @property
    def _would_expire(self) -> bool:
        """True if the upload would soon be past its time, although its bytes come."""
        return self._has_come and during(self._upload, self._renewal) is not self._upload

    # What the world knows.

    def _shown(self) -> State:
        if self._is_staged:
            return replace(
                self._dated(self._base),
                object=self._draft.object,
                multipart_id=self._draft.multipart_id,
                part_size=self._draft.part_size,
            )
        if self._draft.offset == self._upload.length:  # or another server would complete it
            return self._dated(self._committed)
        return self._with_record(self._draft)

    def _final(self) -> State:
        state = self._with_record(self._draft)
        if state.offset == self._base.offset:
            return state
        return replace(state, upload=after(state.upload, self._renewal))

    def _with_record(self, state: State) -> State:
        """Return the state with the record that the first byte brings."""
        if state.offset == self._base.offset:
            return self._dated(state)
        stored = state.object or self._bucket.object_of(self._upload)
        return replace(state, upload=replace(self._upload, offset=state.offset), object=stored)

    async def _take_back(self) -> None:
        """Return to where the upload was before."""
        taken = self._draft
        self._draft = replace(self._dated(self._base), used_to=taken.used_to)
        # A swap that failed may have taken effect, or may yet: not after this one.
        if self._committed is not self._base or self._failure is not None:
            await self._swap(lambda: self._draft)
        if self._base.multipart_id is None and taken.multipart_id is not None:
            assert taken.object is not None
            with contextlib.suppress(StoreUnavailable):  # the sweeper does it then
                await self._bucket.abort(self._bucket.key_of(taken.object), taken.multipart_id)
        await self._bucket.remove_unused(self._made)

    def _give_back(self) -> None:
        self._budget.give(self._held)
        self._held = 0
