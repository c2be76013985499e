"""Lists in pages: `limit` and `offset` in, `{items, total, limit, offset}` out."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import JSONResponse

from examples.roughy.api.validation import Fields


class Paging(NamedTuple):
    limit: int
    offset: int


def parse_paging(query: Fields) -> Paging:
    # The largest offset is what both databases can hold.
    return Paging(
        limit=query.digits("limit", least=1, most=100, default=20),
        offset=query.digits("offset", least=0, most=2**63 - 1, default=0),
    )


async def answer_page(
    session: AsyncSession,
    rows: Select[Any],
    order: Sequence[Any],
    paging: Paging,
    to_json: Callable[[Any], dict[str, object]],
) -> JSONResponse:
    """Answer with one page; `total` counts every row that matches."""
    total = await session.scalar(select(func.count()).select_from(rows.subquery()))
    page = rows.order_by(*order).limit(paging.limit).offset(paging.offset)
    items = [to_json(row) for row in await session.scalars(page)]
    return JSONResponse({"items": items, "total": total, **paging._asdict()})
