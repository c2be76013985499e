"""How far an append has come, told to its client while it is still sending."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tusasgi.asgi.exchange import Exchange
from tusasgi.models import Append, Upload
from tusasgi.stores.renewing import renewing

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
    what it was told of. So nothing is said where only the end of the body tells whether all of it
    is to be kept.
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

    return await renewing(work, report, interval=_INTERVAL)
