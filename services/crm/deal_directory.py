"""Finding deals, and what is shown of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, case, func, literal, select

from core.database import TenantSession
from core.errors import NotFoundError
from models import Deal, DealContact, DealLine, Person, Pipeline, PipelineStage, Tenant
from models.crm import DEAL_STATUSES

_HIGHEST: Final = "\U0010ffff"
"""Sorts after every character in C collation, so `text <= x < text + highest` says that x begins with text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which deals; all that is given must hold."""

    pipeline_id: UUID | None = None
    stage_id: UUID | None = None
    status: str | None = None
    owner_id: UUID | None = None
    person_id: UUID | None = None
    """The primary one."""
    organization_id: UUID | None = None
    close_from: date | None = None
    """The first day on which it is expected to close."""
    close_until: date | None = None
    """The last such day."""
    external_id: str | None = None
    search: str | None = None
    """The beginning of a title."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A deal with what its stage and its tenant say of it."""

    deal: Deal
    pipeline: str
    """Its key."""
    stage: str
    """Its key."""
    stage_probability: int
    rotting: bool
    base_currency: str


@dataclass(frozen=True, slots=True)
class ShownContact:
    """A contact with the person's name."""

    person_id: UUID
    role: str | None
    first_name: str | None
    last_name: str | None
    email: str | None


@dataclass(frozen=True, slots=True)
class Whole:
    """A deal with all that is its own."""

    shown: Shown
    lines: Sequence[DealLine]
    contacts: list[ShownContact]


def rotting() -> ColumnElement[bool]:
    """Return whether nothing was done about a deal for too long; over the deal and its stage."""
    since = func.now() - func.make_interval(0, 0, 0, PipelineStage.rotting_days)
    return case((Deal.status == "open", func.coalesce(Deal.touched_at < since, False)), else_=False)


async def page(session: TenantSession, wanted: Filter, *, limit: int, before: UUID | None) -> list[Shown]:
    """Return up to `limit` deals, newest first, those made before `before` only."""
    statement = _shown(session).where(*_conditions(session, wanted))
    if before is not None:
        statement = statement.where(Deal.id < before)
    return await _read(session, statement.order_by(Deal.id.desc()).limit(limit))


async def ids(session: TenantSession, wanted: Filter, *, limit: int) -> list[UUID]:
    """Return the ids of up to `limit` deals."""
    statement = select(Deal.id).where(Deal.tenant_id == session.tenant_id, *_conditions(session, wanted))
    return list(await session.scalars(statement.order_by(Deal.id).limit(limit)))


async def whole(session: TenantSession, deal_id: UUID) -> Whole:
    """Return a deal with its products and contacts.

    Raises:
        NotFoundError: no such deal in this tenant.
    """
    found = await _read(session, _shown(session).where(Deal.id == deal_id))
    if not found:
        raise NotFoundError("No such deal.")
    lines = await session.scalars(
        select(DealLine)
        .where(DealLine.tenant_id == session.tenant_id, DealLine.deal_id == deal_id)
        .order_by(DealLine.number)
        .execution_options(populate_existing=True)
    )
    return Whole(found[0], lines.all(), await contacts(session, deal_id))


async def of_many(session: TenantSession, deal_ids: Collection[UUID]) -> dict[UUID, Shown]:
    """Return those of the deals that there are, by their ids."""
    found = await _read(session, _shown(session).where(Deal.id.in_(sorted(set(deal_ids)))))
    return {shown.deal.id: shown for shown in found}


async def contacts(session: TenantSession, deal_id: UUID) -> list[ShownContact]:
    """Return who has a part in a deal beside the primary person, in the order they came."""
    return (await contacts_of(session, [deal_id])).get(deal_id, [])


