"""Finding organizations."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, select, true, union
from sqlalchemy.orm import InstrumentedAttribute

from core.database import TenantSession
from models import Organization

_HIGHEST: Final = "\U0010ffff"
"""Sorts after every character in C collation, so `text <= x < text + highest` says that x begins with text."""

_KIND_FLAGS: Final = {
    "customer": Organization.is_customer,
    "vendor": Organization.is_vendor,
    "partner": Organization.is_partner,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which organizations; all that is given must hold."""

    kind: str | None = None
    domain: str | None = None
    """Normalized."""
    external_id: str | None = None
    parent_id: UUID | None = None
    search: str | None = None
    """The beginning of a name, a domain or an external id."""


async def page(session: TenantSession, wanted: Filter, *, limit: int, before: UUID | None) -> list[Organization]:
    """Return up to `limit` organizations, newest first, those made before `before` only."""
    statement = select(Organization).where(Organization.tenant_id == session.tenant_id)
    if before is not None:
        statement = statement.where(Organization.id < before)
    if wanted.kind is not None:
        # written as the partial index has it
        statement = statement.where(_KIND_FLAGS[wanted.kind] == true())
    if wanted.domain is not None:
        statement = statement.where(Organization.domain == wanted.domain)
    if wanted.external_id is not None:
        statement = statement.where(Organization.external_id == wanted.external_id)
    if wanted.parent_id is not None:
        statement = statement.where(Organization.parent_id == wanted.parent_id)
    if wanted.search is not None:
        text = wanted.search.strip()
        parts = [
            select(Organization.id).where(Organization.tenant_id == session.tenant_id, _begins(column, beginning))
            for column, beginning in (
                (Organization.name_key, text.lower()),
                (Organization.domain, text.lower()),
                (Organization.external_id, text),
            )
        ]
        statement = statement.where(Organization.id.in_(select(union(*parts).subquery().c[0])))
    return list(await session.scalars(statement.order_by(Organization.id.desc()).limit(limit)))


def _begins(column: InstrumentedAttribute[str] | InstrumentedAttribute[str | None], text: str) -> ColumnElement[bool]:
    return and_(column >= text, column < text + _HIGHEST)
