"""Pages of what belongs to things, newest first: of one kind of thing as of another."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import InstrumentedAttribute

from core.database import TenantSession
from models.base import TenantRow
from services.shared.many import by_parent, members, newest_of

Show = Callable[[TenantSession, Collection[UUID]], Awaitable[Mapping[UUID, Any]]]
"""Returns things as they are shown, by their ids."""


@dataclass(frozen=True, slots=True)
class Newest:
    """Finds by parent a page of its rows, and shows them."""

    entity: type[TenantRow]
    parent: InstrumentedAttribute[Any]
    show: Show
    filters: Sequence[InstrumentedAttribute[Any]] = ()
    """Columns that may be asked to have a value."""

    async def __call__(
        self, session: TenantSession, parents: Sequence[UUID], limit: int, before: UUID | None, *values: object
    ) -> dict[UUID, list[Any]]:
        """Return by parent up to `limit` of its rows as they are shown, those made before `before` only."""
        wanted = zip(self.filters, values, strict=True)
        where = [column == value for column, value in wanted if value is not None]
        ids = await newest_of(session, self.entity, self.parent, parents, limit=limit, before=before, where=where)
        return await shown(session, ids, self.show)


async def shown(session: TenantSession, ids: Mapping[UUID, Sequence[UUID]], show: Show) -> dict[UUID, list[Any]]:
    """Return by parent what is shown of these ids."""
    return by_parent(ids, await show(session, members(ids)))
