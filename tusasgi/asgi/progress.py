"""How far an append has come, reported to its client while it is still sending."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tusasgi.asgi.exchange import Exchange
from tusasgi.models import Append, Upload
from tusasgi.repeating import repeating

T = TypeVar("T")

_INTERVAL = 1.0  # seconds between two reports


async def reporting(
    work: Awaitable[T],
    exchange: Exchange,
    upload: Upload,
    append: Append,
    kept: Callable[[str], Awaitable[int]],
) -> T:
    """Return what the work returns, or raise what it raises, and report on it meanwhile.

    Only bytes are reported that stay whatever follows, as many as `kept` says: a client may free
    what was reported. Where only the end of the body shows whether any of it is to be kept,
    nothing is.
    """
    is_final = append.checksum is None and append.size is not None
    speaks = exchange.codec.progressed(0) is not None and exchange.can_send_interim
    if not is_final or not speaks:
        return await work
    reported = upload.offset

    async def report() -> None:
        nonlocal reported
        offset = await kept(upload.id)
        if offset > reported:
            await exchange.send_interim(exchange.codec.progressed(offset))
            reported = offset

    return await repeating(work, report, interval=_INTERVAL)