async def lines_of(session: TenantSession, deal_ids: Collection[UUID]) -> dict[UUID, list[tuple[DealLine, str]]]:
    """Return the products of deals, in their order, each with the deal's currency; deals without are left out."""
    rows = await session.execute(
        select(DealLine, Deal.currency)
        .join(Deal, and_(Deal.tenant_id == DealLine.tenant_id, Deal.id == DealLine.deal_id))
        .where(
            DealLine.tenant_id == session.tenant_id,
            Deal.tenant_id == session.tenant_id,
            DealLine.deal_id.in_(sorted(set(deal_ids))),
        )
        .order_by(DealLine.deal_id, DealLine.number)
    )
    found: dict[UUID, list[tuple[DealLine, str]]] = {}
    for line, currency in rows:
        found.setdefault(line.deal_id, []).append((line, currency))
    return found


async def contacts_of(session: TenantSession, deal_ids: Collection[UUID]) -> dict[UUID, list[ShownContact]]:
    """Return by deal who has a part in it beside the primary person, in the order they came; deals without are not."""
    rows = await session.execute(
        select(
            DealContact.deal_id,
            DealContact.person_id,
            DealContact.role,
            Person.first_name,
            Person.last_name,
            Person.email,
        )
        .join(Person, and_(Person.tenant_id == DealContact.tenant_id, Person.id == DealContact.person_id))
        .join(Deal, and_(Deal.tenant_id == DealContact.tenant_id, Deal.id == DealContact.deal_id))
        .where(
            DealContact.tenant_id == session.tenant_id,
            DealContact.deal_id.in_(sorted(set(deal_ids))),
            # a merge can have made one of them the primary person
            DealContact.person_id.is_distinct_from(Deal.person_id),
        )
        .order_by(DealContact.id)
    )
    found: dict[UUID, list[ShownContact]] = {}
    for row in rows:
        contact = ShownContact(row.person_id, row.role, row.first_name, row.last_name, row.email)
        found.setdefault(row.deal_id, []).append(contact)
    return found


def _shown(session: TenantSession) -> Select[Deal, str, str, int, bool, str]:
    base = select(Tenant.base_currency).where(Tenant.id == session.tenant_id).scalar_subquery()
    return (
        select(
            Deal,
            Pipeline.key.label("pipeline"),
            PipelineStage.key.label("stage"),
            PipelineStage.probability.label("stage_probability"),
            rotting().label("rotting"),
            base.label("base_currency"),
        )
        .join(PipelineStage, and_(PipelineStage.tenant_id == Deal.tenant_id, PipelineStage.id == Deal.stage_id))
        .join(Pipeline, and_(Pipeline.tenant_id == Deal.tenant_id, Pipeline.id == Deal.pipeline_id))
        .where(Deal.tenant_id == session.tenant_id)
        .execution_options(populate_existing=True)
    )


async def _read(session: TenantSession, statement: Select[Deal, str, str, int, bool, str]) -> list[Shown]:
    rows = await session.execute(statement)
    return [
        Shown(row[0], row.pipeline, row.stage, row.stage_probability, row.rotting, row.base_currency) for row in rows
    ]


def _conditions(session: TenantSession, wanted: Filter) -> list[ColumnElement[bool]]:
    plain = {
        Deal.pipeline_id: wanted.pipeline_id,
        Deal.stage_id: wanted.stage_id,
        Deal.status: wanted.status,
        Deal.owner_id: wanted.owner_id,
        Deal.person_id: wanted.person_id,
        Deal.organization_id: wanted.organization_id,
        Deal.external_id: wanted.external_id,
    }
    found: list[ColumnElement[bool]] = [column == value for column, value in plain.items() if value is not None]
    if wanted.close_from is not None:
        found.append(Deal.close_date >= wanted.close_from)
    if wanted.close_until is not None:
        found.append(Deal.close_date <= wanted.close_until)
    if (wanted.close_from or wanted.close_until) and wanted.status is None:
        # the index of days begins with the status
        found.append(Deal.status.in_(DEAL_STATUSES))
    if wanted.search is not None:
        begins = func.lower(literal(wanted.search.strip()))
        matching = select(Deal.id).where(
            Deal.tenant_id == session.tenant_id,
            Deal.title_key >= begins,
            Deal.title_key < begins.concat(_HIGHEST),
        )
        found.append(Deal.id.in_(matching))
    return found
